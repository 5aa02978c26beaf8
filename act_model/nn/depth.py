"""Depth pictures to feature maps of the same size as the backbone's.

Shape suffixes: B batch, M depth cameras, C channels, H height, W width, h and w the same after
the stride of 32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS = 256


class DepthStems(nn.Module):
    """A small convolution stack per depth camera, trained from scratch.

    Widths and strides are those of the depth branch in AgileX's aloha-devel (1 -> 64 -> 128 ->
    256, strides 2, 4, 4). That one uses batch norm; group norm here does not depend on who else
    is in the batch, so training and deployment compute the same.
    """

    def __init__(self, cameras: int) -> None:
        super().__init__()
        self.stems = nn.ModuleList(_stem() for _ in range(cameras))

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
