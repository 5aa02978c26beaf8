"""One version of an HDF5 dataset, read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from act_data.errors import NotFoundError, StoreError
from act_data.records import (
    DatasetSchema,
    Depth,
    EpisodeEntry,
    EpisodeRecord,
    Problem,
    StatsRecord,
    VersionRecord,
)
from act_data.store.episodes_of_version import (
    array_asked,
    episode_asked,
    places_of,
    refuse_other_place,
    refuse_other_stats,
    rows_asked,
)
from act_data.store.files import read_whole, write_whole
from act_data.store.hdf5.episode_file import EpisodeFile
from act_data.store.hdf5.place import Place, members, version_of
from act_data.types import EncodedImage

_OPEN_FILES = 16
_STATS_BYTES = 1 << 26


class Hdf5Reader:
    """A `DatasetReader` for ALOHA files.

    Up to 16 files stay open, per process. There is no room for statistics in the layout: they
    are `<name>.stats.json` beside the dataset.
    """

    def __init__(self, path: Path, version: int | None = None) -> None:
        """Pin `version` of the dataset at `path`, the newest one by default.

        Raises:
            NotFoundError: Nothing was committed there, or not this version.
            StoreError: It is not a dataset, or damaged.
        """
        place = Place(path)
        if path.exists() and path.is_dir() == place.single:
            kind = "a folder" if place.single else "a file"
            raise StoreError(
                f"{str(path)!r} is {kind}", hint="Name a *.hdf5 file, or a folder of episodes."
            )
        found = members(place)
        if not found:
            raise NotFoundError(
                f"{str(path)!r} holds no committed episode", hint="Ingest recordings into it."
            )
        newest = found[-1].commit.version
        if version is not None and not 1 <= version <= newest:
            raise NotFoundError(
                f"{str(path)!r} has no version {version}", hint=f"Its newest one is {newest}."
            )
        self._path = path
        self._place = place
        self._version = version_of(found, newest if version is None else version)
        self._uid = found[0].header.dataset_uid
        self._schema = found[0].header.dataset_schema
        self._features = {f.name: f for f in self._schema.features}
        self._files: dict[int, EpisodeFile] = {}
        self._pid = os.getpid()

    def __reduce__(self) -> tuple[type[Hdf5Reader], tuple[Path, int]]:
        return Hdf5Reader, (self._path, self._version.number)

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self._path

    @property
    def uid(self) -> str:
        """Identity of the dataset over all its versions."""
        return self._uid

    @property
    def schema(self) -> DatasetSchema:
        """What every episode looks like."""
        return self._schema

    @property
    def version(self) -> VersionRecord:
        """The version that this reader is pinned to."""
        return self._version

    @property
    def episodes(self) -> Sequence[EpisodeEntry]:
        """The episodes of the version, in order."""
        return self._version.episodes

    def episode(self, uid: str) -> EpisodeRecord:
        """The whole record of one episode.

        Its `files` is empty: a file cannot hold its own digest. `hash` covers every array.

        Raises:
            NotFoundError: The version has no such episode.
        """
        number = episode_asked(self._path, self._version, self._places, uid)
        record = self._file(number).header.record
        return record.model_copy(update={"start": self.episodes[number].start})

    @cached_property
    def _places(self) -> dict[str, int]:
        return places_of(self._version)

    def read(
        self,
        feature: str,
        episode: int,
        start: int = 0,
        stop: int | None = None,
        *,
        out: NDArray[np.generic] | None = None,
    ) -> NDArray[np.generic]:
        """Rows [start, stop) of `feature` in the `episode`-th episode, (T, *shape), decoded.

        A flipped bit of an uncompressed array is not noticed here, as in any file without
        checksums, which the layout has no room for; `verify` finds it.

        Args:
            out: Where to put them; see `DatasetReader`.

        Raises:
            NotFoundError: No such array or episode.
            InputError: Rows that the episode does not have, or `out` is no place for them.
            StoreError: The file is missing, cut or damaged.
        """
        spec = array_asked(self._path, self._features, feature)
        rows = rows_asked(self._path, self._version, episode, start, stop)
        if out is None:
            return self._file(episode).read(feature, rows.start, rows.stop)
        refuse_other_place(out, spec, len(rows))
        out[...] = self._file(episode).read(feature, rows.start, rows.stop)
        return out

    def encoded(self, feature: str, episode: int, row: int) -> EncodedImage | None:
        """The JPEG file that `read` would decode, red and blue swapped; None for raw pictures.

        Raises:
            NotFoundError: No such array or episode.
            InputError: The episode has no such row.
            StoreError: The file is missing, cut or damaged.
        """
        spec = array_asked(self._path, self._features, feature)
        rows_asked(self._path, self._version, episode, row, row + 1)
        if spec.codec != "jpeg":
            return None
        data = self._file(episode).encoded(spec, row)
        return EncodedImage(data=data, shape=spec.shape, swapped=True)

    def stats(self) -> StatsRecord | None:
        """The statistics beside the dataset, when they are of this version."""
        root, name = self._sidecar()
        try:
            text = read_whole(root, name, _STATS_BYTES)
            stats = StatsRecord.model_validate_json(text)
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise StoreError(
                f"{str(Path(root, name))!r} is not a statistics file: {error}",
                hint="Delete it and compute the statistics again.",
            ) from error
        return stats if stats.content_hash == self._version.content_hash else None

    def save_stats(self, stats: StatsRecord) -> None:
        """Keep `stats` beside the dataset, in the place of those of another version or split.

        Raises:
            InputError: They are of another version.
        """
        refuse_other_stats(self._path, self._version, stats)
        root, name = self._sidecar()
        scratch = Path(root, f".{name}.{os.getpid()}.partial")
        text = stats.model_dump_json(indent=2) + "\n"
        write_whole(Path(root), name, text.encode(), scratch)

    def verify(self, depth: Depth = "hash") -> list[Problem]:
        """What is damaged, missing or foreign; see `DatasetReader`."""
        problems = [
            Problem(what=f"{str(p)!r} is not part of the dataset") for p in self._place.foreign()
        ]
        self._files = {}  # what HDF5 remembers of an open file hides what became of it on disk
        for number, entry in enumerate(self.episodes):
            path = self._place.target(number)
            try:
                with EpisodeFile(path) as file:
                    same = file.header.record.hash == entry.hash
                    if not (same and (depth == "quick" or file.content_hash() == entry.hash)):
                        what = f"{str(path)!r} does not hold what was committed"
                        problems.append(Problem(what=what, episode=entry.uid))
                    elif depth == "deep":
                        for name in self._features:
                            for row in range(entry.length):
                                file.read(name, row, row + 1)
            except StoreError as error:
                problems.append(Problem(what=str(error), episode=entry.uid))
        return problems

    def _sidecar(self) -> tuple[str, str]:
        whole = Path(os.path.realpath(self._path))
        return str(whole.parent), f"{whole.stem}.stats.json"

    def _file(self, episode: int) -> EpisodeFile:
        if self._pid != os.getpid():  # after a fork every process opens its own
            self._pid, self._files = os.getpid(), {}
        file = self._files.get(episode)
        if file is None:
            file = EpisodeFile(self._place.target(episode))
            if file.header.record.hash != self.episodes[episode].hash:
                file.close()
                raise StoreError(
                    f"{str(self._place.target(episode))!r} is another file than when the dataset "
                    "was opened",
                    hint="Open the dataset again.",
                )
            if len(self._files) >= _OPEN_FILES:
                # Not closed here: another thread may be reading it. It closes with its last user.
                self._files.pop(next(iter(self._files)))
            self._files[episode] = file
        return file
