"""Depth pictures to feature maps of the same size as the backbone's.

Shape suffixes: B batch, M depth cameras, C channels, H height, W width, h and w the same after
the stride of 32.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

CHANNELS = 256
MM_PER_M = 1000.0


class DepthStems(nn.Module):
    """A small convolution stack per depth camera, trained from scratch.

    Widths and strides of "group_norm" are those of the depth branch in AgileX's aloha-devel (1 ->
    64 -> 128 -> 256, strides 2, 4, 4). That one uses batch norm; group norm here does not depend
    on who else is in the batch, so training and deployment compute the same.
    """

    def __init__(self, cameras: int, kind: Literal["group_norm", "agilex"] = "group_norm") -> None:
        super().__init__()
        stem = _stem if kind == "group_norm" else _AgilexStem
        self.stems = nn.ModuleList(stem() for _ in range(cameras))

    def forward(self, depth_BM1HW: Tensor) -> Tensor:
        """(B, M, 1, H, W) scaled metres to (B, M, 256, ceil(H / 32), ceil(W / 32))."""
        return torch.stack([stem(depth_BM1HW[:, m]) for m, stem in enumerate(self.stems)], dim=1)


def _stem() -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after, kernel, stride in ((1, 64, 7, 2), (64, 128, 5, 4), (128, CHANNELS, 5, 4)):
        layers += [
            nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False),
            nn.GroupNorm(16, after),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


class _AgilexStem(nn.Module):
    """DepthNet of aloha-devel as it is deployed: its batch norms are part of the convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 64, 7, stride=2, padding=3)
        self.blocks = nn.Sequential(
            _Residual(64, 128, stride=4),
            _Residual(128, 128, stride=1),
            _Residual(128, CHANNELS, stride=4),
            _Residual(CHANNELS, CHANNELS, stride=1),
        )

    def forward(self, depth_B1HW: Tensor) -> Tensor:
        # What aloha-devel does to millimetres: / 255, as if they were bytes, then to [-1, 1].
        scaled_B1HW = (depth_B1HW * (MM_PER_M / 255) - 0.5) / 0.5
        features: Tensor = self.blocks(self.conv(scaled_B1HW))
        return features


class _Residual(nn.Module):
    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.short = (
            nn.Identity() if before == after else nn.Conv2d(before, after, 1, stride=stride)
        )

    def forward(self, x_BChw: Tensor) -> Tensor:
        inner_BChw = self.conv2(self.conv1(x_BChw).relu())
        out_BChw: Tensor = (self.short(x_BChw) + inner_BChw).relu()
        return out_BChw
