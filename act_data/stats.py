"""Exact statistics of a dataset, one number per dimension, and the scalings made from them.

Vectors: moments in float64, merged as in Chan, Golub and LeVeque (1979), quantiles of the whole
column. Pictures: a histogram per channel, from which every number is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from act_data.errors import DataError, InputError, StoreError
from act_data.interfaces import DatasetReader
from act_data.records import SYNC_REASON, Feature, FeatureStats, StatsRecord
from act_data.types import Reason, Role

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)

# Pictures read at once: 32 frames of 480 x 640 x 3 are 29 MB.
_BLOCK_BYTES = 32 << 20

# A range below this is noise or nothing, in any SI unit that a joint or a base is measured in;
# diffusion_policy's range_eps.
_SMALLEST_RANGE = 1e-4

Kind = Literal["mean_std", "unit", "symmetric"]
Split = Literal["train", "val", "all"]


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


# --- of a whole dataset -----------------------------------------------------------------------


def compute(
    reader: DatasetReader,
    split: Split = "train",
    progress: Callable[[int, int], None] | None = None,
) -> StatsRecord:
    """The statistics of every observation and action array of `reader`'s version.

    A row counts for an array when all sync columns that the array depends on are valid there;
    the others are in `FeatureStats.masked`. Holds one vector array of the split in memory, and
    32 MB of pictures.

    Args:
        reader: The version to look at.
        split: "all" is train and val together.
        progress: Called with (rows done, rows in all), counted over all arrays.

    Raises:
        InputError: The split has no episode.
    """
    chosen = [i for i, e in enumerate(reader.episodes) if split in ("all", e.split)]
    if not chosen:
        raise InputError(
            f"{reader.path} version {reader.version.number} has no episode in split {split!r}",
            hint="Record more episodes, or ask for split 'all'.",
        )
    features = [f for f in reader.schema.features if f.role is not Role.SYNC]
    steps = sum(reader.episodes[i].length for i in chosen)
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, steps * len(features))

    reasons = {i: reader.read(SYNC_REASON, i) for i in chosen} if reader.schema.columns else {}
    described: dict[str, FeatureStats] = {}
    for feature in features:
        columns = _columns(reader, feature)
        valid = [
            (reasons[i][:, columns] == Reason.OK).all(axis=1)
            if columns
            else np.ones(reader.episodes[i].length, np.bool_)
            for i in chosen
        ]
        of = _of_pictures if _is_picture(feature) else _of_vectors
        described[feature.name] = of(reader, feature, chosen, valid, advance)
    return StatsRecord(
        dataset=reader.path.stem,
        version=reader.version.number,
        content_hash=reader.version.content_hash,
        split=split,
        episodes=len(chosen),
        steps=steps,
        features=described,
    )


def _columns(reader: DatasetReader, feature: Feature) -> list[int]:
    names = [column.name for column in reader.schema.columns]
    for name in feature.columns:
        if name not in names:
            raise StoreError(
                f"{reader.path}: array {feature.name!r} depends on sync column {name!r}, "
                f"which is not one of {names!r}"
            )
    return [names.index(name) for name in feature.columns]


def _is_picture(feature: Feature) -> bool:
    return feature.dtype in ("uint8", "uint16") and len(feature.shape) >= 2


def _of_pictures(
    reader: DatasetReader,
    feature: Feature,
    episodes: Sequence[int],
    valid: Sequence[NDArray[np.bool_]],
    advance: Callable[[int], None],
) -> FeatureStats:
    channels = feature.shape[2] if len(feature.shape) == 3 else 1
    histogram = Histogram.empty(channels, feature.dtype)
    itemsize = np.dtype(feature.dtype).itemsize
    block = max(1, _BLOCK_BYTES // (int(np.prod(feature.shape)) * itemsize))
    for episode, keep in zip(episodes, valid, strict=True):
        for start in range(0, len(keep), block):
            kept = keep[start : start + block]
            if kept.any():
                pictures = reader.read(feature.name, episode, start, start + len(kept))
                histogram += Histogram.of(pictures[kept], channels)
            advance(len(kept))
    some = histogram.count > 0
    names = ("r", "g", "b") if channels == 3 else ()
    return FeatureStats(
        count=tuple(histogram.count.tolist()),
        mean=_numbers(histogram.mean, some),
        std=_numbers(histogram.std, some),
        min=_numbers(histogram.min, some),
        max=_numbers(histogram.max, some),
        **{f"q{q * 100:02.0f}": _numbers(histogram.quantile(q), some) for q in QUANTILES},
        nan=(0,) * channels,
        constant=_constant(histogram.min, histogram.max, some),
        masked=sum(int((~keep).sum()) for keep in valid),
        names=names,
        unit=feature.unit,
    )


def _of_vectors(
    reader: DatasetReader,
    feature: Feature,
    episodes: Sequence[int],
    valid: Sequence[NDArray[np.bool_]],
    advance: Callable[[int], None],
) -> FeatureStats:
    dimensions = int(np.prod(feature.shape))
    moments = Moments.of(np.zeros((0, dimensions)))
    parts: list[NDArray[np.generic]] = []
    for episode, keep in zip(episodes, valid, strict=True):
        rows = reader.read(feature.name, episode)[keep].reshape(-1, dimensions)
        moments += Moments.of(rows)
        parts.append(rows)
        advance(len(keep))
    columns = np.concatenate(parts).T
    quantiles = np.zeros((len(QUANTILES), dimensions))
    for d, column in enumerate(columns):
        wide = column.astype(np.float64)
        if moments.count[d]:
            quantiles[:, d] = np.quantile(wide[np.isfinite(wide)], QUANTILES)
    some = moments.count > 0
    return FeatureStats(
        count=tuple(moments.count.tolist()),
        mean=_numbers(moments.mean, some),
        std=_numbers(moments.std, some),
        min=_numbers(moments.min, some),
        max=_numbers(moments.max, some),
        **{
            f"q{q * 100:02.0f}": _numbers(row, some)
            for q, row in zip(QUANTILES, quantiles, strict=True)
        },
        nan=tuple(moments.excluded.tolist()),
        constant=_constant(moments.min, moments.max, some),
        masked=sum(int((~keep).sum()) for keep in valid),
        names=feature.names,
        unit=feature.unit,
    )


def _numbers(values: NDArray[np.generic], some: NDArray[np.bool_]) -> tuple[float | None, ...]:
    """JSON has no NaN: a dimension without a finite value has no number."""
    return tuple(float(v) if s else None for v, s in zip(values.tolist(), some, strict=True))


def _constant(
    low: NDArray[np.generic], high: NDArray[np.generic], some: NDArray[np.bool_]
) -> tuple[int, ...]:
    return tuple(np.flatnonzero((low == high) & some).tolist())


# --- scaling ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Normaliser:
    """An affine scaling of D dimensions and its inverse.

    In float32, `unscale(scale(x))` differs from x by at most 4 units in the last place of
    max(|x|, |x - offset|): three roundings of x - offset and one of x, each of half an epsilon.

    Attributes:
        offset: (D,) float32, taken away first.
        factor: (D,) float32, then divided by; never 0.
    """

    offset: NDArray[np.float32]
    factor: NDArray[np.float32]

    def scale(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        """`values` (..., D) in physical units as the network sees them, float32."""
        return (values.astype(np.float32) - self.offset) / self.factor

    def unscale(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        """`values` (..., D) of the network in physical units, float32."""
        return values.astype(np.float32) * self.factor + self.offset


def normaliser(kind: Kind, stats: FeatureStats, *, std_floor: float) -> Normaliser:
    """The scaling of `kind` for one array.

    A constant dimension is only moved (factor 1), to 0 by every kind: dividing by a floor would
    turn the smallest deviation on a robot into the loudest input.

    Args:
        kind: "mean_std" gives zero mean and unit deviation, "unit" maps [min, max] to [0, 1]
            (the VAE notes), "symmetric" to [-1, 1] (diffusion policies).
        stats: Of the array, one number per dimension.
        std_floor: Smallest deviation that "mean_std" divides by, in the array's own unit.

    Raises:
        DataError: A dimension without a single finite value.
    """
    for d, count in enumerate(stats.count):
        if count == 0:
            name = stats.names[d] if d < len(stats.names) else str(d)
            raise DataError(
                f"dimension {d} ({name!r}) has no finite value to normalise by",
                hint="Take the array out of state and action, or record it again.",
            )
    mean, std, low, high = (
        np.array(numbers, np.float64) for numbers in (stats.mean, stats.std, stats.min, stats.max)
    )
    if kind == "mean_std":
        offset, factor = mean, np.maximum(std, std_floor)
        constant = low == high
    elif kind == "unit":
        offset, factor = low, high - low
        constant = factor < _SMALLEST_RANGE
    else:
        offset, factor = low / 2 + high / 2, (high - low) / 2
        constant = 2 * factor < _SMALLEST_RANGE
    return Normaliser(offset.astype(np.float32), np.where(constant, 1.0, factor).astype(np.float32))
