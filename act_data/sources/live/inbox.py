"""Where the threads of live capture put what they heard: one bounded queue, in order of arrival."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from threading import Condition
from typing import NamedTuple

MAX_BYTES = 512 * 2**20  # five seconds of three raw 640x480 cameras


class Arrival(NamedTuple):
    """One message as it was heard.

    Attributes:
        recv_ns: Wall clock, strictly increasing over all topics of an inbox.
    """

    recv_ns: int
    topic: str
    payload: bytes | memoryview


class Inbox:
    """A queue with many writers and one reader, bounded in bytes.

    The receive time is taken inside the lock and made strictly increasing, so that the order of
    the queue is the order of the times: a recording of the arrivals, read back in log order, is
    the same sequence. What does not fit any more is counted by topic and left out; writers never
    wait for the reader.

    Args:
        max_bytes: Payload bytes that may wait for the reader.
        clock: Wall clock in ns.
    """

    def __init__(
        self, max_bytes: int = MAX_BYTES, *, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._waiting: deque[Arrival] = deque()
        self._bytes = 0
        self._last_ns = 0
        self._closed = False
        self._overflow: Counter[str] = Counter()
        self._changed = Condition()

    def put(self, topic: str, payload: bytes | memoryview, recv_ns: int | None = None) -> None:
        """Append one message; its receive time is now. From any thread, never blocks for long.

        Args:
            payload: Kept by the inbox: hand over a buffer that nobody writes to again.
            recv_ns: For a replay, whose time is that of its recording.
        """
        with self._changed:
            if self._closed:
                return
            if self._bytes + len(payload) > self._max_bytes:
                self._overflow[topic] += 1
                return
            time_ns = self._clock() if recv_ns is None else recv_ns
            self._last_ns = recv_ns = max(time_ns, self._last_ns + 1)
            self._waiting.append(Arrival(recv_ns, topic, payload))
            self._bytes += len(payload)
            self._changed.notify()

    def take(self, timeout_s: float) -> list[Arrival]:
        """All that waits, in order; waits up to `timeout_s` for the first. For one reader."""
        with self._changed:
            if not self._waiting and not self._closed:
                self._changed.wait(timeout_s)
            taken = list(self._waiting)
            self._waiting.clear()
            self._bytes = 0
            return taken

    def close(self) -> None:
        """Take nothing in any more, and wake the reader. What waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether nothing will come any more."""
        return self._closed

    @property
    def overflow(self) -> dict[str, int]:
        """Messages left out because the reader was too slow, by topic."""
        with self._changed:
            return dict(self._overflow)

    @property
    def waiting_bytes(self) -> int:
        """Payload bytes that wait for the reader at this moment."""
        return self._bytes
