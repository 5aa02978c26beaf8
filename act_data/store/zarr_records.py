"""The records of an act-zarr dataset, read from its zarr documents and checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from pydantic import ConfigDict, Field, ValidationError

from act_data.errors import StoreError
from act_data.records import (
    FORMAT_NAME,
    FORMAT_VERSION,
    DatasetFacts,
    DatasetSchema,
    EpisodeRecord,
    Feature,
    Record,
    StatsRecord,
    VersionRecord,
)
from act_data.store import layout
from act_data.store.files import exists, names_in, read_whole

R = TypeVar("R", bound=Record)

DOCUMENT_BYTES = 1 << 28  # a version of a million episodes
MAX_ROWS = 1 << 48
MAX_SHARD_FRAMES = 1 << 20


class Head(Record):
    """The newest version; 0 when there is none yet."""

    version: int = Field(ge=0)


class RootRecord(Record):
    """What `zarr.json` of the dataset says in attributes.act: the only thing that ever changes.

    Attributes:
        shard_frames: Steps per shard, for every array.
        next_shard: Shards before this one belong to finished episodes.
        dropped: Versions whose episodes may be gone; their records stay.
    """

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)

    format: str = FORMAT_NAME
    format_version: int = FORMAT_VERSION
    dataset_uid: str
    name: str
    created_by: str
    dataset_schema: DatasetSchema = Field(alias="schema")
    shard_frames: int = Field(ge=1, le=MAX_SHARD_FRAMES)
    next_shard: int = Field(ge=0)
    head: Head
    dropped: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of the concatenated arrays."""
        return self.next_shard * self.shard_frames

    @property
    def kept(self) -> tuple[int, ...]:
        """The versions that can be read."""
        return tuple(n for n in range(1, self.head.version + 1) if n not in set(self.dropped))


def dump(record: Record) -> Any:
    """`record` as JSON values."""
    return record.model_dump(mode="json", by_alias=True)


def read_document(root: str, key: str) -> layout.Document:
    """The zarr document `key` of the dataset in the real folder `root`.

    Raises:
        StoreError: It is missing or damaged.
    """
    where = f"{root}/{key}"
    try:
        data = read_whole(root, key, DOCUMENT_BYTES)
    except FileNotFoundError as e:
        raise StoreError(f"{where!r} is missing") from e
    except OSError as e:
        raise StoreError(f"{where!r} cannot be read: {e.strerror}") from e
    return layout.parse(data, repr(where))


def read_root(root: str) -> RootRecord:
    """The root record.

    Raises:
        StoreError: Not an act-zarr dataset, damaged, or of a newer format.
    """
    where = repr(f"{root}/zarr.json")
    document = read_document(root, "zarr.json")
    _refuse_newer(root, document)
    value = layout.payload(document, "act", where)
    if not isinstance(value, dict) or value.get("format") != FORMAT_NAME:
        raise StoreError(f"{where} is not of an {FORMAT_NAME} dataset")
    number = value.get("format_version")
    if not isinstance(number, int):
        raise StoreError(f"{where} is damaged: its format version is {number!r}")
    record = check_record(RootRecord, value, where)
    try:
        layout.check_schema(record.dataset_schema)
    except ValueError as e:  # InputError: forged or damaged here, not the caller's mistake
        raise StoreError(f"{where} is damaged: {e}") from e
    return record


def _refuse_newer(root: str, document: layout.Document) -> None:
    """Looked at before the digest: nobody knows how a newer format will compute one."""
    attributes = document.get("attributes")
    value = attributes.get("act") if isinstance(attributes, dict) else None
    number = value.get("format_version") if isinstance(value, dict) else None
    if isinstance(number, int) and number > FORMAT_VERSION:
        raise StoreError(
            f"{root!r} was made by a newer version of this toolkit: format version {number!r}, "
            f"this one reads up to {FORMAT_VERSION}",
            hint="Update the toolkit.",
        )


def read_version(root: str, number: int, shard_frames: int) -> VersionRecord:
    """Version `number`; StoreError when it is missing, damaged or impossible."""
    key = layout.version_key(number)
    record = _read(VersionRecord, root, key, "act_version")
    if record.number != number:
        raise StoreError(f"{key!r} in {root!r} is the record of version {record.number}")
    for entry in record.episodes:
        _check_place(entry.start, entry.length, shard_frames, f"{key!r} in {root!r}")
    return record


def read_episode(root: str, uid: str, shard_frames: int) -> EpisodeRecord:
    """The record of episode `uid`; StoreError when it is missing, damaged or impossible."""
    key = layout.episode_key(uid)
    record = _read(EpisodeRecord, root, key, "act_episode")
    if record.uid != uid:
        raise StoreError(f"{key!r} in {root!r} is the record of episode {record.uid!r}")
    _check_place(record.start, record.length, shard_frames, f"{key!r} in {root!r}")
    return record


def read_stats(root: str, number: int) -> StatsRecord | None:
    """The statistics saved with version `number`, if any."""
    key = layout.stats_key(number)
    if not exists(root, key):
        return None
    return _read(StatsRecord, root, key, "act_stats")


def read_facts(root: str, number: int) -> DatasetFacts:
    """What people said of version `number`; StoreError when it is missing or damaged."""
    return _read(DatasetFacts, root, layout.facts_key(number), "act_facts")


def foreign_array(root: str, spec: Feature, shard_frames: int) -> layout.Document | None:
    """The document of `spec` when its codecs are not ours; None when they are.

    Raises:
        StoreError: It is missing, damaged, or of another array.
    """
    key = layout.array_key(spec)
    where = repr(f"{root}/{key}")
    document = read_document(root, key)
    wanted = layout.array(spec, shard_frames, 0)
    for entry in ("data_type", "chunk_grid", "chunk_key_encoding"):
        if document.get(entry) != wanted[entry]:
            raise StoreError(
                f"{where} is damaged: its {entry} is {document.get(entry)!r}, not {wanted[entry]!r}"
            )
    shape: Any = document.get("shape")
    if not isinstance(shape, list) or shape[1:] != wanted["shape"][1:]:
        raise StoreError(f"{where} is damaged: its shape is {shape!r}")
    return None if document.get("codecs") == wanted["codecs"] else document


def read_versions(root: str) -> list[VersionRecord]:
    """All versions from the first to the newest, dropped ones too: what they were stays known."""
    record = read_root(root)
    numbers = range(1, record.head.version + 1)
    return [read_version(root, number, record.shard_frames) for number in numbers]


def episode_uids(root: str) -> list[str]:
    """The episodes that have a record, committed or not, in the order of their names."""
    return [u for u in names_in(root, "episodes") if exists(root, layout.episode_key(u))]


def meta_chunks(values: Sequence[int]) -> list[bytes]:
    """The chunk files of a meta array with these values, padded with zeros."""
    count = -(-len(values) // layout.META_CHUNK)
    padded = np.zeros(count * layout.META_CHUNK, dtype="<i8")
    padded[: len(values)] = values
    return [row.tobytes() for row in padded.reshape(count, layout.META_CHUNK)]


def _read(kind: type[R], root: str, key: str, name: str) -> R:
    where = repr(f"{root}/{key}")
    return check_record(kind, layout.payload(read_document(root, key), name, where), where)


def check_record(kind: type[R], value: Any, where: str) -> R:
    """`value` as a record of this `kind`; StoreError names `where` when it is none."""
    try:
        return kind.model_validate(value)
    except ValidationError as e:
        first = e.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StoreError(
            f"{where} is damaged or made by a newer version: {place}: {first['msg']}"
        ) from e


def _check_place(start: int, length: int, shard_frames: int, where: str) -> None:
    if start < 0 or length < 1 or start % shard_frames or start + length > MAX_ROWS:
        raise StoreError(f"{where} is damaged: an episode of {length} rows from row {start}")
