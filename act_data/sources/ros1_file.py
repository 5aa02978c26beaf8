"""ROS 1 `.bag` files: chunk by chunk, so that memory does not grow with the number of messages.

rosbags' reader keeps one tuple per message of the whole bag. Here the list of chunks at the end of
the bag says what to read and what to expect, and each chunk is walked when its time comes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from act_data.errors import DataError
from act_data.sources.bounds import MAX_CHANNELS
from act_data.sources.chunk_room import ChunkRoom, items
from act_data.sources.chunk_table import ChunkTable
from act_data.sources.file_order import FileOrder
from act_data.sources.inflate import Stored, inflate
from act_data.sources.read_ahead import MAX_AHEAD_BYTES, ReadAhead
from act_data.sources.ros1_records import (
    U32,
    U64,
    Op,
    RecordHead,
    channel_of,
    chunk_data,
    encryptor,
    expect,
    index_of,
    read_data,
    read_head,
    time_of,
)
from act_data.sources.storage import (
    MAGIC,
    RECOVER,
    Channel,
    Item,
    Texts,
    check_magic,
    chunk_at,
    damage,
    merged,
)

_SLOW = ("bz2",)


class Ros1File:
    """One indexed ROS 1 bag."""

    recovery = None

    def __init__(self, path: Path, room: ChunkRoom) -> None:
        self.path = path
        self.compressions: set[str] = set()
        self.channels: Sequence[Channel] = ()
        self.span_ns: tuple[int, int] | None = None
        self.nameless = 0
        self._room = room
        self._chunks = ChunkTable()
        self._order = FileOrder()
        check_magic(path, "ros1")
        self._file: BinaryIO = path.open("rb")
        try:
            with damage(path, "ros1"):
                self._read_index()
        except BaseException:
            self._file.close()
            raise

    def messages(self, topics: Collection[str]) -> Iterator[Item]:
        """The messages of `topics` ordered by (recv_ns, topic), equal ones in file order."""
        wanted = {c.id: c for c in self.channels if c.topic in topics}
        ranks = {topic: rank for rank, topic in enumerate(sorted(topics))}
        starts, offsets, _ = self._chunks.holding(wanted)
        order = np.argsort(starts, kind="stable")
        with (
            damage(self.path, "ros1"),
            ReadAhead(order, partial(self._ahead, offsets)) as ahead,
        ):
            yield from merged(starts, partial(self._in_chunk, offsets, ahead, wanted, ranks))

    def back_ns(self) -> int:
        """The largest step back of receive times in the file, in what was read so far."""
        return self._order.back_ns()

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _read_index(self) -> None:
        file = self._file.fileno()
        head = read_head(file, len(MAGIC["ros1"]))
        if head.op != Op.BAG:
            raise ValueError("it does not begin with the record of a bag")
        if name := encryptor(head):
            raise DataError(
                f"{self.path} is encrypted with {name!r}",
                hint="Decrypt it with `rosbag decrypt` on the robot.",
            )
        (index,) = U64.unpack(head.fields[b"index_pos"])
        if index == 0:
            raise DataError(
                f"{self.path} has no index: the recorder was stopped before it could write one",
                hint=RECOVER,
            )
        (connections,) = U32.unpack(head.fields[b"conn_count"])
        (chunks,) = U32.unpack(head.fields[b"chunk_count"])
        if connections > MAX_CHANNELS:
            raise ValueError(f"it has {connections} connections, more than {MAX_CHANNELS}")
        texts = Texts()
        channels: dict[int, Channel] = {}
        for _ in range(connections):
            head = expect(read_head(file, index), Op.CONNECTION)
            channel = channel_of(head.fields, read_data(file, head), texts)
            channels[channel.id] = channel
            index = head.stop
        counts = dict.fromkeys(channels, 0)
        for _ in range(chunks):
            head = expect(read_head(file, index), Op.CHUNK_INFO)
            self._add_chunk(head, read_data(file, head), counts)
            index = head.stop
        self.channels = tuple(replace(c, count=counts.pop(c.id)) for c in channels.values())
        self.nameless = sum(counts.values())

    def _add_chunk(self, head: RecordHead, data: bytes, counts: dict[int, int]) -> None:
        """Take in what the index says of one chunk."""
        (entries,) = U32.unpack(head.fields[b"count"])
        inside: list[int] = []
        for i in range(entries):
            id_, count = U32.unpack_from(data, 8 * i)[0], U32.unpack_from(data, 8 * i + 4)[0]
            counts[id_] = counts.get(id_, 0) + count
            inside.append(id_)
        if not inside:
            return
        first, last = time_of(head.fields[b"start_time"]), time_of(head.fields[b"end_time"])
        earliest, latest = self.span_ns or (first, last)
        self.span_ns = min(earliest, first), max(latest, last)
        (offset,) = U64.unpack(head.fields[b"chunk_pos"])
        self._chunks.add(first, offset, inside)

    def _in_chunk(
        self,
        offsets: NDArray[np.uint64],
        ahead: ReadAhead,
        wanted: Mapping[int, Channel],
        ranks: Mapping[str, int],
        number: int,
    ) -> Iterator[Item]:
        offset = int(offsets[number])
        with chunk_at(offset), ExitStack() as opened:
            stored = self._stored(offset)
            ready = ahead.take(number) if stored.compression in _SLOW else None
            body = opened.enter_context(self._room.chunk(stored, ready))
            index = index_of(body, wanted)
            opened.enter_context(self._room.messages(index))
            self.compressions.add(stored.compression or "none")
            self._order.seen(number, zip(index.times, index.channels, strict=True))
            yield from items(body, index, wanted, ranks)

    def _stored(self, offset: int) -> Stored:
        file = self._file.fileno()
        return chunk_data(file, expect(read_head(file, offset), Op.CHUNK))

    def _ahead(self, offsets: NDArray[np.uint64], number: int) -> bytes | None:
        stored = self._stored(int(offsets[number]))
        ahead = stored.compression in _SLOW and stored.size <= MAX_AHEAD_BYTES
        return inflate(stored) if ahead else None
