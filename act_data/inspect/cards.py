"""What a look into recordings found, as it is printed and written as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from pydantic import Field

from act_data.records import FileRecovery, Record


class ClockDomain(StrEnum):
    """How the header stamps of a topic relate to the receive clock."""

    NONE = "no header"
    ZERO = "zero stamps"
    SHARED = "receive clock"  # the same clock: latency is a latency
    OTHER = "another clock"  # at a constant distance: simulated time, or another machine's
    DRIFTING = "drifting"  # the distance changes steadily
    MIXED = "mixed"  # the distance jumps: several clocks in one topic, or one that was set


class PictureCard(Record):
    """What the pictures of a topic are.

    Attributes:
        kind: What they can be read as; None when they cannot be decoded.
        encodings: As the messages name them, the most frequent first.
        sizes: (height, width), the most frequent first.
        padded: Rows are longer than their pixels.
    """

    kind: Literal["image", "depth"] | None
    encodings: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    padded: bool = False


class JointCard(Record):
    """What the joint states of a topic list.

    Attributes:
        names: Joints that every message lists, in the order of the first one.
        sometimes: Joints that only some messages list.
        count: Values per message where messages have no names; 0 where it varies.
        fields: Those of position, velocity and effort that every message fills with numbers.
        not_finite: Messages with NaN or infinity, by field; such a sample is masked at ingest.
    """

    names: tuple[str, ...]
    sometimes: tuple[str, ...] = ()
    count: int = 0
    fields: tuple[str, ...] = ()
    not_finite: Mapping[str, int] = Field(default_factory=dict)


class FieldCard(Record):
    """One field path of a message that holds numbers.

    Attributes:
        width: Numbers.
        moves: Some number of it was ever anything but zero.
        not_finite: Messages with NaN or infinity in it.
    """

    path: str
    width: int
    moves: bool
    not_finite: int = 0


class NumberCard(Record):
    """The numbers of a topic that is neither pictures nor joint states.

    Attributes:
        kind: The stream kind that reads them.
        fields: Those that every message has, at one length.
        left_out: By field path, why it cannot be read.
    """

    kind: str
    fields: tuple[FieldCard, ...]
    left_out: Mapping[str, str] = Field(default_factory=dict)


class TopicCard(Record):
    """One topic of a recording.

    Attributes:
        messages: That were read.
        promised: That the index promises.
        bytes: Of their payloads.
        first_s, last_s: Receive times since the first message of the recording.
        rate_hz: Samples over time. By header stamps where these can be used, as are the periods.
        estimated_drops: Sum over periods of round(period / median period) - 1.
        seq_gaps: Numbers missing in header.seq; None when there is none.
        clock: Of the header stamps.
        clock_behind_s: How far the stamps lie behind the receive clock, for another clock.
        drift_ppm: Slope of (receive - stamp) over time; None without headers.
        latency_*: Receive time minus stamp; for another clock, above its first percentile. None
            where the clock does not tell.
        problem: Why its messages cannot be decoded.
        notes: Silences, jumps, odd stamps, in sentences.
    """

    topic: str
    type: str
    messages: int
    promised: int | None
    bytes: int
    first_s: float | None = None
    last_s: float | None = None
    rate_hz: float | None = None
    period_p50_ms: float | None = None
    period_p99_ms: float | None = None
    period_max_ms: float | None = None
    estimated_drops: int = 0
    seq_gaps: int | None = None
    clock: ClockDomain = ClockDomain.NONE
    clock_behind_s: float | None = None
    drift_ppm: float | None = None
    zero_stamps: int = 0
    backward_stamps: int = 0
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    pictures: PictureCard | None = None
    joints: JointCard | None = None
    numbers: NumberCard | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()


class PresetFit(Record):
    """How a preset fits a recording.

    Attributes:
        reads: Streams that it would read.
        misses: A line for each required stream that it would not find; empty when it fits.
    """

    name: str
    reads: int
    misses: tuple[str, ...]


class RecordingCard(Record):
    """One recording.

    Attributes:
        compression: What its chunks are compressed with, in what was read.
        damage: Why it could not be read to its end; "" for a sound one. The topics are then those
            of what a recovery reads, where it reads anything.
        way_out: What to do about the damage.
        recovery: What a recovery reads of each file of a damaged recording, and what is lost.
        presets: Empty when the topics could not be read.
        notes: What is odd about it as a whole.
    """

    name: str
    kind: Literal["ros1", "db3", "mcap"]
    files: tuple[str, ...]
    bytes: int
    compression: tuple[str, ...] = ()
    start_ns: int = 0
    duration_s: float = 0.0
    topics: tuple[TopicCard, ...] = ()
    presets: tuple[PresetFit, ...] = ()
    damage: str = ""
    way_out: str = ""
    recovery: tuple[FileRecovery, ...] = ()
    notes: tuple[str, ...] = ()


class Proposal(Record):
    """A robot file for a recording.

    Attributes:
        recording: The one whose topics it was made from.
        yaml: The file, with every guess explained; "" when nothing can be proposed.
        why_none: Why nothing can be proposed, by topic.
        others: By recording, what another one lacks of it.
    """

    recording: str
    yaml: str
    why_none: tuple[str, ...] = ()
    others: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)


class Inspection(Record):
    """What is in some recordings.

    Attributes:
        proposal: None when no recording could be read.
        written: The robot file that was written, if any.
    """

    recordings: tuple[RecordingCard, ...]
    proposal: Proposal | None = None
    written: str | None = None
