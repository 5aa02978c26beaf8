"""In an environment of its own: the real code of ALOHA's ACT programs, from checkouts of theirs.

    python act_originals.py save FOLDER PROGRAM CHECKOUT

builds small policies with that program's own classes, takes a few training steps with them, saves
them as it does, and writes `seen.npz`: what they predict, and what a training step said.

    python act_originals.py time SETUP PROGRAM CHECKOUT

takes part in act_step.py.

PROGRAM is act (tonyzhaozh/act), act-plus-plus (MarkFzp/act-plus-plus) or cobot_magic
(agilexrobotics/cobot_magic). Their programs are changed in three places: nothing is downloaded, a
network stays on the CPU where there is no GPU, and what their ACT does not use (the diffusion
policy's libraries) is not imported.
"""

from __future__ import annotations

import pickle
import re
import sys
import types
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

SIZE, CHUNK, SEEN = (96, 128), 20, 4
CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
NARROW = {"hidden_dim": 128, "dim_feedforward": 256}
STEPS, LR = 3, 1e-3
SEED = 7  # of the one draw in a training step: the style's noise
UNUSED = {
    "robomimic.models.base_nets": ("ResNet18Conv", "SpatialSoftmax"),
    "robomimic.algo.diffusion_policy": ("replace_bn_with_gn", "ConditionalUnet1D"),
    "diffusers.schedulers.scheduling_ddpm": ("DDPMScheduler",),
    "diffusers.schedulers.scheduling_ddim": ("DDIMScheduler",),
    "diffusers.training_utils": ("EMAModel",),
}


@dataclass(frozen=True)
class Variant:
    """A policy of a program.

    Attributes:
        fields: Of its configuration.
        mended: act-plus-plus of 2024-01 builds a whole transformer as the style encoder, which it
            cannot train; this puts its own `build_encoder` there.
    """

    cameras: int = 2
    state: int = 14
    action: int = 14
    depth: bool = False
    vq: int = 0
    mended: bool = False
    fields: dict[str, Any] = field(default_factory=dict)


VARIANTS = {
    "act": {"published size": Variant(), "3 cameras, narrower": Variant(3, fields=NARROW)},
    "act-plus-plus": {
        "without an encoder": Variant(action=16, fields={"no_encoder": True, **NARROW}),
        "encoder mended": Variant(action=16, mended=True, fields=NARROW),
        "encoder mended, VQ": Variant(action=16, mended=True, vq=4, fields=NARROW),
    },
    "cobot_magic": {
        "3 cameras": Variant(3, fields=NARROW),
        "base": Variant(3, state=16, action=16, fields={"use_robot_base": True, **NARROW}),
        "depth": Variant(3, depth=True, fields={"use_depth_image": True, **NARROW}),
        "no KL, so no encoder": Variant(3, fields={"kl_weight": 0, **NARROW}),
    },
}


def policy_of(program: str, checkout: Path, variant: Variant, chunk: int = CHUNK) -> Any:
    """The ACTPolicy of `program`, with random weights."""
    cameras = list(CAMERAS[: variant.cameras])
    config: dict[str, Any] = {
        "lr": LR, "lr_backbone": 1e-5, "backbone": "resnet18", "weight_decay": 1e-4,
        "camera_names": cameras, "kl_weight": 10, "hidden_dim": 512, "dim_feedforward": 3200,
        "enc_layers": 4, "dec_layers": 7, "nheads": 8, "dropout": 0.0,
    }  # fmt: skip
    if program == "cobot_magic":
        config |= {
            "masks": False, "dilation": False, "position_embedding": "sine", "pre_norm": False,
            "loss_function": "l1", "chunk_size": chunk, "use_depth_image": False,
            "use_robot_base": False,
        }  # fmt: skip
    else:
        config["num_queries"] = chunk
    if program == "act-plus-plus":
        config |= {
            "vq": bool(variant.vq), "vq_class": variant.vq, "vq_dim": 8,
            "action_dim": variant.action, "no_encoder": False,
        }  # fmt: skip
    config |= variant.fields
    policy_class = _load(program, checkout)
    length = "--num_steps" if program == "act-plus-plus" else "--num_epochs"
    sys.argv = ["-", length, "1", "--seed", "0"]
    sys.argv += [
        word for name in ("ckpt_dir", "policy_class", "task_name") for word in (f"--{name}", "-")
    ]
    policy = policy_class(config)
    if variant.mended:
        from detr.models.detr_vae import build_encoder  # type: ignore[import-not-found]

        policy.model.encoder = build_encoder(types.SimpleNamespace(**config, pre_norm=False))
    return policy


def _load(program: str, checkout: Path) -> Any:
    """Its class ACTPolicy."""
    warnings.simplefilter("ignore")
    root = checkout / "aloha-devel" / "act" if program == "cobot_magic" else checkout
    sys.path[:0] = [str(root), str(root / "detr")]
    for name, attributes in UNUSED.items():
        parts = name.split(".")
        for n in range(1, len(parts) + 1):
            sys.modules.setdefault(".".join(parts[:n]), types.ModuleType(parts[n - 1]))
        for attribute in attributes:
            setattr(sys.modules[name], attribute, None)
    if not torch.cuda.is_available():
        torch.nn.Module.cuda = lambda self, *_: self  # type: ignore[method-assign]
    for name in ("util.misc", "detr.util.misc"):  # no download of ImageNet's weights
        try:
            module: Any = __import__(name, fromlist=["is_main_process"])
        except ModuleNotFoundError:
            continue
        module.is_main_process = lambda: False
    from policy import ACTPolicy  # type: ignore[import-not-found]

    return ACTPolicy


def call(program: str, policy: Any, variant: Variant) -> Callable[..., Any]:
    """(pictures in [0, 1], depth, state, and while training actions and padding) of any program."""

    def prediction(images: Any, depth: Any, state: Any) -> Any:
        if program == "cobot_magic":
            return policy(images, depth, state)
        if not variant.vq:
            return policy(state, images)
        code = policy.model.vq_dim  # between all codes, since its prior is in another file
        return policy(
            state, images, vq_sample=torch.full((len(state), variant.vq * code), 1 / code)
        )

    def training(images: Any, depth: Any, state: Any, actions: Any, is_pad: Any) -> Any:
        if program == "cobot_magic":
            return policy(images, depth, state, actions, is_pad)[0]
        return policy(state, images, actions, is_pad)

    return lambda images, depth, state, *more: (training if more else prediction)(
        images, depth, state, *more
    )


def save(folder: Path, program: str, checkout: Path, variant: Variant, seed: int) -> None:
    """One policy, as its program saves it, and what it says."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    policy = policy_of(program, checkout, variant)
    ask = call(program, policy, variant)
    shown = rng.integers(0, 256, (SEEN, variant.cameras, *SIZE, 3), np.uint8)
    far = rng.integers(0, 3000, (SEEN, variant.cameras, *SIZE)).astype(np.uint16)
    joints = rng.normal(size=(SEEN, variant.state)).astype(np.float32)
    actions = torch.tensor(rng.normal(size=(SEEN, CHUNK, variant.action))).float()
    is_pad = torch.arange(CHUNK) >= torch.tensor([CHUNK, CHUNK, 12, 5])[:, None]
    stats = {
        f"{what}_{kind}": rng.uniform(*span, size).astype(np.float32)
        for what, size in (("qpos", variant.state), ("action", variant.action))
        for kind, span in (("mean", (-1.0, 1.0)), ("std", (0.1, 2.0)))
    } | {"example_qpos": joints}
    # As their inference programs do it.
    images = torch.from_numpy(shown.transpose(0, 1, 4, 2, 3) / 255.0).float()
    depth = torch.from_numpy(far / 255.0).float() if variant.depth else None
    state = torch.from_numpy((joints - stats["qpos_mean"]) / stats["qpos_std"]).float()

    policy.train()
    for stem in getattr(policy.model, "depth_backbones", None) or ():
        for name, buffer in stem.named_buffers():  # as if it had seen many pictures
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    optimizer = policy.configure_optimizers()
    for _ in range(STEPS):
        optimizer.zero_grad()
        ask(images, depth, state, actions, is_pad)["loss"].backward()
        optimizer.step()
    for (
        name,
        tensor,
    ) in policy.state_dict().items():  # three steps leave norms and biases as they were
        if tensor.ndim == 1 and not re.search(r"transformer\.decoder\.layers\.[1-9]", name):
            tensor += (0.1 * torch.rand(tensor.shape)).to(tensor.dtype)
    if variant.depth:
        policy.eval()  # with its live batch norms it says something else while it trains
    torch.manual_seed(SEED)
    with torch.no_grad():
        losses = ask(images, depth, state, actions, is_pad)
    policy.eval()
    said = []
    with torch.inference_mode():
        for n in range(SEEN):
            one = slice(n, n + 1)
            chunk = ask(images[one], None if depth is None else depth[one], state[one])
            said.append(chunk.numpy()[0] * stats["action_std"] + stats["action_mean"])
    folder.mkdir(parents=True)
    torch.save(policy.state_dict(), folder / "policy_best.ckpt")
    with (folder / "dataset_stats.pkl").open("wb") as file:
        pickle.dump(stats, file)
    more: dict[str, Any] = {"depth": far} if variant.depth else {}
    np.savez(
        folder / "seen.npz",
        pictures=shown, joints=joints, actions=np.stack(said), std=stats["action_std"], **more,
        targets=actions.numpy(), is_pad=is_pad.numpy(), seed=SEED, vq=variant.vq,
        has_style=policy.model.encoder is not None,
        l1=float(losses["l1"]), kl=float(losses.get("kl", 0.0)),
    )  # fmt: skip


def time_steps(setup: Any, program: str, checkout: Path) -> None:
    """Answer as act_timing.py wants it."""
    from act_timing import (  # type: ignore[import-not-found]
        answer,
        batch_of,
        observation_of,
    )

    sizes = setup.sizes()
    fields = {"hidden_dim": sizes["hidden"], "dim_feedforward": sizes["inner"]}
    fields |= {"enc_layers": sizes["layers"], "dropout": 0.1, "camera_names": setup.camera_names()}
    variant = Variant(cameras=setup.cameras, fields=fields)
    torch.manual_seed(0)
    with redirect_stdout(sys.stderr):  # they print their size
        policy = policy_of(program, checkout, variant, setup.chunk)
    ask = call(program, policy, variant)
    optimizer = policy.configure_optimizers()
    images, state, actions, is_pad = batch_of(setup)
    pictures, joints = observation_of(setup)
    mean, std = np.zeros_like(joints), np.ones_like(joints)

    def train() -> None:
        optimizer.zero_grad()
        with setup.autocast():
            loss = ask(images, None, state, actions, is_pad)["loss"]
        loss.backward()
        optimizer.step()

    def predict() -> object:
        with torch.inference_mode(), setup.autocast():
            stacked = np.stack([picture.transpose(2, 0, 1) for picture in pictures.values()])
            seen = torch.from_numpy(stacked / 255.0).float().to(setup.device)[None]
            at = torch.from_numpy((joints - mean) / std).float().to(setup.device)[None]
            actions: object = ask(seen, None, at)[0].float().cpu().numpy() * std + mean
            return actions

    policy.train(setup.what == "train")
    answer(setup, policy, train if setup.what == "train" else predict)


if __name__ == "__main__":
    what, where, program, checkout = sys.argv[1:]
    if what == "time":
        from act_timing import Setup

        time_steps(Setup.load(where), program, Path(checkout))
    else:
        for seed, (name, variant) in enumerate(VARIANTS[program].items()):
            save(Path(where) / name, program, Path(checkout), variant, seed)
