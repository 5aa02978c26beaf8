"""A few transfers at once; the first that fails ends them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event, Lock
from typing import TypeVar

T = TypeVar("T")

WORKERS = 4  # each holds one part in memory

Progress = Callable[[int, int], None]
"""Told bytes done and bytes in all."""

Stopped = Callable[[], bool]
"""Whether to give up between two parts."""


class Advance:
    """Adds up what several threads got done.

    Args:
        total: Bytes in all.
    """

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total = total
        self._progress = progress
        self._done = 0
        self._lock = Lock()

    def __call__(self, size: int) -> None:
        """`size` bytes more are done."""
        with self._lock:
            self._done += size
            if self._progress is not None:
                self._progress(self._done, self._total)


def each(work: Callable[[T, Stopped], None], items: Iterable[T], *, workers: int = WORKERS) -> None:
    """Call `work(item, stopped)` for every item, in `workers` threads.

    The first error, or Ctrl-C, is raised after the others have noticed that `stopped()` is true.
    """
    stop = Event()
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, item, stop.is_set) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
