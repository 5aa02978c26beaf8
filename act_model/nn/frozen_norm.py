"""Batch norms that never learn, computed by the convolution before them.

One pass over the picture instead of three, in training too: the weights are scaled before they are
used, which costs as much as one row of the picture. Names stay torchvision's.

Shape suffixes: B batch, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_EPSILON = 1e-5  # as torchvision's


class FrozenNorm(nn.Module):
    """The four tensors of a batch norm; the convolution before it applies them.

    Attributes:
        weight: (C,), as all of them.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            self.register_buffer(name, torch.full((channels,), float(value)))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """(C,) both: what the norm multiplies with, and then adds."""
        scale_C = self.weight * (self.running_var + _EPSILON).rsqrt()
        return scale_C, self.bias - self.running_mean * scale_C

    def forward(self, x: Tensor) -> Tensor:
        """`x`: the convolution has done it."""
        return x


class NormedConv(nn.Conv2d):
    """A convolution without a bias, and the frozen norm behind it."""

    def __init__(self, conv: nn.Conv2d, norm: FrozenNorm) -> None:
        assert conv.bias is None
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            cast(tuple[int, int], conv.kernel_size),
            cast(tuple[int, int], conv.stride),
            cast(tuple[int, int], conv.padding),
            bias=False,
        )
        self.weight = conv.weight
        self._norm = [norm]  # in a list: its tensors are in the module that holds both

    @property
    def norm(self) -> FrozenNorm:
        """What is applied behind it."""
        return self._norm[0]

    def convolved(self, x: Tensor) -> Tensor:
        """Before the norm."""
        return functional.conv2d(x, self.weight, None, self.stride, self.padding)

    def forward(self, x: Tensor) -> Tensor:
        """Behind the norm."""
        weight, shift_C = self.folded()
        return functional.conv2d(x, weight, shift_C, self.stride, self.padding)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution that both make."""
        scale_C, shift_C = self.norm.scale_and_shift()
        return self.weight * scale_C[:, None, None, None], shift_C


def join_norms(net: nn.Module) -> None:
    """Let every convolution of `net` that has a FrozenNorm behind it apply it."""
    for parent, name, conv, norm in list(_pairs(net)):
        setattr(parent, name, NormedConv(conv, norm))


def fold_batch_norm(network: nn.Module) -> None:
    """Make every frozen batch norm part of the convolution before it for good, in place.

    What the network computes stays the same; it no longer loads its own weights.
    """
    for parent, name, conv, norm in list(_pairs(network)):
        assert isinstance(conv, NormedConv)
        plain = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            cast(tuple[int, int], conv.kernel_size),
            cast(tuple[int, int], conv.stride),
            cast(tuple[int, int], conv.padding),
        )
        plain.weight, plain.bias = (nn.Parameter(t.detach()) for t in conv.folded())
        setattr(parent, name, plain)
        for norm_name, child in list(parent.named_children()):
            if child is norm:
                setattr(parent, norm_name, nn.Identity())


def _pairs(net: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Conv2d, FrozenNorm]]:
    """Every convolution with a norm behind it: their parent, the convolution's name, both."""
    for parent in net.modules():
        before: tuple[str, nn.Module] | None = None
        for name, child in parent.named_children():
            if isinstance(child, FrozenNorm) and before is not None:
                assert isinstance(before[1], nn.Conv2d)
                yield parent, before[0], before[1], child
            before = name, child
