"""The time of a rollout: monotonic, in int nanoseconds, slept against absolute deadlines."""

from __future__ import annotations

import time
from typing import Protocol

from act_data.types import NS_PER_S


class Clock(Protocol):
    """One clock for everything in a rollout."""

    def now_ns(self) -> int:
        """Nanoseconds since some moment; never goes back."""

    def sleep_until(self, deadline_ns: int) -> None:
        """Return at `deadline_ns`, or at once when it has passed."""


class MonotonicClock:
    """The machine's own."""

    def now_ns(self) -> int:
        """Nanoseconds since some moment; never goes back."""
        return time.monotonic_ns()

    def sleep_until(self, deadline_ns: int) -> None:
        """Sleep for what is left: an error of one tick is not carried into the next."""
        left_ns = deadline_ns - time.monotonic_ns()
        if left_ns > 0:
            time.sleep(left_ns / NS_PER_S)


class SimulatedClock:
    """Time that passes by sleeping only: whatever is computed takes none."""

    def __init__(self) -> None:
        self._now_ns = 0

    def now_ns(self) -> int:
        """The last deadline."""
        return self._now_ns

    def sleep_until(self, deadline_ns: int) -> None:
        """Be there."""
        self._now_ns = max(self._now_ns, deadline_ns)
