"""Where inflated chunks lie while they are read: in memory as long as there is room, else on disk.

Chunks that overlap in time are open at once. Recorders leave two or three such; a file that was
put together from many others may have hundreds, and a hostile one as many as it likes.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BufferedRandom
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from act_data.sources.bounds import (
    MAX_MESSAGE_BYTES,
    MAX_OPEN_BYTES,
    MAX_OPEN_CHUNKS,
    MAX_OPEN_MESSAGES,
    MAX_SCRATCH_BYTES,
)
from act_data.sources.inflate import Stored, check, inflate, inflate_to
from act_data.sources.storage import Channel, Item

WINDOW_BYTES = 2**16  # what is looked at at once of a body that is not in memory
_VIEW_SHARE = 2  # a message of at least one part in so many of its chunk is not copied


class Body(Protocol):
    """The inflated bytes of a chunk, wherever they lie."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice) -> bytes:
        """The bytes from `part.start` to `part.stop`."""


@dataclass(slots=True)
class ChunkIndex:
    """The messages of a chunk in the order of the file, as parallel arrays; 28 bytes for each.

    Attributes:
        times: Receive times.
        channels: Ids.
        starts: First byte of the payload in the chunk.
        stops: The byte behind it.
    """

    times: array[int] = field(default_factory=lambda: array("Q"))
    channels: array[int] = field(default_factory=lambda: array("I"))
    starts: array[int] = field(default_factory=lambda: array("Q"))
    stops: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, recv_ns: int, channel: int, start: int, stop: int) -> None:
        """Append one message."""
        self.times.append(recv_ns)
        self.channels.append(channel)
        self.starts.append(start)
        self.stops.append(stop)
        if len(self.times) > MAX_OPEN_MESSAGES:
            raise ValueError(f"it holds more than {MAX_OPEN_MESSAGES} messages")

    def order(self, ranks: Mapping[int, int]) -> list[int]:
        """Positions by (time, rank of the channel), equal ones as they lie in the file."""
        times = np.frombuffer(self.times, np.uint64)
        if len(times) < 2 or bool((times[1:] > times[:-1]).all()):
            return list(range(len(times)))
        of_channel: NDArray[np.int64] = np.array([ranks[c] for c in self.channels], np.int64)
        found: list[int] = np.lexsort((of_channel, times)).tolist()
        return found


class ChunkRoom:
    """The chunks of one recording that are open at this moment.

    What does not fit into memory is inflated into a file without a name, which goes when the room
    is closed; plain chunks are then read where they lie.
    """

    def __init__(self) -> None:
        self._bytes = 0
        self._chunks = 0
        self._messages = 0
        self._scratch: BufferedRandom | None = None
        self._scratch_users = 0

    @contextmanager
    def chunk(self, stored: Stored, ready: bytes | None = None) -> Iterator[Body]:
        """The inflated bytes of a chunk, for as long as the block lasts.

        Args:
            ready: Its bytes, where somebody has inflated them already.

        Raises:
            ValueError: It is not what it declares, or there is no room for it.
        """
        check(stored)
        if self._chunks >= MAX_OPEN_CHUNKS:
            raise ValueError(f"more than {MAX_OPEN_CHUNKS} chunks overlap in time")
        self._chunks += 1
        in_memory = stored.size if self._bytes + stored.size <= MAX_OPEN_BYTES else 0
        spilled = bool(stored.size and not in_memory and stored.compression)
        self._bytes += in_memory
        self._scratch_users += spilled
        try:
            if spilled:
                yield self._spilled(stored)
            elif in_memory or not stored.size:
                yield inflate(stored) if ready is None else ready
            else:
                yield InFile(stored.file, stored.offset, stored.length)
        finally:
            self._chunks -= 1
            self._bytes -= in_memory
            self._scratch_users -= spilled
            if spilled and self._scratch is not None and not self._scratch_users:
                self._scratch.truncate(0)

    @contextmanager
    def messages(self, index: ChunkIndex) -> Iterator[None]:
        """Count the messages of an open chunk; ValueError when there are too many altogether."""
        count = len(index.times)
        if self._messages + count > MAX_OPEN_MESSAGES:
            raise ValueError(f"more than {MAX_OPEN_MESSAGES} messages of chunks overlap in time")
        self._messages += count
        try:
            yield
        finally:
            self._messages -= count

    def close(self) -> None:
        """Let go of the scratch file."""
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

    def _spilled(self, stored: Stored) -> InFile:
        if self._scratch is None:
            self._scratch = tempfile.TemporaryFile()  # noqa: SIM115
        start = self._scratch.seek(0, os.SEEK_END)
        if start + stored.size > MAX_SCRATCH_BYTES:
            raise ValueError(f"chunks of more than {MAX_SCRATCH_BYTES} bytes overlap in time")
        size = inflate_to(stored, self._scratch)
        self._scratch.flush()
        return InFile(self._scratch.fileno(), start, size)


def items(
    body: Body,
    index: ChunkIndex,
    wanted: Mapping[int, Channel],
    ranks: Mapping[str, int],
    *,
    before: int = 0,
) -> Iterator[Item]:
    """The messages of an open chunk by (recv_ns, rank of the topic), equal ones in file order.

    Args:
        before: Bytes before each payload that are given with it.

    Raises:
        ValueError: A message is longer than any.
    """
    copy: Body | memoryview = body
    view = memoryview(body) if isinstance(body, bytes) else copy
    for i in index.order({id_: ranks[channel.topic] for id_, channel in wanted.items()}):
        channel, start, stop = wanted[index.channels[i]], index.starts[i], index.stops[i]
        if stop - start > MAX_MESSAGE_BYTES:
            raise ValueError(
                f"a message of {channel.topic!r} has {stop - start} bytes, more than "
                f"{MAX_MESSAGE_BYTES}"
            )
        # A picture is most of its chunk: a view saves a copy and keeps little else alive.
        part = view if (stop - start) * _VIEW_SHARE >= len(body) else copy
        yield index.times[i], channel.topic, channel, partial(_bytes_of, part, start - before, stop)


def _bytes_of(body: Body | memoryview, start: int, stop: int) -> bytes | memoryview:
    return body[start:stop]


class InFile:
    """Bytes that stay where they are; every read makes a copy of what it asks for."""

    def __init__(self, file: int, offset: int, length: int) -> None:
        self._file = file
        self._offset = offset
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._length)
        data = os.pread(self._file, max(0, stop - start), self._offset + start)
        if len(data) != max(0, stop - start):
            raise ValueError("the file ends within it")
        return data
