"""What each element of an action may be: smallest, largest, how fast, and how suddenly.

Limits come from the statistics of the training data, so that there are always some; a dataset at
hand adds how fast its demonstrators were, the robot's preset and a URDF what it allows itself. The
strictest of what is known counts.

Shape suffixes: T steps, A action dim.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError
from act_data.records import FeatureStats, StatsRecord
from act_data.types import JointLimit
from act_model.config import VectorContract

DEFAULT_MARGIN = 0.05  # share of each joint's range in the training data
MOTION_MARGIN = 1.5  # a policy may move so many times as fast as the fastest demonstration
_FASTEST_S = 0.1  # without a demonstration at hand: to cross the whole range takes at least this
_START_S = 0.05  # and to reach that speed this
_SMALLEST_SPAN = 0.01  # range of a joint that the data holds still


@dataclass(frozen=True, slots=True)
class Sent:
    """How elements of an action become what the robot is told: `scale * action + offset`, (A,)."""

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]

    @classmethod
    def as_it_is(cls, size: int) -> Sent:
        """Of a robot that is told the action itself."""
        return cls(np.ones(size), np.zeros(size))

    def limit(self, element: int, limit: JointLimit) -> JointLimit:
        """What a limit of the robot means for an element of the action."""
        scale, offset = float(self.scale[element]), float(self.offset[element])
        low, high = (
            None if value is None else (value - offset) / scale for value in (limit.low, limit.high)
        )
        velocity, acceleration = (
            None if value is None else value / abs(scale)
            for value in (limit.velocity, limit.acceleration)
        )
        if scale < 0:
            low, high = high, low
        return JointLimit(low=low, high=high, velocity=velocity, acceleration=acceleration)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of actions of shape (A,), in each element's unit.

    Attributes:
        low: (A,) smallest value; of a velocity zero at most, so that it can always be stopped.
        high: (A,) largest.
        velocity: (A,) largest change per second; infinite for none.
        acceleration: (A,) largest change of that per second; infinite for none.
        source: Where they come from, for people.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    velocity: NDArray[np.float32]
    acceleration: NDArray[np.float32]
    source: str = "given"

    def __post_init__(self) -> None:
        """Refuse limits that are not finite, or that nothing can satisfy: InputError."""
        shape = self.low.shape
        shapes = [a.shape for a in (self.low, self.high, self.velocity, self.acceleration)]
        if len(shape) != 1 or shapes != [shape] * 4:
            raise InputError(f"limits have shapes {', '.join(map(str, shapes))}")
        bad = ~(np.isfinite(self.low) & np.isfinite(self.high) & (self.low <= self.high))
        if bad.any():
            i = int(bad.argmax())
            raise InputError(f"joint {i} has limits [{self.low[i]!r}, {self.high[i]!r}]")
        for what, values in (("velocity", self.velocity), ("acceleration", self.acceleration)):
            bad = ~(values > 0)
            if bad.any():
                i = int(bad.argmax())
                raise InputError(
                    f"joint {i} has a largest {what} of {values[i]!r}",
                    hint="Give a positive number, in the joint's unit and seconds.",
                )

    @classmethod
    def of(
        cls,
        low: Sequence[float] | NDArray[np.floating],
        high: Sequence[float] | NDArray[np.floating],
        *,
        velocity: Sequence[float] | NDArray[np.floating] | float = np.inf,
        acceleration: Sequence[float] | NDArray[np.floating] | float = np.inf,
    ) -> Limits:
        """Limits from numbers; one number stands for all elements."""
        lowest = np.array(low, np.float32)

        def every(value: Sequence[float] | NDArray[np.floating] | float) -> NDArray[np.float32]:
            given = np.array(value, np.float32)
            return np.full(lowest.shape, given, np.float32) if given.ndim == 0 else given

        return cls(
            low=lowest,
            high=np.array(high, np.float32),
            velocity=every(velocity),
            acceleration=every(acceleration),
        )

    @classmethod
    def from_stats(
        cls,
        action: Sequence[VectorContract],
        stats: StatsRecord,
        *,
        margin: float = DEFAULT_MARGIN,
    ) -> Limits:
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
        span = high - low
        low, high = low - margin * span, high + margin * span
        rate = np.array(["/s" in v.unit for v in action for _ in v.names])
        fastest = np.maximum(span, _SMALLEST_SPAN) / _FASTEST_S
        return cls(
            low=np.where(rate, np.minimum(low, 0), low).astype(np.float32),
            high=np.where(rate, np.maximum(high, 0), high).astype(np.float32),
            velocity=fastest.astype(np.float32),
            acceleration=(fastest / _START_S).astype(np.float32),
            source="the range of the training data",
        )

    def with_motion(self, tracks: Iterable[NDArray[np.floating]], rate_hz: float) -> Limits:
        """The same positions; as fast and as sudden as the fastest of `tracks`, and half as much.

        Args:
            tracks: Commands of demonstrations, (T, A) each; rows that are not finite are skipped.
            rate_hz: Rows per second.
        """
        speed = np.zeros(len(self.low))
        change = np.zeros(len(self.low))
        for track_TA in tracks:
            step = np.diff(np.asarray(track_TA, np.float64), axis=0) * rate_hz
            for found, per_s in ((speed, step), (change, np.diff(step, axis=0) * rate_hz)):
                finite = np.where(np.isfinite(per_s), np.abs(per_s), 0)
                np.maximum(found, finite.max(axis=0, initial=0), out=found)
        still = speed == 0
        return replace(
            self,
            velocity=np.where(still, self.velocity, MOTION_MARGIN * speed).astype(np.float32),
            acceleration=np.where(
                still | (change == 0), self.acceleration, MOTION_MARGIN * change
            ).astype(np.float32),
            source=f"{self.source}, as fast as its demonstrations and half as much",
        )

    def within(
        self,
        joints: Mapping[str, JointLimit],
        action: Sequence[VectorContract],
        name: str,
        sent: Sent | None = None,
    ) -> Limits:
        """These limits, and nothing beyond those of the robot's own description.

        Args:
            joints: By joint name; an element "puppet_left/waist" is found as it is, or as "waist".
            name: Of the description, for people.
            sent: How an element becomes what `joints` limits; None: as it is.

        Raises:
            InputError: No element is described, or what is left of one is nothing.
        """
        names = [element for vector in action for element in vector.names]
        low, high = self.low.copy(), self.high.copy()
        velocity, acceleration = self.velocity.copy(), self.acceleration.copy()
        known = 0
        for i, element in enumerate(names):
            joint = joints.get(element) or joints.get(element.rpartition("/")[2])
            if joint is None:
                continue
            known += 1
            joint = joint if sent is None else sent.limit(i, joint)
            if joint.low is not None:
                low[i] = max(low[i], joint.low)
            if joint.high is not None:
                high[i] = min(high[i], joint.high)
            if joint.velocity is not None:
                velocity[i] = min(velocity[i], joint.velocity)
            if joint.acceleration is not None:
                acceleration[i] = min(acceleration[i], joint.acceleration)
            if low[i] > high[i]:
                raise InputError(
                    f"{name}: joint {element!r} may be {_bounds(joint)}, and was "
                    f"{self.low[i]:g} to {self.high[i]:g} in the training data",
                    hint="The description is of another robot, or in another unit.",
                )
        if not known:
            raise InputError(
                f"{name} describes none of the joints {', '.join(names)}",
                hint=f"It describes: {', '.join(list(joints)[:20])}.",
            )
        return replace(
            self,
            low=low,
            high=high,
            velocity=velocity,
            acceleration=acceleration,
            source=f"{self.source}, and {known} of {len(names)} joints of {name}",
        )


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


def _bounds(joint: JointLimit) -> str:
    low = "anything" if joint.low is None else f"{joint.low:.6g}"
    return f"{low} to {'anything' if joint.high is None else f'{joint.high:.6g}'}"


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
