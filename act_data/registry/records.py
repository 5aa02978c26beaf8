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
