"""In LeRobot's environment: small real ACT policies, saved as it saves them, and what they predict.

python lerobot_policies.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lerobot
import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.act.processor_act import make_act_pre_post_processors
from lerobot.policies.utils import prepare_observation_for_inference

JOINTS, SIZE, CHUNK = 14, (96, 128), 20
VARIANTS: dict[str, dict[str, Any]] = {
    "published size": {},
    "4 decoder layers": {"n_decoder_layers": 4, "dim_model": 128, "dim_feedforward": 256},
    "without the encoder half": {"use_vae": False, "dim_model": 128, "dim_feedforward": 256},
}


def save(folder: Path, cameras: tuple[str, ...], seed: int, fields: dict[str, Any]) -> None:
    """The policy into `folder`, with `seen.npz`: observations and the actions it predicts."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    pictures = [f"observation.images.{name}" for name in cameras]
    inputs = {name: PolicyFeature(FeatureType.VISUAL, (3, *SIZE)) for name in pictures}
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (JOINTS,))
    config = ACTConfig(
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (JOINTS,))},
        pretrained_backbone_weights=None,
        chunk_size=CHUNK,
        n_action_steps=CHUNK,
        device="cpu",
        **fields,
    )

    def numbers() -> dict[str, torch.Tensor]:
        mean, std = rng.normal(size=JOINTS), rng.uniform(0.1, 2, JOINTS)
        return {"mean": torch.tensor(mean).float(), "std": torch.tensor(std).float()}

    colour = {
        "mean": torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1),
        "std": torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1),
    }
    stats = {"observation.state": numbers(), "action": numbers(), **dict.fromkeys(pictures, colour)}
    policy = ACTPolicy(config).eval()
    for tensor in policy.state_dict().values():  # what training leaves is never 0 and 1
        if tensor.ndim == 1:
            tensor += 0.05 * torch.rand_like(tensor)
    before, after = make_act_pre_post_processors(config, stats)
    policy.save_pretrained(folder)
    before.save_pretrained(folder)
    after.save_pretrained(folder)
    shown = rng.integers(0, 256, (4, len(cameras), *SIZE, 3), np.uint8)
    joints = rng.normal(size=(4, JOINTS)).astype(np.float32)
    said = []
    for images, state in zip(shown, joints, strict=True):
        seen = dict(zip(pictures, images, strict=True)) | {"observation.state": state}
        with torch.inference_mode():
            ready = before(prepare_observation_for_inference(seen, torch.device("cpu")))
            said.append(after(policy.predict_action_chunk(ready))[0].numpy())
    np.savez(folder / "seen.npz", pictures=shown, joints=joints, actions=np.stack(said),
             std=stats["action"]["std"].numpy())  # fmt: skip


if __name__ == "__main__":
    for seed, (name, fields) in enumerate(VARIANTS.items()):
        save(Path(sys.argv[1]) / name, ("cam_high", "cam_left_wrist"), seed, fields)
    print(lerobot.__version__)
