"""The documents of a remote, and what a transfer reports, as checked models.

They are shaped as those of an OCI registry: a ref names a manifest, a manifest names blobs by their
sha256 and size. Whatever is read from a remote is not trusted, so nothing here is coerced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from act_data.records import Record

VERSION_TYPE: Final = "application/vnd.act-toolkit.version.v1+json"
EPISODE_TYPE: Final = "application/vnd.act-toolkit.episode.v1+json"
DOCUMENT_TYPE: Final = "application/vnd.act-toolkit.document.v1+json"
SHARD_TYPE: Final = "application/vnd.act-toolkit.shard.v1"

PART_BYTES = 8 * 2**20  # a blob: what travels again, at most, after a connection was cut
MAX_PART_BYTES = 64 * 2**20  # what a reader takes into memory at once
MAX_MOVES = 2000  # of one tag

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

_MOMENT = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$"

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$", strict=True)]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", strict=True)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=1000, strict=True)]
Name = Annotated[str, StringConstraints(pattern=rf"^{NAME.pattern}$", strict=True)]
Size = Annotated[int, Field(ge=0, le=1 << 50, strict=True)]
Number = Annotated[int, Field(ge=1, le=10**9, strict=True)]


class PartNotes(Record):
    """Which file of a dataset a blob belongs to; consecutive layers of one file are its parts."""

    title: Key = Field(alias="org.opencontainers.image.title")


class Layer(Record):
    """One blob, by content."""

    mediaType: Literal[  # noqa: N815  # the word of OCI
        "application/vnd.act-toolkit.document.v1+json", "application/vnd.act-toolkit.shard.v1"
    ]
    digest: Digest
    size: Annotated[int, Field(ge=0, le=MAX_PART_BYTES, strict=True)]
    annotations: PartNotes

    @property
    def title(self) -> str:
        """The key of its file in the dataset."""
        return self.annotations.title


class EpisodeNotes(Record):
    """What is known of an episode without its manifest.

    Attributes:
        record: Of its record in the dataset: the same record has the same files.
    """

    uid: Name
    record: Digest


class EpisodeManifest(Record):
    """One episode: `layers` are its record, then its shards in parts."""

    schemaVersion: Literal[2] = 2  # noqa: N815
    mediaType: Literal["application/vnd.act-toolkit.episode.v1+json"] = EPISODE_TYPE  # noqa: N815
    layers: tuple[Layer, ...]


class EpisodeLink(Record):
    """The manifest of one episode."""

    mediaType: Literal["application/vnd.act-toolkit.episode.v1+json"] = EPISODE_TYPE  # noqa: N815
    digest: Digest
    size: Size
    annotations: EpisodeNotes


class VersionManifest(Record):
    """One version of a dataset.

    Attributes:
        layers: The root of the dataset as it is at this version ("zarr.json"), the records of the
            version and of those before it, and what was saved with them.
        manifests: Of its episodes, in order.
    """

    schemaVersion: Literal[2] = 2  # noqa: N815
    mediaType: Literal["application/vnd.act-toolkit.version.v1+json"] = VERSION_TYPE  # noqa: N815
    layers: tuple[Layer, ...]
    manifests: tuple[EpisodeLink, ...]


class Reference(Record):
    """What a name on a remote stands for: "v3", "latest", or (with its moves) a tag."""

    format: Literal["act-ref"] = "act-ref"
    format_version: Literal[1] = 1
    dataset: Name
    uid: Annotated[str, StringConstraints(min_length=1, max_length=200, strict=True)]
    version: Number
    content_hash: Hash
    digest: Digest
    size: Size


class Move(Record):
    """One line of the log of a tag: `before` is None for a new tag, `after` for one taken off."""

    before: Number | None
    after: Number | None
    who: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]{0,300}$", strict=True)]
    moved: Annotated[str, StringConstraints(pattern=_MOMENT, strict=True)]


class TagReference(Reference):
    """What a tag stands for, and how it came to that.

    Attributes:
        moves: All of them, the oldest first. After the last one was taking it off, the tag stands
            for nothing, and the rest says what it stood for before.
    """

    moves: Annotated[tuple[Move, ...], Field(min_length=1, max_length=MAX_MOVES)]

    @property
    def taken_off(self) -> bool:
        """Whether it stands for nothing any more."""
        return self.moves[-1].after is None


# --- reports ----------------------------------------------------------------------------------


class TagConflict(Record):
    """A tag that was moved here and there since both sides agreed; it was left alone on both.

    Attributes:
        here: The version that it stands for; None where it was taken off. `there` too.
        who: Moved it there, at `moved`.
    """

    tag: str
    here: int | None
    there: int | None
    who: str
    moved: str


class PushReport(Record):
    """What `act-data push` did, or would do.

    Attributes:
        remote: Without what is secret in its address.
        versions: That the remote now holds of those that were asked for.
        left_out: Older versions whose files are not all here, and why.
        tags: That were moved there, as they had been here.
        bytes: Of all files.
        sent_bytes: Of those that were not there.
        present_blobs: That were there already.
    """

    remote: str
    dataset: str
    uid: str
    version: int
    content_hash: str
    manifest: str
    versions: tuple[int, ...]
    left_out: Mapping[int, str] = Field(default_factory=dict)
    tags: tuple[str, ...] = ()
    tag_conflicts: tuple[TagConflict, ...] = ()
    episodes: int
    bytes: int
    sent_bytes: int
    sent_blobs: int
    present_blobs: int
    dry_run: bool = False


class Replayed(Record):
    """One version of one's own, done again on top of the remote's newest one.

    Attributes:
        before: The number that it had.
        after: The number that it has now; None where nothing of it was left to do.
    """

    before: int
    after: int | None
    message: str
    episodes: int


class PullReport(Record):
    """What `act-data pull` or `clone` did, or would do.

    Attributes:
        name: Under which it is registered; "" in a dry run, and where the registry knows other
            content under its identity.
        uid: Of the dataset here; a part has another than the whole.
        version: Of the dataset on the remote.
        content_hash: Of the dataset here.
        tags: That were moved here, as they had been on the remote.
        rebased: What was put on top of the remote's version with `--rebase`.
        notes: What else a rebase has to say.
        part: Whether some episodes or cameras were left behind.
        bytes: Of all files that were asked for.
        fetched_bytes: Of those that had to travel.
    """

    remote: str
    dataset: str
    path: str
    name: str
    uid: str
    version: int
    content_hash: str
    versions: tuple[int, ...]
    tags: tuple[str, ...] = ()
    tag_conflicts: tuple[TagConflict, ...] = ()
    rebased: tuple[Replayed, ...] = ()
    notes: tuple[str, ...] = ()
    part: bool = False
    episodes: int
    bytes: int
    fetched_bytes: int
    fetched_blobs: int
    dry_run: bool = False
