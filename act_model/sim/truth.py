"""Synchronised frames against simulated time: what the stored skews say, and what was true."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from act_data.errors import DataError, NotFoundError
from act_data.interfaces import DatasetReader
from act_data.records import SYNC_INDEX, SYNC_REASON, SYNC_SKEW, TIMESTAMP
from act_data.robot import load_robot
from act_data.sources import find_recordings, open_recording
from act_data.types import NS_PER_MS, NS_PER_S, Reason
from act_model.sim.records import Distribution, StreamTruth, TruthReport
from act_model.sim.simulation import TRUTH_TOPIC

Truth = Mapping[str, NDArray[np.int64]]


def truth_of(reader: DatasetReader, robot: str | None = None) -> TruthReport:
    """How far the samples of every row were from its tick, in simulated time.

    Args:
        reader: A dataset of recordings that `act-model simulate` made, which are still there.
        robot: Preset or YAML file that it was ingested with; its own by default.

    Raises:
        NotFoundError: A recording is gone.
        DataError: A recording does not say when its samples were taken.
    """
    columns = [column.stream for column in reader.schema.columns]
    spec = load_robot(robot or reader.schema.robot)
    topics = {stream.name: stream.topic for stream in spec.streams}
    reported: list[NDArray[np.int64]] = []
    true: list[NDArray[np.int64]] = []
    valid: list[NDArray[np.bool_]] = []
    reused = np.zeros(len(columns), np.int64)
    for number, entry in enumerate(reader.episodes):
        sampled = _sampled([Path(f) for f in reader.episode(entry.uid).info.source.files])
        index = reader.read(SYNC_INDEX, number).astype(np.int64)
        ticks = reader.read(TIMESTAMP, number).astype(np.int64)
        ok = (reader.read(SYNC_REASON, number) == Reason.OK) & (index >= 0)
        valid.append(ok)
        reported.append(reader.read(SYNC_SKEW, number).astype(np.int64))
        times = np.zeros(index.shape, np.int64)
        for column, stream in enumerate(columns):
            of_stream = _of(sampled, topics[stream])
            if len(of_stream):
                times[:, column] = of_stream[np.clip(index[:, column], 0, len(of_stream) - 1)]
        true.append(times - ticks[:, None])
        reused += ((np.diff(index, axis=0) == 0) & ok[1:]).sum(axis=0)
    skew, truth, ok = np.concatenate(reported), np.concatenate(true), np.concatenate(valid)
    whole = ok[:, ok.any(axis=0)].all(axis=1)
    present = truth[np.ix_(whole, np.flatnonzero(ok.any(axis=0)))]
    return TruthReport(
        dataset=str(reader.path),
        version=reader.version.number,
        rows=len(ok),
        valid_rows=int(whole.sum()),
        streams={
            column.name: StreamTruth(
                samples=int(ok[:, i].sum()),
                reported=_distribution(skew[ok[:, i], i]),
                true=_distribution(truth[ok[:, i], i]),
                error=_distribution((skew - truth)[ok[:, i], i]),
                reused=int(reused[i]),
            )
            for i, column in enumerate(reader.schema.columns)
        },
        spread=_distribution(
            present.max(axis=1) - present.min(axis=1) if present.size else np.zeros(0, np.int64)
        ),
    )


def _sampled(files: list[Path]) -> Truth:
    """Simulated time of every message of a recording, in order of arrival, by topic."""
    if missing := [str(file) for file in files if not file.exists()]:
        raise NotFoundError(
            f"the recording is no longer at {missing[0]!r}",
            hint="Simulate it again with the same options, or ingest what is there.",
        )
    times: dict[str, list[int]] = {}
    for recording in find_recordings(files):
        with open_recording(recording) as source:
            if TRUTH_TOPIC not in source.topics:
                raise DataError(
                    f"{recording.name} has no topic {TRUTH_TOPIC!r}",
                    hint="Only recordings of `act-model simulate` know the truth.",
                )
            for raw in source.messages((TRUTH_TOPIC,)):
                message = source.deserialize(raw)
                at = message.time_ref.sec * NS_PER_S + message.time_ref.nanosec
                times.setdefault(message.source, []).append(at)
    return {topic: np.array(each, np.int64) for topic, each in times.items()}


def _of(sampled: Truth, topic: str) -> NDArray[np.int64]:
    """The times of a stream's topic, or of the compressed pictures of it."""
    for name in (topic, f"{topic}/compressed"):
        if name in sampled:
            return sampled[name]
    return np.zeros(0, np.int64)


def _distribution(values_ns: NDArray[np.int64]) -> Distribution:
    if not values_ns.size:
        return Distribution(p50_ms=None, p99_ms=None, max_ms=None)
    far = np.abs(values_ns) / NS_PER_MS
    p50, p99 = np.percentile(far, (50, 99))
    return Distribution(p50_ms=float(p50), p99_ms=float(p99), max_ms=float(far.max()))
