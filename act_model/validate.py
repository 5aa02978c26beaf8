"""How far a policy's chunks are from the demonstration, in the robot's units, on fixed starts.

The policy predicts as at deployment, ACT with z = 0: a posterior that has seen the true actions
would report an error that no robot can reach (the original validates that way, at a new random
start each time).

Shape suffixes: B batch, K action chunk, A action dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from act_model.dataset import EpisodeChunks
from act_model.families import Family, NetworkInput
from act_model.transforms import Transform

# Chunks per forward pass. Fixed: the error is the same number whatever batch a run trains with.
BATCH_SIZE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Mean absolute errors over the valid actions of the grid, in the robot's units.

    Attributes:
        l1: Over everything. Joints and base together: rad, m/s and rad/s count alike.
        by_action: By the name of the action's dimension.
        by_horizon: By how many actions of the chunk are executed up to and with this one: 1, 10
            and K, as far as the chunk and the episodes reach.
        starts: Chunks that were predicted.
    """

    l1: float
    by_action: dict[str, float]
    by_horizon: dict[int, float]
    starts: int

    def flat(self) -> dict[str, float]:
        """The numbers under one name each: "l1", "l1/<action>", "l1@<horizon>"."""
        return {
            "l1": self.l1,
            **{f"l1/{name}": value for name, value in self.by_action.items()},
            **{f"l1@{horizon}": value for horizon, value in self.by_horizon.items()},
        }


def validate(
    family: Family[Any, Any],
    net: nn.Module,
    transform: Transform,
    chunks: EpisodeChunks,
    starts: Sequence[int] | NDArray[np.int64],
    *,
    names: Sequence[str],
    device: torch.device,
) -> Validation:
    """The error of `net` at the samples `starts` of `chunks`; `net` is left in training mode.

    Bit-identical from run to run on one machine: no draw, no augmentation.

    Args:
        family: Of `net`.
        net: The network.
        transform: On the same device as `net`.
        chunks: Usually of the held-out episodes.
        starts: Usually `chunks.grid(...)`.
        names: (A,) of the action's dimensions.
        device: Where `net` is.
    """
    sum_KA = np.zeros((transform.chunk_size, len(names)))
    count_K = np.zeros(transform.chunk_size)
    net.eval()
    with torch.no_grad():
        for first in range(0, len(starts), BATCH_SIZE):
            batch = chunks.__getitems__(starts[first : first + BATCH_SIZE]).to(device)
            seen = NetworkInput(
                images=transform.images(batch.images),
                state=transform.state(batch.state),
                depth=transform.depth(batch.depth),
            )
            predicted = family.predict(net, seen)
            error_BKA = (transform.unaction(predicted.actions_BKA) - batch.actions).abs().double()
            error_BKA = error_BKA.masked_fill(batch.is_pad[..., None], 0)
            sum_KA += error_BKA.sum(dim=0).cpu().numpy()
            count_K += (~batch.is_pad).sum(dim=0).cpu().numpy()
    net.train()
    by_action = sum_KA.sum(axis=0) / count_K.sum()
    horizons = [h for h in sorted({1, 10, len(count_K)}) if h <= len(count_K) and count_K[h - 1]]
    return Validation(
        l1=float(by_action.mean()),
        by_action={name: float(value) for name, value in zip(names, by_action, strict=True)},
        by_horizon={h: float(sum_KA[h - 1].mean() / count_K[h - 1]) for h in horizons},
        starts=len(starts),
    )
