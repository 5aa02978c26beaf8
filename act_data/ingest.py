"""Recordings in, a dataset out: the one place where all stages of `act_data` meet.

    recording -> messages -> frames -> timesteps -> episode -> version -> registry

An episode is the atomic unit. It is durable when its last step is written and visible when the
whole run commits; a run that was interrupted is completed by the same command, which recognises
its finished episodes by their uid.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter

from pydantic import Field

from act_data.episodes import Assembler, GapPolicy, schema_of
from act_data.errors import ActError, DataError, InputError
from act_data.fitting import AUTO, named, robot_of
from act_data.interfaces import DatasetReader, DatasetWriter, EpisodeWriter
from act_data.observe import Observation
from act_data.records import (
    Codec,
    EpisodeInfo,
    Record,
    SourceRecord,
    SyncReport,
    VersionRecord,
    reason_name,
)
from act_data.registry import Registry
from act_data.report import masked_steps
from act_data.robot import with_joints
from act_data.sources import Recording, find_recordings, open_recording
from act_data.store import open_dataset, open_writer
from act_data.types import (
    NS_PER_MS,
    NS_PER_S,
    ClockPolicy,
    RawMessage,
    Reason,
    RobotSpec,
    StepType,
    SyncPolicy,
    Timestep,
)

Progress = Callable[[int, int], None]


class IngestSettings(Record):
    """What a person may decide about an ingest; None keeps what the robot's preset says.

    Attributes:
        robot: Preset name or YAML file; "auto" is the preset that fits the first recording best.
        sync: One policy for every stream.
        latency_ms: How long a tick may wait for a late sample (L of the synchronizer).
        gap: What to do at a run of invalid ticks longer than `max_gap_s`.
        codec: How pictures are stored; by default "jpeg" in zarr, and "raw" in HDF5 as ALOHA has
            it. Depth is always lossless.
        shard_frames: Frames per file; changes files, not content.
    """

    robot: str = AUTO
    fps: float | None = Field(None, gt=0, allow_inf_nan=False)
    sync: SyncPolicy | None = None
    clock: ClockPolicy | None = None
    action_shift: int | None = Field(None, ge=0)
    latency_ms: float = Field(250.0, ge=0, allow_inf_nan=False)
    gap: GapPolicy = GapPolicy.MASK
    max_gap_s: float = Field(0.5, ge=0, allow_inf_nan=False)
    codec: Codec | None = None
    quality: int = Field(95, ge=1, le=100)
    shard_frames: int = Field(512, ge=1)
    task: str = ""
    operator: str = ""
    success: bool | None = None
    notes: str = ""


class IngestedEpisode(Record):
    """One episode of an ingest.

    Attributes:
        masked: Steps with at least one invalid required stream.
        found: It was there already, from this or an interrupted run.
    """

    recording: str
    uid: str
    steps: int
    masked: int
    found: bool
    sync: SyncReport | None


class IngestReport(Record):
    """The account of one ingest."""

    dataset: str
    name: str
    robot: str
    version: int
    content_hash: str
    added: int
    episodes: tuple[IngestedEpisode, ...]
    source_bytes: int
    seconds: float


def ingest(
    sources: Sequence[Path],
    out: Path,
    settings: IngestSettings | None = None,
    *,
    progress: Progress = lambda done, total: None,
) -> IngestReport:
    """Turn recordings into synchronised episodes of the dataset at `out`, and register it.

    Args:
        sources: Bags, folders of one recording, or folders of many; one episode each.
        out: "*.zarr" for act-zarr, "*.hdf5" for one ALOHA episode, any other path for a folder
            of ALOHA episodes. An existing dataset of the same schema is continued.
        progress: Called with (steps done, steps expected) of the whole run.

    Raises:
        InputError: A setting or a preset that cannot be.
        NotFoundError: A path that does not exist, or no recording there.
        DataError: A recording that cannot become an episode. Nothing of it remains.
        ConflictError: `out` is something else, or somebody else is writing it.
        StoreError: `out` cannot be written.
    """
    began = perf_counter()
    settings = settings or IngestSettings()
    recordings = find_recordings(sources)
    _check_out(out, recordings)
    robot = configured(robot_of(recordings, settings.robot), settings)
    fresh = not out.exists()
    run = _Run(robot, settings, out, progress)
    kept = False
    try:
        for number, recording in enumerate(recordings):
            try:
                run.ingest(recording, left=len(recordings) - number)
            except DataError as e:
                raise named(e, recording) from e.__cause__
        version = run.commit()
    except ActError as e:
        if new := sum(not done.found for done in run.done):
            e.hint += f" {new} finished episodes are kept: the same command goes on from there."
        raise
    finally:
        kept = run.close()
        if fresh and not kept and out.is_dir():
            shutil.rmtree(out)  # this run made it, and nothing came of it
    reader = open_dataset(out)
    return IngestReport(
        dataset=str(out),
        name=Registry().register(reader),
        robot=robot.name,
        version=version.number,
        content_hash=version.content_hash,
        added=sum(not done.found for done in run.done),
        episodes=tuple(_ingested(done, reader) for done in run.done),
        source_bytes=sum(file.stat().st_size for r in recordings for file in r.files),
        seconds=perf_counter() - began,
    )


def _check_out(out: Path, recordings: Sequence[Recording]) -> None:
    """Refuse a path that cannot hold what is to come, before hours are spent on it.

    Raises:
        InputError: It is no name for a dataset, or names one episode for several.
    """
    try:
        str(out).encode()
    except UnicodeEncodeError as e:
        raise InputError(f"{str(out)!r} is no UTF-8 path: {e}", hint="Pick another name.") from None
    if not out.resolve().name or out.suffix == ".h5":
        raise InputError(
            f"{str(out)!r} is no name for a dataset",
            hint="Write NAME.zarr, NAME.hdf5, or a folder for HDF5 episodes.",
        )
    if out.suffix == ".hdf5" and len(recordings) > 1:
        raise InputError(
            f"{str(out)!r} holds exactly one episode, and there are {len(recordings)} recordings",
            hint="Name a folder (--out without .hdf5) or a *.zarr dataset.",
        )


def _ingested(done: _Done, reader: DatasetReader) -> IngestedEpisode:
    number = next(i for i, entry in enumerate(reader.episodes) if entry.uid == done.uid)
    return IngestedEpisode(
        recording=done.recording,
        uid=done.uid,
        steps=reader.episodes[number].length,
        masked=masked_steps(reader, number),
        found=done.found,
        sync=reader.episode(done.uid).info.sync,
    )


def configured(robot: RobotSpec, settings: IngestSettings) -> RobotSpec:
    """`robot` with what the settings override."""
    streams = robot.streams
    if settings.sync is not None:
        streams = tuple(replace(s, policy=settings.sync) for s in streams)
    shift = settings.action_shift
    return replace(
        robot,
        streams=streams,
        fps=settings.fps or robot.fps,
        clock=settings.clock or robot.clock,
        action_shift=robot.action_shift if shift is None else shift,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """One episode that is durable, new or found."""

    recording: str
    uid: str
    found: bool


class _Run:
    """One ingest on its way: the writer, opened by the first timestep, and what is done."""

    def __init__(
        self, robot: RobotSpec, settings: IngestSettings, out: Path, progress: Progress
    ) -> None:
        self.done: list[_Done] = []
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

    def close(self) -> bool:
        """Let go of the dataset, after an error too. Says whether it holds a finished episode."""
        kept = self._writer is not None and bool(self._writer.durable)
        self._close.__exit__(*sys.exc_info())
        return kept

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
            self.done.append(_Done(recording=recording.name, uid=uid, found=True))
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
            _Done(recording=episode.recording, uid=episode.uid, found=episode.writer is None)
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
    return f"Of {report.ticks} ticks, {'; '.join(parts)}." if parts else "It is too short."
