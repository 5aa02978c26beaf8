"""Statistics that are taken piece by piece and add up: moments of vectors, histograms of pictures.

Moments are in float64 and merged as in Chan, Golub and LeVeque (1979). A histogram of integers
loses nothing: every number that it gives is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean, spread and extremes of each of D dimensions; two of them add up.

    Attributes:
        count: (D,) finite values.
        mean: (D,) float64; 0 where `count` is 0.
        m2: (D,) float64, sum of squared distances from the mean.
        min: (D,) float64; +inf where `count` is 0.
        max: (D,) float64; -inf where `count` is 0.
        excluded: (D,) values that were NaN or infinite.
    """

    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    min: NDArray[np.float64]
    max: NDArray[np.float64]
    excluded: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[np.generic]) -> Self:
        """The moments of `values` (T, D); T may be 0."""
        wide = values.astype(np.float64)
        finite = np.isfinite(wide)
        count = finite.sum(axis=0, dtype=np.int64)
        divisor = np.maximum(count, 1)
        # Distances from one of the values, not the values: a constant has no spread at all, and
        # a mean of 1e4 takes no digits from a std of 1e-2.
        first = wide[finite.argmax(axis=0), np.arange(wide.shape[1])] if len(wide) else None
        pivot = np.where(count > 0, first, 0.0) if first is not None else np.zeros(wide.shape[1])
        from_pivot = np.subtract(wide, pivot, where=finite, out=np.zeros_like(wide))
        offset = from_pivot.sum(axis=0) / divisor
        from_mean = np.subtract(from_pivot, offset, where=finite, out=np.zeros_like(wide))
        # The second term is what rounding left in the mean (corrected two-pass algorithm).
        m2 = (from_mean**2).sum(axis=0) - from_mean.sum(axis=0) ** 2 / divisor
        return cls(
            count=count,
            mean=pivot + offset,
            m2=np.maximum(m2, 0.0),
            min=wide.min(axis=0, where=finite, initial=np.inf),
            max=wide.max(axis=0, where=finite, initial=-np.inf),
            excluded=(~finite).sum(axis=0, dtype=np.int64),
        )

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets together (Chan et al., 1979); no cancellation, any order."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        delta = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + delta * share,
            m2=self.m2 + other.m2 + delta**2 * (self.count * share),
            min=np.minimum(self.min, other.min),
            max=np.maximum(self.max, other.max),
            excluded=self.excluded + other.excluded,
        )

    @property
    def std(self) -> NDArray[np.float64]:
        """(D,) population standard deviation (ddof 0); 0 where `count` is 0."""
        return np.sqrt(self.m2 / np.maximum(self.count, 1))


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often each value occurs in each channel of pictures; two of them add up.

    Attributes:
        counts: (C, V) int64; V is 256 for uint8 and 65536 for uint16.
    """

    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, channels: int, dtype: str) -> Self:
        """No picture yet; `dtype` is "uint8" or "uint16"."""
        return cls(np.zeros((channels, 256 if dtype == "uint8" else 65536), np.int64))

    @classmethod
    def of(cls, pictures: NDArray[np.generic], channels: int) -> Self:
        """The histogram of uint8 or uint16 `pictures`, channels last when there is more than one.

        1.0 ms of one core per 480 x 640 x 3 frame, as much as decoding its JPEG.
        """
        count = _count_bytes if pictures.dtype == np.uint8 else _count_words
        planes = pictures.reshape(-1, channels)
        return cls(np.stack([count(np.ascontiguousarray(plane)) for plane in planes.T]))

    def __add__(self, other: Histogram) -> Histogram:
        """The histogram of both sets together."""
        return Histogram(self.counts + other.counts)

    @property
    def count(self) -> NDArray[np.int64]:
        """(C,) values."""
        total: NDArray[np.int64] = self.counts.sum(axis=1)
        return total

    @property
    def mean(self) -> NDArray[np.float64]:
        """(C,); 0 without a value."""
        total = (self.counts * np.arange(self.counts.shape[1])).sum(axis=1)
        return np.asarray(total / np.maximum(self.count, 1), np.float64)

    @property
    def std(self) -> NDArray[np.float64]:
        """(C,) population standard deviation (ddof 0); 0 without a value."""
        squares = (np.arange(self.counts.shape[1]) - self.mean[:, None]) ** 2
        m2 = (self.counts * squares).sum(axis=1)
        return np.asarray(np.sqrt(m2 / np.maximum(self.count, 1)), np.float64)

    @property
    def min(self) -> NDArray[np.int64]:
        """(C,) smallest value; 0 without a value."""
        return np.asarray((self.counts > 0).argmax(axis=1), np.int64)

    @property
    def max(self) -> NDArray[np.int64]:
        """(C,) largest value; V - 1 without a value."""
        from_the_top = (self.counts[:, ::-1] > 0).argmax(axis=1)
        return np.asarray(self.counts.shape[1] - 1 - from_the_top, np.int64)

    def quantile(self, q: float) -> NDArray[np.float64]:
        """(C,) what `numpy.quantile(values, q)` (method "linear") gives; 0 without a value."""
        return np.array([_quantile(channel, q) for channel in self.counts])


def _count_bytes(plane: NDArray[np.generic]) -> NDArray[np.int64]:
    # Two bytes at a time: numpy counts 65536 bins as fast as 256, on half as many items, and
    # neighbouring pixels of one value do not wait for each other (1.0 ms against 1.5-2.3 ms).
    even = plane.size // 2 * 2
    pairs = np.bincount(plane[:even].view(np.uint16), minlength=65536).reshape(256, 256)
    counts: NDArray[np.int64] = pairs.sum(axis=0) + pairs.sum(axis=1)
    if even < plane.size:
        counts[int(plane[-1])] += 1
    return counts


def _count_words(plane: NDArray[np.generic]) -> NDArray[np.int64]:
    return np.bincount(plane, minlength=65536).astype(np.int64)


def _quantile(counts: NDArray[np.int64], q: float) -> float:
    below = np.cumsum(counts)
    if below[-1] == 0:
        return 0.0
    place = q * (float(below[-1]) - 1.0)
    low, high = np.searchsorted(below, [np.floor(place), np.ceil(place)], side="right")
    return float(low + (high - low) * (place - np.floor(place)))
