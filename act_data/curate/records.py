"""What the verbs of curation answer: what changed, what would, and where things came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from act_data.records import Annotation, Record, SplitRule, VersionOrigin

# --- what differs -------------------------------------------------------------------------------


class VersionName(Record):
    """One version of one dataset."""

    dataset: str
    path: str
    uid: str
    version: int
    content_hash: str
    episodes: int
    steps: int


class EpisodeName(Record):
    """One episode, as people find it again.

    Attributes:
        recording: Name of its source; "" when its record is gone with a dropped version.
        start_ns: Its first tick; 0 where nobody knows.
    """

    uid: str
    hash: str
    steps: int
    recording: str = ""
    start_ns: int = 0
    end_ns: int = 0


class Reingested(Record):
    """The same part of the same recording, ingested again in another way.

    Attributes:
        changed: What its record says differently, in sentences.
    """

    before: EpisodeName
    after: EpisodeName
    changed: tuple[str, ...]


class SplitMove(Record):
    """An episode that is on the other side now."""

    uid: str
    before: Literal["train", "val"]
    after: Literal["train", "val"]


class Reannotated(Record):
    """An episode of which people say something else now; only what differs is not None or ""."""

    uid: str
    before: Annotation
    after: Annotation


class StatMove(Record):
    """The statistics of one dimension that moved.

    Attributes:
        mean_by: How far the mean moved, in standard deviations of the version before.
        std_ratio: The standard deviation after over that before; None where that was 0.
    """

    array: str
    dimension: str
    mean_before: float
    mean_after: float
    std_before: float
    std_after: float
    mean_by: float | None
    std_ratio: float | None


class Difference(Record):
    """What lies between two versions, `before` and `after`.

    Attributes:
        same_content: Their content hashes are equal.
        reordered: The episodes that both have stand in another order.
        schema_changes: One phrase per entry.
        stats: Dimensions that moved further than the threshold, the furthest first.
        notes: What could not be compared, and why.
    """

    before: VersionName
    after: VersionName
    same_content: bool
    added: tuple[EpisodeName, ...] = ()
    removed: tuple[EpisodeName, ...] = ()
    reingested: tuple[Reingested, ...] = ()
    moved: tuple[SplitMove, ...] = ()
    annotated: tuple[Reannotated, ...] = ()
    reordered: bool = False
    schema_changes: tuple[str, ...] = ()
    stats: tuple[StatMove, ...] = ()
    notes: tuple[str, ...] = ()


# --- what was done ------------------------------------------------------------------------------


class CurationReport(Record):
    """A new version of a dataset, or with `dry_run` what it would be.

    Attributes:
        name: In the registry.
        changed: False when the newest version says all this already: nothing was written.
        split_rule: For episodes to come, where it is not the default one.
        stats_kept: The statistics of the version before hold for this one, and were kept.
    """

    verb: str
    name: str
    dry_run: bool
    changed: bool
    message: str
    difference: Difference
    split_rule: SplitRule | None = None
    stats_kept: bool = False


class CopyReport(Record):
    """A new dataset out of episodes of others, or with `dry_run` what it would be.

    Attributes:
        duplicates: Episodes that came more than once, and are in it once.
        bytes: Of its shards.
        linked_bytes: Of those, what is shared with the datasets they came from.
    """

    verb: str
    out: str
    name: str
    dry_run: bool
    content_hash: str
    episodes: int
    steps: int
    made_from: tuple[VersionOrigin, ...]
    duplicates: tuple[str, ...] = ()
    bytes: int
    linked_bytes: int
    message: str


class GarbageReport(Record):
    """What belonged to no version that is kept.

    Attributes:
        versions: Dropped now: they can no longer be opened.
        protected: Versions that were to be dropped and are kept, and why.
        spared: Things that no version names, but younger than the grace time.
    """

    dataset: str
    dry_run: bool
    versions: tuple[int, ...]
    protected: Mapping[int, str]
    episodes: tuple[str, ...]
    files: int
    beside: tuple[str, ...]
    bytes: int
    spared: int
    grace_hours: float


# --- where things came from ---------------------------------------------------------------------

NodeKind = Literal["recording", "episode", "version", "stats", "checkpoint", "rollout"]


class LineageNode(Record):
    """One thing in the history of a policy.

    Attributes:
        id: Unique in the answer: "recording:<sha256>", "episode:<dataset uid>/<uid>",
            "version:<dataset uid>@<n>", "stats:...", "checkpoint:<folder>".
        label: For people.
        facts: What else is known: paths, spans, topics, splits, hashes.
    """

    id: str
    kind: NodeKind
    label: str
    facts: Mapping[str, str | int | float | bool | tuple[str, ...] | None]


class LineageEdge(Record):
    """`to` was made of `of`.

    Attributes:
        how: "ingested", "split train", "split val", "next version", "copied", "computed",
            "trained", "co-trained", "rolled out".
    """

    of: str
    to: str
    how: str


class Lineage(Record):
    """Everything that `asked` was made of, and everything that was made of it.

    Attributes:
        asked: The nodes that were asked for.
        notes: What is not known, and why.
    """

    asked: tuple[str, ...]
    nodes: tuple[LineageNode, ...]
    edges: tuple[LineageEdge, ...]
    notes: tuple[str, ...] = ()
