"""Where a token comes from: sine and learned position codes.

Shape suffixes: L length, D hidden dim, h and w height and width of a feature map.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

_TEMPERATURE = 10_000.0  # Vaswani et al., 2017


def sinusoid_table(length: int, dim: int) -> Tensor:
    """(length, dim) position codes of a sequence: sine at even, cosine at odd indices.

    Vaswani et al., 2017, section 3.5; `dim` is even.
    """
    return _interleave(torch.arange(length, dtype=torch.float32), dim)


class SinePosition2d(nn.Module):
    """Fixed code of each cell of a feature map: half the dims for its row, half for its column.

    As in DETR (Carion et al., 2020) with `normalize=True`: rows and columns count from 1 and are
    scaled to (0, 2 pi], so a map of any size covers the same range.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, features: Tensor) -> Tensor:
        """(h * w, D) codes, row by row, for feature maps (..., h, w); their dtype and device."""
        h, w = features.shape[-2:]
        rows_hd = _interleave(_angles(h, features.device), self.dim // 2)
        columns_wd = _interleave(_angles(w, features.device), self.dim // 2)
        return _grid(rows_hd, columns_wd).to(features.dtype)


class LearnedPosition2d(nn.Module):
    """Trained code of each cell: one vector per row and one per column.

    The tables have the size of the feature map at training; a map of another size reads them
    by linear interpolation.
    """

    def __init__(self, dim: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.rows_hd = nn.Parameter(torch.rand(size[0], dim // 2))
        self.columns_wd = nn.Parameter(torch.rand(size[1], dim // 2))

    def forward(self, features: Tensor) -> Tensor:
        """(h * w, D) codes, row by row, for feature maps (..., h, w)."""
        h, w = features.shape[-2:]
        return _grid(_resample(self.rows_hd, h), _resample(self.columns_wd, w))


def _angles(count: int, device: torch.device) -> Tensor:
    return torch.arange(1, count + 1, dtype=torch.float32, device=device) * (2 * math.pi / count)


def _interleave(positions_L: Tensor, dim: int) -> Tensor:
    """(L, dim): sin and cos of each position, in turn, at falling frequencies."""
    exponents = torch.arange(0, dim, 2, dtype=torch.float32, device=positions_L.device) / dim
    angles = positions_L[:, None] * _TEMPERATURE**-exponents
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _grid(rows_hd: Tensor, columns_wd: Tensor) -> Tensor:
    """(h * w, 2 d): the row's half first."""
    h, w = len(rows_hd), len(columns_wd)
    rows_hwd = rows_hd[:, None].expand(h, w, -1)
    columns_hwd = columns_wd[None].expand(h, w, -1)
    return torch.cat([rows_hwd, columns_hwd], dim=-1).flatten(0, 1)


def _resample(table_Ld: Tensor, length: int) -> Tensor:
    if len(table_Ld) == length:
        return table_Ld
    # align_corners: else the outer cells of a larger map would share the first and last code.
    table_1dL = functional.interpolate(
        table_Ld.T[None], size=length, mode="linear", align_corners=True
    )
    return table_1dL[0].T
