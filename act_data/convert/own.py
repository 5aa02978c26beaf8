"""Datasets of this toolkit as a source: nothing that they know is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from act_data.convert.foreign import (
    Foreign,
    ForeignArray,
    ForeignEpisode,
    Format,
    Origin,
    Row,
    Sync,
    blocks,
)
from act_data.interfaces import DatasetReader
from act_data.records import (
    SYNC_INDEX,
    SYNC_REASON,
    SYNC_SKEW,
    TIMESTAMP,
    EpisodeEntry,
    Feature,
    PictureOrigin,
    SourceRecord,
    StoredPicture,
)
from act_data.store.facts import facts_of
from act_data.store.frames import step_bytes
from act_data.types import Role, Value


def open_own(reader: DatasetReader, kind: Format) -> Foreign:
    """The version that `reader` is pinned to."""
    schema = reader.schema
    swapped = kind == "act_hdf5"
    arrays = [
        ForeignArray(
            name=f.name,
            target=f.name,
            role=f.role,
            shape=f.shape,
            dtype=np.dtype(f.dtype),
            unit=f.unit,
            names=f.names,
            encoding="" if f.codec == "none" else f.codec,
            lossy=f.codec == "jpeg",
            jpeg="" if f.codec != "jpeg" else "swapped" if swapped else "standard",
            columns=f.columns,
            quality=f.quality,
            original=f.original or _stored(f),
        )
        for f in schema.features
        if f.role is not Role.SYNC
    ]
    return Foreign(
        kind=kind,
        variant=f"version {reader.version.number} of {reader.path.name}",
        robot=schema.robot,
        arrays=arrays,
        episodes=[_episode(reader, n, kind) for n in range(len(reader.episodes))],
        fps=schema.fps,
        simulated=schema.simulated,
        stamps=schema.stamps,
        schema=schema,
        facts=facts_of(reader),
    )


def _stored(feature: Feature) -> StoredPicture | None:
    if feature.codec == "none":
        return None
    height, width = feature.shape[:2]
    return StoredPicture(height=height, width=width, codec=feature.codec, quality=feature.quality)


def _episode(reader: DatasetReader, number: int, kind: Format) -> ForeignEpisode:
    entry = reader.episodes[number]
    return ForeignEpisode(
        name=f"{reader.path.stem}/{entry.uid}",
        length=entry.length,
        origin=lambda: _origin(reader, entry, kind),
        rows=lambda: _rows(reader, number),
        split=entry.split,
    )


def _origin(reader: DatasetReader, entry: EpisodeEntry, kind: Format) -> Origin:
    info = reader.episode(entry.uid).info
    lossy = {
        f.name: PictureOrigin(encoding="jpeg", generations=1)
        for f in reader.schema.features
        if f.codec == "jpeg"
    }
    return Origin(
        source=SourceRecord(
            name=f"{reader.path.stem}/{entry.uid}",
            kind=kind,
            sha256=entry.hash,
            start_ns=info.source.start_ns,
            end_ns=info.source.end_ns,
        ),
        info=info,
        pictures={**lossy, **(info.imported.pictures if info.imported else {})},
    )


def _rows(reader: DatasetReader, number: int) -> Iterator[Row]:
    length = reader.episodes[number].length
    numbers = [f for f in reader.schema.features if f.codec == "none"]
    pictures = [f for f in reader.schema.features if f.codec != "none"]
    synced = {f.name for f in reader.schema.named(Role.SYNC)}
    for start, stop in blocks(length, sum(map(step_bytes, numbers))):
        block = {f.name: reader.read(f.name, number, start, stop) for f in numbers}
        for t in range(start, stop):
            low = {name: rows[t - start] for name, rows in block.items()}
            values: dict[str, Value] = {n: v for n, v in low.items() if n not in synced}
            values |= {f.name: _picture(reader, f, number, t) for f in pictures}
            yield Row(
                values=values,
                sync=Sync(
                    tick_ns=int(low[TIMESTAMP]),
                    skew_ns=np.asarray(low.get(SYNC_SKEW, ()), np.int64),
                    reason=np.asarray(low.get(SYNC_REASON, ()), np.uint8),
                    index=np.asarray(low.get(SYNC_INDEX, ()), np.int64),
                )
                if TIMESTAMP in low
                else None,
            )


def _picture(reader: DatasetReader, feature: Feature, number: int, t: int) -> Value:
    kept = reader.encoded(feature.name, number, t)
    return reader.read(feature.name, number, t, t + 1)[0] if kept is None else kept
