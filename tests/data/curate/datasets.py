"""Small datasets to curate: a few steps of two joints and one tiny camera."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from act_data.records import (
    Annotation,
    DatasetSchema,
    EpisodeInfo,
    Feature,
    SegmentRecord,
    SourceRecord,
    VersionRecord,
)
from act_data.registry import Registry
from act_data.store import open_dataset, open_writer
from act_data.types import Role, StepType, Timestep

FPS = 10
SHARD_FRAMES = 4
SECOND = 10**9


def schema(robot: str = "two_joints", *, fps: float = FPS) -> DatasetSchema:
    return DatasetSchema(
        robot=robot,
        fps=fps,
        features=(
            Feature(name="qpos", role=Role.OBSERVATION, dtype="float32", shape=(2,), unit="rad",
                    names=("elbow", "wrist")),
            Feature(name="images/cam_high", role=Role.OBSERVATION, dtype="uint8", shape=(8, 8, 3),
                    codec="zstd"),
            Feature(name="action", role=Role.ACTION, dtype="float32", shape=(2,), unit="rad"),
            Feature(name="timestamp", role=Role.SYNC, dtype="int64", shape=(), unit="ns"),
        ),
    )  # fmt: skip


def steps(length: int, seed: int) -> list[Timestep]:
    rng = np.random.default_rng(seed)
    none = np.zeros(0, np.int64)
    return [
        Timestep(
            step_type=StepType.FIRST if t == 0 else StepType.MID,
            tick_ns=(seed + 1) * 1000 * SECOND + t * SECOND // FPS,
            observation={
                "qpos": rng.normal(seed, 1, 2).astype(np.float32),
                "images/cam_high": rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
            },
            action={"action": rng.normal(size=2).astype(np.float32)},
            skew_ns=none,
            reason=none.astype(np.uint8),
            index=none,
        )
        for t in range(length)
    ]


def info(seed: int, length: int, said: Annotation | None = None) -> EpisodeInfo:
    start = (seed + 1) * 1000 * SECOND
    end = start + (length - 1) * SECOND // FPS
    source = SourceRecord(
        name=f"bag{seed}", kind="ros1", sha256=f"{seed:064x}", files=(f"/bags/bag{seed}.bag",),
        start_ns=start, end_ns=end, topics=("/camera", "/joints"),
    )  # fmt: skip
    facts = (said or Annotation()).model_dump(exclude_none=True)
    segment = SegmentRecord(number=0, start_ns=start, end_ns=end, last=True)
    return EpisodeInfo(source=source, segment=segment, **facts)


def ingest(
    path: Path,
    seeds: Sequence[int],
    *,
    length: int = 6,
    said: Annotation | None = None,
    commit: bool = True,
    shard_frames: int = SHARD_FRAMES,
    robot: str = "two_joints",
) -> VersionRecord | None:
    """Episode "e<seed>" for each seed, `length + seed` steps long; one version, registered."""
    with open_writer(path, schema(robot), shard_frames=shard_frames) as writer:
        for seed in seeds:
            if f"e{seed:04d}" in writer.durable:
                continue
            episode = writer.episode(f"e{seed:04d}")
            for step in steps(length + seed, seed):
                episode.record(step)
            episode.finish(info(seed, length + seed, said))
        version = writer.commit([f"e{s:04d}" for s in seeds], message="ingest") if commit else None
    if commit:
        Registry().register(open_dataset(path))
    return version


def hashes(path: Path) -> list[str]:
    """Content hash of every version that can be opened; each must be sound."""
    found = []
    for number in range(1, open_dataset(path).version.number + 1):
        reader = open_dataset(path, number)
        assert reader.verify() == []
        found.append(reader.version.content_hash)
    return found


def uids(path: Path, version: int | None = None) -> list[str]:
    return [entry.uid for entry in open_dataset(path, version).episodes]
