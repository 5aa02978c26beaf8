"""What a person decides about an ingest, and the account that comes back."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from act_data.episodes import GapPolicy
from act_data.fitting import AUTO
from act_data.records import (
    Annotation,
    Codec,
    Record,
    SyncReport,
)
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
    task: str | None = None
    operator: str | None = None
    success: bool | None = None
    notes: str | None = None

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
