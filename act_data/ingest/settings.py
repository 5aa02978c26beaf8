"""What a person decides about an ingest, and the account that comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from act_data.episodes import GapPolicy
from act_data.fitting import AUTO
from act_data.records import (
    Annotation,
    Codec,
    FileRecovery,
    Record,
    SegmentRecord,
    SyncReport,
)
from act_data.segments import Split, split_of
from act_data.sources import Reading, given_types
from act_data.types import (
    ClockPolicy,
    RobotSpec,
    SyncPolicy,
)


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
        split_by: What begins and ends the segments of a recording (`act_data.segments.split`).
        segments: A file that lists the segments of the recordings; instead of `split_by`.
        max_timesteps: The longest episode; what goes on begins the next one.
        trim_idle: Leave out what lies before the first and after the last movement of a segment.
        idle_threshold: How far an action moves, in its own unit, that moves.
        task: As operator, success and notes: wins over what files say.
        jobs: Processes.
        keep_going: A recording that cannot be ingested does not stop the others.
        msg_path: Files and folders with the definitions of types that a recording does not define.
        typestore: ROS version whose standard types a recording without definitions means.
        recover: Read what can be read of recordings in whatever state.
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
    split_by: tuple[str, ...] = ()
    segments: Path | None = None
    max_timesteps: int | None = Field(None, ge=1)
    trim_idle: bool = False
    idle_threshold: float = Field(0.01, gt=0, allow_inf_nan=False)
    msg_path: tuple[Path, ...] = ()
    typestore: str | None = None
    recover: bool = False
    task: str | None = None
    operator: str | None = None
    success: bool | None = None
    notes: str | None = None
    jobs: int = Field(1, ge=1)
    keep_going: bool = False

    @field_validator("split_by")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            split_of(text)
        return value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.split_by and self.segments is not None:
            raise ValueError(
                "--split-by and --segments both say where episodes begin and end: use one"
            )
        return self

    @property
    def splits(self) -> tuple[Split, ...]:
        """`split_by`, read."""
        return tuple(split_of(text) for text in self.split_by)

    @property
    def reading(self) -> Reading:
        """How the recordings are read.

        Raises:
            NotFoundError, InputError: As `given_types`.
        """
        types = given_types(self.msg_path, self.typestore)
        return Reading(types=types, recover=self.recover)

    @property
    def annotation(self) -> Annotation:
        """What is said about every episode."""
        return Annotation(
            task=self.task, operator=self.operator, success=self.success, notes=self.notes
        )


class IngestedEpisode(Record):
    """One episode of an ingest.

    Attributes:
        masked: Steps with at least one invalid required stream.
        found: It was there already, from this or an interrupted run.
        segment: Which part of its recording it is; None where an older ingest did not say.
    """

    recording: str
    uid: str
    segment: SegmentRecord | None = None
    steps: int
    masked: int
    found: bool
    sync: SyncReport | None


class FailedRecording(Record):
    """A recording of which nothing is in the dataset, and why."""

    recording: str
    files: tuple[str, ...]
    error: str
    hint: str = ""


class IngestReport(Record):
    """The account of one ingest.

    Attributes:
        failed: Recordings that could not be ingested, with `keep_going`.
        notes: Segments without a usable step, and recordings that no segment is about.
        recovered: What was read of each file, with `recover`.
    """

    dataset: str
    name: str
    robot: str
    version: int
    content_hash: str
    added: int
    episodes: tuple[IngestedEpisode, ...]
    failed: tuple[FailedRecording, ...] = ()
    notes: tuple[str, ...] = ()
    recovered: tuple[FileRecovery, ...] = ()
    source_bytes: int
    seconds: float


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
