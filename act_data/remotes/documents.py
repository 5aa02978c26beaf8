"""Documents of a remote, read without trust: small enough, what their digest says, and consistent.

Nothing that a remote says becomes a path. The keys of a version's files follow from its schema and
its episodes; what a manifest lists is only compared with them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from act_data.errors import ActError, NotFoundError, StoreError
from act_data.records import (
    DatasetFacts,
    EpisodeEntry,
    EpisodeRecord,
    Feature,
    FileDigest,
    Record,
    StatsRecord,
    VersionRecord,
)
from act_data.remotes.address import (
    LATEST,
    Address,
    blob_key,
    is_portable,
    is_tag,
    manifest_key,
    ref_key,
)
from act_data.remotes.records import (
    NAME,
    EpisodeLink,
    EpisodeManifest,
    Layer,
    Reference,
    TagReference,
    VersionManifest,
)
from act_data.remotes.remote import Remote
from act_data.store import layout
from act_data.store.hashing import content_hash
from act_data.store.zarr_records import DOCUMENT_BYTES, MAX_ROWS, RootRecord, check_record

R = TypeVar("R", bound=Record)
REF_BYTES = 1 << 16
TAG_BYTES = 1 << 20  # with its log
_SHA256 = re.compile(r"[0-9a-f]{64}")

Fetch = Callable[[str, str, int], bytes]
"""Gives the file at a key of the remote, whose content has this digest and size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file of a dataset, and the blobs that it is made of, in order."""

    key: str
    digest: FileDigest
    parts: tuple[Layer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteVersion:
    """One version as a remote has it, checked.

    Attributes:
        versions: Its record and those of the versions before it, by number.
        documents: The documents of the dataset that are taken over as they are, by key.
    """

    reference: Reference
    root: RootRecord
    versions: Mapping[int, VersionRecord]
    documents: Mapping[str, bytes]
    links: Mapping[str, EpisodeLink]

    @property
    def record(self) -> VersionRecord:
        """The version itself."""
        return self.versions[self.reference.version]


# --- refs -------------------------------------------------------------------------------------


def read_reference(remote: Remote, name: str, tag: str) -> tuple[Reference | None, bytes | None]:
    """What `tag` of the dataset `name` stands for, and the bytes that say so.

    Raises:
        StoreError: It is damaged, or of another dataset.
    """
    key = ref_key(name, tag)
    data = remote.read(key, TAG_BYTES if is_tag(tag) else REF_BYTES)
    if data is None:
        return None, None
    where = f"'{remote.name}/{key}'"
    reference = parse(TagReference if is_tag(tag) else Reference, data, where)
    if isinstance(reference, TagReference) and reference.moves[-1].after not in (
        None,
        reference.version,
    ):
        raise StoreError(f"{where} stands for another version than its last move names")
    if reference.dataset != name:
        raise StoreError(f"{where} is of the dataset {reference.dataset!r}, not of {name!r}")
    if not is_tag(tag) and tag not in (LATEST, f"v{reference.version}"):
        raise StoreError(f"{where} stands for version {reference.version}")
    return reference, data


def asked_reference(remote: Remote, address: Address) -> Reference:
    """What `address` stands for.

    Raises:
        NotFoundError: The remote has no such dataset, version or tag; names those it has.
        StoreError: It is damaged.
    """
    reference = _standing(remote, address.name, address.tag)
    if reference is not None:
        return reference
    there = tags_of(remote, address.name)
    if not there:
        raise NotFoundError(
            f"{remote.name!r} holds no dataset {address.name!r}",
            hint="Check the address, or push one there: act-data push DATASET REMOTE.",
        )
    raise NotFoundError(
        f"dataset {address.name!r} at {remote.name!r} has no version or tag {address.tag!r}",
        hint=f"It has {', '.join(t for t in there[:20] if _standing(remote, address.name, t))}.",
    )


def _standing(remote: Remote, name: str, tag: str) -> Reference | None:
    reference, _ = read_reference(remote, name, tag)
    off = isinstance(reference, TagReference) and reference.taken_off
    return None if off else reference


def tags_of(remote: Remote, name: str) -> list[str]:
    """Versions and tags that the remote holds of the dataset `name`."""
    found = [n.removesuffix(".json") for n in remote.sizes(f"refs/{name}") if n.endswith(".json")]
    return sorted(tag for tag in found if NAME.fullmatch(tag) and is_portable(tag))


def first_other(
    mine: Callable[[int], VersionRecord], theirs: Mapping[int, VersionRecord], until: int
) -> int | None:
    """The first of the versions 1 to `until` that two histories do not share; None when they do."""
    for number in range(1, until + 1):
        one, two = mine(number), theirs[number]
        if (one.content_hash, one.episodes) != (two.content_hash, two.episodes):
            return number
    return None


# --- versions ---------------------------------------------------------------------------------


def read_version(remote: Remote, reference: Reference, fetch: Fetch) -> RemoteVersion:
    """The version that `reference` stands for.

    Raises:
        StoreError: Something is missing, damaged, or does not belong together.
    """
    where = f"'{remote.name}/{manifest_key(reference.digest)}'"
    refuse_large(where, reference.size, DOCUMENT_BYTES)
    data = fetch(manifest_key(reference.digest), reference.digest, reference.size)
    manifest = parse(VersionManifest, data, where)
    files = grouped(manifest.layers, where)
    number = reference.version
    refuse_large(where, sum(p.size for parts in files.values() for p in parts), 2 * DOCUMENT_BYTES)

    def read(key: str) -> bytes:
        if key not in files:
            raise StoreError(f"{where} is damaged: it does not list {key!r}")
        return b"".join(fetch(blob_key(p.digest), p.digest, p.size) for p in files[key])

    root = _root(read("zarr.json"), where)
    if root.dataset_uid != reference.uid:
        raise StoreError(
            f"{where} is of the dataset with uid {root.dataset_uid!r}, the ref that leads to it of "
            f"{reference.uid!r}"
        )
    if number > len(manifest.layers):
        raise StoreError(f"{where} is damaged: it does not list {number} versions")
    wanted = {layout.version_key(n) for n in range(1, number + 1)}
    said = {layout.stats_key(number)} | {layout.facts_key(n) for n in range(1, number + 1)}
    _refuse_others(where, files.keys() - wanted - said - {"zarr.json"})
    documents = {key: read(key) for key in sorted(wanted | (said & files.keys()))}
    versions = {n: _version(documents, n, root, where) for n in range(1, number + 1)}
    _statements(documents, versions[number], where)
    record = versions[number]
    if record.content_hash != reference.content_hash or root.head.version != number:
        raise StoreError(f"{where} is not the version {number} that the ref names")
    links = {link.annotations.uid: link for link in manifest.manifests}
    if [e.uid for e in record.episodes] != [m.annotations.uid for m in manifest.manifests]:
        raise StoreError(f"{where} does not list the episodes of version {number}")
    _refuse_colliding(where, links)
    return RemoteVersion(
        reference=reference, root=root, versions=versions, documents=documents, links=links
    )


def read_episode(
    remote: Remote,
    version: RemoteVersion,
    entry: EpisodeEntry,
    fetch: Fetch,
) -> tuple[EpisodeRecord, bytes, list[RemoteFile]]:
    """One episode of `version`: its record, the document that holds it, and its shards.

    Raises:
        StoreError: Something is missing, damaged, or does not belong together.
    """
    link = version.links[entry.uid]
    where = f"'{remote.name}/{manifest_key(link.digest)}'"
    refuse_large(where, link.size, DOCUMENT_BYTES)
    data = fetch(manifest_key(link.digest), link.digest, link.size)
    files = grouped(parse(EpisodeManifest, data, where).layers, where)
    key = layout.episode_key(entry.uid)
    if key not in files:
        raise StoreError(f"{where} is not the manifest of episode {entry.uid!r}")
    refuse_large(where, sum(p.size for p in files[key]), DOCUMENT_BYTES)
    document = b"".join(fetch(blob_key(p.digest), p.digest, p.size) for p in files.pop(key))
    record = _payload(EpisodeRecord, document, "act_episode", where)
    if EpisodeEntry(**_place(record), split=entry.split) != entry:
        raise StoreError(f"{where} is not the episode {entry.uid!r} that the version names")
    # Counted before they are made: a forged length must not decide how much memory is taken.
    span = layout.shards_of(record.start, record.length, version.root.shard_frames)
    if len(span) * len(version.root.dataset_schema.features) != len(files):
        raise StoreError(f"{where} does not list the files of an episode of {record.length} rows")
    wanted = {layout.chunk_key(f, n) for f in version.root.dataset_schema.features for n in span}
    _refuse_others(where, files.keys() ^ wanted)
    _refuse_others(where, record.files.keys() ^ wanted)
    return record, document, [_file(record, key, files[key], where) for key in record.files]


def grouped(layers: Sequence[Layer], where: str) -> dict[str, tuple[Layer, ...]]:
    """The parts of every file, by its key.

    Raises:
        StoreError: The parts of a file do not follow each other.
    """
    files: dict[str, list[Layer]] = {}
    last = ""
    for layer in layers:
        if layer.title != last and layer.title in files:
            raise StoreError(f"{where} is damaged: it lists {layer.title!r} twice")
        files.setdefault(layer.title, []).append(layer)
        last = layer.title
    return {key: tuple(parts) for key, parts in files.items()}


def files_of(record: EpisodeRecord, features: Iterable[Feature], shard_frames: int) -> list[str]:
    """Keys of the files that hold `features` of an episode."""
    span = layout.shards_of(record.start, record.length, shard_frames)
    return [layout.chunk_key(feature, n) for feature in features for n in span]


# --- the door ---------------------------------------------------------------------------------


def parse(kind: type[R], data: bytes, where: str) -> R:
    """The document in `data`.

    Raises:
        StoreError: It is no JSON, says a thing twice, or is not of this kind; names the place.
    """
    try:
        value = json.loads(data, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as e:
        raise StoreError(f"{where} is damaged: {str(e)[:200]}") from e
    try:
        return kind.model_validate(value)
    except ValidationError as e:
        first = e.errors()[0]
        place = ".".join(str(part) for part in first["loc"])[:200]
        raise StoreError(
            f"{where} is damaged or made by a newer version: {place}: {first['msg']}",
            hint="Push it again from where it is sound, or update the toolkit.",
        ) from e


def checked(data: bytes | None, digest: str, size: int, where: str) -> bytes:
    """`data`, if it is what was promised.

    Raises:
        StoreError: It is missing, or has another size or sha256.
    """
    if data is None:
        raise StoreError(f"{where} is missing", hint="Push the dataset again: it fills the gap.")
    if len(data) != size:
        raise StoreError(f"{where} has {len(data)} bytes, not the {size} that are promised")
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise StoreError(f"{where} is damaged: it does not have the sha256 of its name")
    return data


def refuse_large(where: str, size: int, limit: int) -> None:
    """Refuse to fetch `size` bytes of documents where `limit` is enough for any."""
    if size > limit:
        raise StoreError(f"{where} promises {size} bytes, more than {limit}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _payload(kind: type[R], document: bytes, name: str, where: str) -> R:
    """The record in one of our zarr documents, which must be byte for byte what we would write."""
    value = layout.payload(layout.parse(document, where), name, where)
    if layout.render(layout.group(**{name: value})) != document:
        raise StoreError(
            f"{where} is damaged: its document {name!r} is not as this store writes it"
        )
    return check_record(kind, value, where)


def _root(document: bytes, where: str) -> RootRecord:
    root = _payload(RootRecord, document, "act", where)
    if root.format_version != 1 or root.format != "act-zarr":
        raise StoreError(
            f"{where} holds the format {root.format!r} version {root.format_version}",
            hint="Update the toolkit.",
        )
    try:
        layout.check_schema(root.dataset_schema)
    except ActError as e:
        raise StoreError(f"{where} is damaged: {e}") from e
    if root.rows > MAX_ROWS or not root.name.isprintable() or not root.dataset_uid.isprintable():
        raise StoreError(f"{where} is damaged: {root.name[:100]!r} with {root.rows} rows")
    names = [f.name for f in root.dataset_schema.features]
    _refuse_colliding(where, {part for name in names for part in _folders(name)})
    return root


def _folders(name: str) -> set[str]:
    parts = name.split("/")
    return {"/".join(parts[: n + 1]) for n in range(len(parts))}


def _version(
    documents: Mapping[str, bytes], number: int, root: RootRecord, where: str
) -> VersionRecord:
    record = _payload(VersionRecord, documents[layout.version_key(number)], "act_version", where)
    if record.number != number or (record.parent or 0) >= number:
        raise StoreError(
            f"{where}: the record of version {number} is of {record.number}, after {record.parent}"
        )
    for entry in record.episodes:
        ends = layout.shards_of(entry.start, max(entry.length, 1), root.shard_frames).stop
        if entry.start < 0 or entry.length < 1 or entry.start % root.shard_frames:
            raise StoreError(f"{where}: an episode of {entry.length} rows from row {entry.start}")
        if ends > root.next_shard:
            raise StoreError(f"{where}: episode {entry.uid!r} lies behind the end of the arrays")
    found = content_hash(root.dataset_schema, record.episodes, record.annotations)
    if found != record.content_hash:
        raise StoreError(f"{where}: version {number} does not have the content hash that it names")
    if len({e.uid for e in record.episodes}) != len(record.episodes):
        raise StoreError(f"{where}: version {number} names an episode twice")
    return record


def _statements(documents: Mapping[str, bytes], record: VersionRecord, where: str) -> None:
    for key, document in documents.items():
        if key.endswith("/facts/zarr.json"):
            _payload(DatasetFacts, document, "act_facts", where)
        if key.endswith("/stats/zarr.json"):
            stats = _payload(StatsRecord, document, "act_stats", where)
            if stats.content_hash != record.content_hash:
                raise StoreError(f"{where}: its statistics belong to other content")


def _file(record: EpisodeRecord, key: str, parts: tuple[Layer, ...], where: str) -> RemoteFile:
    digest = record.files[key]
    if digest.bytes < 0 or not _SHA256.fullmatch(digest.sha256):
        raise StoreError(f"{where}: {key!r} cannot have {digest.bytes} bytes and that sha256")
    if len(parts) == 1 and parts[0].digest != f"sha256:{digest.sha256}":
        raise StoreError(f"{where}: {key!r} is not the file that the record names")
    if sum(p.size for p in parts) != digest.bytes:
        raise StoreError(f"{where}: the parts of {key!r} do not have its {digest.bytes} bytes")
    return RemoteFile(key=key, digest=digest, parts=parts)


def _place(record: EpisodeRecord) -> dict[str, Any]:
    return record.model_dump(include={"uid", "start", "length", "hash"})


def _refuse_others(where: str, keys: Iterable[str]) -> None:
    others = sorted(keys)
    if others:
        raise StoreError(f"{where} lists, or lacks, {others[0][:200]!r} against its dataset")


def _refuse_colliding(where: str, names: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in sorted(names):
        if not all(is_portable(part) for part in name.split("/")):
            raise StoreError(f"{where}: {name!r} is no file name on every system")
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise StoreError(f"{where}: {name!r} and {other!r} are one file on some disks")
