"""The seams: what a source of messages and a store of episodes must be able to do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from act_data.records import (
    DatasetSchema,
    Depth,
    EpisodeEntry,
    EpisodeInfo,
    EpisodeRecord,
    Problem,
    SourceRecord,
    Split,
    StatsRecord,
    VersionRecord,
)
from act_data.types import EncodedImage, RawMessage, Timestep, TopicInfo


class Source(Protocol):
    """One recording, or live topics. A context manager."""

    @property
    def name(self) -> str:
        """For people: the recording's name without folder and suffix."""

    @property
    def topics(self) -> Mapping[str, TopicInfo]:
        """All topics by name, whether or not they can be decoded."""

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        """The messages of `topics` in log order, one pass, bounded memory.

        Raises:
            DataError: The recording is damaged, or delivered fewer messages than it promised.
        """

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about what was read so far, in sentences for people."""

    def deserialize(self, raw: RawMessage) -> Any:
        """The message as an object whose attributes are the fields; arrays are numpy.

        Raises:
            DataError: The payload does not fit its type.
        """

    def record(self, topics: Collection[str]) -> SourceRecord:
        """What to store about this source with an episode made from `topics`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class EpisodeWriter(Protocol):
    """Where the timesteps of one episode go. Holds a bounded part of it in memory.

    Attributes:
        uid: As it was asked for. On a bench it may be set anew until `finish`.
    """

    uid: str

    def record(self, step: Timestep) -> None:
        """Append `step`."""

    def finish(self, info: EpisodeInfo) -> EpisodeRecord:
        """Make the episode durable (fsync). It is not visible before the dataset's commit."""

    def discard(self) -> None:
        """Remove what was written of this episode. After `finish` it does nothing."""


class Bench(Protocol):
    """Where episodes of one dataset are made, beside it, by any number of processes at once.

    Travels to them by pickle. A finished episode is durable and waits there until the dataset's
    writer adopts it; the next writer does, if this one dies before.
    """

    def episode(self, uid: str) -> EpisodeWriter:
        """A writer for a new episode. In each process one at a time."""

    def remove(self, uid: str) -> None:
        """Remove a finished episode that was not adopted; nothing when there is none."""


class DatasetWriter(Protocol):
    """A dataset opened for appending; one writer at a time. A context manager."""

    @property
    def schema(self) -> DatasetSchema:
        """What every episode must look like."""

    @property
    def durable(self) -> Mapping[str, EpisodeRecord]:
        """Finished episodes by uid, committed or left behind by an interrupted run."""

    def episode(self, uid: str) -> EpisodeWriter:
        """A writer for a new episode. One at a time."""

    @property
    def bench(self) -> Bench:
        """Where others make episodes for this writer to adopt."""

    def adopt(self, uid: str) -> EpisodeRecord:
        """Take in an episode that was finished on the bench: from here on it is `durable`."""

    def commit(
        self, uids: Sequence[str], *, message: str = "", splits: Mapping[str, Split] | None = None
    ) -> VersionRecord:
        """Make a new version: the episodes of the last one, then `uids` that it does not hold.

        Atomic: after a crash at any point a reader sees the old version or the new one. Without
        a new episode the last version is given back and nothing is written.

        Args:
            splits: Of new episodes, by uid, where it is known; the content decides for others.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class DatasetReader(Protocol):
    """One version of a dataset. Safe to use after fork, and to pickle to a worker."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def uid(self) -> str:
        """Identity of the dataset over all its versions."""

    @property
    def schema(self) -> DatasetSchema:
        """What every episode looks like."""

    @property
    def version(self) -> VersionRecord:
        """The version that this reader is pinned to."""

    @property
    def episodes(self) -> Sequence[EpisodeEntry]:
        """The episodes of the version, in order."""

    def episode(self, uid: str) -> EpisodeRecord:
        """The whole record of one episode."""

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

        Args:
            out: Where to put them: an array of that shape and type, in C order. A new one when
                absent.

        Raises:
            StoreError: A file is missing, cut or damaged; names array, episode and row.
        """

    def encoded(self, feature: str, episode: int, row: int) -> EncodedImage | None:
        """The JPEG file that `read` would decode; None where the array is not kept as JPEG.

        Raises:
            StoreError: A file is missing, cut or damaged.
        """

    def stats(self) -> StatsRecord | None:
        """The statistics saved with this version, if any."""

    def save_stats(self, stats: StatsRecord) -> None:
        """Keep `stats` with this version."""

    def verify(self, depth: Depth = "hash") -> list[Problem]:
        """What is damaged, missing or foreign in this version; empty when sound.

        Args:
            depth: "quick" reads the records and compares sizes; "hash" reads every byte and
                compares it with the manifest and the content hash; "deep" also decodes every frame.
        """
