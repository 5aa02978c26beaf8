"""The published ACT network under the names of its programs, for comparison with an import.

Built from torch's own MultiheadAttention and torchvision's ResNet, so nothing of ours is in it. It
predicts with z = 0, as a robot does. Shape suffixes: B batch, N cameras, S state dim, T tokens, D
hidden dim, K chunk, A action dim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d


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
    """Layers, and the norm behind a decoder. `used` of them count."""

    def __init__(self, layers: int, sizes: tuple[int, int, int], *, cross: bool, used: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(*sizes, cross=cross) for _ in range(layers))
        self.norm = nn.LayerNorm(sizes[0]) if cross else nn.Identity()
        self.used = used

    def forward(
        self, x: Tensor, at: Tensor, memory: Tensor | None = None, memory_at: Any = None
    ) -> Tensor:
        for layer in self.layers[: self.used]:
            x = layer(x, at, memory, memory_at)
        out: Tensor = self.norm(x)
        return out


class Published(nn.Module):
    """The network; `lerobot` or `original` gives its weights the names of one program.

    Args:
        backbones: 1 for a shared one.
        style_layers: 0 for a policy that was trained without the encoder half.
        decoder: Layers it has, and how many of them what comes out has passed.
    """

    def __init__(
        self,
        *,
        cameras: int,
        backbones: int,
        joints: int,
        actions: int,
        chunk: int,
        sizes: tuple[int, int, int] = (32, 8, 48),
        latent: int = 6,
        encoder_layers: int = 2,
        style_layers: int = 2,
        decoder: tuple[int, int] = (1, 1),
        resnet: str = "resnet18",
        seed: int = 0,
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        dim = sizes[0]
        self.cameras, self.latent = cameras, latent
        self.backbones = nn.ModuleList()
        for _ in range(backbones):
            full = getattr(models, resnet)(weights=None, norm_layer=FrozenBatchNorm2d)
            self.backbones.append(IntermediateLayerGetter(full, {"layer4": "0"}))
        channels = full.fc.in_features
        self.see = nn.Conv2d(channels, dim, 1)
        self.state, self.z = nn.Linear(joints, dim), nn.Linear(latent, dim)
        self.positions, self.queries = nn.Embedding(2, dim), nn.Embedding(chunk, dim)
        self.encoder = Stack(encoder_layers, sizes, cross=False, used=encoder_layers)
        self.decoder = Stack(decoder[0], sizes, cross=True, used=decoder[1])
        self.head, self.over = nn.Linear(dim, actions), nn.Linear(dim, 1)
        self.style = Stack(style_layers, sizes, cross=False, used=style_layers)
        self.cls = nn.Embedding(1, dim)
        self.style_state, self.style_action = nn.Linear(joints, dim), nn.Linear(actions, dim)
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
            net = self.backbones[n % len(self.backbones)]
            seen = self.see(net(images_BN3HW[:, n])["0"])
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
            "distribution": "vae_encoder_latent_output_proj", "over": None,
        }  # fmt: skip
        return self._named(names)

    def original(self) -> dict[str, Tensor]:
        """Its weights as act's and act-plus-plus' policy_best.ckpt have them."""
        names = {
            "see": "input_proj", "state": "input_proj_robot_state", "z": "latent_out_proj",
            "positions": "additional_pos_embed", "queries": "query_embed",
            "encoder": "transformer.encoder", "decoder": "transformer.decoder",
            "head": "action_head", "over": "is_pad_head", "style": "encoder", "cls": "cls_embed",
            "style_state": "encoder_joint_proj", "style_action": "encoder_action_proj",
            "distribution": "latent_proj",
        }  # fmt: skip
        each = {f"backbones.{n}": f"backbones.{n}.0.body" for n in range(len(self.backbones))}
        return self._named(names | each)

    def _named(self, names: Mapping[str, str | None]) -> dict[str, Tensor]:
        found = {}
        for name, tensor in self.state_dict().items():
            own = max((n for n in names if name.startswith(f"{n}.")), key=len)
            if names[own] is not None:
                found[f"model.{names[own]}{name[len(own) :]}"] = tensor.clone()
        return found


def cells(dim: int, height: int, width: int) -> Tensor:
    """(height * width, D): DETR's sine code, rows first, from 1 and scaled to 2 pi."""
    frequency = 10_000.0 ** (-torch.arange(0, dim // 2, 2) / (dim // 2))

    def code(count: int) -> Tensor:
        angle = torch.arange(1, count + 1)[:, None] / count * 2 * math.pi * frequency
        return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)

    rows = code(height)[:, None].expand(height, width, -1)
    return torch.cat([rows, code(width)[None].expand(height, width, -1)], dim=2).flatten(0, 1)
