"""The time of a source on the rollout's clock: one offset, and a suspicion of jumps."""

from __future__ import annotations

from collections import deque
from enum import StrEnum


class Refusal(StrEnum):
    """Why an observation was not used."""

    DUPLICATE = "duplicate"  # the time of the one before
    REORDERED = "reordered"  # older than the one before
    JUMPED = "jumped"  # its clock moved against ours


class SourceClock:
    """Maps stamps of one source to the rollout's clock.

    The offset is the smallest of (received - stamp) over the last observations: the one that was
    on its way for the shortest time. It is that of a delay of zero, so what is placed is never in
    the future of when it was received.

    A stamp whose own offset differs from it by more than a tolerance has jumped. Nothing is placed
    by it, until the same new offset was seen `agree` times in a row: then that is the offset.
    """

    _WINDOW = 64

    def __init__(self, jump_ns: int, agree: int) -> None:
        self._jump_ns, self._agree = jump_ns, agree
        self._offsets: deque[int] = deque(maxlen=self._WINDOW)
        self._suspect: deque[int] = deque(maxlen=agree)
        self._newest: int | None = None

    def place(self, stamp_ns: int, received_ns: int) -> int | Refusal:
        """When the source saw it, on the rollout's clock; or why that is not believed."""
        offset = received_ns - stamp_ns
        if self._offsets and abs(offset - min(self._offsets)) > self._jump_ns:
            if self._suspect and abs(offset - min(self._suspect)) > self._jump_ns:
                self._suspect.clear()
            self._suspect.append(offset)
            if len(self._suspect) < self._agree:
                return Refusal.JUMPED
            self._offsets.clear()
            self._offsets.extend(self._suspect)
            self._newest = None
        self._suspect.clear()
        if self._newest is not None and stamp_ns <= self._newest:
            return Refusal.DUPLICATE if stamp_ns == self._newest else Refusal.REORDERED
        self._newest = stamp_ns
        self._offsets.append(offset)
        return stamp_ns + min(self._offsets)

    def forget(self) -> None:
        """A new episode begins: stamps may begin anew."""
        self._offsets.clear()
        self._suspect.clear()
        self._newest = None
