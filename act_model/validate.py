"""How far a policy's chunks are from the demonstration, in the robot's units, on fixed starts.

The policy predicts as at deployment, ACT with z = 0: a posterior that has seen the true actions
would report an error that no robot can reach (the original validates that way, at a new random
start each time).

Shape suffixes: B batch, K action chunk, A action dim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from act_model.dataset import EpisodeChunks
from act_model.families import Family, NetworkInput, Prediction
from act_model.transforms import Transform

# Chunks per forward pass. Fixed: the error is the same number whatever batch a run trains with.
BATCH_SIZE = 8
_BINS = 10  # of predicted probability, for the calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Errors over the valid actions of the grid, in the robot's units.

    Attributes:
        l1: Mean absolute error over everything. Joints and base together: rad, m/s and rad/s count
            alike.
        by_action: By the name of the action's dimension.
        by_horizon: By how many actions of the chunk are executed up to and with this one: 1, 10
            and K, as far as the chunk and the episodes reach.
        by_group: The same by (horizon, group of dimensions).
        seam: How far two predictions for one tick lie apart on average, the first half a chunk
            old and the second fresh: the jump where a robot goes over to a new chunk. By group;
            empty where no episode is long enough.
        is_pad: Where the policy predicts the episode's end: "brier" and "ece", the expected
            calibration error over ten bins.
        starts: Chunks that were compared with the demonstration.
    """

    l1: float
    by_action: Mapping[str, float]
    by_horizon: Mapping[int, float]
    by_group: Mapping[tuple[int, str], float] = field(default_factory=dict)
    seam: Mapping[str, float] = field(default_factory=dict)
    is_pad: Mapping[str, float] = field(default_factory=dict)
    starts: int

    def flat(self) -> dict[str, float]:
        """The numbers under one name each: "l1", "l1/<action>", "l1@<horizon>", ..."""
        return {
            "l1": self.l1,
            **{f"l1/{name}": value for name, value in self.by_action.items()},
            **{f"l1@{horizon}": value for horizon, value in self.by_horizon.items()},
            **{f"l1@{h}/{group}": value for (h, group), value in self.by_group.items()},
            **{f"seam/{group}": value for group, value in self.seam.items()},
            **{f"is_pad/{name}": value for name, value in self.is_pad.items()},
        }


def validate(
    family: Family[Any, Any],
    net: nn.Module,
    transform: Transform,
    chunks: EpisodeChunks,
    starts: Sequence[int] | NDArray[np.int64],
    *,
    names: Sequence[str],
    groups: Mapping[str, Sequence[int]] | None = None,
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
        groups: Of dimensions, by name; see `joint_groups`.
        device: Where `net` is.
    """
    groups = groups or {}
    steps, dims = transform.chunk_size, len(names)
    sum_KA, count_K = np.zeros((steps, dims)), np.zeros(steps)
    seam_A, seams = np.zeros(dims), 0
    ends: list[tuple[NDArray[np.float64], NDArray[np.bool_]]] = []
    net.eval()
    with torch.no_grad():
        for first in range(0, len(starts), BATCH_SIZE):
            here = np.asarray(starts[first : first + BATCH_SIZE])
            predicted, actions_BKA, true_BKA, pad_BK = _predict(
                family, net, transform, chunks, here, device
            )
            error_BKA = np.where(pad_BK[..., None], 0, np.abs(actions_BKA - true_BKA))
            sum_KA += error_BKA.astype(np.float64).sum(axis=0)
            count_K += (~pad_BK).sum(axis=0)
            if predicted.is_pad_BK is not None:
                said_BK = predicted.is_pad_BK.double().cpu().numpy()
                ends.append((said_BK.ravel(), pad_BK.ravel()))
            old, fresh = _handovers(chunks, here, max(1, steps // 2))
            if len(old) and steps > 1:
                _, next_BKA, _, _ = _predict(family, net, transform, chunks, fresh, device)
                jump_BA = np.abs(actions_BKA[old, max(1, steps // 2)] - next_BKA[:, 0])
                seam_A += jump_BA.astype(np.float64).sum(axis=0)
                seams += len(old)
    net.train()
    by_action = sum_KA.sum(axis=0) / count_K.sum()
    horizons = [h for h in sorted({1, 10, steps}) if h <= steps and count_K[h - 1]]
    return Validation(
        l1=float(by_action.mean()),
        by_action={name: float(value) for name, value in zip(names, by_action, strict=True)},
        by_horizon={h: float(sum_KA[h - 1].mean() / count_K[h - 1]) for h in horizons},
        by_group={
            (h, group): float(sum_KA[h - 1, list(dims)].mean() / count_K[h - 1])
            for h in horizons
            for group, dims in groups.items()
        },
        seam={g: float(seam_A[list(dims)].mean() / seams) for g, dims in groups.items() if seams},
        is_pad=_calibration(*(np.concatenate(each) for each in zip(*ends, strict=True)))
        if ends
        else {},
        starts=len(starts),
    )


def _predict(
    family: Family[Any, Any],
    net: nn.Module,
    transform: Transform,
    chunks: EpisodeChunks,
    indices: NDArray[np.int64],
    device: torch.device,
) -> tuple[Prediction, NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """The prediction, its actions and the true ones (B, K, A) in the robot's units, is_pad."""
    batch = chunks.__getitems__(indices).to(device)
    seen = NetworkInput(
        images=transform.images(batch.images),
        state=transform.state(batch.state),
        depth=transform.depth(batch.depth),
    )
    predicted = family.predict(net, seen)
    actions_BKA = transform.unaction(predicted.actions_BKA.float())
    return (
        predicted,
        actions_BKA.cpu().numpy(),
        batch.actions.cpu().numpy(),
        batch.is_pad.cpu().numpy(),
    )


def _handovers(
    chunks: EpisodeChunks, indices: NDArray[np.int64], later: int
) -> tuple[list[int], NDArray[np.int64]]:
    """Those of `indices` (as places in it) that have a sample `later` ticks on, and that one."""
    old, fresh = [], []
    for place, index in enumerate(indices.tolist()):
        episode, t = chunks.place(index)
        if index + later < len(chunks) and chunks.place(index + later) == (episode, t + later):
            old.append(place)
            fresh.append(index + later)
    return old, np.array(fresh, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndBin:
    """Predictions of one tenth of all probabilities, held against what was true.

    Attributes:
        count: How many; never 0.
        said: Their mean probability that the episode is over.
        true: Share of them for which it was.
    """

    count: int
    said: float
    true: float


def end_bins(said: NDArray[np.floating], true: NDArray[np.bool_]) -> tuple[EndBin, ...]:
    """Predicted ends by tenths of probability, for those that were said; arrays of one shape."""
    bins = np.minimum((said * _BINS).astype(np.int64), _BINS - 1)
    return tuple(
        EndBin(
            count=int(here.sum()),
            said=float(said[here].mean(dtype=np.float64)),
            true=float(true[here].mean()),
        )
        for b in range(_BINS)
        if (here := bins == b).any()
    )


def _calibration(said: NDArray[np.float64], true: NDArray[np.bool_]) -> dict[str, float]:
    """Brier score, and how far the predicted probability is from the frequency, bin by bin."""
    gaps = [each.count * abs(each.said - each.true) for each in end_bins(said, true)]
    return {
        "brier": float(np.square(said - true).mean()),
        "ece": sum(gaps) / len(said),
    }
