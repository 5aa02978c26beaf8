"""The datasets and checkpoints that the registry lists, opened for questions across all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from act_data.errors import ActError, StoreError
from act_data.interfaces import DatasetReader
from act_data.records import EpisodeEntry, EpisodeRecord, VersionRecord
from act_data.registry import Registry
from act_data.store import location, open_dataset
from act_data.store.files import real_root
from act_data.store.zarr_reader import ZarrReader
from act_data.store.zarr_records import read_episode, read_root, read_versions

TRAINED_ON = "dataset.json"
_DOCUMENT_BYTES = 1 << 26

M = TypeVar("M", bound=BaseModel)


class TrainedVersion(BaseModel):
    """A dataset version as a checkpoint names it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    path: str
    uid: str
    version: int
    content_hash: str


class TrainedOn(TrainedVersion):
    """What `dataset.json` of a checkpoint says, as far as it is about history.

    Attributes:
        train: uids; `val` are those that were held out.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    cotrained: tuple[TrainedVersion, ...] = ()


class Store:
    """One dataset with all its versions, dropped ones too."""

    def __init__(self, name: str, reader: DatasetReader) -> None:
        self.name = name
        self.reader = reader
        self.uid = reader.uid
        self.versions = {v.number: v for v in _versions(reader)}
        self._records: dict[str, EpisodeRecord | None] = {}

    def record(self, entry: EpisodeEntry) -> EpisodeRecord | None:
        """What is written of an episode; None where it is gone."""
        if entry.uid not in self._records:
            self._records[entry.uid] = self._read(entry.uid)
        found = self._records[entry.uid]
        return found if found is not None and found.hash == entry.hash else None

    def episodes(self) -> Iterator[EpisodeEntry]:
        """Every episode that some version holds, once, the newest version first."""
        seen: set[tuple[str, str]] = set()
        for number in sorted(self.versions, reverse=True):
            for entry in self.versions[number].episodes:
                if (entry.uid, entry.hash) not in seen:
                    seen.add((entry.uid, entry.hash))
                    yield entry

    def _read(self, uid: str) -> EpisodeRecord | None:
        try:
            if isinstance(self.reader, ZarrReader):
                root = real_root(self.reader.path)
                return read_episode(root, uid, read_root(root).shard_frames)
            return self.reader.episode(uid)
        except ActError:
            return None


def _versions(reader: DatasetReader) -> list[VersionRecord]:
    if isinstance(reader, ZarrReader):
        return read_versions(real_root(reader.path))
    numbers = range(1, reader.version.number + 1)
    return [open_dataset(reader.path, number).version for number in numbers]


def registered_stores() -> tuple[dict[str, Store], list[str]]:
    """The datasets of the registry that can be read, by uid, and a sentence for each other one."""
    stores: dict[str, Store] = {}
    notes = []
    for known in Registry().datasets():
        try:
            path = location(known.path)
            if not path.exists():
                notes.append(f"dataset {known.name!r} is no longer at {known.path}")
                continue
            stores[known.uid] = Store(known.name, open_dataset(path))
        except ActError as e:
            notes.append(f"dataset {known.name!r} cannot be read: {e}")
    return stores, notes


def checkpoints() -> Mapping[Path, TrainedOn]:
    """The registered checkpoints whose folder is there, and what each was trained on."""
    found = {}
    for made in Registry().checkpoints():
        folder = Path(made.folder)
        if (folder / TRAINED_ON).is_file():
            found[folder] = trained_on(folder)
    return found


def trained_on(folder: Path) -> TrainedOn:
    """What the checkpoint in `folder` was trained on.

    Raises:
        StoreError: Its `dataset.json` is damaged.
    """
    return parsed(folder / TRAINED_ON, TrainedOn)


def parsed(file: Path, kind: type[M]) -> M:
    """The document in `file`.

    Raises:
        StoreError: It is too large, or none of this kind.
    """
    if file.stat().st_size > _DOCUMENT_BYTES:
        raise StoreError(f"{file} has {file.stat().st_size} bytes, more than {_DOCUMENT_BYTES}")
    try:
        return kind.model_validate(json.loads(file.read_bytes()))
    except (ValueError, RecursionError, ValidationError) as e:
        raise StoreError(f"{file} is damaged, or no document of a policy: {str(e)[:200]}") from e
