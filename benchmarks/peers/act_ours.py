"""Our network and what trains and deploys it, as one of those who take part in act_step.py.

python act_ours.py SETUP
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from act_timing import Setup, answer, batch_of, observation_of  # type: ignore[import-not-found]
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from act_model.config import LossConfig, ModelConfig, TrainConfig
from act_model.nn import ActCvae, act_loss
from act_model.policy import Policy
from act_model.recorded import Recorded
from act_model.step import clip_gradient, gradient_norm, new_optimizer
from benchmarks.peers.serving import JOINTS, save_checkpoint


def config_of(setup: Setup) -> ModelConfig:
    """LeRobot's default network with one decoder layer, ours with more."""
    sizes = setup.sizes()
    return ModelConfig(
        state_dim=JOINTS, action_dim=JOINTS, cameras=tuple(setup.camera_names()),
        image_size=(setup.height, setup.width), chunk_size=setup.chunk,
        hidden_dim=sizes["hidden"], feedforward_dim=sizes["inner"],
        encoder_layers=sizes["layers"], style_layers=sizes["layers"],
        decoder_layers=setup.decoder_layers,
    )  # fmt: skip


def training(setup: Setup) -> tuple[torch.nn.Module, Callable[[], object]]:
    """A step as `act-model train` takes it, from pictures that are normalised."""
    torch.manual_seed(0)
    network = ActCvae(config_of(setup)).train().to(setup.device)
    if setup.channels_last:
        network.to(memory_format=torch.channels_last)
    if setup.compile:
        network.compile()
    optimizer = new_optimizer(network, TrainConfig())
    batch = batch_of(setup)

    def learn(images: Tensor, state: Tensor, actions: Tensor, is_pad: Tensor) -> tuple[Tensor, ...]:
        network.zero_grad(set_to_none=True)
        with setup.autocast():
            output = network(images, state, actions, is_pad)
            loss = act_loss(output, actions, is_pad, LossConfig()).total
        torch.autograd.backward(loss)
        return (loss.detach(),)

    # As the trainer does it; its operations are counted in the first step, which is not replayed.
    replayed = learn if setup.device == "cpu" else Recorded(learn, setup.device)
    calls = itertools.chain([learn], itertools.repeat(replayed))

    def step() -> None:
        next(calls)(*batch)
        clip_gradient(network, gradient_norm(network), 10.0)
        optimizer.step()

    return network, step


def predicting(setup: Setup, folder: Path) -> tuple[torch.nn.Module, Callable[[], object]]:
    """`Policy.predict`, as a rollout calls it; the first one, which is counted, is not replayed."""
    save_checkpoint(folder / "best", config_of(setup), (setup.height, setup.width))
    policy = Policy.load(folder / "best", setup.device)
    pictures, joints = observation_of(setup)
    seen = {"qpos": joints} | {f"images/{name}": p for name, p in pictures.items()}

    def first() -> object:
        return policy.family.predict(policy.network, policy.inputs(seen))

    later: Callable[[], object] = lambda: policy.predict(seen)  # noqa: E731
    calls = itertools.chain([first], itertools.repeat(later))

    def predict() -> object:
        with setup.autocast():
            return next(calls)()

    return policy.network, predict


if __name__ == "__main__":
    setup = Setup.load(sys.argv[1])
    with TemporaryDirectory() as scratch:
        made = training(setup) if setup.what == "train" else predicting(setup, Path(scratch))
        answer(setup, *made)
