"""The published ACT network under the names of other programs, for comparison with an import.

Built from torch's own MultiheadAttention and torchvision's ResNet, so nothing of ours is in it. It
predicts with z = 0, as a robot does. Shape suffixes: B batch, N cameras, S state dim, T tokens, D
hidden dim, K chunk, A action dim.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d

SIZE = (32, 48)
NORMALISER = "policy_preprocessor_step_3_normalizer_processor.safetensors"
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


class Layer(nn.Module):
    """A post-norm layer of DETR; with `cross` it reads a memory, too."""

    def __init__(self, dim: int, heads: int, inner: int, *, cross: bool) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        if cross:
            self.multihead_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(dim, inner), nn.Linear(inner, dim)
        for n in range(3 if cross else 2):
            setattr(self, f"norm{n + 1}", nn.LayerNorm(dim))

    def forward(self, x: Tensor, at: Tensor, memory: Tensor | None, memory_at: Tensor) -> Tensor:
        norms = iter([getattr(self, f"norm{n}") for n in (1, 2, 3) if hasattr(self, f"norm{n}")])
        x = next(norms)(x + self.self_attn(x + at, x + at, x, need_weights=False)[0])
        if memory is not None:
            read = self.multihead_attn(x + at, memory + memory_at, memory, need_weights=False)[0]
            x = next(norms)(x + read)
        out: Tensor = next(norms)(x + self.linear2(self.linear1(x).relu()))
        return out


class Stack(nn.Module):
    """Layers, and the norm behind a decoder."""

    def __init__(self, layers: int, sizes: tuple[int, int, int], *, cross: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(*sizes, cross=cross) for _ in range(layers))
        self.norm = nn.LayerNorm(sizes[0]) if cross else nn.Identity()

    def forward(
        self, x: Tensor, at: Tensor, memory: Tensor | None = None, memory_at: Any = None
    ) -> Tensor:
        for layer in self.layers:
            x = layer(x, at, memory, memory_at)
        out: Tensor = self.norm(x)
        return out


class Published(nn.Module):
    """The network, with random weights.

    Args:
        style_layers: 0 for a policy that was trained without the encoder half.
        per_camera: A ResNet for each camera instead of one for all.
    """

    def __init__(
        self,
        *,
        cameras: int,
        joints: int,
        chunk: int,
        sizes: tuple[int, int, int] = (32, 8, 48),
        latent: int = 6,
        encoder_layers: int = 2,
        style_layers: int = 2,
        decoder_layers: int = 1,
        resnet: str = "resnet18",
        seed: int = 0,
        per_camera: bool = False,
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        dim = sizes[0]
        self.cameras, self.latent = cameras, latent
        full = [
            getattr(models, resnet)(weights=None, norm_layer=FrozenBatchNorm2d)
            for _ in range(cameras if per_camera else 1)
        ]
        self.backbones = nn.ModuleList(IntermediateLayerGetter(f, {"layer4": "0"}) for f in full)
        channels = full[0].fc.in_features
        self.see = nn.Conv2d(channels, dim, 1)
        self.state, self.z = nn.Linear(joints, dim), nn.Linear(latent, dim)
        self.positions, self.queries = nn.Embedding(2, dim), nn.Embedding(chunk, dim)
        self.encoder = Stack(encoder_layers, sizes, cross=False)
        self.decoder = Stack(decoder_layers, sizes, cross=True)
        self.head = nn.Linear(dim, joints)
        self.style = Stack(style_layers, sizes, cross=False)
        self.cls = nn.Embedding(1, dim)
        self.style_state, self.style_action = nn.Linear(joints, dim), nn.Linear(joints, dim)
        self.distribution = nn.Linear(dim, 2 * latent)
        for name, tensor in self.state_dict().items():  # what training leaves is never 0 and 1
            if tensor.ndim == 1 and "running" not in name:
                tensor.add_(0.1 * torch.randn_like(tensor))
        self.eval()

    @torch.no_grad()
    def forward(self, images_BN3HW: Tensor, state_BS: Tensor) -> Tensor:
        """(B, K, A) from pictures and states as the network sees them."""
        batch = len(state_BS)
        z_BD = self.z(torch.zeros(batch, self.latent))
        tokens = [torch.stack([z_BD, self.state(state_BS)], dim=1)]
        places = [self.positions.weight]
        for n in range(self.cameras):
            backbone = self.backbones[n % len(self.backbones)]
            seen = self.see(backbone(images_BN3HW[:, n])["0"])
            tokens.append(seen.flatten(2).transpose(1, 2))
            places.append(cells(seen.shape[1], *seen.shape[2:]))
        at = torch.cat(places)
        memory = self.encoder(torch.cat(tokens, dim=1), at)
        start = torch.zeros(batch, *self.queries.weight.shape)
        out: Tensor = self.head(self.decoder(start, self.queries.weight, memory, at))
        return out

    def lerobot(self) -> dict[str, Tensor]:
        """Its weights as LeRobot's model.safetensors has them."""
        names = {
            "backbones.0": "backbone", "see": "encoder_img_feat_input_proj",
            "state": "encoder_robot_state_input_proj", "z": "encoder_latent_input_proj",
            "positions": "encoder_1d_feature_pos_embed", "queries": "decoder_pos_embed",
            "encoder": "encoder", "decoder": "decoder", "head": "action_head",
            "style": "vae_encoder", "cls": "vae_encoder_cls_embed",
            "style_state": "vae_encoder_robot_state_input_proj",
            "style_action": "vae_encoder_action_input_proj",
            "distribution": "vae_encoder_latent_output_proj",
        }  # fmt: skip
        return self._renamed(names)

    def aloha(self, program: str) -> dict[str, Tensor]:
        """Its weights as the state dict of ALOHA's programs has them."""
        names = {
            "see": "input_proj", "state": "input_proj_robot_state", "z": "latent_out_proj",
            "positions": "additional_pos_embed", "queries": "query_embed",
            "encoder": "transformer.encoder", "decoder": "transformer.decoder",
            "head": "action_head", "style": "encoder", "cls": "cls_embed",
            "style_state": "encoder_joint_proj", "style_action": "encoder_action_proj",
            "distribution": "latent_proj",
        }  # fmt: skip
        names |= {f"backbones.{n}": f"backbones.{n}.0.body" for n in range(len(self.backbones))}
        found = self._renamed(names)
        begin, layers = "model.transformer.decoder.layers", len(self.decoder.layers)
        for name, tensor in list(found.items()):
            if name.startswith(
                f"{begin}.0."
            ):  # up to 7: without a gradient norms stay as they were
                value = torch.ones_like(tensor) * 0.99 if tensor.ndim == 1 else tensor
                found |= {
                    name.replace(f"{begin}.0", f"{begin}.{n}"): value for n in range(layers, 7)
                }
        positions = found["model.additional_pos_embed.weight"]
        if program == "cobot_magic":
            del found["model.additional_pos_embed.weight"]
            found["model.latent_pos.weight"] = positions[:1]
            found["model.robot_state_pos.weight"] = positions[1:]
        else:
            dim = positions.shape[1]
            found["model.is_pad_head.weight"] = torch.zeros(1, dim)
            found["model.is_pad_head.bias"] = torch.zeros(1)
        return found

    def _renamed(self, names: dict[str, str]) -> dict[str, Tensor]:
        found = {}
        for name, tensor in self.state_dict().items():
            own = max((n for n in names if name.startswith(f"{n}.")), key=len)
            found[f"model.{names[own]}{name[len(own) :]}"] = tensor.contiguous()
        return found


def save_as_lerobot(folder: Path, net: Published, cameras: Sequence[str]) -> None:
    """What LeRobot's `save_pretrained` leaves, of a policy with pictures of 32x48.

    And `seen.npz`: observations, the actions that `net` has for them, and what they are divided by.
    """
    joints = net.head.out_features
    random = torch.Generator().manual_seed(1)
    folder.mkdir(parents=True)
    save_file(net.lerobot(), folder / "model.safetensors")
    pictures = [f"observation.images.{name}" for name in cameras]
    inputs = {"observation.state": {"shape": [joints]}}
    config = {
        "type": "act",
        "n_heads": 8,
        "input_features": inputs | {name: {"shape": [3, *SIZE]} for name in pictures},
        "normalization_mapping": dict.fromkeys(("VISUAL", "STATE", "ACTION"), "MEAN_STD"),
    }
    (folder / "config.json").write_text(json.dumps(config))
    step = {"registry_name": "normalizer_processor", "state_file": NORMALISER}
    (folder / "policy_preprocessor.json").write_text(json.dumps({"steps": [{}, step]}))
    numbers = {
        f"{feature}.{quantity}": torch.rand(joints, generator=random) + shift
        for feature in ("observation.state", "action")
        for quantity, shift in (("mean", -0.5), ("std", 0.2))
    }
    for name in pictures:
        numbers |= {f"{name}.mean": MEAN.view(3, 1, 1), f"{name}.std": STD.view(3, 1, 1)}
    save_file({name: tensor.clone() for name, tensor in numbers.items()}, folder / NORMALISER)
    _save_seen(folder, net, numbers, random)


def save_as_aloha(folder: Path, net: Published, program: str) -> None:
    """What the programs of ALOHA leave, and `seen.npz` as above."""
    joints = net.head.out_features
    random = torch.Generator().manual_seed(1)
    folder.mkdir(parents=True)
    torch.save(net.aloha(program), folder / "policy_best.ckpt")
    numbers = {
        f"{feature}.{quantity}": torch.rand(joints, generator=random) + shift
        for feature in ("observation.state", "action")
        for quantity, shift in (("mean", -0.5), ("std", 0.2))
    }
    theirs = {"observation.state": "qpos", "action": "action"}
    stats = {
        f"{theirs[feature]}_{quantity}": numbers[f"{feature}.{quantity}"].numpy()
        for feature in theirs
        for quantity in ("mean", "std")
    } | {"example_qpos": np.zeros((5, joints), np.float32)}
    (folder / "dataset_stats.pkl").write_bytes(pickle.dumps(stats))
    _save_seen(folder, net, numbers, random)


def _save_seen(
    folder: Path, net: Published, numbers: dict[str, Tensor], random: torch.Generator
) -> None:
    joints = net.head.out_features
    shown = torch.randint(0, 256, (3, net.cameras, *SIZE, 3), generator=random).to(torch.uint8)
    state = torch.randn(3, joints, generator=random)
    colours = (shown.permute(0, 1, 4, 2, 3) / 255 - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
    mean, std = numbers["observation.state.mean"], numbers["observation.state.std"]
    actions = net(colours, (state - mean) / (std + 1e-8))
    actions = actions * numbers["action.std"] + numbers["action.mean"]
    np.savez(
        folder / "seen.npz",
        pictures=shown.numpy(),
        joints=state.numpy(),
        actions=actions.numpy(),
        std=numbers["action.std"].numpy(),
    )


def cells(dim: int, height: int, width: int) -> Tensor:
    """(height * width, D): DETR's sine code, rows first, from 1 and scaled to 2 pi."""
    frequency = 10_000.0 ** (-torch.arange(0, dim // 2, 2) / (dim // 2))

    def code(count: int) -> Tensor:
        angle = torch.arange(1, count + 1)[:, None] / count * 2 * math.pi * frequency
        return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)

    rows = code(height)[:, None].expand(height, width, -1)
    return torch.cat([rows, code(width)[None].expand(height, width, -1)], dim=2).flatten(0, 1)
