"""Episodes of an act-zarr dataset made beside it, in any process, until its one writer adopts them.

    .<name>.partial/<uid>.<process>/   being written: shards, named by array and number
    .<name>.partial/<uid>.ready/       finished: the shards and ready.json, all of it on the disk

An episode is ready by the rename of its folder. What is not ready when its process dies is removed
by the next writer; what is ready is adopted by it.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from act_data.errors import NotFoundError, StoreError
from act_data.records import DatasetSchema, EpisodeInfo, EpisodeRecord, Feature, Record
from act_data.store.episodes_of_version import now
from act_data.store.files import read_whole, sync_folder, write_whole, writing
from act_data.store.layout import check_uid
from act_data.store.zarr_episode import Shards, ZarrEpisode
from act_data.store.zarr_records import DOCUMENT_BYTES

_READY = "ready.json"
_SUFFIX = ".ready"
_SHARD = re.compile(r"(\d{3,6})\.(\d{1,9})")

Arrays = Sequence[tuple[Feature, Shards]]


class ReadyEpisode(Record):
    """A finished episode without a place.

    Attributes:
        record: As it will be, but from row 0 on and with the files' names in this folder.
    """

    record: EpisodeRecord
    dataset_schema: DatasetSchema
    shard_frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrBench:
    """A `Bench` for act-zarr. Its folder was made by the dataset's writer, and goes with it."""

    folder: Path
    schema: DatasetSchema
    shard_frames: int

    def episode(self, uid: str) -> ZarrEpisode:
        """A writer for a new episode.

        Raises:
            InputError: `uid` cannot be a file name.
            StoreError: The disk is failing, or the dataset's writer is gone.
        """
        check_uid(uid)
        folder = self.folder / f"{uid}.{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)  # of one that was discarded
        with writing(folder, 0):
            folder.mkdir()

        def keep(
            uid: str, length: int, digest: str, arrays: Arrays, info: EpisodeInfo
        ) -> EpisodeRecord:
            record = EpisodeRecord(
                uid=uid,
                start=0,
                length=length,
                hash=digest,
                files={path.name: file for _, shards in arrays for path, file in shards},
                info=info,
                created=now(),
            )
            self._make_ready(folder, record)
            return record

        return ZarrEpisode(uid, self.schema, self.shard_frames, folder, keep)

    def remove(self, uid: str) -> None:
        """Remove an episode that is ready; nothing when it is not."""
        shutil.rmtree(self.folder / f"{uid}{_SUFFIX}", ignore_errors=True)

    def ready(self) -> list[str]:
        """The uids of the episodes that are ready, in the order of their names."""
        if not self.folder.is_dir():
            return []
        names = sorted(entry.name for entry in os.scandir(self.folder))
        return [n.removesuffix(_SUFFIX) for n in names if n.endswith(_SUFFIX)]

    def taken(self, uid: str) -> tuple[EpisodeRecord, Arrays]:
        """The record of a ready episode, and its shards by array.

        Raises:
            NotFoundError: There is none, it is not whole, or it is of another schema.
        """
        folder = self.folder / f"{uid}{_SUFFIX}"
        try:
            text = read_whole(str(folder.resolve()), _READY, DOCUMENT_BYTES)
            ready = ReadyEpisode.model_validate_json(text)
            arrays = self._shards(folder, ready.record)
        except (OSError, StoreError, ValidationError, LookupError) as e:
            raise NotFoundError(f"episode {uid!r} is not ready in {str(self.folder)!r}") from e
        same = (uid, self.schema, self.shard_frames)
        if (ready.record.uid, ready.dataset_schema, ready.shard_frames) != same:
            raise NotFoundError(f"episode {uid!r} in {str(self.folder)!r} is of another schema")
        return ready.record, arrays

    def _shards(self, folder: Path, record: EpisodeRecord) -> Arrays:
        """Raises: LookupError: The files are not those of an episode of this schema."""
        shards: list[Shards] = [[] for _ in self.schema.features]
        for name in sorted(record.files, key=lambda name: (len(name), name)):
            match = _SHARD.fullmatch(name)
            info = (folder / name).stat(follow_symlinks=False)
            if match is None or not stat.S_ISREG(info.st_mode):
                raise LookupError(name)
            array = shards[int(match[1])]
            if int(match[2]) != len(array) or info.st_size != record.files[name].bytes:
                raise LookupError(name)
            array.append((folder / name, record.files[name]))
        return list(zip(self.schema.features, shards, strict=True))

    def _make_ready(self, folder: Path, record: EpisodeRecord) -> None:
        ready = ReadyEpisode(
            record=record, dataset_schema=self.schema, shard_frames=self.shard_frames
        )
        write_whole(folder, _READY, ready.model_dump_json().encode(), folder / "document")
        target = self.folder / f"{record.uid}{_SUFFIX}"
        with writing(target, 0):
            # The same recording under two names: the other process was first, with the same bytes.
            if not target.exists():
                with suppress(FileExistsError):
                    folder.rename(target)
            sync_folder(self.folder)
