"""Exact statistics of a dataset, one number per dimension, and the scalings made from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError, StoreError
from act_data.interfaces import DatasetReader
from act_data.records import SYNC_REASON, Feature, FeatureStats, StatsRecord
from act_data.stats.accumulate import Histogram, Moments
from act_data.stats.scaling import Kind, Normaliser, normaliser
from act_data.types import Reason, Role

__all__ = [
    "QUANTILES",
    "Histogram",
    "Kind",
    "Moments",
    "Normaliser",
    "Split",
    "compute",
    "describe_pictures",
    "describe_vectors",
    "normaliser",
]

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)

# Pictures read at once: 32 frames of 480 x 640 x 3 are 29 MB.
_BLOCK_BYTES = 32 << 20

Split = Literal["train", "val", "all"]


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
    masked = sum(int((~keep).sum()) for keep in valid)
    return describe_pictures(histogram, masked=masked, unit=feature.unit)


def describe_pictures(histogram: Histogram, *, masked: int = 0, unit: str = "") -> FeatureStats:
    """The exact statistics of the pictures in `histogram`, per channel."""
    channels = len(histogram.counts)
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
        masked=masked,
        names=names,
        unit=unit,
    )


def _of_vectors(
    reader: DatasetReader,
    feature: Feature,
    episodes: Sequence[int],
    valid: Sequence[NDArray[np.bool_]],
    advance: Callable[[int], None],
) -> FeatureStats:
    dimensions = int(np.prod(feature.shape))
    parts: list[NDArray[np.generic]] = []
    for episode, keep in zip(episodes, valid, strict=True):
        parts.append(reader.read(feature.name, episode)[keep].reshape(-1, dimensions))
        advance(len(keep))
    masked = sum(int((~keep).sum()) for keep in valid)
    return describe_vectors(parts, masked=masked, names=feature.names, unit=feature.unit)


def describe_vectors(
    parts: Sequence[NDArray[np.generic]],
    *,
    masked: int = 0,
    names: tuple[str, ...] = (),
    unit: str = "",
) -> FeatureStats:
    """The exact statistics of all rows in `parts`, each (T, D), per dimension."""
    dimensions = parts[0].shape[1]
    moments = Moments.of(np.zeros((0, dimensions)))
    for rows in parts:
        moments += Moments.of(rows)
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
        masked=masked,
        names=names,
        unit=unit,
    )


def _numbers(values: NDArray[np.generic], some: NDArray[np.bool_]) -> tuple[float | None, ...]:
    """JSON has no NaN: a dimension without a finite value has no number."""
    return tuple(float(v) if s else None for v, s in zip(values.tolist(), some, strict=True))


def _constant(
    low: NDArray[np.generic], high: NDArray[np.generic], some: NDArray[np.bool_]
) -> tuple[int, ...]:
    return tuple(np.flatnonzero((low == high) & some).tolist())
