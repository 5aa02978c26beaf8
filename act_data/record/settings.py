"""What a person decides about a recording session, and the account that comes back."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field, field_validator

from act_data.fitting import AUTO
from act_data.ingest import IngestReport
from act_data.records import Annotation, Record, SyncReport
from act_data.segments import Split, split_of


class Stop(StrEnum):
    """Why an episode ended."""

    OPERATOR = "operator"  # a key, or Ctrl-C
    TOPIC = "topic"  # a pedal, a button, a call of a service
    MAX_TIMESTEPS = "max_timesteps"
    SOURCE_ENDED = "source_ended"  # a replay is over
    FAILED = "failed"  # the disk is full, or a message could not be read


class Verdict(StrEnum):
    """What became of an episode."""

    SAVED = "saved"
    DISCARDED = "discarded"
    REDONE = "redone"  # discarded, and recorded anew


class RecordSettings(Record):
    """What a person may decide about a recording session.

    Attributes:
        robot: Preset name or YAML file; "auto" is the preset that fits the topics.
        topics: Recorded beside those of the robot.
        episodes: How many to save; without it until the operator or the source ends.
        max_timesteps: Ends an episode when it has so many steps.
        countdown_s: Between the moment when everything is there and the start.
        start_by: Topic that starts an episode, instead of the countdown's end: TOPIC[:BUTTON].
        stop_by: Topic that ends an episode.
        wait_s: How long the robot's topics may be missing before the session fails.
        latency_ms: How long a tick may wait for a late sample.
    """

    robot: str = AUTO
    topics: tuple[str, ...] = ()
    episodes: int | None = Field(None, ge=1)
    max_timesteps: int | None = Field(None, ge=1)
    countdown_s: float = Field(0.0, ge=0, allow_inf_nan=False)
    start_by: str | None = None
    stop_by: str | None = None
    wait_s: float = Field(60.0, ge=0, allow_inf_nan=False)
    latency_ms: float = Field(250.0, ge=0, allow_inf_nan=False)
    task: str | None = None
    operator: str | None = None
    success: bool | None = None
    notes: str | None = None

    @field_validator("start_by", "stop_by")
    @classmethod
    def _is_a_topic(cls, text: str | None) -> str | None:
        if text is not None:
            split_of(f"start:{text}")
        return text

    @property
    def annotation(self) -> Annotation:
        """What is said about every episode."""
        return Annotation(
            task=self.task, operator=self.operator, success=self.success, notes=self.notes
        )

    @property
    def starts(self) -> tuple[Split, ...]:
        """What starts an episode from outside."""
        return (split_of(f"start:{self.start_by}"),) if self.start_by else ()

    @property
    def stops(self) -> tuple[Split, ...]:
        """What ends an episode from outside."""
        return (split_of(f"stop:{self.stop_by}"),) if self.stop_by else ()


class RecordedEpisode(Record):
    """One episode of a session, kept or not.

    Attributes:
        file: Where it lies; "" when it was not kept.
        steps: Rows that it becomes in a dataset, as far as that can be told without decoding.
        messages: By topic.
        lost: Messages that arrived faster than they could be written, by topic.
        sync: The account of its synchronisation; None when a message could not be read.
    """

    file: str
    verdict: Verdict
    stop: Stop
    seconds: float
    steps: int
    bytes: int
    messages: Mapping[str, int]
    lost: Mapping[str, int] = Field(default_factory=dict)
    success: bool | None = None
    sync: SyncReport | None = None
    notes: tuple[str, ...] = ()


class RecordReport(Record):
    """The account of one session.

    Attributes:
        saved: Episodes that were kept.
        error: Why the session ended before its time; "" when it did not.
        hint: The way out.
    """

    robot: str
    backend: str
    folder: str
    task: str = ""
    operator: str = ""
    saved: int
    episodes: tuple[RecordedEpisode, ...]
    seconds: float
    error: str = ""
    hint: str = ""

    @property
    def lossless(self) -> bool:
        """Whether every message of every kept episode that arrived is in its file."""
        return not any(e.lost for e in self.episodes if e.verdict is Verdict.SAVED)


class LiveIngestReport(Record):
    """The account of a session whose episodes went into a dataset while they were recorded.

    Attributes:
        ingest: None when nothing was saved, or the dataset could not be written.
        error: Why it could not; the recordings are complete then.
    """

    record: RecordReport
    ingest: IngestReport | None
    error: str = ""
    hint: str = ""
