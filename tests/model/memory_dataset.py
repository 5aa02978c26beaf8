"""A dataset in memory: a true DatasetReader over small arrays that a test makes itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from act_data.errors import StoreError
from act_data.records import (
    SYNC_INDEX,
    SYNC_REASON,
    SYNC_SKEW,
    TIMESTAMP,
    DatasetSchema,
    EpisodeEntry,
    EpisodeInfo,
    EpisodeRecord,
    Feature,
    SourceRecord,
    StatsRecord,
    StreamSync,
    SyncColumn,
    VersionRecord,
)
from act_data.types import NS_PER_S, Role, SyncPolicy

Arrays = Mapping[str, NDArray[np.generic]]
FPS = 20.0


class MemoryDataset:
    """One version of a dataset whose arrays lie in memory."""

    def __init__(
        self,
        schema: DatasetSchema,
        episodes: Sequence[Arrays],
        splits: Sequence[str] | None = None,
        *,
        path: Path = Path("memory.zarr"),
    ) -> None:
        splits = splits or ["train"] * len(episodes)
        self.path = path
        self.uid = "memory"
        self.schema = schema
        self.reads: list[tuple[str, int, int, int]] = []
        self._arrays = [dict(arrays) for arrays in episodes]
        self._stats: StatsRecord | None = None
        entries, start = [], 0
        for number, (arrays, split) in enumerate(zip(episodes, splits, strict=True)):
            digest = hashlib.sha256()
            for feature in schema.features:
                values = arrays[feature.name]
                assert values.shape[1:] == feature.shape, feature.name
                assert values.dtype == feature.dtype, feature.name
                digest.update(values.tobytes())
            length = len(arrays[TIMESTAMP])
            entries.append(
                EpisodeEntry(
                    uid=f"episode-{number}",
                    start=start,
                    length=length,
                    hash=digest.hexdigest(),
                    split="val" if split == "val" else "train",
                )
            )
            start += length
        content = "".join(e.hash + e.split for e in entries) + schema.model_dump_json()
        self.version = VersionRecord(
            number=1,
            parent=None,
            created="2025-01-01T00:00:00Z",
            episodes=tuple(entries),
            content_hash=hashlib.sha256(content.encode()).hexdigest(),
        )

    @property
    def episodes(self) -> Sequence[EpisodeEntry]:
        return self.version.episodes

    def episode(self, uid: str) -> EpisodeRecord:
        entry = next(e for e in self.episodes if e.uid == uid)
        source = SourceRecord(name=uid, kind="memory", sha256=entry.hash)
        return EpisodeRecord(
            uid=uid,
            start=entry.start,
            length=entry.length,
            hash=entry.hash,
            files={},
            info=EpisodeInfo(source=source),
            created=self.version.created,
        )

    def read(
        self,
        feature: str,
        episode: int,
        start: int = 0,
        stop: int | None = None,
        *,
        out: NDArray[np.generic] | None = None,
    ) -> NDArray[np.generic]:
        values = self._arrays[episode][feature]
        stop = len(values) if stop is None else stop
        if not 0 <= start <= stop <= len(values):
            raise StoreError(f"rows [{start}, {stop}) of {feature!r} in episode {episode}")
        self.reads.append((feature, episode, start, stop))
        if out is None:
            return values[start:stop].copy()
        out[...] = values[start:stop]
        return out

    def stats(self) -> StatsRecord | None:
        return self._stats

    def save_stats(self, stats: StatsRecord) -> None:
        self._stats = stats

    def verify(self) -> list[str]:
        return []


def schema_of(
    *,
    state: int = 3,
    action: int = 3,
    cameras: Mapping[str, tuple[int, int]] | None = None,
    depth: Mapping[str, tuple[int, int]] | None = None,
) -> DatasetSchema:
    """A robot with one arm; a sync column per camera, one for the arm, one for its command."""
    cameras = {"top": (32, 48)} if cameras is None else cameras
    depth = depth or {}
    columns = [("arm", Role.OBSERVATION), ("command", Role.ACTION)]
    columns += [(name, Role.OBSERVATION) for name in (*cameras, *(f"{d}_depth" for d in depth))]
    pictures = [
        Feature(
            name=f"images/{name}",
            role=Role.OBSERVATION,
            dtype="uint8",
            shape=(*size, 3),
            codec="zstd",
            columns=(name,),
        )
        for name, size in cameras.items()
    ] + [
        Feature(
            name=f"depth/{name}",
            role=Role.OBSERVATION,
            dtype="uint16",
            shape=size,
            unit="mm",
            codec="blosc",
            columns=(f"{name}_depth",),
        )
        for name, size in depth.items()
    ]
    sync = [
        Feature(name=TIMESTAMP, role=Role.SYNC, dtype="int64", shape=(), unit="ns"),
        Feature(name=SYNC_SKEW, role=Role.SYNC, dtype="int64", shape=(len(columns),), unit="ns"),
        Feature(name=SYNC_REASON, role=Role.SYNC, dtype="uint8", shape=(len(columns),)),
        Feature(name=SYNC_INDEX, role=Role.SYNC, dtype="int64", shape=(len(columns),)),
    ]
    vectors = [
        Feature(
            name="qpos",
            role=Role.OBSERVATION,
            dtype="float32",
            shape=(state,),
            unit="rad",
            names=tuple(f"arm/joint{i}" for i in range(state)),
            columns=("arm",),
        ),
        Feature(
            name="action",
            role=Role.ACTION,
            dtype="float32",
            shape=(action,),
            unit="rad",
            names=tuple(f"command/joint{i}" for i in range(action)),
            columns=("command",),
        ),
    ]
    return DatasetSchema(
        robot="one_arm",
        fps=FPS,
        features=(*vectors, *pictures, *sync),
        columns=tuple(SyncColumn(name=n, stream=n, role=role) for n, role in columns),
        streams={n: StreamSync(policy=SyncPolicy.HOLD, tolerance_ms=50) for n, _ in columns},
    )


def episode_of(schema: DatasetSchema, length: int, seed: int) -> dict[str, NDArray[np.generic]]:
    """A smooth movement: joint angles on sines, the action is the next position, and each picture
    shows a bright square that moves with the first joint.
    """
    rng = np.random.default_rng(seed)
    arrays: dict[str, NDArray[np.generic]] = {}
    phase = np.arange(length + 1)[:, None] / length
    (dims,) = schema.feature("action").shape
    rate, start = rng.uniform(0.5, 1.5, dims), rng.uniform(0, 2 * np.pi, dims)
    path = (0.8 * np.sin(2 * np.pi * rate * phase + start)).astype(np.float32)
    for feature in schema.features:
        if feature.name == "action":
            arrays[feature.name] = path[1:]
        elif feature.name == "qpos":
            arrays[feature.name] = np.resize(path[:-1], (length, *feature.shape))
        elif feature.name == TIMESTAMP:
            arrays[feature.name] = (np.arange(length) * (NS_PER_S / FPS)).astype(np.int64)
        elif feature.role is Role.SYNC:
            arrays[feature.name] = np.zeros((length, *feature.shape), feature.dtype)
        else:
            height, width = feature.shape[:2]
            pictures = rng.integers(0, 60, (length, *feature.shape)).astype(feature.dtype)
            for t, angle in enumerate(path[:-1, 0]):
                left = int((angle + 1) / 2 * (width - 8))
                pictures[t, height // 2 : height // 2 + 8, left : left + 8] = 220
            arrays[feature.name] = pictures
    return arrays


def dataset_of(
    *lengths: int, val: int = 0, schema: DatasetSchema | None = None, seed: int = 0
) -> MemoryDataset:
    """Episodes of `lengths`, the last `val` of them held out."""
    schema = schema or schema_of()
    splits = ["train"] * (len(lengths) - val) + ["val"] * val
    return MemoryDataset(
        schema, [episode_of(schema, n, seed + i) for i, n in enumerate(lengths)], splits
    )
