"""A dataset from a remote: gathered aside, proven, and then there as a whole."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from act_data.errors import ConflictError, InputError, NotFoundError, StoreError
from act_data.records import EpisodeEntry, EpisodeRecord, VersionRecord
from act_data.registry import Registry
from act_data.remotes.address import Address, blob_key, ref_key
from act_data.remotes.documents import (
    RemoteFile,
    RemoteVersion,
    asked_reference,
    checked,
    files_of,
    read_episode,
    read_reference,
    read_version,
    tags_of,
)
from act_data.remotes.here import Here
from act_data.remotes.opening import open_remote
from act_data.remotes.part import Selection, part_documents, part_root, selected
from act_data.remotes.records import PullReport, Reference
from act_data.remotes.staging import Staging
from act_data.remotes.tags import Log, arriving, logs_here, read_tags, take
from act_data.remotes.threads import WORKERS, Advance, Progress, Stopped, each
from act_data.store import Url, layout, open_dataset
from act_data.store.files import sync_folder, writing
from act_data.store.lock import WriterLock
from act_data.store.zarr_folder import ZarrFolder
from act_data.store.zarr_records import Head, RootRecord
from act_data.store.zarr_verify import problems

log = logging.getLogger(__name__)

_NEW = "new"


def pull(
    address: str,
    out: Path | None = None,
    *,
    cameras: Sequence[str] | None = None,
    episodes: Sequence[str] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    workers: int = WORKERS,
) -> PullReport:
    """Bring one version of a dataset here, or bring the one that is here up to it.

    It is there as a whole or not at all; what arrived before an interruption lies in a hidden
    folder beside it, and the same call goes on with that. Older versions are known by their
    records; their own episodes come with `clone`. Tags of the versions that are known then come
    along, with their logs; one that was moved on both sides is told of and stays what it is here.

    Args:
        address: REMOTE/name, REMOTE/name@v3 or REMOTE/name@tag.
        out: *.zarr to write; name.zarr in the current folder by default.
        cameras: Only these; the rest is a dataset of its own that says what it is a part of.
        episodes: Only these: numbers, ranges ("0-9"), or uids.
        workers: Transfers at once; each holds a part in memory.

    Raises:
        InputError: It is no address, or `out` no place for a dataset.
        NotFoundError: The remote has no such dataset, version, camera or episode.
        ConflictError: Something else lies at `out`, or another process is writing it.
        StoreError: What the remote holds is damaged or forged; nothing was changed here.
    """
    asked = Address.parse(address)
    with Pull(asked, out, dry_run=dry_run) as job:
        version = job.version(asked_reference(job.remote, asked))
        selection = selected(version, cameras, episodes)
        return job.bring([version], selection, progress, workers)


def clone(
    address: str,
    out: Path,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
    workers: int = WORKERS,
) -> PullReport:
    """Bring a dataset here with every version that the remote holds. As `pull` otherwise."""
    asked = Address.parse(address)
    with Pull(asked, out, dry_run=dry_run) as job:
        version = job.version(asked_reference(job.remote, asked))
        older = [n for n in range(1, version.reference.version) if f"v{n}" in job.tags]
        versions = [v for n in older if (v := job.older(version, n))] + [version]
        return job.bring(versions, selected(version, None, None), progress, workers)


class Pull:
    """One pull into one place, under the lock of its writer. A context manager.

    Attributes:
        staging: Where what arrives is gathered; None in a dry run.
        tags: Versions and tags that the remote has.
    """

    def __init__(self, asked: Address, out: Path | None, *, dry_run: bool) -> None:
        self.remote = open_remote(asked.remote)
        self._asked = asked
        self._dry_run = dry_run
        self.target = _target(out or Path(f"{asked.name}.zarr"))
        asked_reference(self.remote, asked)  # before anything is made here
        self.tags = tags_of(self.remote, asked.name)
        self._lock: WriterLock | None = None
        self.staging: Staging | None = None
        if not dry_run:
            with writing(self.target.parent, 0):
                self.target.parent.mkdir(parents=True, exist_ok=True)
            self._lock = WriterLock(self.target)
            _put_back(self.target)

    def __enter__(self) -> Pull:
        try:
            if not self._dry_run:
                self.staging = Staging(self.target)
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release(error)

    def release(self, error: BaseException | None = None) -> None:
        """Let others write. What arrived waits for the next call, unless this one was a mistake."""
        if self.staging is not None:
            if isinstance(error, ConflictError | InputError | NotFoundError):
                self.staging.remove()
            self.staging.leave()
        if self._lock is not None:
            self._lock.release()

    # --- reading ------------------------------------------------------------------------------

    def fetch(self, key: str, digest: str, size: int) -> bytes:
        """A document of the remote; what arrived before does not travel again."""
        where = f"'{self.remote.name}/{key}'"
        if self.staging is None:
            return checked(self.remote.read(key, size), digest, size, where)
        return self.staging.document(where, digest, size, lambda: self.remote.read(key, size))

    def version(self, reference: Reference) -> RemoteVersion:
        """The version that `reference` stands for, checked."""
        return read_version(self.remote, reference, self.fetch)

    def older(self, version: RemoteVersion, number: int) -> RemoteVersion | None:
        """Version `number` of the history of `version`, if the remote holds it."""
        reference, _ = read_reference(self.remote, self._asked.name, f"v{number}")
        if reference is None:
            return None
        found = self.version(reference)
        if (
            found.record != version.versions[number]
            or found.root.dataset_uid != version.root.dataset_uid
        ):
            raise StoreError(
                f"'{self.remote.name}/{ref_key(self._asked.name, f'v{number}')}' is not the "
                f"version {number} that the newest one follows"
            )
        return found

    # --- bringing -----------------------------------------------------------------------------

    def bring(
        self,
        versions: Sequence[RemoteVersion],
        selection: Selection,
        progress: Progress | None,
        workers: int,
    ) -> PullReport:
        """Fetch what is not here, and make the last of `versions` the newest one here."""
        newest = versions[-1]
        root = newest.root if selection.whole else part_root(newest, selection, self.target.stem)
        here = Here.at(self.target)
        if here is not None:
            here.refuse_other(root.dataset_uid, newest if selection.whole else None)
        entries = _entries(versions) if selection.whole else selection.entries
        if here is None:
            missing = list(entries)
        else:
            missing = [e for e in entries if selection.whole and not here.has(e)]
        wanted = self.wanted(versions, missing, selection, workers)
        there = read_tags(self.remote, self._asked.name, newest.versions) if selection.whole else {}
        unique = {file.digest.sha256: file for file in wanted.files}
        size = sum(file.digest.bytes for file in unique.values())
        if self.staging is not None:
            if here is not None and missing:
                here.refuse_overlap(wanted.records.values())
            self.gather(wanted, size, progress, workers)
            if here is None:
                self._arrive(versions, selection, root, wanted)
            elif selection.whole:
                self._add(here, versions, wanted)
        return self._report(versions, selection, root.dataset_uid, entries, size, there)

    def wanted(
        self,
        versions: Sequence[RemoteVersion],
        entries: Sequence[EpisodeEntry],
        selection: Selection,
        workers: int,
    ) -> Wanted:
        """What is known of `entries` of `versions`, and the files of them that are selected."""
        wanted = Wanted()
        of = {e.uid: v for v in versions for e in v.record.episodes}
        found: dict[str, tuple[EpisodeRecord, bytes, list[RemoteFile]]] = {}

        def read(entry: EpisodeEntry, _: Stopped) -> None:
            found[entry.uid] = read_episode(self.remote, of[entry.uid], entry, self.fetch)

        each(read, entries, workers=workers)
        frames = versions[-1].root.shard_frames
        owners: dict[str, str] = {}
        for entry in entries:
            record, document, files = found[entry.uid]
            kept = set(files_of(record, selection.schema.features, frames))
            wanted.records[entry.uid] = record
            wanted.documents[layout.episode_key(entry.uid)] = document
            for file in files:
                other = owners.setdefault(file.key, entry.uid)
                if other != entry.uid:
                    raise StoreError(
                        f"'{self.remote.name}/{self._asked.name}': the episodes {other!r} and "
                        f"{entry.uid!r} lie at the same place"
                    )
            wanted.files += [file for file in files if file.key in kept]
        return wanted

    def gather(self, wanted: Wanted, size: int, progress: Progress | None, workers: int) -> None:
        """Make every file lie in the staging folder; `size` bytes in all."""
        staging, files = self.staging, wanted.files
        assert staging is not None
        _refuse_no_room(self.target, size)
        unique = {file.digest.sha256: file for file in files}
        advance = Advance(size, progress)
        staging.reclaim(staging.folder / _NEW, files)

        def read(digest: str, size: int) -> bytes:
            key = blob_key(digest)
            where = f"'{self.remote.name}/{key}'"
            return checked(self.remote.read(key, size), digest, size, where)

        def fetch(file: RemoteFile, stopped: Stopped) -> None:
            staging.file(file, read, advance, stopped)

        each(fetch, list(unique.values()), workers=workers)

    def _arrive(
        self,
        versions: Sequence[RemoteVersion],
        selection: Selection,
        root: RootRecord,
        wanted: Wanted,
    ) -> None:
        """Build the dataset aside, prove it, and rename it into place."""
        assert self.staging is not None
        newest = versions[-1]
        tree = self.staging.folder / _NEW
        folder = ZarrFolder(
            tree, root.model_copy(update={"head": Head(version=0), "next_shard": 0})
        )
        folder.create()
        self.staging.move(wanted.files, tree)
        if selection.whole:
            documents, record = wanted.documents | _documents(versions), newest.record
        else:
            documents, record, root = part_documents(
                str(tree), root, newest, selection, wanted.records
            )
        folder.take_over(documents, record, root)
        folder.clear_scratch()
        found = problems(str(tree), record, "quick")
        if found:
            raise StoreError(f"what {self.remote.name!r} holds is no dataset: {found[0]}")
        with writing(self.target, 0):
            tree.replace(self.target)
            sync_folder(self.target.parent)
        self.staging.remove()

    def _add(self, here: Here, versions: Sequence[RemoteVersion], wanted: Wanted) -> None:
        """Add what is new to the dataset that is here; visible when its root is replaced."""
        assert self.staging is not None
        newest = versions[-1]
        documents = {
            key: data
            for key, data in {**wanted.documents, **_documents(versions)}.items()
            if not (self.target / key).exists()
        }
        if documents or here.newest < newest.reference.version:
            folder = ZarrFolder(self.target, here.record)
            self.staging.move(wanted.files, self.target)
            record, update = newest.record, {"head": Head(version=newest.reference.version)}
            if here.newest >= newest.reference.version:
                record, update = here.version(here.newest), {"head": here.record.head}
            end = max(here.record.next_shard, newest.root.next_shard)
            folder.take_over(
                documents, record, here.record.model_copy(update={**update, "next_shard": end})
            )
            folder.clear_scratch()
        self.staging.remove()

    def _report(
        self,
        versions: Sequence[RemoteVersion],
        selection: Selection,
        uid: str,
        entries: Sequence[EpisodeEntry],
        size: int,
        there: Mapping[str, Log],
    ) -> PullReport:
        newest = versions[-1].reference
        staging, name, record = self.staging, "", None
        if staging is not None:
            self.release()
            record, name = self._registered(not selection.whole)
        agreed = arriving(logs_here(self.target), there)
        if name:
            take(self.target, agreed.logs)
        return PullReport(
            remote=self.remote.name,
            dataset=newest.dataset,
            path=str(self.target),
            name=name,
            uid=uid,
            version=newest.version,
            content_hash=newest.content_hash if record is None else record.content_hash,
            versions=tuple(v.reference.version for v in versions),
            tags=tuple(agreed.logs),
            tag_conflicts=tuple(agreed.conflicts),
            part=not selection.whole,
            episodes=len(entries),
            bytes=size,
            fetched_bytes=size if staging is None else staging.fetched_bytes,
            fetched_blobs=0 if staging is None else staging.fetched_blobs,
            dry_run=staging is None,
        )

    def _registered(self, part: bool) -> tuple[VersionRecord, str]:
        """Register it, a whole one under its name on the remote if that is free here."""
        reader, registry = open_dataset(self.target), Registry()
        wanted = None
        if not part and all(reader.uid != known.uid for known in registry.datasets()):
            wanted = self._asked.name
        try:
            with suppress(ConflictError):
                return reader.version, registry.register(reader, wanted)
            return reader.version, registry.register(reader)
        except (ConflictError, StoreError) as e:
            log.warning("not registered: %s (%s)", e, e.hint)
            return reader.version, ""


@dataclass(kw_only=True)
class Wanted:
    """Episodes that are not here, by uid, their documents by key, and their files."""

    records: dict[str, EpisodeRecord] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)
    files: list[RemoteFile] = field(default_factory=list)


def _entries(versions: Sequence[RemoteVersion]) -> list[EpisodeEntry]:
    """The episodes of all `versions`, each once, as the newest that has it names it."""
    return list({e.uid: e for v in versions for e in v.record.episodes}.values())


def _documents(versions: Sequence[RemoteVersion]) -> dict[str, bytes]:
    return {key: data for version in versions for key, data in version.documents.items()}


def _target(out: Path) -> Path:
    """Where the dataset is to lie, the links on the way to it resolved.

    Raises:
        InputError: `out` cannot be a dataset.
        ConflictError: It is a link itself.
    """
    url = isinstance(out, Url) or out.parts[0].endswith(":")  # a Path makes "s3:/" of "s3://"
    if url or out.suffix != ".zarr" or "\0" in str(out):
        raise InputError(f"{str(out)!r} is no place for a dataset", hint="Name a *.zarr folder.")
    target = Path(os.path.realpath(out.parent)) / out.name
    if target.is_symlink():
        raise ConflictError(f"{str(out)!r} is a symbolic link", hint="Name another place.")
    Here.at(target)
    return target


def _put_back(target: Path) -> None:
    """Give the dataset its name again that a rebase was taking away when it was killed."""
    before = target.with_name(f".{target.name}.pull") / f"{_NEW}.before"
    if before.is_dir() and not os.path.lexists(target):
        with writing(target, 0):
            before.replace(target)


def _refuse_no_room(target: Path, size: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if size > free:
        raise StoreError(
            f"{size} bytes are to arrive at {str(target)!r}, where {free} are free",
            hint="Make room, or take a part: --cameras, --episodes.",
        )
