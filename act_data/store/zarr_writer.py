"""Writing an act-zarr dataset: episodes become durable one by one, versions visible at once.

Nothing in the dataset is ever changed except `zarr.json` at its root (and what zarr users read
about array lengths). A version becomes visible by one rename, after all that it refers to has been
forced onto the disk; whatever a crash leaves behind is either invisible or removed by the next
writer.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import filelock

from act_data.errors import ConflictError, InputError, NotFoundError, StoreError
from act_data.records import (
    DatasetSchema,
    EpisodeEntry,
    EpisodeInfo,
    EpisodeRecord,
    Feature,
    FileDigest,
    VersionRecord,
)
from act_data.store import layout, splits
from act_data.store.differences import differences
from act_data.store.files import make_folders, sync_folder, write_whole, writing
from act_data.store.hashing import content_hash
from act_data.store.zarr_episode import SYNC, Shards, ZarrEpisode
from act_data.store.zarr_records import (
    MAX_SHARD_FRAMES,
    Head,
    RootRecord,
    dump,
    episode_uids,
    meta_chunks,
    read_document,
    read_episode,
    read_root,
    read_version,
)
from act_data.types import Role


class ZarrWriter:
    """A `DatasetWriter` for act-zarr. Holds the lock `.<name>.lock` beside the dataset."""

    def __init__(self, path: Path, schema: DatasetSchema, *, shard_frames: int = 512) -> None:
        layout.check_schema(schema)
        for feature in schema.named(Role.SYNC):
            if feature.name not in SYNC:
                raise InputError(
                    f"array {feature.name!r} has the role 'sync'", hint=f"Those are {list(SYNC)}."
                )
        if not 1 <= shard_frames <= MAX_SHARD_FRAMES:
            raise InputError(f"shard_frames is {shard_frames!r}", hint="Use 1 to 1048576.")
        self._path = path
        self._root = Path(os.path.realpath(path))
        self._scratch = self._root.with_name(f".{self._root.name}.partial")
        self._schema = schema
        self._current: ZarrEpisode | None = None
        self._version: VersionRecord | None = None
        self._durable: dict[str, EpisodeRecord] = {}
        self._record = RootRecord(
            dataset_uid=uuid.uuid4().hex,
            name=self._root.stem,
            created_by=_program(),
            dataset_schema=schema,
            shard_frames=shard_frames,
            next_shard=0,
            head=Head(version=0),
        )
        with writing(self._root.parent, 0):
            self._root.parent.mkdir(parents=True, exist_ok=True)
        self._lock = self._locked()
        try:
            with writing(self._scratch, 0):
                shutil.rmtree(self._scratch, ignore_errors=True)
            self._exists = self._occupied()
            if self._exists:
                self._continue()
        except BaseException:
            self._lock.release()
            raise

    # --- what the interface promises ----------------------------------------------------------

    @property
    def schema(self) -> DatasetSchema:
        """What every episode must look like."""
        return self._schema

    @property
    def durable(self) -> Mapping[str, EpisodeRecord]:
        """Finished episodes by uid, committed or left behind by an interrupted run."""
        return MappingProxyType(self._durable)

    def episode(self, uid: str) -> ZarrEpisode:
        """A writer for a new episode.

        Raises:
            InputError: `uid` cannot be a file name.
            ConflictError: There is one with this uid, or another one is still open.
        """
        layout.check_uid(uid)
        if not self._lock.is_locked:
            raise ConflictError(f"the writer of {str(self._path)!r} is closed")
        if uid in self._durable:
            raise ConflictError(
                f"{str(self._path)!r} has an episode {uid!r} already",
                hint="It is finished: commit it, or record under another uid.",
            )
        if self._current is not None and self._current.open:
            raise ConflictError(f"episode {self._current.uid!r} is still open")
        with writing(self._scratch, 0):
            self._scratch.mkdir(exist_ok=True)
        self._current = ZarrEpisode(
            uid, self._schema, self._record.shard_frames, self._scratch, self._keep
        )
        return self._current

    def commit(self, uids: Sequence[str], *, message: str = "") -> VersionRecord:
        """Make a new version; see `DatasetWriter`.

        Raises:
            NotFoundError: One of `uids` is not a finished episode.
            InputError: There is neither a version nor an episode to make one of.
            StoreError: A file of an episode is missing, or the disk is full or failing; the
                last version stays as it was.
        """
        if not self._lock.is_locked:
            raise ConflictError(f"the writer of {str(self._path)!r} is closed")
        parent = self._version.episodes if self._version else ()
        known = {entry.uid for entry in parent}
        new = [uid for uid in dict.fromkeys(uids) if uid not in known]
        missing = [uid for uid in new if uid not in self._durable]
        if missing:
            raise NotFoundError(f"{str(self._path)!r} has no finished episode {missing}")
        if not new:
            if self._version is None:
                raise InputError(f"{str(self._path)!r} has no episode to commit")
            return self._version
        records = [self._durable[uid] for uid in new]
        for record in records:
            self._check_files(record)
        entries = [
            EpisodeEntry(uid=r.uid, start=r.start, length=r.length, hash=r.hash, split=split)
            for r, split in zip(
                records, splits.assign(parent, [r.hash for r in records]), strict=True
            )
        ]
        episodes = (*parent, *entries)
        number = self._record.head.version + 1
        version = VersionRecord(
            number=number,
            parent=number - 1 or None,
            created=_now(),
            message=message,
            episodes=episodes,
            content_hash=content_hash(self._schema, episodes),
        )
        self._publish(version)
        return version

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._current is not None:
            self._current.discard()
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._lock.release()

    # --- continuing what is there -------------------------------------------------------------

    def _locked(self) -> filelock.BaseFileLock:
        lock = filelock.FileLock(self._root.with_name(f".{self._root.name}.lock"))
        with writing(Path(lock.lock_file), 0):
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout as e:
                raise ConflictError(
                    f"another process is writing {str(self._path)!r}: it holds the lock "
                    f"{str(lock.lock_file)!r}",
                    hint="Wait until it is done; a process that died holds no lock.",
                ) from e
        return lock

    def _occupied(self) -> bool:
        if not os.path.lexists(self._root):
            return False
        if not self._root.is_dir():
            raise ConflictError(f"{str(self._path)!r} is a file", hint="Pick another path.")
        with os.scandir(self._root) as entries:
            return any(True for _ in entries)

    def _continue(self) -> None:
        root = str(self._root)
        if not (self._root / "zarr.json").exists():
            raise ConflictError(
                f"{str(self._path)!r} exists and is not an act-zarr dataset",
                hint="Pick another path.",
            )
        attributes = read_document(root, "zarr.json").get("attributes")
        if not isinstance(attributes, dict) or "act" not in attributes:
            raise ConflictError(
                f"{str(self._path)!r} is a zarr group of another program",
                hint="Pick another path.",
            )
        self._record = read_root(root)
        differing = differences(self._record.dataset_schema, self._schema)
        if differing:
            raise ConflictError(
                f"{str(self._path)!r} holds episodes of another schema: " + "; ".join(differing),
                hint="Ingest with the same robot and codec, or into another path.",
            )
        number, frames = self._record.head.version, self._record.shard_frames
        self._version = read_version(root, number, frames) if number else None
        self._durable = {uid: read_episode(root, uid, frames) for uid in episode_uids(root)}
        self._remove_leftovers()
        self._describe_arrays(self._record.rows)
        if self._version is not None:
            self._describe_version(self._version)

    def _remove_leftovers(self) -> None:
        """Delete shards that a killed writer moved in for an episode that it never finished."""
        kept = {key for record in self._durable.values() for key in record.files}
        for feature in self._schema.features:
            folder = self._root / "data" / feature.name / "c"
            for entry in os.scandir(folder) if folder.is_dir() else ():
                if not entry.name.isdecimal() or int(entry.name) < self._record.next_shard:
                    continue
                if layout.chunk_key(feature, int(entry.name)) not in kept:
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        Path(entry.path).unlink()

    # --- finishing an episode -----------------------------------------------------------------

    def _next_shard(self) -> int:
        """The first shard that belongs to nobody: after all finished episodes."""
        frames = self._record.shard_frames
        ends = [layout.shards_of(r.start, r.length, frames).stop for r in self._durable.values()]
        return max([self._record.next_shard, *ends])

    def _keep(
        self,
        uid: str,
        length: int,
        digest: str,
        arrays: Sequence[tuple[Feature, Shards]],
        info: EpisodeInfo,
    ) -> EpisodeRecord:
        """Move the shards of an episode to their places and write its record: now it is durable."""
        if not self._exists:
            self._create()
        first = self._next_shard()
        files: dict[str, FileDigest] = {}
        with contextlib.ExitStack() as undo:
            for feature, shards in arrays:
                for number, (scratch, file) in enumerate(shards, first):
                    key = layout.chunk_key(feature, number)
                    target = self._root / key
                    make_folders(self._root, target.parent)
                    with writing(target, file.bytes):
                        scratch.replace(target)
                    undo.callback(target.unlink, missing_ok=True)
                    files[key] = file
            for folder in sorted({(self._root / key).parent for key in files}):
                with writing(folder, 0):
                    sync_folder(folder)
            record = EpisodeRecord(
                uid=uid,
                start=first * self._record.shard_frames,
                length=length,
                hash=digest,
                files=files,
                info=info,
                created=_now(),
            )
            self._write(layout.episode_key(uid), layout.group(act_episode=dump(record)))
            undo.pop_all()
        self._durable[uid] = record
        return record

    def _create(self) -> None:
        """Make the dataset without any episode: built aside, then renamed into place."""
        fresh = self._scratch / "new"
        documents = {key: layout.group() for key in layout.group_keys(self._schema)}
        for feature in self._schema.features:
            documents[layout.array_key(feature)] = self._array_document(feature, 0)
        for name in layout.META:
            documents[f"meta/{name}/zarr.json"] = layout.meta_array(name, 0, 0)
        documents["zarr.json"] = layout.group(act=dump(self._record))
        with writing(self._root, 0):
            fresh.mkdir()
            for key, document in documents.items():
                write_whole(fresh, key, layout.render(document), self._scratch / "document")
            fresh.replace(self._root)
            sync_folder(self._root.parent)
        self._exists = True

    # --- publishing a version -----------------------------------------------------------------

    def _check_files(self, record: EpisodeRecord) -> None:
        for key, file in record.files.items():
            target = self._root / key
            if not target.is_file() or target.stat().st_size != file.bytes:
                raise StoreError(
                    f"episode {record.uid!r} cannot be committed: {str(target)!r} is missing or "
                    f"does not have its {file.bytes} bytes",
                    hint=f"Delete the folder {str(self._root / 'episodes' / record.uid)!r} and "
                    "ingest that episode again.",
                )

    def _publish(self, version: VersionRecord) -> None:
        root = self._record.model_copy(
            update={"next_shard": self._next_shard(), "head": Head(version=version.number)}
        )
        self._describe_arrays(root.rows)
        self._write(layout.version_key(version.number), layout.group(act_version=dump(version)))
        self._write("zarr.json", layout.group(act=dump(root)))  # the moment it becomes visible
        self._record, self._version = root, version
        # For people who only have zarr; if the disk is full now, the next writer makes up for it.
        with contextlib.suppress(StoreError):
            self._describe_version(version)

    def _array_document(self, feature: Feature, rows: int) -> layout.Document:
        return layout.array(feature, self._record.shard_frames, rows)

    def _describe_arrays(self, rows: int) -> None:
        """Give all array documents `rows` rows."""
        for feature in self._schema.features:
            key = layout.array_key(feature)
            document = read_document(str(self._root), key)
            wanted = self._array_document(feature, rows)
            if document == wanted:
                continue
            if {**document, "shape": wanted["shape"]} != wanted:
                raise StoreError(
                    f"{str(self._root / key)!r} was changed by another program",
                    hint="Nothing can be appended to this dataset; it may still be read.",
                )
            self._write(key, wanted)

    def _describe_version(self, version: VersionRecord) -> None:
        """Make the meta arrays say where the episodes of `version` lie."""
        columns = {
            "episode_start": [e.start for e in version.episodes],
            "episode_length": [e.length for e in version.episodes],
        }
        for name, values in columns.items():
            for chunk, data in enumerate(meta_chunks(values)):
                write_whole(self._root, f"meta/{name}/c/{chunk}", data, self._scratch_file())
            document = layout.meta_array(name, len(values), version.number)
            self._write(f"meta/{name}/zarr.json", document)

    def _write(self, key: str, document: layout.Document) -> None:
        write_whole(self._root, key, layout.render(document), self._scratch_file())

    def _scratch_file(self) -> Path:
        with writing(self._scratch, 0):
            self._scratch.mkdir(exist_ok=True)
        return self._scratch / "document"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _program() -> str:
    try:
        return f"act-toolkit {metadata.version('act-toolkit')}"
    except metadata.PackageNotFoundError:
        return "act-toolkit"
