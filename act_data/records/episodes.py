"""An episode: where it came from, and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from act_data.records.base import Record
from act_data.records.sync import SyncReport


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
