"""One ingest on its way: from recordings to finished episodes, one after the other."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from act_data.episodes import Assembler, GapPolicy, schema_of
from act_data.errors import DataError
from act_data.ingest.settings import IngestSettings
from act_data.interfaces import DatasetWriter, EpisodeWriter
from act_data.observe import Observation
from act_data.records import (
    EpisodeInfo,
    SourceRecord,
    SyncReport,
    VersionRecord,
    reason_name,
)
from act_data.robot import with_joints
from act_data.sources import Recording, open_recording
from act_data.store import open_writer
from act_data.types import (
    NS_PER_MS,
    NS_PER_S,
    RawMessage,
    Reason,
    RobotSpec,
    StepType,
    Timestep,
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One episode that is durable, new or found."""

    recording: str
    uid: str
    found: bool


class Run:
    """One ingest on its way: the writer, opened by the first timestep, and what is done."""

    def __init__(
        self, robot: RobotSpec, settings: IngestSettings, out: Path, progress: Progress
    ) -> None:
        self.done: list[Done] = []
        self._robot = robot
        self._asked = robot  # without the joint orders that recordings show
        self._settings = settings
        self._out = out
        self._progress = progress
        self._steps = 0
        self._writer: DatasetWriter | None = None
        self._close = ExitStack()

    def ingest(self, recording: Recording, *, left: int) -> None:
        """Write the episodes of `recording`, or find them there.

        Args:
            left: Recordings still to come, this one included; for the progress.

        Raises:
            DataError: It is damaged or holds no usable step. What it had begun is removed.
        """
        latency_ns = round(self._settings.latency_ms * NS_PER_MS)
        with open_recording(recording) as source:
            view = Observation(source, self._robot, latency_ns=latency_ns)
            origin = source.record(view.topics)
            job = _digest(origin.sha256, self._asked, self._settings)
            if self._found(recording, job):
                return
            seconds = max(0, origin.end_ns - origin.start_ns) / NS_PER_S
            expected = self._steps + left * max(1, round(seconds * self._robot.fps))
            episode: _Episode | None = None
            number = 0
            assembler = self._assembler(view)
            try:
                for step in _timesteps(view, assembler):
                    if step.step_type is StepType.FIRST:
                        if episode is not None:
                            self._finish(episode, origin, _account(view, assembler))
                        episode = self._begin(recording, f"{job}/{number}", step, view)
                        number += 1
                    assert episode is not None  # the first step of a recording is a FIRST
                    episode.record(step)
                    self._steps += 1
                    self._progress(self._steps, max(expected, self._steps))
                if episode is None:
                    why = _why_invalid(_account(view, assembler))
                    raise DataError(
                        f"{recording.name}: no usable step. {why}",
                        hint="Look at the topics' rates and stamps, or raise tolerance_ms in the "
                        "robot's YAML.",
                    )
                self._finish(episode, origin, _account(view, assembler))
            except BaseException:
                if episode is not None:
                    episode.discard()
                raise

    def commit(self) -> VersionRecord:
        """Make everything that is done visible."""
        assert self._writer is not None  # every recording either has a step or raised
        return self._writer.commit([done.uid for done in self.done])

    def close(self) -> None:
        """Let go of the dataset, after an error too."""
        self._close.__exit__(*sys.exc_info())

    def _assembler(self, view: Observation) -> Assembler[RawMessage]:
        return Assembler(
            self._robot,
            view.observer,
            gap=self._settings.gap,
            max_gap_ticks=round(self._settings.max_gap_s * self._robot.fps),
        )

    def _found(self, recording: Recording, job: str) -> bool:
        """Whether an earlier run has finished this recording; then it is noted as done.

        A recording that may be cut has an unknown number of episodes: it is read again, and
        only the episodes that are missing are written.
        """
        uid = _uid(f"{job}/0")
        if self._writer is None or self._settings.gap is GapPolicy.CUT:
            return False
        if uid in self._writer.durable:
            self.done.append(Done(recording=recording.name, uid=uid, found=True))
            return True
        return False

    def _begin(
        self, recording: Recording, job: str, first: Timestep, view: Observation
    ) -> _Episode:
        if self._writer is None:
            zarr = self._out.suffix == ".zarr"
            self._robot = with_joints(self._robot, view.joints())
            schema = schema_of(
                self._robot,
                first,
                view.observer.columns,
                codec=self._settings.codec or ("jpeg" if zarr else "raw"),
                depth_codec="blosc" if zarr else "raw",
                quality=self._settings.quality,
            ).model_copy(update={"latency_ms": self._settings.latency_ms})
            self._writer = self._close.enter_context(
                open_writer(self._out, schema, shard_frames=self._settings.shard_frames)
            )
        uid = _uid(job)
        writer = None if uid in self._writer.durable else self._writer.episode(uid)
        return _Episode(recording=recording.name, uid=uid, writer=writer)

    def _finish(self, episode: _Episode, origin: SourceRecord, sync: SyncReport) -> None:
        settings = self._settings
        if episode.writer is not None:
            episode.writer.finish(
                EpisodeInfo(
                    source=origin,
                    task=settings.task,
                    operator=settings.operator,
                    success=settings.success,
                    notes=settings.notes,
                    sync=sync,
                )
            )
        self.done.append(
            Done(recording=episode.recording, uid=episode.uid, found=episode.writer is None)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Episode:
    """One episode being written; without a writer it is there already and only passes by."""

    recording: str
    uid: str
    writer: EpisodeWriter | None

    def record(self, step: Timestep) -> None:
        if self.writer is not None:
            self.writer.record(step)

    def discard(self) -> None:
        if self.writer is not None:
            self.writer.discard()


def _timesteps(view: Observation, assembler: Assembler[RawMessage]) -> Iterator[Timestep]:
    for frame in view.frames():
        yield from assembler.add(frame)
    yield from assembler.finish()


def _account(view: Observation, assembler: Assembler[RawMessage]) -> SyncReport:
    """The synchronizer's account, and what only decoding could tell: what is not finite."""
    report, seen = view.report(), assembler.account
    not_finite = reason_name(Reason.NOT_FINITE)
    streams = dict(report.streams)
    for column in view.observer.columns:
        ticks = seen.invalid.get(column.name, {}).get(not_finite, 0)
        stream = streams[column.stream]
        if ticks > stream.invalid.get(not_finite, 0):
            invalid = {**stream.invalid, not_finite: ticks}
            streams[column.stream] = stream.model_copy(update={"invalid": invalid})
    if streams == report.streams:
        return report
    return report.model_copy(update={"streams": streams, "valid": min(report.valid, seen.usable)})


def _digest(source_sha256: str, robot: RobotSpec, settings: IngestSettings) -> str:
    """What decides an episode's content: the recording, the robot, and how it is read."""
    reading = settings.model_dump(
        mode="json", include={"latency_ms", "gap", "max_gap_s", "codec", "quality"}
    )
    text = json.dumps([source_sha256, asdict(robot), reading], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _uid(job: str) -> str:
    return hashlib.sha256(job.encode()).hexdigest()[:16]


def _why_invalid(report: SyncReport) -> str:
    """Which required streams were missing in how many of the ticks."""
    if not report.ticks:
        return "The required streams do not overlap in time."
    parts = [
        f"{name}: " + ", ".join(f"{reason} in {n}" for reason, n in stream.invalid.items() if n)
        for name, stream in report.streams.items()
        if stream.required and any(stream.invalid.values())
    ]
    if not parts:
        return "It is too short."
    return ". ".join((f"Of {report.ticks} ticks, {'; '.join(parts)}", *report.notes[:3])) + "."
