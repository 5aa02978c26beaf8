"""The chunks of a file: where they lie, when they begin and what is inside, in few bytes each."""

from __future__ import annotations

from array import array
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from act_data.sources.bounds import MAX_CHUNKS

_MAX_CHANNELS_INSIDE = 2**20  # over all chunks that differ; beyond, a chunk is read to know
_MAX_RUN_BYTES = 2**20


class ChunkTable:
    """Chunks, and runs of messages outside of chunks, of one file.

    Attributes:
        first_ns: Least receive time of each chunk.
        offsets: Where its record begins in the file.
        runs: 0 for a chunk; the bytes of a run of records outside of chunks.
    """

    def __init__(self) -> None:
        self.first_ns = array("Q")
        self.offsets = array("Q")
        self.runs = array("Q")
        self._inside: list[frozenset[int] | None] = []
        self._equal: dict[frozenset[int], frozenset[int]] = {}
        self._channels = 0

    def add(
        self, first_ns: int, offset: int, inside: Collection[int] | None, *, run: int = 0
    ) -> None:
        """Append a chunk.

        Args:
            inside: Ids of the channels with messages in it; None when nobody knows.

        Raises:
            ValueError: There are more chunks than any recording has.
        """
        if len(self.first_ns) >= MAX_CHUNKS:
            raise ValueError(f"it has more than {MAX_CHUNKS} chunks")
        channels = None if inside is None else frozenset(inside)
        if channels is not None:
            known = self._equal.get(channels)
            if known is None and self._channels + len(channels) <= _MAX_CHANNELS_INSIDE:
                self._channels += len(channels)
                known = self._equal.setdefault(channels, channels)
            channels = known
        self.first_ns.append(first_ns)
        self.offsets.append(offset)
        self.runs.append(run)
        self._inside.append(channels)

    def holding(
        self, wanted: Collection[int]
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
        """The chunks that may hold messages of `wanted`, as they lie in the file.

        Returns:
            Their `first_ns`, `offsets` and `runs`.
        """
        channels = frozenset(wanted)
        hit = {inside: not channels.isdisjoint(inside) for inside in self._equal}
        may = np.fromiter(
            (inside is None or hit[inside] for inside in self._inside), bool, len(self._inside)
        )
        columns = np.array([self.first_ns, self.offsets, self.runs], np.uint64)[:, may]
        first_ns, offsets, runs = columns[:, np.argsort(columns[1], kind="stable")]
        return first_ns, offsets, runs


class Runs:
    """Messages outside of chunks, gathered into runs that are read as if they were chunks."""

    def __init__(self, table: ChunkTable) -> None:
        self._table = table
        self._start = self._stop = 0
        self._first_ns = 0
        self._inside: set[int] = set()

    def add(self, start: int, stop: int, recv_ns: int, channel: int) -> None:
        """Take in the message whose record lies from `start` to `stop` of the file."""
        if start != self._stop or stop - self._start > _MAX_RUN_BYTES:
            self.end()
            self._start, self._first_ns = start, recv_ns
        self._stop = stop
        self._first_ns = min(self._first_ns, recv_ns)
        self._inside.add(channel)

    def end(self) -> None:
        """Close the last run."""
        if self._inside:
            length = self._stop - self._start
            self._table.add(self._first_ns, self._start, self._inside, run=length)
        self._inside = set()
