"""Chunks that are slow to inflate, inflated by threads before their turn.

bz2 gives a few MB per second, and every chunk has to be inflated whichever topic is wanted: more
cores are the only way to be faster. The decompressor works without the interpreter's lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

MAX_AHEAD_BYTES = 4 * 2**20  # of one chunk; a larger one waits for its turn
_MAX_THREADS = 4


class ReadAhead:
    """The next few parts of a file in the order in which they will be asked for.

    Args:
        order: Numbers of the parts in that order.
        load: Gives the bytes of a part, or None where it is better loaded in its turn. Called in
            threads; what it raises is raised when the part is taken.
    """

    def __init__(self, order: NDArray[np.int64], load: Callable[[int], bytes | None]) -> None:
        self._order = order
        self._place = np.argsort(order)
        self._load = load
        self._threads = min(_MAX_THREADS, len(os.sched_getaffinity(0)))
        self._pool: ThreadPoolExecutor | None = None
        self._coming: dict[int, Future[bytes | None]] = {}

    def take(self, number: int) -> bytes | None:
        """What `load` gives for a part; the threads go on with those that follow it."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, "inflate")
        place = int(self._place[number])
        for following in self._order[place : place + 1 + self._threads].tolist():
            if following not in self._coming:
                self._coming[following] = self._pool.submit(self._load, following)
        return self._coming.pop(number).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
