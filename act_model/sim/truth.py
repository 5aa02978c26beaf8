"""Synchronised frames against simulated time: what the stored skews say, and what was true."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.errors import DataError, NotFoundError
from act_data.interfaces import DatasetReader
from act_data.records import SYNC_INDEX, SYNC_REASON, SYNC_SKEW, TIMESTAMP
from act_data.robot import load_robot
from act_data.sources import find_recordings, open_recording
from act_data.types import NS_PER_S, Reason
from act_model.sim.records import StreamTruth, TruthReport, distribution
from act_model.sim.simulation import TRUTH_TOPIC

_UNTOLD = -1  # simulated time of a sample whose time reference was lost


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
    sampled: list[NDArray[np.int64]] = []
    ticks: list[NDArray[np.int64]] = []
    valid: list[NDArray[np.bool_]] = []
    reused = np.zeros(len(columns), np.int64)
    for number, entry in enumerate(reader.episodes):
        times = _sampled([Path(f) for f in reader.episode(entry.uid).info.source.files])
        index = reader.read(SYNC_INDEX, number).astype(np.int64)
        ok = (reader.read(SYNC_REASON, number) == Reason.OK) & (index >= 0)
        valid.append(ok)
        reported.append(reader.read(SYNC_SKEW, number).astype(np.int64))
        ticks.append(reader.read(TIMESTAMP, number).astype(np.int64))
        at = np.full(index.shape, _UNTOLD)
        for column, stream in enumerate(columns):
            of_stream = _of(times, topics[stream])
            if len(of_stream):
                at[:, column] = of_stream[np.clip(index[:, column], 0, len(of_stream) - 1)]
        sampled.append(at)
        reused += ((np.diff(index, axis=0) == 0) & ok[1:]).sum(axis=0)
    skew, at, ok = np.concatenate(reported), np.concatenate(sampled), np.concatenate(valid)
    truth = at - np.concatenate(ticks)[:, None]
    told = ok & (at != _UNTOLD)
    whole = ok[:, ok.any(axis=0)].all(axis=1)
    known = told[:, ok.any(axis=0)].all(axis=1)
    present = truth[np.ix_(known, np.flatnonzero(ok.any(axis=0)))]
    return TruthReport(
        dataset=str(reader.path),
        version=reader.version.number,
        rows=len(ok),
        valid_rows=int(whole.sum()),
        streams={
            column.name: StreamTruth(
                samples=int(ok[:, i].sum()),
                reported=distribution(skew[told[:, i], i]),
                true=distribution(truth[told[:, i], i]),
                error=distribution((skew - truth)[told[:, i], i]),
                reused=int(reused[i]),
                untold=int((ok & ~told)[:, i].sum()),
            )
            for i, column in enumerate(reader.schema.columns)
        },
        spread=distribution(
            present.max(axis=1) - present.min(axis=1) if present.size else np.zeros(0, np.int64)
        ),
    )


def _sampled(files: list[Path]) -> Mapping[str, NDArray[np.int64]]:
    """Simulated time of every message of a recording, in order of arrival, by topic.

    A message and its time reference have the same stamp, and nothing else in common: on live
    topics each of them may be lost, or come first.
    """
    if missing := [str(file) for file in files if not file.exists()]:
        raise NotFoundError(
            f"the recording is no longer at {missing[0]!r}",
            hint="Simulate it again with the same options, or ingest what is there.",
        )
    stamps: dict[str, list[int]] = {}
    times: dict[tuple[str, int], int] = {}
    for recording in find_recordings(files):
        with open_recording(recording) as source:
            if TRUTH_TOPIC not in source.topics:
                raise DataError(
                    f"{recording.name} has no topic {TRUTH_TOPIC!r}",
                    hint="Only recordings of `act-model simulate` know the truth; of its live "
                    f"topics, record this one, too: `act-data record --topic {TRUTH_TOPIC}`.",
                )
            for raw in source.messages(source.topics):
                if raw.topic != TRUTH_TOPIC:
                    stamps.setdefault(raw.topic, []).append(raw.stamp_ns or 0)
                    continue
                message = source.deserialize(raw)
                times[message.source, _ns(message.header.stamp)] = _ns(message.time_ref)
    return {
        topic: np.array([times.get((topic, stamp), _UNTOLD) for stamp in each], np.int64)
        for topic, each in stamps.items()
    }


def _ns(time: Any) -> int:
    return int(time.sec) * NS_PER_S + int(time.nanosec)


def _of(sampled: Mapping[str, NDArray[np.int64]], topic: str) -> NDArray[np.int64]:
    """The times of a stream's topic, or of the compressed pictures of it."""
    for name in (topic, f"{topic}/compressed"):
        if name in sampled:
            return sampled[name]
    return np.zeros(0, np.int64)
