"""One ingest on its way: from recordings to finished episodes, one after the other."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from act_data.episodes import GapPolicy, schema_of
from act_data.ingest.episodes import Done, Episodes, uid_of
from act_data.ingest.settings import IngestSettings
from act_data.interfaces import DatasetWriter, EpisodeWriter
from act_data.observe import Observation
from act_data.records import Annotation, DatasetSchema, EpisodeInfo, SourceRecord, VersionRecord
from act_data.robot import with_joints
from act_data.segments import Segments
from act_data.sources import Recording, open_recording
from act_data.store import open_writer
from act_data.types import NS_PER_MS, NS_PER_S, RobotSpec, Timestep

Progress = Callable[[int, int], None]


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
            before = self._steps
            expected = before + left * max(1, round(seconds * self._robot.fps))
            episodes = Episodes(
                view,
                self._settings,
                Segments(),
                job=job,
                write=lambda uid, first: self._write(uid, first, view),
                describe=lambda annotation: _info(origin, self._settings, annotation),
            )
            try:
                for frame in view.frames():
                    episodes.add(frame)
                    if before + episodes.steps > self._steps:
                        self._steps = before + episodes.steps
                        self._progress(self._steps, max(expected, self._steps))
                self.done += episodes.finish()
            except BaseException:
                self.done += episodes.done
                episodes.discard()
                raise

    def commit(self) -> VersionRecord:
        """Make everything that is done visible."""
        assert self._writer is not None  # every recording either has a step or raised
        return self._writer.commit([done.uid for done in self.done])

    def close(self) -> None:
        """Let go of the dataset, after an error too."""
        self._close.__exit__(*sys.exc_info())

    def _found(self, recording: Recording, job: str) -> bool:
        """Whether an earlier run has finished this recording; then it is noted as done.

        A recording that may be cut has an unknown number of episodes: it is read again, and
        only the episodes that are missing are written.
        """
        uid = uid_of(job, "", 0)
        if self._writer is None or self._settings.gap is GapPolicy.CUT:
            return False
        if uid in self._writer.durable:
            self.done.append(Done(recording=recording.name, uid=uid, found=True))
            return True
        return False

    def _write(self, uid: str, first: Timestep, view: Observation) -> EpisodeWriter | None:
        if self._writer is None:
            self._robot = with_joints(self._robot, view.joints())
            schema = dataset_schema(self._robot, first, view, self._settings, self._out)
            self._writer = self._close.enter_context(
                open_writer(self._out, schema, shard_frames=self._settings.shard_frames)
            )
        return None if uid in self._writer.durable else self._writer.episode(uid)


def dataset_schema(
    robot: RobotSpec, first: Timestep, view: Observation, settings: IngestSettings, out: Path
) -> DatasetSchema:
    """The schema of the dataset at `out` that `first` of `view` opens."""
    zarr = out.suffix == ".zarr"
    return schema_of(
        robot,
        first,
        view.observer.columns,
        codec=settings.codec or ("jpeg" if zarr else "raw"),
        depth_codec="blosc" if zarr else "raw",
        quality=settings.quality,
    ).model_copy(update={"latency_ms": settings.latency_ms})


def _info(origin: SourceRecord, settings: IngestSettings, annotation: Annotation) -> EpisodeInfo:
    said = settings.annotation.over(annotation)
    return EpisodeInfo(source=origin, **said.model_dump(exclude_none=True))


def _digest(source_sha256: str, robot: RobotSpec, settings: IngestSettings) -> str:
    """What decides an episode's content: the recording, the robot, and how it is read."""
    reading = settings.model_dump(
        mode="json", include={"latency_ms", "gap", "max_gap_s", "codec", "quality"}
    )
    text = json.dumps([source_sha256, asdict(robot), reading], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
