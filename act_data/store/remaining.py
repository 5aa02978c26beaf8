"""A version of a dataset without the episodes that cannot be relied on any more."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from act_data.errors import NotFoundError, StoreError
from act_data.interfaces import DatasetReader
from act_data.records import (
    DatasetSchema,
    Depth,
    EpisodeEntry,
    EpisodeRecord,
    Problem,
    StatsRecord,
    VersionRecord,
)
from act_data.types import EncodedImage


class Remaining:
    """A `DatasetReader` of the episodes that are left; positions count those only.

    The version stays the one that was committed, so that what is trained on the rest still says
    which dataset it came from; the uids of its episodes say what was left out.

    Raises:
        StoreError: No episode is left.
    """

    def __init__(self, reader: DatasetReader, without: Collection[str]) -> None:
        self._reader = reader
        self._places = [n for n, e in enumerate(reader.episodes) if e.uid not in without]
        if not self._places:
            raise StoreError(f"{reader.path}: all {len(reader.episodes)} episodes are damaged")
        self._episodes = tuple(reader.episodes[n] for n in self._places)

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self._reader.path

    @property
    def uid(self) -> str:
        """Identity of the dataset."""
        return self._reader.uid

    @property
    def schema(self) -> DatasetSchema:
        """What every episode looks like."""
        return self._reader.schema

    @property
    def version(self) -> VersionRecord:
        """The whole version, with the episodes that are left out here."""
        return self._reader.version

    @property
    def episodes(self) -> Sequence[EpisodeEntry]:
        """The episodes that are left, in order."""
        return self._episodes

    def episode(self, uid: str) -> EpisodeRecord:
        """The record of an episode that is left; NotFoundError for another one."""
        if all(entry.uid != uid for entry in self._episodes):
            raise NotFoundError(f"{self.path}: episode {uid!r} is left out: it is damaged")
        return self._reader.episode(uid)

    def read(
        self,
        feature: str,
        episode: int,
        start: int = 0,
        stop: int | None = None,
        *,
        out: NDArray[np.generic] | None = None,
    ) -> NDArray[np.generic]:
        """Rows of the `episode`-th episode that is left; see `DatasetReader`."""
        return self._reader.read(feature, self._place(episode), start, stop, out=out)

    def encoded(self, feature: str, episode: int, row: int) -> EncodedImage | None:
        """A JPEG file of the `episode`-th episode that is left; see `DatasetReader`."""
        return self._reader.encoded(feature, self._place(episode), row)

    def stats(self) -> StatsRecord | None:
        """The statistics of the whole version, if they were saved when it was sound."""
        return self._reader.stats()

    def save_stats(self, stats: StatsRecord) -> None:
        """Does nothing: statistics of a part are not those of the version."""

    def verify(self, depth: Depth = "hash") -> list[Problem]:
        """What is wrong with the episodes that are left."""
        left = {entry.uid for entry in self._episodes}
        return [p for p in self._reader.verify(depth) if not p.episode or p.episode in left]

    def _place(self, episode: int) -> int:
        if not 0 <= episode < len(self._places):
            raise NotFoundError(
                f"{self.path} has no episode {episode}",
                hint=f"It has {len(self._places)} undamaged ones, from 0.",
            )
        return self._places[episode]
