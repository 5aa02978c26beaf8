"""Writing an act-zarr dataset: episodes become durable one by one, versions visible at once.

Nothing in the dataset is ever changed except `zarr.json` at its root (and what zarr users read
about array lengths). A version becomes visible by one rename, after all that it refers to has been
forced onto the disk; whatever a crash leaves behind is either invisible or removed by the next
writer.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from act_data.errors import ConflictError, InputError, NotFoundError, StoreError
from act_data.records import (
    Annotation,
    DatasetFacts,
    DatasetSchema,
    EpisodeInfo,
    EpisodeRecord,
    Feature,
    Split,
    SplitRule,
    VersionOrigin,
    VersionRecord,
)
from act_data.store import layout
from act_data.store.differences import refuse_other_schema
from act_data.store.episodes_of_version import (
    entry_of,
    now,
    refuse_new_episode,
    uids_to_add,
    version_record,
)
from act_data.store.files import writing
from act_data.store.lock import WriterLock
from act_data.store.splits import assign
from act_data.store.zarr_bench import ZarrBench
from act_data.store.zarr_copy import copied
from act_data.store.zarr_episode import SYNC, Shards, ZarrEpisode
from act_data.store.zarr_folder import ZarrFolder
from act_data.store.zarr_reader import ZarrReader
from act_data.store.zarr_records import (
    MAX_SHARD_FRAMES,
    Head,
    RootRecord,
    episode_uids,
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
        self._schema = schema
        self._current: ZarrEpisode | None = None
        self._version: VersionRecord | None = None
        self._durable: dict[str, EpisodeRecord] = {}
        root = Path(os.path.realpath(path))
        self._folder = ZarrFolder(
            root,
            RootRecord(
                dataset_uid=uuid.uuid4().hex,
                name=root.stem,
                created_by=_program(),
                dataset_schema=schema,
                shard_frames=shard_frames,
                next_shard=0,
                head=Head(version=0),
            ),
        )
        with writing(root.parent, 0):
            root.parent.mkdir(parents=True, exist_ok=True)
        self._lock = WriterLock(root)
        try:
            self._exists = self._occupied()
            if self._exists:
                self._continue()
            self._adopt_ready()
            self._folder.clear_scratch()
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
        self._refuse_closed()
        unfinished = self._current.uid if self._current and self._current.open else ""
        refuse_new_episode(self._path, uid, self._durable, unfinished)
        frames = self._folder.record.shard_frames
        self._current = ZarrEpisode(
            uid, self._schema, frames, self._folder.make_scratch(), self._keep
        )
        return self._current

    @property
    def bench(self) -> ZarrBench:
        """Where episodes are made beside the dataset, in any process.

        Raises:
            StoreError: The disk is full or failing.
        """
        return ZarrBench(
            folder=self._folder.make_scratch(),
            schema=self._schema,
            shard_frames=self._folder.record.shard_frames,
        )

    def copy(self, source: ZarrReader, uid: str) -> EpisodeRecord:
        """Take in an episode of another dataset as it is: same uid, same hash, same bytes.

        Raises:
            ConflictError: There is one with this uid.
            StoreError: It is damaged there, or the disk is full or failing.
        """
        self._refuse_closed()
        refuse_new_episode(self._path, uid, self._durable, "")
        frames, scratch = self._folder.record.shard_frames, self._folder.make_scratch()
        with copied(source, uid, frames, scratch) as (record, arrays):
            return self._keep(
                uid, record.length, record.hash, arrays, record.info, created=record.created
            )

    def adopt(self, uid: str) -> EpisodeRecord:
        """Take in an episode that is ready on the bench; see `DatasetWriter`.

        Raises:
            NotFoundError: It is not ready.
            ConflictError: There is one with this uid.
            StoreError: The disk is full or failing; it stays on the bench.
        """
        self._refuse_closed()
        refuse_new_episode(self._path, uid, self._durable, "")
        ready, arrays = self.bench.taken(uid)
        record = self._keep(uid, ready.length, ready.hash, arrays, ready.info)
        self.bench.remove(uid)
        return record

    def commit(
        self,
        uids: Sequence[str],
        *,
        message: str = "",
        splits: Mapping[str, Split] | None = None,
        annotations: Mapping[str, Annotation] | None = None,
        split_rule: SplitRule | None = None,
        made_from: Sequence[VersionOrigin] = (),
        facts: DatasetFacts | None = None,
    ) -> VersionRecord:
        """Make a new version; see `DatasetWriter`.

        Args:
            annotations: What the new version says about episodes, beside what the last one says.
            split_rule: For episodes to come; without one, that of the last version.
            made_from: Where the new episodes were copied from.
            facts: What is said of the dataset from this version on.

        Raises:
            NotFoundError: One of `uids` is not a finished episode.
            InputError: There is neither a version nor an episode to make one of.
            StoreError: A file of an episode is missing, or the disk is full or failing; the
                last version stays as it was.
        """
        self._refuse_closed()
        parent = self._version.episodes if self._version else ()
        known = {entry.uid for entry in parent}
        new = uids_to_add(self._path, uids, known, self._durable)
        if self._version is not None and not new:
            return self._version
        records = [self._durable[uid] for uid in new]
        for record in records:
            self._check_files(record)
        given = [(splits or {}).get(uid) for uid in new]
        before = self._version
        rule = split_rule or (before.split_rule if before else None)
        assigned = assign(parent, [r.hash for r in records], given, rule)
        entries = [entry_of(r, r.start, split) for r, split in zip(records, assigned, strict=True)]
        number = self._folder.record.head.version + 1
        version = version_record(
            self._schema,
            number,
            [*parent, *entries],
            created=now(),
            message=message,
            annotations={**(before.annotations if before else {}), **(annotations or {})},
            split_rule=rule,
            made_from=made_from,
        )
        update = {"next_shard": self._next_shard(), "head": Head(version=number)}
        self._folder.publish(version, self._folder.record.model_copy(update=update), facts)
        self._version = version
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
        try:
            if self._lock.held:
                self._adopt_ready()
                self._folder.clear_scratch()
        except StoreError:  # the disk is full: the next writer adopts them
            if kind is None:
                raise
        finally:
            self._lock.release()

    # --- continuing what is there -------------------------------------------------------------

    def _occupied(self) -> bool:
        root = self._folder.path
        if not os.path.lexists(root):
            return False
        if not root.is_dir():
            raise ConflictError(f"{str(self._path)!r} is a file", hint="Pick another path.")
        with os.scandir(root) as entries:
            return any(True for _ in entries)

    def _continue(self) -> None:
        root = str(self._folder.path)
        if not (self._folder.path / "zarr.json").exists():
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
        record = self._folder.record = read_root(root)
        refuse_other_schema(self._path, record.dataset_schema, self._schema)
        number, frames = record.head.version, record.shard_frames
        self._version = read_version(root, number, frames) if number else None
        self._durable = {uid: read_episode(root, uid, frames) for uid in episode_uids(root)}
        self._folder.remove_leftovers(self._durable.values())
        self._folder.describe_arrays(record.rows)
        if self._version is not None:
            self._folder.describe_version(self._version)

    def _adopt_ready(self) -> None:
        """Take in what is ready on the bench, left there by an error or by a run that died."""
        bench = ZarrBench(
            folder=self._folder.scratch,
            schema=self._schema,
            shard_frames=self._folder.record.shard_frames,
        )
        for uid in bench.ready():
            if uid not in self._durable:
                with contextlib.suppress(NotFoundError):  # cut, or of a run with other settings
                    self.adopt(uid)

    # --- finishing and checking episodes ------------------------------------------------------

    def _refuse_closed(self) -> None:
        if not self._lock.held:
            raise ConflictError(f"the writer of {str(self._path)!r} is closed")

    def _next_shard(self) -> int:
        """The first shard that belongs to nobody: after all finished episodes."""
        frames = self._folder.record.shard_frames
        ends = [layout.shards_of(r.start, r.length, frames).stop for r in self._durable.values()]
        return max([self._folder.record.next_shard, *ends])

    def _keep(
        self,
        uid: str,
        length: int,
        digest: str,
        arrays: Sequence[tuple[Feature, Shards]],
        info: EpisodeInfo,
        *,
        created: str = "",
    ) -> EpisodeRecord:
        """Move the shards of an episode to their places and write its record: now it is durable."""
        if not self._exists:
            self._folder.create()
            self._exists = True
        first = self._next_shard()
        with self._folder.moved_in(uid, first, arrays) as files:
            record = EpisodeRecord(
                uid=uid,
                start=first * self._folder.record.shard_frames,
                length=length,
                hash=digest,
                files=files,
                info=info,
                created=created or now(),
            )
            self._folder.write_episode(record)
        self._durable[uid] = record
        return record

    def _check_files(self, record: EpisodeRecord) -> None:
        for key, file in record.files.items():
            target = self._folder.path / key
            if not target.is_file() or target.stat().st_size != file.bytes:
                raise StoreError(
                    f"episode {record.uid!r} cannot be committed: {str(target)!r} is missing or "
                    f"does not have its {file.bytes} bytes",
                    hint=f"Delete its folder 'episodes/{record.uid}' and ingest that one again.",
                )


def _program() -> str:
    try:
        return f"act-toolkit {metadata.version('act-toolkit')}"
    except metadata.PackageNotFoundError:
        return "act-toolkit"
