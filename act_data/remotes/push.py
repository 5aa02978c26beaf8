"""A dataset to a remote: blobs, then the manifests that name them, then the refs that name those.

In that order, so that whoever reads a remote at any moment finds everything that a ref leads to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from act_data.check import open_ref
from act_data.errors import ConflictError, InputError, StoreError
from act_data.records import FileDigest, Record, VersionRecord
from act_data.registry import Registry
from act_data.remotes.address import LATEST, check_name, manifest_key, ref_key
from act_data.remotes.blobs import Blobs
from act_data.remotes.documents import (
    RemoteVersion,
    checked,
    first_other,
    parse,
    read_reference,
    read_version,
)
from act_data.remotes.opening import open_remote
from act_data.remotes.records import (
    DOCUMENT_TYPE,
    PART_BYTES,
    SHARD_TYPE,
    EpisodeLink,
    EpisodeManifest,
    EpisodeNotes,
    Layer,
    PushReport,
    Reference,
    VersionManifest,
)
from act_data.remotes.remote import Remote
from act_data.remotes.tags import Log, logs_here, push_tags
from act_data.remotes.threads import WORKERS, Advance, Progress, Stopped, each
from act_data.store import Url, layout, location
from act_data.store.files import OpenFile, exists, read_whole, real_root
from act_data.store.zarr_reader import ZarrReader
from act_data.store.zarr_records import (
    DOCUMENT_BYTES,
    Head,
    RootRecord,
    dump,
    read_episode,
    read_root,
)
from act_data.store.zarr_records import read_version as read_local_version

_ATTEMPTS = 5


def push(
    ref: str,
    remote: str,
    *,
    name: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    workers: int = WORKERS,
    part_bytes: int = PART_BYTES,
) -> PushReport:
    """Make a remote hold a version of a dataset; only what it lacks travels.

    A dataset that is named without a version is pushed with its history: every older version whose
    files are all here. The tags of those versions go with them, with their logs; one that was moved
    on both sides is told of and left alone. After an interruption the same call goes on where it
    stopped.

    Args:
        ref: A path, a name, or name@version.
        remote: A folder, an s3:// address or another one that fsspec reaches.
        name: On the remote; the name here by default.
        workers: Transfers at once; each holds a part in memory.
        part_bytes: Larger files travel in parts of this size.

    Raises:
        InputError: It is no act-zarr dataset on a disk, or the name cannot be one.
        ConflictError: The remote has other versions: somebody else was first; or the name is that
            of another dataset.
        StoreError: A file here is not what was committed, or the remote cannot be written.
    """
    resolved = Registry().resolve(ref)
    reader = open_ref(ref)
    if not isinstance(reader, ZarrReader) or isinstance(reader.path, Url):
        raise InputError(
            f"{str(reader.path)!r} cannot be pushed",
            hint="An act-zarr dataset on a disk can: make one with `act-data convert`.",
        )
    name = name or resolved.name
    check_name(name, repr(name), "the name of a dataset on a remote")
    _, at, version = ref.rpartition("@")
    alone = bool(at) and version != LATEST and not location(ref).exists()
    numbers = [resolved.version] if alone else list(range(1, resolved.version + 1))
    logs = logs_here(reader.path)
    if alone:
        logs = {tag: log for tag, log in logs.items() if log[-1].after in numbers}
    for tag in logs:
        check_name(tag, f"the tag {tag!r}", "the name of a tag on a remote")
    sender = _Push(_Local(reader), open_remote(remote), name, numbers, logs, dry_run, part_bytes)
    return sender.push(progress, workers)


@dataclass(frozen=True, slots=True)
class _File:
    """A shard that is to be on the remote."""

    uid: str
    key: str
    digest: FileDigest


class _Local:
    """The dataset here."""

    def __init__(self, reader: ZarrReader) -> None:
        self.root = real_root(reader.path)
        self.record = read_root(self.root)
        self.reader = reader

    def version(self, number: int) -> VersionRecord:
        return read_local_version(self.root, number, self.record.shard_frames)

    def root_at(self, versions: Mapping[int, VersionRecord], number: int) -> RootRecord:
        """The root record as it is when `number` is the newest version."""
        frames = self.record.shard_frames
        ends = [
            layout.shards_of(e.start, e.length, frames).stop
            for n in range(1, number + 1)
            for e in versions[n].episodes
        ]
        update = {"next_shard": max(ends, default=0), "head": Head(version=number)}
        return self.record.model_copy(update=update)

    def lacks(self, uid: str) -> str:
        """A file of an episode that is not here as it was committed; "" when all are."""
        if not exists(self.root, layout.episode_key(uid)):
            return layout.episode_key(uid)
        record = read_episode(self.root, uid, self.record.shard_frames)
        for key, digest in record.files.items():
            try:
                if OpenFile(self.root, key).size != digest.bytes:
                    return key
            except FileNotFoundError:
                return key
        return ""


class _Push:
    def __init__(
        self,
        local: _Local,
        remote: Remote,
        name: str,
        numbers: Sequence[int],
        logs: Mapping[str, Log],
        dry_run: bool,
        part_bytes: int,
    ) -> None:
        self._local = local
        self._remote = remote
        self._name = name
        self._numbers = numbers
        self._logs = logs
        self._dry_run = dry_run
        self._part_bytes = part_bytes
        self._blobs = Blobs(remote, dry_run=dry_run)
        self._versions = {n: local.version(n) for n in range(1, numbers[-1] + 1)}

    def push(self, progress: Progress | None, workers: int) -> PushReport:
        theirs = self._theirs()[0]
        numbers, left_out = self._complete()
        uids = {e.uid: None for n in numbers for e in self._versions[n].episodes}
        links, files = self._episodes(list(uids), theirs)
        advance = Advance(sum(f.digest.bytes for f in files), progress)
        parts: dict[str, dict[str, list[tuple[str, int]]]] = {f.uid: {} for f in files}

        def send(file: _File, stopped: Stopped) -> None:
            parts[file.uid][file.key] = self._send(file, advance, stopped)

        each(send, files, workers=workers)
        for uid, of_uid in parts.items():
            links[uid] = self._episode(uid, of_uid)
        references = {n: self._version(n, links) for n in numbers}
        if not self._dry_run:
            self._publish(references)
        newest = references[numbers[-1]]
        agreed = push_tags(self._remote, self._name, self._logs, references, dry_run=self._dry_run)
        return PushReport(
            remote=self._remote.name,
            dataset=self._name,
            uid=newest.uid,
            version=newest.version,
            content_hash=newest.content_hash,
            manifest=newest.digest,
            versions=tuple(numbers),
            left_out=left_out,
            tags=tuple(agreed.logs),
            tag_conflicts=tuple(agreed.conflicts),
            episodes=len(uids),
            bytes=self._blobs.bytes,
            sent_bytes=self._blobs.sent_bytes,
            sent_blobs=self._blobs.sent_blobs,
            present_blobs=self._blobs.present_blobs,
            dry_run=self._dry_run,
        )

    # --- what is there ------------------------------------------------------------------------

    def _theirs(self) -> tuple[RemoteVersion | None, bytes | None]:
        """The newest version that the remote has, and the ref to it.

        Raises:
            ConflictError: It is not of the history of what is to be pushed.
        """
        reference, data = read_reference(self._remote, self._name, LATEST)
        if reference is None:
            return None, None
        where = f"'{self._remote.name}/{self._name}'"
        if reference.uid != self._local.record.dataset_uid:
            raise ConflictError(
                f"{where} is another dataset (uid {reference.uid!r}, this one has "
                f"{self._local.record.dataset_uid!r})",
                hint="Push under another name: --name NAME.",
            )
        theirs = read_version(self._remote, reference, self._fetch)
        until = min(reference.version, self._numbers[-1])
        number = first_other(self._versions.__getitem__, theirs.versions, until)
        if number is not None:
            there, here = theirs.versions[number], self._versions[number]
            raise ConflictError(
                f"{where} has a version {number} that is not yours (content "
                f"{there.content_hash[:12]}, yours {here.content_hash[:12]}): somebody else pushed "
                "first",
                hint="Put yours on top of it, then push again: act-data pull "
                f"{self._remote.name}/{self._name} --out {self._local.reader.path} --rebase",
            )
        return theirs, data

    def _fetch(self, key: str, digest: str, size: int) -> bytes:
        return checked(self._remote.read(key, size), digest, size, f"'{self._remote.name}/{key}'")

    def _complete(self) -> tuple[list[int], dict[int, str]]:
        """Versions whose files are all here, and what is missing of the others.

        Raises:
            StoreError: The newest is not complete.
        """
        uids = {e.uid for n in self._numbers for e in self._versions[n].episodes}
        lacks = {uid: self._local.lacks(uid) for uid in uids}
        lacking = {
            n: next((lacks[e.uid] for e in self._versions[n].episodes if lacks[e.uid]), "")
            for n in self._numbers
        }
        newest = self._numbers[-1]
        if lacking[newest]:
            raise StoreError(
                f"{lacking[newest]!r} of {self._local.root!r} is missing or not as it was "
                "committed",
                hint="See `act-data verify`; nothing was pushed.",
            )
        left_out = {n: f"{key} is missing" for n, key in lacking.items() if key}
        return [n for n in self._numbers if n not in left_out], left_out

    # --- blobs --------------------------------------------------------------------------------

    def _episodes(
        self, uids: Sequence[str], theirs: RemoteVersion | None
    ) -> tuple[dict[str, EpisodeLink], list[_File]]:
        """The manifests that the remote has of them, and the files of which it lacks something."""
        links: dict[str, EpisodeLink] = {}
        files: list[_File] = []
        for uid in uids:
            record = read_episode(self._local.root, uid, self._local.record.shard_frames)
            link = theirs.links.get(uid) if theirs else None
            if link and link.annotations.record == _digest(self._document(layout.episode_key(uid))):
                data = self._fetch(manifest_key(link.digest), link.digest, link.size)
                layers = parse(EpisodeManifest, data, manifest_key(link.digest)).layers
                if all(self._blobs.known(layer.digest, layer.size) for layer in layers):
                    links[uid] = link
                    continue
            files += [_File(uid, key, digest) for key, digest in record.files.items()]
        return links, files

    def _send(self, file: _File, advance: Advance, stopped: Stopped) -> list[tuple[str, int]]:
        """Send what is missing of a shard; gives digest and size of its parts."""
        opened, whole, parts = OpenFile(self._local.root, file.key), hashlib.sha256(), []
        for start in range(0, max(opened.size, 1), self._part_bytes):
            if stopped():
                break
            data = opened.read(start, self._part_bytes)
            whole.update(data)
            digest = _digest(data)
            self._blobs.send(digest, data)
            parts.append((digest, len(data)))
            advance(len(data))
        else:
            if FileDigest(bytes=opened.size, sha256=whole.hexdigest()) != file.digest:
                raise StoreError(
                    f"{file.key!r} of {self._local.root!r} is not what was committed",
                    hint="See `act-data verify`; no version was pushed.",
                )
        return parts

    def _send_document(self, key: str, data: bytes) -> list[Layer]:
        cut = [data[n : n + self._part_bytes] for n in range(0, len(data), self._part_bytes)]
        for part in cut:
            self._blobs.send(_digest(part), part)
        return [_layer(DOCUMENT_TYPE, key, _digest(part), len(part)) for part in cut]

    def _document(self, key: str) -> bytes:
        return read_whole(self._local.root, key, DOCUMENT_BYTES)

    # --- manifests ----------------------------------------------------------------------------

    def _episode(self, uid: str, parts: Mapping[str, Sequence[tuple[str, int]]]) -> EpisodeLink:
        """Write the manifest of an episode whose shards are there."""
        key = layout.episode_key(uid)
        document = self._document(key)
        shards = [_layer(SHARD_TYPE, k, d, size) for k in sorted(parts) for d, size in parts[k]]
        manifest = EpisodeManifest(layers=(*self._send_document(key, document), *shards))
        digest, size = self._blobs.send_manifest(_rendered(manifest))
        return EpisodeLink(
            digest=digest,
            size=size,
            annotations=EpisodeNotes(uid=uid, record=_digest(document)),
        )

    def _version(self, number: int, links: Mapping[str, EpisodeLink]) -> Reference:
        """Write the manifest of a version whose episodes are there."""
        record = self._versions[number]
        root = self._local.root_at(self._versions, number)
        documents = {"zarr.json": layout.render(layout.group(act=dump(root)))}
        keys = [layout.version_key(n) for n in range(1, number + 1)]
        said = [layout.facts_key(n) for n in range(1, number + 1)] + [layout.stats_key(number)]
        keys += [key for key in said if exists(self._local.root, key)]
        documents |= {key: self._document(key) for key in keys}
        layers = [x for key, data in documents.items() for x in self._send_document(key, data)]
        manifest = VersionManifest(
            layers=tuple(layers), manifests=tuple(links[e.uid] for e in record.episodes)
        )
        digest, size = self._blobs.send_manifest(_rendered(manifest))
        return Reference(
            dataset=self._name,
            uid=root.dataset_uid,
            version=number,
            content_hash=record.content_hash,
            digest=digest,
            size=size,
        )

    # --- refs ---------------------------------------------------------------------------------

    def _publish(self, references: Mapping[int, Reference]) -> None:
        """Move "latest" first: of two that push at once, who moves it may name the versions."""
        newest = references[max(references)]
        for _ in range(_ATTEMPTS):
            theirs, data = self._theirs()
            if theirs is not None and theirs.reference.version > newest.version:
                break
            if self._remote.swap(ref_key(self._name, LATEST), data, _rendered(newest)):
                break
        else:
            raise ConflictError(
                f"'{self._remote.name}/{self._name}' changes all the time", hint="Push again."
            )
        for number, reference in references.items():
            self._name_version(f"v{number}", reference)

    def _name_version(self, tag: str, reference: Reference) -> None:
        for _ in range(_ATTEMPTS):
            there, data = read_reference(self._remote, self._name, tag)
            if there == reference:
                return
            if there is not None and (there.uid, there.content_hash) != (
                reference.uid,
                reference.content_hash,
            ):
                raise ConflictError(
                    f"'{self._remote.name}/{ref_key(self._name, tag)}' names other content "
                    f"({there.content_hash[:12]}, yours {reference.content_hash[:12]})",
                    hint="A version never changes; push under another name: --name NAME.",
                )
            if self._remote.swap(ref_key(self._name, tag), data, _rendered(reference)):
                return
        raise ConflictError(
            f"'{self._remote.name}/{ref_key(self._name, tag)}' changes all the time",
            hint="Push again.",
        )


def _layer(kind: str, key: str, digest: str, size: int) -> Layer:
    notes = {"org.opencontainers.image.title": key}
    return Layer.model_validate(
        {"mediaType": kind, "digest": digest, "size": size, "annotations": notes}
    )


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _rendered(record: Record) -> bytes:
    return layout.render(dump(record))
