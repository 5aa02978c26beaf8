"""Several processes that train one network together, as torchrun starts them.

Each computes its parts of every batch; gradients are added up, so that all take the same step.
torchrun says through the environment who is who, and ends all of them when one fails.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import distributed, nn

from act_data.errors import InputError


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which process this is, of how many. Alone, every sum is what was given.

    Attributes:
        here: How many of them are on this machine.
    """

    rank: int = 0
    world: int = 1
    here: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes and talks for all."""
        return self.rank == 0

    def mine(self, parts: int) -> range:
        """Those of `parts` parts of a batch that this process computes.

        Raises:
            InputError: They cannot be shared out evenly.
        """
        if parts % self.world:
            raise InputError(
                f"a batch in {parts} parts cannot be shared out to {self.world} processes",
                hint=f"Set parts to a multiple of {self.world}.",
            )
        each = parts // self.world
        return range(self.rank * each, (self.rank + 1) * each)

    def total(self, number: float) -> float:
        """The sum of what each process gives."""
        if self.world == 1:
            return number
        sums = torch.tensor([number], dtype=torch.float64, device=_device())
        distributed.all_reduce(sums)
        return float(sums.item())

    def add_gradients(self, net: nn.Module) -> None:
        """Replace every gradient of `net` by the sum of those of all processes."""
        if self.world == 1:
            return
        parameters = list(net.parameters())
        # In one message: a network has hundreds of tensors, most of them small.
        flat = torch.cat([_gradient(p).flatten() for p in parameters])
        distributed.all_reduce(flat)
        pieces = torch.split(flat, [p.numel() for p in parameters])
        for parameter, piece in zip(parameters, pieces, strict=True):
            _gradient(parameter).copy_(piece.view_as(parameter))


@contextlib.contextmanager
def ranks() -> Iterator[Ranks]:
    """The processes that torchrun started this one with; just this one without it."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks()
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
        yield Ranks(distributed.get_rank(), world, here)
    finally:
        distributed.destroy_process_group()


def speaks() -> bool:
    """Whether this process is the one that prints; needs no torch.distributed."""
    return os.environ.get("RANK", "0") == "0"


def _device() -> str:
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
