"""A rollout becomes episodes of a dataset that `act-data` curates and a policy trains on.

The control tick appends to a queue. A thread reads the pictures and writes; when it cannot keep
up, steps are left out and counted, and the episode is marked with what it lacks. In simulated time
the tick writes itself.

Shape suffixes: A action dim.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from act_data.errors import ActError, InputError
from act_data.interfaces import DatasetWriter, EpisodeWriter
from act_data.records import (
    SYNC_INDEX,
    SYNC_REASON,
    SYNC_SKEW,
    TIMESTAMP,
    DatasetSchema,
    EpisodeInfo,
    Feature,
    SourceRecord,
    SyncColumn,
    VersionRecord,
)
from act_data.store import open_writer
from act_data.types import Reason, Role, StepType, Timestep
from act_model.config import Contract
from act_model.deploy.feed import Seen

COMMANDER = "commander"  # (T, 1) float32, who commanded: 0 the policy, 1 a person who took over
_ROBOT = "robot"  # the one sync column: what the robot saw


@dataclass(frozen=True, slots=True)
class _Step:
    seen: Seen
    action: NDArray[np.float32]
    human: bool


class Recorder:
    """Writes the episodes of one rollout and commits them together at its end."""

    _QUEUE = 256  # of observations that are not read yet
    _DRAIN_S = 0.01

    def __init__(
        self, path: Path, contract: Contract, source: SourceRecord, *, task: str, threaded: bool
    ) -> None:
        """A recorder into the dataset at `path`, which is created or continued.

        Args:
            contract: Of the policy: what it sees and does is what is recorded.
            source: What commanded: the checkpoint.

        Raises:
            InputError: `path` cannot hold it.
            ConflictError: Something else lies there, or it is being written.
        """
        if path.suffix != ".zarr":
            raise InputError(
                f"{str(path)!r} cannot take rollouts", hint="Name an act-zarr dataset: *.zarr."
            )
        self._contract, self._source, self._task = contract, source, task
        self._writer: DatasetWriter = open_writer(path, schema_for(contract))
        self._writer.__enter__()
        self._queue: deque[_Step] = deque()
        self._began = time.time_ns()
        self._episode: EpisodeWriter | None = None
        self._steps = self._corrections = self._lost = 0
        self._uids: list[str] = []
        self._number = 0
        self.dropped = 0
        self._error: ActError | None = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        if threaded:
            self._thread = threading.Thread(target=self._work, name="act-record", daemon=True)
            self._thread.start()

    def put(self, seen: Seen, action_A: NDArray[np.float32], *, human: bool) -> None:
        """Note one step: what was seen, and what was sent for it."""
        if len(self._queue) >= self._QUEUE:
            self.dropped += 1
            return
        self._queue.append(_Step(seen, action_A, human))
        if self._thread is None:
            self._drain()

    def close(self) -> VersionRecord | None:
        """Write what is left and commit; the new version, None when nothing was recorded.

        Raises:
            StoreError: The disk is full. What was committed before stays.
        """
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        try:
            if self._error is not None:
                raise self._error
            self._drain()
            self._finish()
            return self._writer.commit(self._uids, message="rollout") if self._uids else None
        finally:
            if self._episode is not None:
                self._episode.discard()
            self._writer.__exit__(None, None, None)

    @property
    def uids(self) -> tuple[str, ...]:
        """Of the episodes that are finished."""
        return tuple(self._uids)

    def _work(self) -> None:
        try:
            while not self._done.wait(self._DRAIN_S):
                self._drain()
        except ActError as error:  # the rollout goes on; `close` raises it
            self._error = error

    def _drain(self) -> None:
        while self._queue:
            self._record(self._queue.popleft())

    def _record(self, step: _Step) -> None:
        first = step.seen.observation.first or self._episode is None
        if first:
            self._finish()
            key = f"{self._source.sha256} {self._began} {self._number}"
            uid = hashlib.sha256(key.encode()).hexdigest()[:16]
            self._episode, self._steps, self._corrections = self._writer.episode(uid), 0, 0
            self._lost = self.dropped
            self._number += 1
        assert self._episode is not None
        arrays = step.seen.observation.arrays()
        self._episode.record(
            Timestep(
                step_type=StepType.FIRST if first else StepType.MID,
                tick_ns=step.seen.observation.tick_ns,
                observation={name: np.asarray(arrays[name]) for name in _observed(self._contract)},
                action={
                    **_split(step.action, self._contract),
                    COMMANDER: np.array([step.human], np.float32),
                },
                skew_ns=np.zeros(1, np.int64),
                reason=np.array(
                    [Reason.OK if step.seen.observation.valid else Reason.GAP], np.uint8
                ),
                index=np.array([step.seen.number], np.int64),
            )
        )
        self._steps += 1
        self._corrections += step.human

    def _finish(self) -> None:
        if self._episode is None:
            return
        notes = []
        if self._corrections:
            notes.append(f"a person commanded {self._corrections} of {self._steps} steps")
        if self.dropped > self._lost:
            notes.append(f"{self.dropped - self._lost} steps were too many to record in time")
        episode, self._episode = self._episode, None
        record = episode.finish(
            EpisodeInfo(source=self._source, task=self._task, notes="; ".join(notes))
        )
        self._uids.append(record.uid)


def schema_for(contract: Contract) -> DatasetSchema:
    """The schema of rollouts of a policy: its arrays, and who commanded."""
    features = [
        Feature(
            name=v.name, role=Role.OBSERVATION, dtype="float32", shape=(len(v.names),),
            unit=v.unit, names=v.names, columns=(_ROBOT,),
        )
        for v in contract.state
    ]  # fmt: skip
    features += [
        Feature(
            name=f"images/{c.name}", role=Role.OBSERVATION, dtype="uint8",
            shape=(c.height, c.width, 3), codec=c.codec, quality=c.quality, columns=(_ROBOT,),
        )
        for c in contract.cameras
    ]  # fmt: skip
    features += [
        Feature(
            name=f"depth/{c.name}", role=Role.OBSERVATION, dtype="uint16",
            shape=(c.height, c.width), codec=c.codec, quality=c.quality, columns=(_ROBOT,),
        )
        for c in contract.depth
    ]  # fmt: skip
    features += [
        Feature(
            name=v.name, role=Role.ACTION, dtype="float32", shape=(len(v.names),),
            unit=v.unit, names=v.names,
        )
        for v in contract.action
    ]  # fmt: skip
    features += [
        Feature(name=COMMANDER, role=Role.ACTION, dtype="float32", shape=(1,), names=("human",)),
        Feature(name=TIMESTAMP, role=Role.SYNC, dtype="int64", shape=(), unit="ns"),
        Feature(
            name=SYNC_SKEW, role=Role.SYNC, dtype="int64", shape=(1,), unit="ns", names=(_ROBOT,)
        ),
        Feature(name=SYNC_REASON, role=Role.SYNC, dtype="uint8", shape=(1,), names=(_ROBOT,)),
        Feature(name=SYNC_INDEX, role=Role.SYNC, dtype="int64", shape=(1,), names=(_ROBOT,)),
    ]
    return DatasetSchema(
        robot=contract.robot,
        fps=contract.rate_hz,
        action_shift=contract.action_shift,
        clock=contract.clock,
        latency_ms=contract.latency_ms,
        features=tuple(features),
        columns=(SyncColumn(name=_ROBOT, stream=_ROBOT, role=Role.OBSERVATION),),
    )


def _observed(contract: Contract) -> Sequence[str]:
    return [
        *(v.name for v in contract.state),
        *(f"images/{c.name}" for c in contract.cameras),
        *(f"depth/{c.name}" for c in contract.depth),
    ]


def _split(action_A: NDArray[np.float32], contract: Contract) -> dict[str, NDArray[np.generic]]:
    """The arrays that an action is made of."""
    parts: dict[str, NDArray[np.generic]] = {}
    start = 0
    for vector in contract.action:
        parts[vector.name] = action_A[start : start + len(vector.names)]
        start += len(vector.names)
    return parts
