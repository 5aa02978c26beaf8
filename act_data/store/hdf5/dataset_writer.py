"""An HDF5 dataset opened for appending."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from act_data.errors import ConflictError, NotFoundError
from act_data.records import DatasetSchema, EpisodeInfo, EpisodeRecord, Split, VersionRecord
from act_data.store.differences import refuse_other_schema
from act_data.store.episodes_of_version import now, refuse_new_episode, uids_to_add
from act_data.store.files import remove_scratch, sync_folder, writing
from act_data.store.hdf5.bench import Hdf5Bench, Hdf5Episode, refuse_second
from act_data.store.hdf5.episode_file import EpisodeFile
from act_data.store.hdf5.episode_writer import FileWriter, write_commit
from act_data.store.hdf5.layout import Commit, Header, check_schema
from act_data.store.hdf5.place import Member, Place, left_behind, members, version_of
from act_data.store.lock import WriterLock
from act_data.store.splits import assign


class Hdf5Writer:
    """A `DatasetWriter` for ALOHA files. Holds the lock `.<name>.lock` beside the dataset."""

    def __init__(self, path: Path, schema: DatasetSchema) -> None:
        check_schema(schema)
        self._path = path
        self._place = Place(Path(os.path.realpath(path)))
        self._schema = schema
        self._current: Hdf5Episode | None = None
        self._tidy_up = False
        self._members: list[Member] = []
        self._durable: dict[str, EpisodeRecord] = {}
        self._made: set[str] = set()
        self._uid = uuid.uuid4().hex
        with writing(self._place.path.parent, 0):
            self._place.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = WriterLock(self._place.path)
        try:
            self._continue()
        except BaseException:
            self._lock.release()
            raise

    @property
    def schema(self) -> DatasetSchema:
        """What every episode must look like."""
        return self._schema

    @property
    def durable(self) -> Mapping[str, EpisodeRecord]:
        """Finished episodes by uid, committed or left behind by an interrupted run."""
        return MappingProxyType(self._durable)

    def episode(self, uid: str) -> Hdf5Episode:
        """A writer for a new episode.

        Raises:
            InputError: `uid` cannot be a file name, or `name.hdf5` has its one episode.
            ConflictError: There is one with this uid, or another one is still open.
        """
        self._refuse_closed()
        unfinished = self._current.uid if self._current and self._current.open else ""
        refuse_new_episode(self._path, uid, self._durable, unfinished)
        if self._place.single and (self._members or self._made):
            raise refuse_second(self._path, next(iter(self._durable)))
        if self._place.single:
            self._discard_finished()  # what another run finished and nobody asks for
        self._make_folder()
        file = FileWriter(self._place.unfinished(uid), self._schema)
        self._current = Hdf5Episode(uid, file, self._finish)
        return self._current

    @property
    def bench(self) -> Hdf5Bench:
        """Where episodes are made beside the dataset, in any process.

        Raises:
            StoreError: The folder cannot be made.
        """
        self._refuse_closed()
        self._make_folder()
        held = self._place.single and self._members
        return Hdf5Bench(
            path=self._path,
            place=self._place,
            schema=self._schema,
            dataset_uid=self._uid,
            holds=next(iter(self._durable)) if held else "",
        )

    def adopt(self, uid: str) -> EpisodeRecord:
        """Take in an episode that was finished on the bench; see `DatasetWriter`.

        Raises:
            NotFoundError: It is not there.
            InputError: `name.hdf5` has its one episode.
            ConflictError: There is one with this uid.
            StoreError: Its file is damaged.
        """
        self._refuse_closed()
        refuse_new_episode(self._path, uid, self._durable, "")
        if self._place.single and (self._members or self._made):
            raise refuse_second(self._path, next(iter(self._durable)))
        finished = self._place.finished(uid)
        if not finished.is_file():
            raise NotFoundError(f"episode {uid!r} is not finished beside {str(self._path)!r}")
        if self._place.single:
            self._discard_finished(finished)
        record = self._durable[uid] = _header(finished).record
        self._made.add(uid)
        return record

    def commit(
        self, uids: Sequence[str], *, message: str = "", splits: Mapping[str, Split] | None = None
    ) -> VersionRecord:
        """Make a new version; see `DatasetWriter`.

        Raises:
            NotFoundError: One of `uids` is not a finished episode.
            InputError: There is neither a version nor an episode to make one of.
            StoreError: The disk is full or failing; the last version stays as it was.
        """
        self._refuse_closed()
        committed = {member.header.record.uid for member in self._members}
        new = uids_to_add(self._path, uids, committed, self._durable)
        number = self._members[-1].commit.version if self._members else 0
        if not new:
            return version_of(self._members, number)
        parent = version_of(self._members, number).episodes if self._members else ()
        first = len(self._members)
        added: list[Member] = []
        given = [(splits or {}).get(uid) for uid in new]
        assigned = assign(parent, [self._durable[uid].hash for uid in new], given)
        for uid, split in zip(new, assigned, strict=True):
            commit = Commit(
                version=number + 1,
                first=first,
                count=len(new),
                created=added[0].commit.created if added else now(),
                message=message,
                split=split,
            )
            write_commit(self._place.finished(uid), commit)
            header = Header(
                dataset_uid=self._uid,
                dataset_schema=self._schema,
                record=self._durable[uid],
                commit=commit,
            )
            added.append(Member(self._place.target(first + len(added)), header, commit))
        self._show(added)
        self._members += added
        return version_of(self._members, number + 1)

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
        folder = self._place.folder
        for path in self._place.all_unfinished() if self._lock.held else ():
            remove_scratch(path)  # of processes that died
        if self._place.single and not self._members and kind is not None:
            self._discard_finished()  # it would lie hidden beside the file that it did not become
        if self._tidy_up and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        self._lock.release()

    def _show(self, added: Sequence[Member]) -> None:
        """Rename the first episode last: that is when the version comes into being."""
        folder = self._place.folder
        for member in reversed(added):
            if member is added[0]:
                sync_folder(folder)
            with writing(member.path, 0):
                self._place.finished(member.header.record.uid).rename(member.path)
        sync_folder(folder)

    def _finish(self, uid: str, file: FileWriter, info: EpisodeInfo) -> EpisodeRecord:
        record = file.finish(uid, self._uid, info, now())
        with writing(self._place.finished(uid), 0):
            self._place.unfinished(uid).rename(self._place.finished(uid))
            sync_folder(self._place.folder)
        self._durable[uid] = record
        self._made.add(uid)
        return record

    def _discard_finished(self, kept: Path | None = None) -> None:
        """Remove finished episodes that no version of a single file holds."""
        for path in self._place.all_finished():
            if path != kept:
                path.unlink()
        self._durable.clear()

    def _make_folder(self) -> None:
        if not self._place.folder.exists():
            with writing(self._place.folder, 0):
                self._place.folder.mkdir()
                sync_folder(self._place.folder.parent)
            self._tidy_up = True

    def _refuse_closed(self) -> None:
        if not self._lock.held:
            raise ConflictError(f"the writer of {str(self._path)!r} is closed")

    def _continue(self) -> None:
        place = self._place
        if place.path.exists() and place.path.is_dir() == place.single:
            kind = "a folder" if place.single else "a file"
            raise ConflictError(f"{str(self._path)!r} is {kind}", hint="Pick another path.")
        foreign = place.foreign()
        if foreign:
            raise ConflictError(
                f"{str(self._path)!r} holds {foreign[0].name!r}, which is no episode",
                hint="Pick another path, or an empty folder.",
            )
        for path in place.all_unfinished():
            path.unlink()
            self._tidy_up = not place.single
        self._members = members(place)
        for path in left_behind(place, len(self._members)):
            path.rename(place.finished(_header(path).record.uid))
        for path in place.all_finished():
            header = _header(path)
            self._durable[header.record.uid] = header.record
            self._uid = header.dataset_uid
            refuse_other_schema(path, header.dataset_schema, self._schema)
        if self._members:
            first = self._members[0]
            self._uid = first.header.dataset_uid
            refuse_other_schema(first.path, first.header.dataset_schema, self._schema)
        entries = (
            version_of(self._members, self._members[-1].commit.version).episodes
            if self._members
            else ()
        )
        for member, entry in zip(self._members, entries, strict=True):
            record = member.header.record.model_copy(update={"start": entry.start})
            self._durable[entry.uid] = record


def _header(path: Path) -> Header:
    with EpisodeFile(path) as file:
        return file.header
