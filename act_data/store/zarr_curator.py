"""A new version of an act-zarr dataset from episodes that it holds; none of their bytes change."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from act_data.errors import NotFoundError, StoreError
from act_data.records import (
    Annotation,
    DatasetSchema,
    EpisodeEntry,
    SplitRule,
    VersionOrigin,
    VersionRecord,
)
from act_data.store import layout
from act_data.store.episodes_of_version import now, version_record
from act_data.store.files import OpenFile, real_root
from act_data.store.lock import WriterLock
from act_data.store.zarr_folder import ZarrFolder
from act_data.store.zarr_records import Head, read_episode, read_root, read_version


class Curator:
    """The newest version of a dataset, held under the writer's lock to put another one on top.

    A context manager.

    Attributes:
        head: The newest version.

    Raises:
        NotFoundError: Nothing was committed.
        ConflictError: Another process is writing it.
        StoreError: It is damaged.
    """

    def __init__(self, path: Path) -> None:
        root = Path(real_root(path))
        self._lock = WriterLock(root)
        try:
            record = read_root(str(root))
            self._folder = ZarrFolder(root, record)
            number = record.head.version
            if not number:
                raise NotFoundError(f"{str(path)!r} holds no version yet")
            self.head = read_version(str(root), number, record.shard_frames)
        except BaseException:
            self._lock.release()
            raise

    @property
    def schema(self) -> DatasetSchema:
        """What every episode looks like."""
        return self._folder.record.dataset_schema

    def publish(
        self,
        episodes: Sequence[EpisodeEntry],
        *,
        message: str,
        annotations: Mapping[str, Annotation],
        split_rule: SplitRule | None,
        made_from: Sequence[VersionOrigin] = (),
    ) -> VersionRecord:
        """Make the version of these episodes the newest one.

        Atomic: after a crash at any point a reader sees the old version or the new one.

        Raises:
            StoreError: A file of an episode that the newest version does not hold is missing, or
                the disk is full or failing; the last version stays as it was.
        """
        held = {entry.uid for entry in self.head.episodes}
        for entry in episodes:
            if entry.uid not in held:
                self._check_files(entry)
        record = self._folder.record
        number = record.head.version + 1
        version = version_record(
            self.schema,
            number,
            episodes,
            created=now(),
            message=message,
            annotations=annotations,
            split_rule=split_rule,
            made_from=made_from,
        )
        update = {"head": Head(version=number)}
        self._folder.publish(version, record.model_copy(update=update))
        self.head = version
        return version

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Episodes that an interrupted ingest finished may wait in there: only an empty one goes.
        with contextlib.suppress(OSError):
            self._folder.scratch.rmdir()
        self._lock.release()

    def _check_files(self, entry: EpisodeEntry) -> None:
        root, frames = str(self._folder.path), self._folder.record.shard_frames
        gone = f"episode {entry.uid!r} is no longer in {root!r}"
        hint = "It was collected as garbage, or never pulled: ingest its recording again."
        if not (self._folder.path / layout.episode_key(entry.uid)).exists():
            raise StoreError(gone, hint=hint)
        record = read_episode(root, entry.uid, frames)
        if (record.start, record.length, record.hash) != (entry.start, entry.length, entry.hash):
            raise StoreError(f"{gone}: another one has its uid", hint=hint)
        for key, file in record.files.items():
            try:
                size = OpenFile(root, key).size
            except FileNotFoundError as e:
                raise StoreError(f"{gone}: {key!r} is missing", hint=hint) from e
            if size != file.bytes:
                raise StoreError(f"{gone}: {key!r} has {size} bytes, not {file.bytes}", hint=hint)
