"""The times of the ticks: an even grid, laid so that the slowest camera is met best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from act_data.sync.track import SyncStream
from act_data.types import NS_PER_MS, NS_PER_S, SyncPolicy

# The stamps that fix a phase come from this long after the last required stream appeared: less than
# the start-up lasts, so that they are the same ones whatever came in between.
_PHASE_NS = 700 * NS_PER_MS
# Streams whose period is within this share of the longest count as equally slow.
_SAME_PERIOD = 0.9
_GUARD_MIN_NS = NS_PER_MS
_GUARD_SIGMAS = 3.0
_ROUNDING_NS = 1000
# Phases nearer than this are one: hardware-triggered cameras.
_NO_DIFFERENCE_NS = NS_PER_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Tick k lies at `start_ns + round(k * 1e9 / fps)`: exact integers, no accumulated drift.

    Attributes:
        locked: The stream whose phase the grid took; "" when nothing was there to lock to.
        guard_ns: How far the ticks lie after (`hold`) or before (`next`) that phase.
    """

    start_ns: int
    fps: float
    locked: str = ""
    guard_ns: int = 0

    def time(self, tick: int) -> int:
        """Time of tick number `tick`."""
        return self.start_ns + round(tick * NS_PER_S / self.fps)

    def at_or_after(self, time_ns: int) -> int:
        """Number of the first tick at or after `time_ns`, at least 0."""
        tick = max(0, math.floor((time_ns - self.start_ns) * self.fps / NS_PER_S) - 1)
        while self.time(tick) < time_ns:
            tick += 1
        return tick


def lock(streams: Sequence[tuple[SyncStream, Sequence[int]]], fps: float) -> Grid:
    """The grid for a recording, from what its required streams delivered during start-up.

    The first tick comes when all of them have appeared. The phase is that of the slowest camera
    (of the slowest stream, where no camera is required): a straight line through 0.7 s of stamps.
    Among equally slow ones it is the one that leaves the others the smallest largest skew under
    its own policy (three cameras 0, 10 and 20 ms into a 33 ms cycle: the last for `hold`, which
    then takes all three from one cycle; the middle one for `nearest`); the first in declaration
    order where that makes no difference.

    A camera's stamps scatter around their own grid. Ticks laid exactly on it would find the
    newest frame sometimes just before and sometimes just after them, and `hold` would take one
    frame twice and leave out the next. So for `hold` the ticks lie a guard after the camera's
    phase (for `next`, before it): three standard deviations of the scatter, at least 1 ms, at most
    a quarter of the period. `nearest` and `linear` need none.

    Args:
        streams: Required streams in declaration order with their stamps, ascending, not empty.
        fps: Ticks per second.
    """
    tick_period = NS_PER_S / fps
    appeared = max(stamps[0] for _, stamps in streams)
    cameras = [item for item in streams if item[0].camera] or list(streams)
    periods = [_period(stamps) for _, stamps in cameras]
    slowest = max(periods)
    lines = [
        _line(stream, _window(stamps, appeared), period)
        for (stream, stamps), period in zip(cameras, periods, strict=True)
        if period >= _SAME_PERIOD * slowest
    ]
    skews = [max(_skew(line, other) for other in lines) for line in lines]
    line = next(
        line for line, k in zip(lines, skews, strict=True) if k <= min(skews) + _NO_DIFFERENCE_NS
    )
    guard = 0
    if line.stream.policy in (SyncPolicy.HOLD, SyncPolicy.NEXT):
        widest = min(line.period_ns, tick_period) / 4
        guard = round(min(max(_GUARD_SIGMAS * line.scatter_ns, _GUARD_MIN_NS), widest))
    at = line.instant_ns + (guard if line.stream.policy is SyncPolicy.HOLD else -guard)
    back = math.floor((at - appeared + _ROUNDING_NS) / tick_period)
    return Grid(
        start_ns=at - round(back * tick_period),
        fps=fps,
        locked=line.stream.name,
        guard_ns=guard,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """The even grid of one stream: an instant on it and the standard deviation around it."""

    stream: SyncStream
    instant_ns: int
    period_ns: float
    scatter_ns: float


def _window(stamps: Sequence[int], start_ns: int) -> Sequence[int]:
    inside = [s for s in stamps if start_ns <= s < start_ns + _PHASE_NS]
    return inside or [min(stamps, key=lambda s: abs(s - start_ns))]


def _line(stream: SyncStream, stamps: Sequence[int], period: float) -> _Line:
    if len(stamps) < 3:
        return _Line(stream=stream, instant_ns=stamps[0], period_ns=period, scatter_ns=0.0)
    offsets = np.array([s - stamps[0] for s in stamps], np.float64)
    steps = np.cumsum([0, *(max(1, round(d / period)) for d in np.diff(offsets))])
    centred = steps - steps.mean()
    slope = float((centred * offsets).sum() / (centred**2).sum())
    scatter = offsets - offsets.mean() - slope * centred
    bias = float(np.median(scatter))
    middle = float(offsets.mean()) + bias + slope * (round(steps.mean()) - float(steps.mean()))
    return _Line(
        stream=stream,
        instant_ns=stamps[0] + round(middle),
        period_ns=slope,
        scatter_ns=math.sqrt(float((scatter**2).sum()) / max(1, len(stamps) - 2)),
    )


def _skew(line: _Line, other: _Line) -> float:
    """How far a tick at the phase of `line` is from the sample of `other` that it takes."""
    period = line.period_ns
    if not math.isfinite(period):
        return 0.0
    age = (line.instant_ns - other.instant_ns) % period
    if line.stream.policy is SyncPolicy.HOLD:
        # A camera in the same phase is just as likely to come a hair after the tick.
        return 0.0 if period - age < _NO_DIFFERENCE_NS else age
    if line.stream.policy is SyncPolicy.NEXT:
        return 0.0 if age < _NO_DIFFERENCE_NS else period - age
    return min(age, period - age)


def _period(stamps: Sequence[int]) -> float:
    steps = sorted(b - a for a, b in pairwise(stamps) if b > a)
    return steps[len(steps) // 2] if steps else math.inf
