"""What arrives before the clock and the grid are known."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, NamedTuple

from act_data.sync.track import SyncStream
from act_data.types import NS_PER_S, T

# A required stream that has not delivered this long after the first message is not waited for.
# Robots bring up cameras within seconds; a topic that is missing altogether must not hang.
START_TIMEOUT_NS = 10 * NS_PER_S
# Once all required streams have appeared, this much is looked at.
EVIDENCE_NS = NS_PER_S
# While a required stream is missing, the others keep this much, and their newest sample.
WINDOW_NS = NS_PER_S


class Event(NamedTuple, Generic[T]):
    """One message as it arrived."""

    arrival: int
    stream: str
    recv_ns: int
    stamp_ns: int | None
    number: int
    payload: T


class Startup(Generic[T]):
    """Holds the messages of the first second, or of the wait for a required stream.

    Attributes:
        first_ns: Receive time of the very first message.
        dropped: By stream: messages that were let go of while a required stream was missing.
        missing: Required streams that have not delivered.
    """

    def __init__(self, streams: Sequence[SyncStream]) -> None:
        self.first_ns = 0
        self._deadline_ns: int | None = None  # None before the first message
        self._last_ns = 0
        self.dropped = {s.name: 0 for s in streams}
        self.missing = {s.name for s in streams if s.required}
        self._events: dict[str, deque[Event[T]]] = {s.name: deque() for s in streams}

    def __len__(self) -> int:
        """Messages held."""
        return sum(map(len, self._events.values()))

    def add(self, event: Event[T]) -> None:
        """Keep `event`."""
        held = self._events[event.stream]
        held.append(event)
        if self._deadline_ns is None:
            self.first_ns = self._last_ns = event.recv_ns
            self._deadline_ns = event.recv_ns + START_TIMEOUT_NS
        if self.missing:
            if self._paused(event.recv_ns):
                self._deadline_ns = event.recv_ns + START_TIMEOUT_NS
            self._last_ns = event.recv_ns
            while len(held) > 1 and held[0].recv_ns < event.recv_ns - WINDOW_NS:
                held.popleft()
                self.dropped[event.stream] += 1
            self.missing.discard(event.stream)
            if not self.missing:
                self._deadline_ns = event.recv_ns + EVIDENCE_NS

    def due(self, recv_ns: int, *, arrival: bool) -> bool:
        """Whether ticking has to begin at `recv_ns` with what is there.

        A message that ends a silence as long as the whole wait begins the wait anew: what came
        before was latched long ago, or its receive time is decades off.

        Args:
            arrival: A message came; else only time has passed.
        """
        if self._deadline_ns is None or recv_ns < self._deadline_ns:
            return False
        return not (arrival and self.missing and self._paused(recv_ns))

    def of(self, stream: str) -> Sequence[Event[T]]:
        """What is held of one stream, in order of arrival."""
        return self._events[stream]

    def events(self) -> list[Event[T]]:
        """All that is held, in order of arrival."""
        return sorted(
            (event for held in self._events.values() for event in held), key=lambda e: e.arrival
        )

    def _paused(self, recv_ns: int) -> bool:
        return recv_ns - self._last_ns >= START_TIMEOUT_NS
