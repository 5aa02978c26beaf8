"""What is counted and measured while a rollout runs, in memory that does not grow.

Shape suffixes: A action dim.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


class Histogram:
    """Of positive numbers, in bins that are 1 % wide: percentiles to within that, maximum exact."""

    _SMALLEST, _LARGEST = 1e-6, 1e9
    _PER_E = 1 / math.log(1.01)

    def __init__(self) -> None:
        bins = math.ceil(math.log(self._LARGEST / self._SMALLEST) * self._PER_E) + 2
        self._counts = np.zeros(bins, np.int64)
        self.total = 0
        self.max = 0.0
        self.min = math.inf

    def add(self, value: float) -> None:
        """Count `value`; one below a millionth counts as zero."""
        number = 0
        if value > self._SMALLEST:
            number = 1 + int(math.log(value / self._SMALLEST) * self._PER_E)
        self._counts[min(number, len(self._counts) - 1)] += 1
        self.total += 1
        if value > self.max:
            self.max = value
        if value < self.min:
            self.min = value

    def percentile(self, percent: float) -> float | None:
        """The smallest bin that so many percent lie in or below; None of nothing."""
        if self.total == 0:
            return None
        if percent >= 100:
            return self.max
        rank = max(1, math.ceil(self.total * percent / 100))
        number = int(np.searchsorted(np.cumsum(self._counts), rank))
        if number == 0:
            return min(self.max, self._SMALLEST) if self.max < self._SMALLEST else 0.0
        middle = self._SMALLEST * math.exp((number - 0.5) / self._PER_E)
        return min(max(middle, self.min), self.max)


class Latency:
    """How long predictions take: the 95th percentile of the last ones.

    The first is left out: it loads kernels and caches, and one such outlier would ask for
    predictions far too early from then on.
    """

    _KEPT = 64

    def __init__(self) -> None:
        self._ns = np.zeros(self._KEPT, np.int64)
        self._count = -1
        self.p95_ns: int | None = None

    def add(self, ns: int) -> None:
        """Note one."""
        self._count += 1
        if self._count == 0:
            return
        self._ns[(self._count - 1) % self._KEPT] = ns
        known = np.sort(self._ns[: min(self._count, self._KEPT)])
        self.p95_ns = int(known[math.ceil(0.95 * len(known)) - 1])


class Measures:
    """The numbers of one rollout. Times in milliseconds."""

    def __init__(self, nominal_hz: float) -> None:
        self.nominal_hz = nominal_hz
        self.rejection = ""  # why the last refused chunk was
        self.ticks = self.episodes = self.chunks = self.rejected_chunks = 0
        self.observations = self.invalid_observations = 0
        self.waiting_ticks = self.starved_ticks = self.held_ticks = self.taken_over_ticks = 0
        self.deadline_misses = self.discarded_actions = self.late_chunks = 0
        self.splice_mismatches = self.degradations = self.sent = 0
        self.first_ns = self.last_ns = 0
        self.latency = Latency()
        self.jitter, self.lateness, self.work = Histogram(), Histogram(), Histogram()
        self.inference, self.age, self.seam = Histogram(), Histogram(), Histogram()
        self.depth = Histogram()
        self.errors: list[NDArray[np.float32]] = []

    def compare(self, action_A: NDArray[np.float32], demonstrated_A: NDArray[np.float32]) -> None:
        """Note the difference between a command and the demonstration of its tick."""
        self.errors.append(np.abs(action_A - demonstrated_A))
