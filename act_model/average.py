"""A moving average of the weights over the steps of training: often better than the last ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """The exponential moving average of a network's parameters.

    The decay is warmed up, min(decay, (1 + step) / (10 + step)), so that a short run is not
    averaged with its random beginning.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self._parameters = dict(net.named_parameters())
        self._decay = decay
        self._average = {name: p.detach().clone() for name, p in self._parameters.items()}

    def update(self, step: int) -> None:
        """Take in the weights after step `step`."""
        decay = min(self._decay, (1 + step) / (10 + step))
        now = [p.detach() for p in self._parameters.values()]
        torch._foreach_lerp_(list(self._average.values()), now, 1 - decay)

    def raw(self) -> dict[str, Tensor]:
        """Copies of the weights that training goes on from."""
        return {name: p.detach().clone() for name, p in self._parameters.items()}

    def load_raw(self, raw: Mapping[str, Tensor]) -> None:
        """Let the network's weights be the average, and put `raw` in their place."""
        for name, parameter in self._parameters.items():
            self._average[name].copy_(parameter.detach())
            parameter.data.copy_(raw[name])

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the averaged weights inside the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            parameter.data, self._average[name] = self._average[name], parameter.data
