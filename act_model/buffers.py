"""Memory for batches, used again when nobody looks at the batch any more."""

from __future__ import annotations

import sys
from threading import Lock

import numpy as np
from numpy.typing import NDArray


def _references(arrays: list[NDArray[np.generic]], n: int) -> int:
    return sys.getrefcount(arrays[n])


# Of an array that only the list refers to, however this Python counts. A tensor made of the array,
# or any view of it, is one more.
_NOBODY = _references([np.empty(0)], 0)


class Buffers:
    """Arrays of the sizes that batches have.

    The system clears every page of fresh memory before it hands it over, which costs a tenth of
    decoding a batch of pictures into it. May be used by several threads.
    """

    def __init__(self, limit: int) -> None:
        """Args: limit: How many arrays are kept; more than that come and go as usual."""
        self._limit = limit
        self._kept: list[NDArray[np.generic]] = []
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[Buffers], tuple[int]]:
        return Buffers, (self._limit,)  # another process has its own memory

    def take(self, shape: tuple[int, ...], dtype: str) -> NDArray[np.generic]:
        """An array in C order with whatever it held before."""
        with self._lock:
            for n in range(len(self._kept)):
                if _references(self._kept, n) != _NOBODY:
                    continue
                kept = self._kept[n]
                if kept.shape == shape and kept.dtype == np.dtype(dtype):
                    return kept
            fresh = np.empty(shape, dtype)
            if len(self._kept) < self._limit:
                self._kept.append(fresh)
            return fresh
