"""What an episode is like while it is recorded: steps, validity, skews, rates."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from time import monotonic

from act_data.types import NS_PER_MS, Frame, RawMessage

_WINDOW_S = 2.0


class Watch:
    """Counts the frames of an episode. One thread adds, another may read.

    Attributes:
        ticks: Frames so far.
        valid: Those with a valid sample of every required stream.
        steps: Rows that an episode of these frames has: from the first valid frame to the last
            one, without those whose action has not been seen yet; no more than it may have. After
            frames that are not valid it grows by several at once.
        worst_skew_ms: Largest distance of a valid sample from its tick.
        worst_stream: Whose it is.
    """

    def __init__(self, action_shift: int, most: int | None = None) -> None:
        """Args: most: Rows that an episode may have."""
        self.ticks = 0
        self.valid = 0
        self.steps = 0
        self.worst_skew_ms = 0.0
        self.worst_stream = ""
        self._unseen = max(1, action_shift)
        self._most = sys.maxsize if most is None else most
        self._first_valid: int | None = None

    def add(self, frame: Frame[RawMessage]) -> None:
        """Count `frame`."""
        if frame.valid:
            if self._first_valid is None:
                self._first_valid = self.ticks
            self.valid += 1
            steps = self.ticks - self._first_valid + 1 - self._unseen
            self.steps = max(0, min(steps, self._most))
        self.ticks += 1
        for name, pick in frame.picks.items():
            skew_ms = abs(pick.skew_ns) / NS_PER_MS
            if pick.valid and skew_ms > self.worst_skew_ms:
                self.worst_skew_ms, self.worst_stream = skew_ms, name


class Rates:
    """How fast counters grow, over the last two seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, dict[str, int]]] = deque()

    def of(self, counts: Mapping[str, int]) -> dict[str, float]:
        """Counts per second, by name."""
        now = monotonic()
        self._seen.append((now, dict(counts)))
        while now - self._seen[0][0] > _WINDOW_S:
            self._seen.popleft()
        then, before = self._seen[0]
        if now <= then:
            return dict.fromkeys(counts, 0.0)
        return {name: (n - before.get(name, 0)) / (now - then) for name, n in counts.items()}
