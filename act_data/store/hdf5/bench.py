"""Episodes of an HDF5 dataset on their way: files that nobody sees until they are whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from act_data.errors import ConflictError, DataError, InputError
from act_data.records import DatasetSchema, EpisodeInfo, EpisodeRecord
from act_data.store.episodes_of_version import now
from act_data.store.files import sync_folder, writing
from act_data.store.hdf5.episode_writer import FileWriter
from act_data.store.hdf5.place import Place
from act_data.store.layout import check_uid
from act_data.types import Timestep


class Hdf5Episode:
    """An `EpisodeWriter` for one ALOHA file."""

    def __init__(
        self,
        uid: str,
        file: FileWriter,
        finish: Callable[[str, FileWriter, EpisodeInfo], EpisodeRecord],
    ) -> None:
        self.uid = uid
        self.open = True
        self._file = file
        self._finish = finish

    def record(self, step: Timestep) -> None:
        """Append `step`.

        Raises:
            DataError: A value is missing, left over or of another shape or type. Nothing of the
                step was written.
            StoreError: The disk is full, or fails.
        """
        self._refuse_closed()
        self._file.append(step)

    def finish(self, info: EpisodeInfo) -> EpisodeRecord:
        """Make the episode durable (fsync). It is not visible before the dataset's commit.

        `start` is 0 until then: an episode has no place before it is in a version.

        Raises:
            DataError: It has no step; then it is discarded.
            StoreError: The disk is full, or fails; then it is discarded.
        """
        self._refuse_closed()
        try:
            if not self._file.length:
                raise DataError(f"episode {self.uid!r} has no step")
            record = self._finish(self.uid, self._file, info)
        except BaseException:
            self.discard()
            raise
        self.open = False
        return record

    def discard(self) -> None:
        """Remove what was written of this episode. After `finish` it does nothing."""
        if self.open:
            self.open = False
            self._file.abandon()

    def _refuse_closed(self) -> None:
        if not self.open:
            raise ConflictError(f"episode {self.uid!r} is finished or discarded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hdf5Bench:
    """A `Bench` for ALOHA files: they are finished in place, and adopted by name.

    Attributes:
        holds: The one episode that `name.hdf5` has already; "" when it is free.
    """

    path: Path
    place: Place
    schema: DatasetSchema
    dataset_uid: str
    holds: str = ""
    _made: list[str] = field(default_factory=list)

    def episode(self, uid: str) -> Hdf5Episode:
        """A writer for a new episode.

        Raises:
            InputError: `uid` cannot be a file name, or `name.hdf5` has its one episode.
            StoreError: The disk is full, or fails.
        """
        check_uid(uid)
        if self.place.single and (self.holds or self._made):
            raise refuse_second(self.path, self.holds or self._made[0])
        unfinished = self.place.unfinished(f"{uid}.{os.getpid()}")

        def finish(uid: str, file: FileWriter, info: EpisodeInfo) -> EpisodeRecord:
            record = file.finish(uid, self.dataset_uid, info, now())
            with writing(self.place.finished(uid), 0):
                unfinished.replace(self.place.finished(uid))
                sync_folder(self.place.folder)
            self._made.append(uid)
            return record

        return Hdf5Episode(uid, FileWriter(unfinished, self.schema), finish)

    def remove(self, uid: str) -> None:
        """Remove an episode that was not adopted; nothing when there is none."""
        self.place.finished(uid).unlink(missing_ok=True)


def refuse_second(path: Path, uid: str) -> InputError:
    """The error about a second episode for `name.hdf5`, which has `uid`."""
    return InputError(
        f"{str(path)!r} holds exactly one episode, and has it: {uid!r}",
        hint="For several, name a folder (--out without .hdf5) or a *.zarr dataset.",
    )
