"""The times of the ticks: an even grid, laid so that the slowest camera is met best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from act_data.sync.track import SyncStream
from act_data.types import NS_PER_MS, NS_PER_S, SyncPolicy

# Stamps of the locked stream that fix the phase: half a second of a 30 Hz camera.
_PHASE_SAMPLES = 16
# Streams whose period is within this share of the longest count as equally slow.
_SAME_PERIOD = 0.9
_GUARD_MIN_NS = NS_PER_MS
_GUARD_SIGMAS = 3.0
_MAD_TO_SIGMA = 1.4826
_ROUNDING_NS = 1000


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
    (of the slowest stream, where no camera is required): a straight line through 16 of its stamps.

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
    slowest = next(i for i, p in enumerate(periods) if p >= _SAME_PERIOD * max(periods))
    stream, stamps = cameras[slowest]
    chosen = [s for s in stamps if s >= appeared] or list(stamps)
    phase, scatter = _fit(chosen[:_PHASE_SAMPLES], periods[slowest])
    guard = 0
    if stream.policy in (SyncPolicy.HOLD, SyncPolicy.NEXT):
        widest = min(periods[slowest], tick_period) / 4
        guard = round(min(max(_GUARD_SIGMAS * scatter, _GUARD_MIN_NS), widest))
    at = phase + (guard if stream.policy is SyncPolicy.HOLD else -guard)
    back = math.floor((at - appeared + _ROUNDING_NS) / tick_period)
    return Grid(
        start_ns=at - round(back * tick_period), fps=fps, locked=stream.name, guard_ns=guard
    )


def _period(stamps: Sequence[int]) -> float:
    steps = sorted(b - a for a, b in pairwise(stamps) if b > a)
    return steps[len(steps) // 2] if steps else math.inf


def _fit(stamps: Sequence[int], period: float) -> tuple[int, float]:
    """One instant of the even grid behind `stamps`, and the standard deviation around it."""
    if len(stamps) < 3:
        return stamps[0], 0.0
    first = stamps[0]
    offsets = np.array([s - first for s in stamps], np.float64)
    steps = np.cumsum([0, *(max(1, round(d / period)) for d in np.diff(offsets))])
    centred = steps - steps.mean()
    slope = float((centred * offsets).sum() / (centred**2).sum())
    scatter = offsets - offsets.mean() - slope * centred
    bias = float(np.median(scatter))
    middle = float(offsets.mean()) + bias + slope * (round(steps.mean()) - float(steps.mean()))
    return first + round(middle), _MAD_TO_SIGMA * float(np.median(np.abs(scatter - bias)))
