"""Rows of an array that lies in chunks: one row of chunks is decoded at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

MAX_BAND_BYTES = 1 << 29  # decoded chunks side by side; 600 frames of 480 x 640 are in one

Place = tuple[int, ...]


class Bands:
    """An array of `shape` in chunks of `chunks`, time first. Keeps the last band that was read.

    Args:
        chunk: Gives the whole chunk that begins at an element, padding included.

    Raises:
        ValueError: A band is too large to hold.
    """

    def __init__(
        self,
        shape: Sequence[int],
        chunks: Sequence[int],
        dtype: np.dtype[np.generic],
        chunk: Callable[[Place], NDArray[np.generic]],
    ) -> None:
        self._shape, self._chunks, self._dtype, self._chunk = shape, chunks, dtype, chunk
        across = math.prod(counts(shape[1:], chunks[1:]))
        if across * math.prod(chunks) * dtype.itemsize > MAX_BAND_BYTES:
            raise ValueError(f"chunks of {tuple(chunks)} elements are too large to be read here")
        self._band: tuple[int, NDArray[np.generic]] | None = None

    def read(self, start: int, stop: int) -> NDArray[np.generic]:
        """Rows [start, stop)."""
        step = self._chunks[0]
        parts = []
        for first in range(start // step * step, stop, step):
            band = self._at(first)
            parts.append(band[max(start - first, 0) : stop - first])
        return np.concatenate(parts) if parts else np.empty((0, *self._shape[1:]), self._dtype)

    def _at(self, first: int) -> NDArray[np.generic]:
        if self._band is not None and self._band[0] == first:
            return self._band[1]
        rows = min(self._chunks[0], self._shape[0] - first)
        band = np.empty((rows, *self._shape[1:]), self._dtype)
        starts = [range(0, n, c) for n, c in zip(self._shape[1:], self._chunks[1:], strict=True)]
        for place in itertools.product(*starts):
            ends = np.add(place, self._chunks[1:]).astype(int).tolist()
            into = band[(slice(None), *map(slice, place, ends))]
            into[...] = self._chunk((first, *place))[tuple(slice(0, n) for n in into.shape)]
        self._band = (first, band)
        return band


def counts(shape: Sequence[int], chunks: Sequence[int]) -> list[int]:
    """How many chunks there are along each axis."""
    return [-(-n // c) for n, c in zip(shape, chunks, strict=True)]
