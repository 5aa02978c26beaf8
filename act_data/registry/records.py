"""What the registry tells, as records."""

from __future__ import annotations

from act_data.records import Record


class RegisteredVersion(Record):
    """One version of a registered dataset."""

    number: int
    content_hash: str
    episodes: int
    frames: int
    created: str


class RegisteredDataset(Record):
    """One dataset of the registry.

    Attributes:
        path: Where it lay when it was registered last.
        created: When its first registered version was made.
        versions: Ascending.
    """

    name: str
    uid: str
    path: str
    robot: str
    fps: float
    created: str
    versions: tuple[RegisteredVersion, ...]


class RegisteredCheckpoint(Record):
    """One checkpoint, and the version that it was trained on."""

    folder: str
    dataset_uid: str
    version: int
    content_hash: str
    step: int
    created: str


class HoldingDataset(Record):
    """A registered dataset that holds what was asked for."""

    name: str
    uid: str
    path: str


class HeldEpisode(Record):
    """An episode that some version of a registered dataset holds.

    Attributes:
        recording: sha256 of what it was made of; "" where its record cannot be read.
    """

    dataset: HoldingDataset
    uid: str
    hash: str
    recording: str


class LoggedVersion(Record):
    """One version in the log of its dataset.

    Attributes:
        added: Episodes that the version before it did not hold.
        removed: Episodes of the version before it that it does not hold.
        tags: That point at it now.
    """

    number: int
    parent: int | None
    created: str
    message: str
    content_hash: str
    episodes: int
    frames: int
    added: int
    removed: int
    tags: tuple[str, ...]


class DatasetLog(Record):
    """The versions of a dataset, the newest first."""

    name: str
    path: str
    versions: tuple[LoggedVersion, ...]


class Tag(Record):
    """A name that points at a version."""

    name: str
    version: int
    content_hash: str


class TagMove(Record):
    """One line of the log of tags: `before` is None for a new tag, `after` for one taken off.

    Attributes:
        who: User and machine.
        moved: UTC, to the second.
    """

    tag: str
    before: int | None
    after: int | None
    who: str
    moved: str


class DatasetTags(Record):
    """The tags of a dataset by name, and how they came to be, the newest move first."""

    name: str
    tags: tuple[Tag, ...]
    log: tuple[TagMove, ...]


class FoundEpisode(Record):
    """One episode that a search found, as the version that was searched has it.

    Attributes:
        ref: "pour@v3#12": the 12th of version 3, from 0.
        length: In steps.
        seconds: Steps over the rate of the dataset.
        source: Name of its recording.
        recorded: Day of its first tick, UTC; None where nobody knows.
        valid_share: Of the ticks of its recording, 0 to 1.
        skew_p95_ms: Of the required stream with the largest.
    """

    ref: str
    uid: str
    length: int
    seconds: float
    split: str
    task: str
    operator: str
    success: bool | None
    notes: str
    source: str
    recorded: str | None
    valid_share: float | None
    skew_p95_ms: float | None


class FoundDataset(Record):
    """One dataset in which a search found episodes.

    Attributes:
        ref: "pour@v3": the version that was searched.
    """

    ref: str
    episodes: int
    steps: int


class FacetValue(Record):
    """One value, and how many of the matching episodes have it."""

    value: str
    episodes: int


class Facet(Record):
    """What the matching episodes are, by one property; the most frequent value first.

    An episode counts once for every camera of its dataset. `month` is that of its recording,
    `valid_share` a lower bound.
    """

    name: str
    values: tuple[FacetValue, ...]


class SearchResult(Record):
    """What a search found.

    Attributes:
        matched: Episodes in all, of which `episodes` lists the first by dataset and place.
        steps: Of all of them.
        datasets: All that have a match, the one with most of them first.
        facets: Only where they were asked for.
    """

    text: str
    where: str
    matched: int
    steps: int
    datasets: tuple[FoundDataset, ...]
    episodes: tuple[FoundEpisode, ...]
    facets: tuple[Facet, ...] = ()
