"""The datasets and checkpoints that the registry lists, opened for questions across all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from act_data.errors import ActError, StoreError
from act_data.interfaces import DatasetReader
from act_data.records import EpisodeEntry, EpisodeRecord, VersionRecord
from act_data.registry import HeldEpisode, HoldingDataset, Registry
from act_data.store import location, open_dataset
from act_data.store.files import real_root
from act_data.store.zarr_reader import ZarrReader
from act_data.store.zarr_records import read_versions

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

    @cached_property
    def entries(self) -> Mapping[tuple[str, str], EpisodeEntry]:
        """Every episode that some version holds, by uid and hash, as the newest one names it."""
        newest = sorted(self.versions)
        return {(e.uid, e.hash): e for n in newest for e in self.versions[n].episodes}

    def _read(self, uid: str) -> EpisodeRecord | None:
        try:
            if isinstance(self.reader, ZarrReader):
                return self.reader.written(uid)
            return self.reader.episode(uid)
        except ActError:
            return None


def _versions(reader: DatasetReader) -> list[VersionRecord]:
    if isinstance(reader, ZarrReader):
        return read_versions(real_root(reader.path))
    numbers = range(1, reader.version.number + 1)
    return [open_dataset(reader.path, number).version for number in numbers]


class Stores:
    """The datasets that a question leads to; the registry says which, and only those are opened.

    Attributes:
        notes: A sentence for each that cannot be read.
    """

    def __init__(self) -> None:
        self._registry = Registry()
        self._opened: dict[str, Store | None] = {}
        self.notes: list[str] = []

    def add(self, reader: DatasetReader) -> Store:
        """The dataset of `reader`, whether or not the registry knows it."""
        store = self.of(reader.uid)
        if store is None:
            store = self._opened[reader.uid] = Store(reader.path.stem, reader)
        return store

    def of(self, uid: str) -> Store | None:
        """The dataset with this identity; None when it is not here."""
        if uid in self._opened:
            return self._opened[uid]
        known = self._registry.place_of(uid)
        return None if known is None else self._open(known)

    def made_of(self, recording: str) -> list[tuple[Store, EpisodeEntry, str]]:
        """Every episode of a recording whose sha256 begins so, and that sha256."""
        return self._episodes(self._registry.made_of(recording))

    def called(self, text: str) -> list[tuple[Store, EpisodeEntry, str]]:
        """Every episode whose uid or hash begins with `text`."""
        return self._episodes(self._registry.called(text))

    def sharing(self, store: Store) -> list[Store]:
        """The other datasets that hold an episode of `store`: no other is a copy of it."""
        found = (self._open(known) for known in self._registry.sharing(store.uid))
        return [other for other in found if other is not None]

    def _episodes(self, held: Sequence[HeldEpisode]) -> list[tuple[Store, EpisodeEntry, str]]:
        found = []
        for each in held:
            store = self._open(each.dataset)
            entry = None if store is None else store.entries.get((each.uid, each.hash))
            if store is not None and entry is not None:
                found.append((store, entry, each.recording))
        return found

    def _open(self, known: HoldingDataset) -> Store | None:
        if known.uid not in self._opened:
            self._opened[known.uid] = None
            try:
                path = location(known.path)
                if path.exists():
                    self._opened[known.uid] = Store(known.name, open_dataset(path))
                else:
                    self.notes.append(f"dataset {known.name!r} is no longer at {known.path}")
            except ActError as e:
                self.notes.append(f"dataset {known.name!r} cannot be read: {e}")
        return self._opened[known.uid]


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
