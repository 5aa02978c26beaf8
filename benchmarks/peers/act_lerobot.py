"""In LeRobot's environment: its ACT, as one of those who take part in act_step.py.

python act_lerobot.py SETUP
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from act_timing import (  # type: ignore[import-not-found]
    JOINTS,
    Setup,
    answer,
    batch_of,
    observation_of,
)
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.act.processor_act import (
    make_act_pre_post_processors,
)
from lerobot.policies.utils import (
    prepare_observation_for_inference,
)


def config_of(setup: Setup) -> ACTConfig:
    """Its defaults, with pictures of our size."""
    shape, sizes = (3, setup.height, setup.width), setup.sizes()
    names = [f"observation.images.{name}" for name in setup.camera_names()]
    inputs = {name: PolicyFeature(FeatureType.VISUAL, shape) for name in names}
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (JOINTS,))
    return ACTConfig(
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (JOINTS,))},
        pretrained_backbone_weights=None,
        device=setup.device,
        chunk_size=setup.chunk, n_action_steps=setup.chunk,
        dim_model=sizes["hidden"], dim_feedforward=sizes["inner"],
        n_encoder_layers=sizes["layers"], n_vae_encoder_layers=sizes["layers"],
        n_decoder_layers=setup.decoder_layers,
    )  # fmt: skip


def training(setup: Setup) -> tuple[torch.nn.Module, Callable[[], object]]:
    """A step as its training program takes it, from what its preprocessing gives."""
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = True  # as it does
    config = config_of(setup)
    policy = ACTPolicy(config).train().to(setup.device)
    preset = config.get_optimizer_preset()
    optimizer = preset.build(policy.get_optim_params())
    images, state, actions, is_pad = batch_of(setup)
    batch = {"observation.state": state, "action": actions, "action_is_pad": is_pad}
    for n, name in enumerate(config.image_features):
        batch[name] = images[:, n].contiguous()

    def step() -> None:
        optimizer.zero_grad()
        with setup.autocast():
            loss, _ = policy.forward(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), preset.grad_clip_norm)
        optimizer.step()

    return policy, step


def predicting(setup: Setup) -> tuple[torch.nn.Module, Callable[[], object]]:
    """Its preprocessing, `predict_action_chunk` and its postprocessing."""
    config = config_of(setup)
    policy = ACTPolicy(config).eval().to(setup.device)
    one = {"mean": torch.zeros(JOINTS), "std": torch.ones(JOINTS)}
    color = {"mean": torch.full((3, 1, 1), 0.45), "std": torch.full((3, 1, 1), 0.22)}
    stats = {"observation.state": one, "action": one, **dict.fromkeys(config.image_features, color)}
    before, after = make_act_pre_post_processors(config, stats)
    pictures, joints = observation_of(setup)
    seen = {f"observation.images.{name}": picture for name, picture in pictures.items()}
    seen["observation.state"] = joints

    def predict() -> object:
        with torch.inference_mode(), setup.autocast():
            ready = prepare_observation_for_inference(dict(seen), torch.device(setup.device))
            return after(policy.predict_action_chunk(before(ready))).float().cpu().numpy()

    return policy, predict


if __name__ == "__main__":
    setup = Setup.load(sys.argv[1])
    answer(setup, *(training(setup) if setup.what == "train" else predicting(setup)))
