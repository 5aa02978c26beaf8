"""Between the policy and the robot: no action leaves here that is not finite and within limits.

An action passes, in this order: shape, finite, position limits, step limit. The first two refuse
it as a whole and hold the last command; a NaN is never clamped into a number. The other two clamp
each joint. Every intervention is counted, and the raw action is handed on beside the filtered one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError
from act_data.records import FeatureStats, StatsRecord
from act_model.config import VectorContract

DEFAULT_MARGIN = 0.05  # share of each joint's range in the training data


class Intervention(StrEnum):
    """Why an action did not leave as it came."""

    SHAPE = "shape"  # refused: not (A,)
    NOT_FINITE = "not_finite"  # refused: NaN or infinity
    POSITION = "position"  # clamped to the position limits
    STEP = "step"  # clamped to the largest change per tick


@dataclass(frozen=True, slots=True)
class Filtered:
    """One action before and after the filter.

    Attributes:
        raw: What the policy wanted, untouched; None when it wanted nothing.
        action: (A,) float32, what may be sent; None when nothing may and there is nothing to hold.
        interventions: In the order of the checks; empty when `action` is `raw`.
    """

    raw: NDArray[np.floating] | None
    action: NDArray[np.float32] | None
    interventions: tuple[Intervention, ...]


class SafetyFilter:
    """Keeps actions finite, within limits, and no further than a step from the last one."""

    def __init__(
        self,
        low: NDArray[np.float32],
        high: NDArray[np.float32],
        *,
        max_step: NDArray[np.float32] | None = None,
    ) -> None:
        """A filter for actions of shape (A,).

        Args:
            low: (A,) smallest allowed value of each joint, in its unit.
            high: (A,) largest.
            max_step: (A,) largest allowed change from one tick to the next; None: any.

        Raises:
            InputError: Limits that are not finite, or that nothing can satisfy.
        """
        self.low = np.array(low, np.float32)
        self.high = np.array(high, np.float32)
        self.max_step = None if max_step is None else np.array(max_step, np.float32)
        if not (self.low.ndim == 1 and self.low.shape == self.high.shape):
            raise InputError(f"limits have shapes {self.low.shape} and {self.high.shape}")
        bad = ~(np.isfinite(self.low) & np.isfinite(self.high) & (self.low <= self.high))
        if bad.any():
            i = int(bad.argmax())
            raise InputError(f"joint {i} has limits [{self.low[i]!r}, {self.high[i]!r}]")
        if self.max_step is not None and not (
            self.max_step.shape == self.low.shape and bool((self.max_step > 0).all())
        ):
            raise InputError(
                f"the largest step is {self.max_step.tolist()!r}",
                hint=f"Give {len(self.low)} positive numbers, in each joint's unit per tick.",
            )
        self._counts = dict.fromkeys(Intervention, 0)
        self._last: NDArray[np.float32] | None = None

    @classmethod
    def from_stats(
        cls,
        action: Sequence[VectorContract],
        stats: StatsRecord,
        *,
        margin: float = DEFAULT_MARGIN,
        max_step: NDArray[np.float32] | None = None,
    ) -> SafetyFilter:
        """Limits around what the demonstrators commanded.

        Args:
            action: The arrays that make up the action, in order.
            margin: Share of each joint's range by which a policy may exceed it on either side.

        Raises:
            InputError: The statistics have no range for a joint, or `margin` is negative.
        """
        if not (np.isfinite(margin) and margin >= 0):
            raise InputError(f"the margin is {margin!r}", hint="Use 0 or a small share, e.g. 0.05.")
        low, high = joint_range(action, stats)
        reach = margin * (high - low)
        return cls(
            (low - reach).astype(np.float32), (high + reach).astype(np.float32), max_step=max_step
        )

    @property
    def counts(self) -> Mapping[str, int]:
        """Interventions by name, since the start."""
        return {reason.value: count for reason, count in self._counts.items()}

    def admit(self, chunk_KA: NDArray[np.floating]) -> Intervention | None:
        """Why a whole chunk must not be used, counted; None when it may.

        One NaN refuses the chunk: an ensemble would carry it into every later action.
        """
        if chunk_KA.ndim != 2 or chunk_KA.shape[1] != len(self.low):
            return self._count(Intervention.SHAPE)
        if not np.isfinite(chunk_KA).all():
            return self._count(Intervention.NOT_FINITE)
        return None

    def apply(self, raw: NDArray[np.floating] | None) -> Filtered:
        """The nearest safe action to `raw`; the last one where there is no action or no sense."""
        if raw is None:
            return self._hold(raw)
        if raw.shape != self.low.shape:
            return self._hold(raw, Intervention.SHAPE)
        if not np.isfinite(raw).all():
            return self._hold(raw, Intervention.NOT_FINITE)
        interventions: tuple[Intervention, ...] = ()
        # Clamped before the cast: a float64 beyond the range of float32 would become infinite.
        within = np.clip(raw, self.low, self.high)
        if not np.array_equal(within, raw):
            interventions = (self._count(Intervention.POSITION),)
        action = within.astype(np.float32)
        if self.max_step is not None and self._last is not None:
            near = np.clip(action, self._last - self.max_step, self._last + self.max_step)
            if not np.array_equal(near, action):
                interventions = (*interventions, self._count(Intervention.STEP))
                action = near
        self._last = action
        return Filtered(raw, action.copy(), interventions)

    def reset(self) -> None:
        """Forget the last action: a new episode begins. The counts stay."""
        self._last = None

    def _hold(
        self, raw: NDArray[np.floating] | None, reason: Intervention | None = None
    ) -> Filtered:
        held = None if self._last is None else self._last.copy()
        return Filtered(raw, held, () if reason is None else (self._count(reason),))

    def _count(self, reason: Intervention) -> Intervention:
        self._counts[reason] += 1
        return reason


def joint_range(
    action: Sequence[VectorContract], stats: StatsRecord
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest and largest value of each joint of `action` in the statistics, two (A,).

    Raises:
        InputError: The statistics lack an array, or saw no finite value of a joint.
    """
    low: list[float] = []
    high: list[float] = []
    for array in action:
        feature = stats.features.get(array.name)
        if feature is None:
            raise InputError(
                f"the statistics of {stats.dataset!r} lack {array.name!r}",
                hint=f"They have: {', '.join(stats.features)}.",
            )
        _check_range(array, feature)
        low += [value for value in feature.min if value is not None]
        high += [value for value in feature.max if value is not None]
    return np.array(low), np.array(high)


def _check_range(array: VectorContract, feature: FeatureStats) -> None:
    if len(feature.min) != len(array.names):
        raise InputError(
            f"{array.name!r} has {len(array.names)} joints, its statistics {len(feature.min)}"
        )
    for name, low, high in zip(array.names, feature.min, feature.max, strict=True):
        if low is None or high is None:
            raise InputError(
                f"{name} of {array.name!r} has no finite value in the training data",
                hint="Without a range there are no limits; leave the joint out and train again.",
            )
