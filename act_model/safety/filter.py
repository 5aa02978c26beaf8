"""The filter: no action leaves here that is not finite and within its limits.

An action passes, in this order: shape, finite, position, velocity, acceleration, workspace. The
first two refuse it as a whole and hold the last command; a NaN is never clamped into a number. The
next three bend each element by itself. The last, where there is one, refuses what is left when a
tip of the robot would leave its box, and the positions stay as they were last sent: the box counts
for more than how suddenly that is. Every intervention is counted, by reason and by element, and the
raw action is handed on beside the filtered one.

Shape suffixes: K action chunk, A action dim.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError
from act_model.safety.limits import Limits

_APPROACH = 0.2  # share of the largest velocity with which a first command is approached
_LONGEST_BRAKE = 1000  # ticks; nothing that moves takes so many


class Intervention(StrEnum):
    """Why an action did not leave as it came."""

    SHAPE = "shape"  # refused: not (A,)
    NOT_FINITE = "not_finite"  # refused: NaN or infinity
    POSITION = "position"  # bent to the position limits
    VELOCITY = "velocity"  # bent to the largest change per tick
    ACCELERATION = "acceleration"  # bent to the largest change of that
    WORKSPACE = "workspace"  # refused: a tip would leave its box, or get further away from it
    APPROACH = "approach"  # slowed down: the first command of a rollout is not reached yet


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


class Tips(Protocol):
    """Knows where an action puts the tips of a robot, and where they may be."""

    def beyond(self, action_A: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B,) how far each would be out of its box, in metres; 0 inside."""


class SafetyFilter:
    """Keeps actions finite, within limits, and as smooth as the limits say.

    What it holds is a command at rest: positions stay, velocities become zero, both no more
    suddenly than the limits allow.
    """

    def __init__(
        self,
        limits: Limits,
        period_s: float,
        *,
        velocities: NDArray[np.bool_] | None = None,
        workspace: Tips | None = None,
    ) -> None:
        """A filter for one action per tick.

        Args:
            period_s: From one tick to the next.
            velocities: (A,) which elements are velocities; None: none. They come to rest at zero.
            workspace: None: tips may be anywhere.

        Raises:
            InputError: The period is not positive.
        """
        if not (np.isfinite(period_s) and period_s > 0):
            raise InputError(f"the period of a tick is {period_s!r} s", hint="Use a positive one.")
        size = len(limits.low)
        self.limits = limits
        self._velocities = np.zeros(size, np.bool_) if velocities is None else velocities
        self._low, self._high = limits.low.astype(np.float64), limits.high.astype(np.float64)
        # Everything below is per tick: a step, and the change of a step.
        self._step = limits.velocity.astype(np.float64) * period_s
        self._change = limits.acceleration.astype(np.float64) * period_s**2
        self._counts = dict.fromkeys(Intervention, 0)
        self.hits = {
            reason: np.zeros(size, np.int64)
            for reason in (Intervention.POSITION, Intervention.VELOCITY, Intervention.ACCELERATION)
        }
        self._last: NDArray[np.float64] | None = None
        self._target: NDArray[np.float64] | None = None
        self._moved = np.zeros(size)
        self._approaching = False
        self._workspace = workspace
        self._beyond: NDArray[np.float64] | float = 0.0  # metres that the last command is outside

    @property
    def counts(self) -> Mapping[str, int]:
        """Interventions by name, since the start."""
        return {reason.value: count for reason, count in self._counts.items()}

    def admit(self, chunk_KA: NDArray[np.floating], size: int) -> str | None:
        """Why a whole chunk must not be used, counted; None when it may.

        One NaN refuses the chunk: an ensemble would carry it into every later action.

        Args:
            size: How many actions it must have.
        """
        if not isinstance(chunk_KA, np.ndarray) or chunk_KA.dtype.kind != "f":
            self._count(Intervention.SHAPE)
            return f"it is {getattr(chunk_KA, 'dtype', type(chunk_KA).__name__)}, not numbers"
        wanted = (size, len(self._low))
        if chunk_KA.shape != wanted:
            self._count(Intervention.SHAPE)
            return f"its shape is {chunk_KA.shape}, {wanted} was announced"
        finite_K = np.isfinite(chunk_KA).all(axis=1)
        if not finite_K.all():
            self._count(Intervention.NOT_FINITE)
            return f"action {int(finite_K.argmin())} of it is not finite"
        return None

    def start(self, measured_A: NDArray[np.floating]) -> None:
        """Begin from where the robot is; the first command is approached from there, slowly.

        Args:
            measured_A: (A,), NaN where it is not known: there the first command counts as reached.
        """
        self.reset()
        at_rest = np.where(self._velocities, 0.0, measured_A.astype(np.float64))
        if np.isfinite(at_rest).any():
            self._last, self._target = at_rest, at_rest.copy()
            self._moved = np.zeros(len(at_rest))
            self._approaching = True
        if self._workspace is not None and np.isfinite(at_rest).all():
            self._beyond = self._workspace.beyond(at_rest.astype(np.float32))

    def apply(self, raw: NDArray[np.floating] | None) -> Filtered:
        """The nearest safe action to `raw`; one at rest where there is no action or no sense."""
        if raw is None:
            return self._hold(raw)
        if raw.shape != self._low.shape or raw.dtype.kind != "f":
            return self._hold(raw, Intervention.SHAPE)
        if not np.isfinite(raw).all():
            return self._hold(raw, Intervention.NOT_FINITE)
        target = np.minimum(np.maximum(raw, self._low), self._high, dtype=np.float64)
        beyond = target != raw
        if not beyond.any():
            return self._towards(raw, target, ())
        self.hits[Intervention.POSITION] += beyond
        return self._towards(raw, target, (self._count(Intervention.POSITION),))

    def ahead(self, raw_HA: Sequence[NDArray[np.floating]]) -> list[NDArray[np.float32]]:
        """What `apply` would give for actions to come, and how it comes to rest after them.

        Nothing is counted, and nothing of it happens.
        """
        trial = copy.deepcopy(self)
        found = [trial.apply(raw_A).action for raw_A in raw_HA]
        for _ in range(_LONGEST_BRAKE):
            if trial.at_rest:
                break
            found.append(trial.apply(None).action)
        return [action_A for action_A in found if action_A is not None]

    def reset(self) -> None:
        """Forget the last action: a new episode begins. The counts stay."""
        self._last = self._target = None
        self._moved = np.zeros(len(self._low))
        self._approaching = False
        self._beyond = 0.0

    @property
    def at_rest(self) -> bool:
        """Whether the last command moves nothing."""
        if self._last is None:
            return True
        return (
            not np.nan_to_num(self._moved).any()
            and not (self._velocities & (self._last != 0)).any()
        )

    def _towards(
        self,
        raw: NDArray[np.floating] | None,
        target: NDArray[np.float64],
        interventions: tuple[Intervention, ...],
    ) -> Filtered:
        """One tick on the way to `target`, which lies within the position limits."""
        last, before = self._last, self._target
        if last is None or before is None:
            moved = np.full(len(target), np.nan)  # it may have begun in the middle of a move
            return self._send(raw, target, target, moved, interventions)
        unknown = np.isnan(last)
        if unknown.any():
            last, before = np.where(unknown, target, last), np.where(unknown, target, before)
        wanted = target - last
        # Where the target moves on its own, its motion is followed; what is left of the distance
        # is covered no faster than it can be braked for. On the target this bends nothing.
        carried = target - before
        behind = wanted - carried
        with np.errstate(invalid="ignore"):  # without a limit: inf - inf, which fmin passes over
            braked = self._change * (np.sqrt(1 + 8 * np.abs(behind) / self._change) - 1) / 2
        step = carried + np.copysign(np.fmin(np.abs(behind), braked), behind)
        fastest, approaching = self._step, self._approaching
        if approaching:
            fastest = _APPROACH * fastest
            self._approaching = bool((np.abs(wanted) > fastest).any())
            if self._approaching:
                interventions = (*interventions, self._count(Intervention.APPROACH))
        slow = np.minimum(np.maximum(step, -fastest), fastest)
        smooth = np.fmin(np.fmax(slow, self._moved - self._change), self._moved + self._change)
        # A brake may take longer than a limit leaves room for: then the limit counts.
        floor, ceiling = np.minimum(self._low, last), np.maximum(self._high, last)
        action = np.minimum(np.maximum(last + smooth, floor), ceiling)
        reached = np.abs(smooth - wanted) <= 1e-9 * (1 + np.abs(target))
        action = np.where(reached, target, action)
        if not reached.all():
            fast = np.abs(wanted) > fastest
            sudden = ~reached & ~fast
            if fast.any():
                self.hits[Intervention.VELOCITY] += fast
                interventions = (*interventions, self._count(Intervention.VELOCITY))
            if sudden.any():
                self.hits[Intervention.ACCELERATION] += sudden
                interventions = (*interventions, self._count(Intervention.ACCELERATION))
        filtered = self._send(raw, target, action, action - last, interventions)
        if (
            Intervention.WORKSPACE in filtered.interventions
        ):  # it was not sent: no nearer than before
            self._approaching = approaching
        return filtered

    def _send(
        self,
        raw: NDArray[np.floating] | None,
        target: NDArray[np.float64],
        action: NDArray[np.float64],
        moved: NDArray[np.float64],
        interventions: tuple[Intervention, ...],
    ) -> Filtered:
        """`action`, `moved` from the last, unless it takes a tip out of its box or further out."""
        sent = action.astype(np.float32)
        if self._workspace is not None:
            beyond = self._workspace.beyond(sent)
            if not (beyond <= self._beyond).all():
                return self._stay(raw, (*interventions, self._count(Intervention.WORKSPACE)))
            self._beyond = beyond
        self._last, self._target, self._moved = action, target, moved
        return Filtered(raw, sent, interventions)

    def _stay(
        self, raw: NDArray[np.floating] | None, interventions: tuple[Intervention, ...]
    ) -> Filtered:
        """Positions as they were last sent, at once; velocities slow down."""
        if self._last is None or np.isnan(self._last).any():
            return Filtered(raw, None, interventions)
        slower = np.copysign(np.fmax(np.abs(self._last) - self._step, 0), self._last)
        rest = np.where(self._velocities, slower, self._last)
        self._moved = rest - self._last
        self._last = self._target = rest
        return Filtered(raw, rest.astype(np.float32), interventions)

    def _hold(
        self, raw: NDArray[np.floating] | None, reason: Intervention | None = None
    ) -> Filtered:
        """Come to rest: where brakes lead to, and no velocity."""
        interventions = () if reason is None else (self._count(reason),)
        if self._last is None or np.isnan(self._last).any():
            return Filtered(raw, None, interventions)
        brake = np.copysign(np.fmax(np.abs(self._moved) - self._change, 0), self._moved)
        floor, ceiling = np.minimum(self._low, self._last), np.maximum(self._high, self._last)
        rest = np.minimum(np.maximum(self._last + brake, floor), ceiling)
        target = np.where(self._velocities, 0.0, rest)
        self._target = self._last + np.where(self._velocities, 0.0, brake)
        approaching = self._approaching
        held = self._towards(raw, target, ())
        self._approaching = approaching  # at rest on the way there is not there
        if Intervention.WORKSPACE in held.interventions:
            interventions = (*interventions, Intervention.WORKSPACE)
        return Filtered(raw, held.action, interventions)

    def _count(self, reason: Intervention) -> Intervention:
        self._counts[reason] += 1
        return reason
