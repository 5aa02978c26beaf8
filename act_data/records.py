"""The nouns that are written to a file or read from one, as checked models.

Their JSON Schemas are generated into `schemas/` and a test holds the two in step. Every record is
frozen and refuses unknown keys; a field that is added later needs a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from act_data.types import ClockPolicy, Reason, Role, SyncPolicy

FORMAT_NAME = "act-zarr"
FORMAT_VERSION = 1

Codec = Literal["none", "jpeg", "zstd", "blosc", "raw"]
Split = Literal["train", "val"]

# The sync arrays that every dataset carries beside those of its robot.
TIMESTAMP = "timestamp"  # (N,) int64 ns, time of the tick
SYNC_SKEW = "sync_skew"  # (N, K) int64 ns, sample stamp minus tick
SYNC_REASON = "sync_reason"  # (N, K) uint8, Reason
SYNC_INDEX = "sync_index"  # (N, K) int64, sample number in its stream


class Record(BaseModel):
    """Base of everything that is written to a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- what a dataset holds ---------------------------------------------------------------------


class StoredPicture(Record):
    """How pictures lay in a dataset."""

    height: int
    width: int
    codec: Codec
    quality: int = 95


class Feature(Record):
    """One array of a dataset.

    Attributes:
        name: "qpos", "action", "images/cam_high", "depth/cam_high", "timestamp", ...
        shape: Of one step, without time.
        codec: How it is stored: "none" for low-dimensional arrays (uncompressed).
        quality: JPEG quality, for "jpeg".
        columns: Sync columns (names) on whose validity a row of this array depends.
        original: How pictures lay in the dataset that they were copied from, when they do not lie
            so here. A policy on a robot must see what they went through.
    """

    name: str
    role: Role
    dtype: Literal["float32", "uint8", "uint16", "int64"]
    shape: tuple[int, ...]
    unit: str = ""
    names: tuple[str, ...] = ()
    codec: Codec = "none"
    quality: int = 95
    columns: tuple[str, ...] = ()
    original: StoredPicture | None = None


class SyncColumn(Record):
    """One column of the sync arrays: a stream in the role in which it is used.

    Attributes:
        name: The stream's name; with ":action" appended when the stream serves both roles.
    """

    name: str
    stream: str
    role: Role


class StreamSync(Record):
    """How one stream was picked: part of what a policy was trained to expect."""

    policy: SyncPolicy
    tolerance_ms: float
    required: bool = True


class DatasetSchema(Record):
    """What every episode of a dataset has in common.

    Attributes:
        robot: Preset name.
        action_shift: `action[t]` is the command at tick `t + action_shift`.
        latency_ms: How long a tick could wait for a late sample.
        stamps: "nominal": no stamp was recorded, row i is at i / fps after the episode's begin.
        simulated: Recorded in a simulator: the `sim` attribute of ALOHA files.
        features: All arrays, the four sync arrays included.
        columns: The K sync columns, in order.
        streams: By stream name.
        color_order: Always "rgb" in this format.
    """

    robot: str
    fps: float
    action_shift: int = 0
    clock: ClockPolicy = ClockPolicy.AUTO
    latency_ms: float = 250.0
    features: tuple[Feature, ...]
    columns: tuple[SyncColumn, ...] = ()
    streams: Mapping[str, StreamSync] = Field(default_factory=dict)
    color_order: Literal["rgb"] = "rgb"
    stamps: Literal["recorded", "nominal"] = "recorded"
    simulated: bool = False

    def feature(self, name: str) -> Feature:
        """The array called `name`; KeyError when there is none."""
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(name)

    def named(self, role: Role) -> tuple[Feature, ...]:
        """The arrays of `role`, in declaration order."""
        return tuple(f for f in self.features if f.role is role)


# --- the account of a synchronisation ---------------------------------------------------------


class StreamReport(Record):
    """What one stream delivered and what became of it. received = used + unused + late + duplicate.

    Attributes:
        used: Samples that serve at least one tick.
        unused: Samples that arrived in order but that no tick picked.
        late: Samples that arrived after their tick had left.
        duplicate: Samples with the stamp of an earlier one.
        reused_ticks: Ticks that took the same sample as the tick before.
        estimated_drops: Sum over periods of round(period / median period) - 1.
        seq_gaps: Numbers missing in header.seq; None when the stream has none.
        latency_*: Receive time minus header stamp; None without headers.
        drift_ppm: Slope of (receive - stamp) over time; None without headers.
        skew_*: Over valid picks: signed median, and percentiles of the absolute value.
        invalid: Ticks without a valid pick, by reason name in lower case.
    """

    topic: str = ""
    policy: SyncPolicy
    tolerance_ms: float
    required: bool
    clock: Literal["header", "receive"]
    received: int
    used: int
    unused: int
    late: int
    duplicate: int
    reused_ticks: int = 0
    rate_hz: float | None = None
    period_p50_ms: float | None = None
    period_p99_ms: float | None = None
    period_max_ms: float | None = None
    estimated_drops: int = 0
    seq_gaps: int | None = None
    zero_stamps: int = 0
    backward_stamps: int = 0
    latency_p01_ms: float | None = None
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    drift_ppm: float | None = None
    skew_p50_ms: float | None = None
    skew_abs_p95_ms: float | None = None
    skew_abs_p99_ms: float | None = None
    skew_abs_max_ms: float | None = None
    invalid: Mapping[str, int] = Field(default_factory=dict)


class SyncReport(Record):
    """The account of one recording.

    Attributes:
        clock: The clock that was used after `auto` was decided.
        camera_spread_*: Largest minus smallest stamp of the cameras of a valid tick.
        longest_invalid_run: In ticks.
        notes: Sentences for people: clock jumps, dead topics, mixed clock domains.
    """

    fps: float
    clock: ClockPolicy
    ticks: int
    valid: int
    longest_invalid_run: int = 0
    camera_spread_p50_ms: float | None = None
    camera_spread_p99_ms: float | None = None
    streams: Mapping[str, StreamReport] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


# --- the account of a recovery ----------------------------------------------------------------


class Gap(Record):
    """A stretch of a damaged file that gave nothing.

    Attributes:
        bytes: As many as lie between what could be read before and after; of what is missing at
            the end, as many as the file promises.
    """

    offset: int
    bytes: int
    what: str


class TopicRecovery(Record):
    """What was read of one topic.

    Attributes:
        lost: Messages that the remains promise (an index, the entries behind a chunk) beyond those
            that were read.
    """

    type: str
    messages: int
    lost: int = 0


class FileRecovery(Record):
    """What was read of one storage file, and what is known to be lost.

    Attributes:
        whole: Nothing is missing: the recorder finished the file, and every message that it
            promises was read. What a killed recorder had not written yet nobody can know.
        topics: By name.
        nameless: Messages that are there, of topics whose names are lost.
        unattributed: Messages that are known to be lost, nobody knows of which topic.
        gaps: In the order of the file; at most a thousand.
        more_gaps: How many there are beyond those.
        notes: Sentences for people.
    """

    file: str
    kind: Literal["ros1", "db3", "mcap"]
    bytes: int
    whole: bool
    topics: Mapping[str, TopicRecovery] = Field(default_factory=dict)
    nameless: int = 0
    unattributed: int = 0
    gaps: tuple[Gap, ...] = ()
    more_gaps: int = 0
    notes: tuple[str, ...] = ()

    @property
    def messages(self) -> int:
        """Messages that were read, of all topics."""
        return sum(topic.messages for topic in self.topics.values())

    @property
    def lost(self) -> int:
        """Messages that are known to be lost."""
        lost = sum(topic.lost for topic in self.topics.values())
        return lost + self.nameless + self.unattributed

    @property
    def summary(self) -> str:
        """What became of the file, in a sentence."""
        if self.whole:
            return f"{self.file} is whole: {self.messages} messages"
        gaps = len(self.gaps) + self.more_gaps
        parts = (
            f"{self.messages} messages were read",
            f"{self.lost} are known to be lost" if self.lost else "",
            f"{gaps} stretches gave nothing" if gaps else "",
            *self.notes,
        )
        return f"{self.file} is damaged: {'; '.join(part for part in parts if part)}"


class RecoveredFile(Record):
    """A storage file, and the complete one that was written of it."""

    recovery: FileRecovery
    out: str
    bytes: int


class UnreadableFile(Record):
    """A file of which nothing can be read, and why."""

    file: str
    error: str
    hint: str


class RecoveryReport(Record):
    """The account of `act-data recover`."""

    files: tuple[RecoveredFile, ...]
    unreadable: tuple[UnreadableFile, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing was lost."""
        return not self.unreadable and all(file.recovery.whole for file in self.files)


# --- episodes and versions --------------------------------------------------------------------


class SourceRecord(Record):
    """Where an episode came from.

    Attributes:
        sha256: Over the bytes of all its files, in order; of an episode of another dataset of
            this toolkit ("act_zarr", "act_hdf5") its content hash.
        topics: The topics that were read.
        types: sha256 of the definitions that were given to decode them otherwise than by what the
            recording says; "" for none.
    """

    name: str
    kind: Literal[
        "ros1", "db3", "mcap", "memory", "policy",
        "act_zarr", "act_hdf5", "aloha_hdf5", "lerobot", "replay_buffer", "robomimic",
    ]  # fmt: skip
    sha256: str
    files: tuple[str, ...] = ()
    start_ns: int = 0
    end_ns: int = 0
    topics: tuple[str, ...] = ()
    types: str = ""


class Annotation(Record):
    """What a person says about episodes; None is not said."""

    task: str | None = None
    operator: str | None = None
    success: bool | None = None
    notes: str | None = None

    def over(self, other: Annotation) -> Annotation:
        """Both, where this one has the last word."""
        return other.model_copy(update=self.model_dump(exclude_none=True))


class SegmentRecord(Record):
    """Which part of its recording an episode is.

    Attributes:
        number: Of the episodes of its recording, or of its key, from 0.
        key: Identity of a segment that was asked for by its times: "start-stop" in receive ns.
        start_ns: Its first tick, as `timestamp` has it.
        end_ns: Its last tick.
        last: No episode of the same recording, or of the same key, follows.
    """

    number: int
    key: str = ""
    start_ns: int
    end_ns: int
    last: bool


class PictureOrigin(Record):
    """What the pictures of one array went through before and while they were stored here.

    Attributes:
        encoding: How the file that they came from kept them: "raw", "png", "jpeg", "av1", ...
        generations: Lossy encodings that are known of, the one in this dataset included. What a
            camera or an earlier program did is not in the file.
    """

    encoding: str
    generations: int


class ImportRecord(Record):
    """How an episode came out of a file of another format, or of another dataset.

    Attributes:
        variant: What kind of file it was, in the format's own words.
        pictures: By array name.
        notes: Sentences for people: what was changed or could not be told.
        origin: What the episode of the other dataset said about its own source.
    """

    variant: str = ""
    pictures: Mapping[str, PictureOrigin] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    origin: SourceRecord | None = None


class EpisodeInfo(Record):
    """What is known about an episode when its last step was recorded."""

    source: SourceRecord
    segment: SegmentRecord | None = None
    task: str = ""
    operator: str = ""
    success: bool | None = None
    notes: str = ""
    sync: SyncReport | None = None
    imported: ImportRecord | None = None


class FileDigest(Record):
    """Size and sha256 of one file of an episode."""

    bytes: int
    sha256: str


class EpisodeRecord(Record):
    """One episode on disk. Written once, never changed.

    Attributes:
        uid: sha256 of (source digest, segment, configuration), shortened: the same job gives the
            same uid, so a re-run finds what is already there.
        start: First row of the episode in the concatenated arrays.
        length: T, rows of the episode.
        hash: sha256 over the content, independent of shards and files.
        files: Manifest by key relative to the dataset: a deleted or swapped file is an error.
    """

    uid: str
    start: int
    length: int
    hash: str
    files: Mapping[str, FileDigest]
    info: EpisodeInfo
    created: str


class EpisodeEntry(Record):
    """One line of a version: an episode and the split it belongs to."""

    uid: str
    start: int
    length: int
    hash: str
    split: Split


class SplitRule(Record):
    """How new episodes are divided: held out where the bucket of their content is below the share.

    Attributes:
        val_share: 0 to 1.
        seed: Another one deals the buckets anew.
    """

    val_share: float = Field(0.1, ge=0, le=1, allow_inf_nan=False)
    seed: int = 0


class VersionOrigin(Record):
    """A version of another dataset whose episodes were copied, byte for byte, to make one."""

    name: str
    path: str
    uid: str
    version: int
    content_hash: str


class VersionRecord(Record):
    """One immutable state of a dataset.

    Attributes:
        number: From 1.
        parent: The version before, None for the first.
        content_hash: sha256 over schema, ordered episode hashes, splits, and the annotations if
            there are any; independent of where the data came from, when, and how it is sharded.
        annotations: What people said about episodes after they were ingested, by uid. Whole: each
            takes the place of what the episode's own record says; there `success` may be None.
        split_rule: For episodes to come; None is the default one.
        made_from: Where its episodes were copied from, in the version that brought them.
    """

    number: int
    parent: int | None
    created: str
    message: str = ""
    episodes: tuple[EpisodeEntry, ...]
    content_hash: str
    annotations: Mapping[str, Annotation] = Field(default_factory=dict)
    split_rule: SplitRule | None = None
    made_from: tuple[VersionOrigin, ...] = ()


class PartOf(Record):
    """The version that a dataset is a part of: some of its episodes, or not all of its cameras.

    Attributes:
        dataset: Its name where it was taken from.
        uid: Of the whole dataset.
        without: Arrays that were left out.
        of_episodes: Episodes that the whole version has.
    """

    dataset: str
    uid: str
    version: int
    content_hash: str
    without: tuple[str, ...] = ()
    of_episodes: int


class DatasetFacts(Record):
    """What people say about a dataset, and what it was taken from. Kept with a version.

    Attributes:
        licence: An SPDX identifier ("CC-BY-4.0"), or the address of a text; "" is not said.
        cite: How to cite it, free text or BibTeX.
        part_of: None for a dataset that is whole.
    """

    description: str = ""
    licence: str = ""
    cite: str = ""
    part_of: PartOf | None = None


# --- findings ---------------------------------------------------------------------------------

Depth = Literal["quick", "hash", "deep"]


class Problem(Record):
    """One thing that is wrong with a dataset.

    Attributes:
        what: A sentence for people; it names the rest.
        array: The array it concerns; "" when it is no array's.
        episode: uid of the episode it concerns; "" when it is no episode's.
        rows: The rows of the episode that cannot be relied on, half-open; None when not known.
    """

    what: str
    array: str = ""
    episode: str = ""
    rows: tuple[int, int] | None = None

    def __str__(self) -> str:
        return self.what


# --- statistics -------------------------------------------------------------------------------


class FeatureStats(Record):
    """Statistics of one array, one number per dimension (per channel for images).

    Attributes:
        count: Finite values that each dimension was computed from.
        std: Population standard deviation (ddof 0), no floor applied.
        nan: Values that were NaN or infinite and are in no other number here.
        constant: Indices of dimensions whose minimum equals their maximum.
        masked: Rows left out because a stream that they depend on was not valid there.
    """

    count: tuple[int, ...]
    mean: tuple[float | None, ...]
    std: tuple[float | None, ...]
    min: tuple[float | None, ...]
    max: tuple[float | None, ...]
    q01: tuple[float | None, ...]
    q10: tuple[float | None, ...]
    q50: tuple[float | None, ...]
    q90: tuple[float | None, ...]
    q99: tuple[float | None, ...]
    nan: tuple[int, ...]
    constant: tuple[int, ...] = ()
    masked: int = 0
    names: tuple[str, ...] = ()
    unit: str = ""


class StatsRecord(Record):
    """Statistics of one split of one version.

    Attributes:
        dataset: Name or path the numbers were computed from, for people.
        content_hash: Of the version: what the numbers belong to.
        ddof: 0, and said so.
    """

    format: Literal["act-stats"] = "act-stats"
    format_version: int = 1
    dataset: str
    version: int
    content_hash: str
    split: Literal["train", "val", "all"]
    episodes: int
    steps: int
    ddof: Literal[0] = 0
    features: Mapping[str, FeatureStats]


def reason_name(reason: int) -> str:
    """The lower-case name of a stored `sync_reason`, as reports use it."""
    return Reason(reason).name.lower()
