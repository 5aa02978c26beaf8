"""A damaged `.bag`: every complete record that lies in it, whatever its index says or lacks.

Killed recorders leave `.bag.active`: no index, and a last chunk whose head promises no bytes.
The messages of plain chunks are records of the file like any other, so the heads of such chunks
are stepped over, and it does not matter whether they tell the truth.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from act_data.errors import DataError
from act_data.sources.bounds import (
    MAX_CHANNELS,
    MAX_CHUNK_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_OPEN_MESSAGES,
)
from act_data.sources.chunk_room import Body, ChunkIndex, ChunkRoom, InFile, items
from act_data.sources.chunk_table import ChunkTable, Runs
from act_data.sources.file_order import FileOrder
from act_data.sources.inflate import Stored
from act_data.sources.ros1_records import (
    MESSAGE,
    U32,
    U64,
    Heads,
    Op,
    RecordHead,
    channel_of,
    chunk_data,
    encryptor,
    read_data,
    records_in,
    time_of,
)
from act_data.sources.salvage.account import Account
from act_data.sources.storage import (
    DAMAGE,
    MAGIC,
    Channel,
    Item,
    Texts,
    check_magic,
    chunk_at,
    damage,
    merged,
    why,
)

_MARK = re.compile(rb"\x04\x00\x00\x00op=[\x02-\x07]")  # in every record header
_MARK_BYTES = 8
_BEFORE_MARK = 128  # bytes of a header that may lie before it
_MAX_HEADER_BYTES = 2**12
_STEP = 2**20

_BETWEEN_CHUNKS = {Op.CHUNK, Op.INDEX, Op.CHUNK_INFO}

# The fields that a record must have, with their sizes.
_FIELDS: dict[int, dict[bytes, int]] = {
    Op.MESSAGE: {b"conn": 4, b"time": 8},
    Op.BAG: {b"index_pos": 8, b"conn_count": 4, b"chunk_count": 4},
    Op.INDEX: {b"conn": 4, b"count": 4},
    Op.CHUNK: {b"size": 4},
    Op.CHUNK_INFO: {b"count": 4},
    Op.CONNECTION: {b"conn": 4},
}


class SalvagedRos1:
    """One ROS 1 bag in whatever state; a `Storage` of what can be read of it.

    Attributes:
        recovery: The account of it.
        compressed: Whether it has compressed chunks.
    """

    def __init__(self, path: Path, room: ChunkRoom) -> None:
        self.path = path
        self.compressions: set[str] = set()
        self._room = room
        self._order = FileOrder()
        check_magic(path, "ros1")
        self._file: BinaryIO = path.open("rb")
        try:
            with damage(path, "ros1"):
                self._scan = _Scan(path, self._file.fileno(), room)
                self._scan.run()
        except BaseException:
            self._file.close()
            raise
        self.span_ns = self._scan.span_ns
        self.channels = self._scan.channels()
        self.recovery = self._scan.account.report(self.channels)
        self.nameless = self.recovery.nameless
        self.compressed = self._scan.compressed

    def messages(self, topics: Collection[str]) -> Iterator[Item]:
        """The messages of `topics` ordered by (recv_ns, topic), equal ones in file order."""
        wanted = {c.id: c for c in self.channels if c.topic in topics}
        ranks = {topic: rank for rank, topic in enumerate(sorted(topics))}
        starts, offsets, runs = self._scan.chunks.holding(wanted)
        with damage(self.path, "ros1"):
            yield from merged(starts, partial(self._in_chunk, offsets, runs, wanted, ranks))

    def back_ns(self) -> int:
        """The largest step back of receive times in the file, in what was read so far."""
        return self._order.back_ns()

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _in_chunk(
        self,
        offsets: NDArray[np.uint64],
        runs: NDArray[np.uint64],
        wanted: Mapping[int, Channel],
        ranks: Mapping[str, int],
        number: int,
    ) -> Iterator[Item]:
        offset, run = int(offsets[number]), int(runs[number])
        with chunk_at(offset), ExitStack() as opened:
            stored = self._scan.stored(offset, run)
            body = opened.enter_context(self._room.chunk(stored))
            index = _messages_in(body, wanted)
            opened.enter_context(self._room.messages(index))
            self.compressions.add(stored.compression or "none")
            self._order.seen(number, zip(index.times, index.channels, strict=True))
            yield from items(body, index, wanted, ranks)


class _Scan:
    """One pass over a file from front to back."""

    def __init__(self, path: Path, file: int, room: ChunkRoom) -> None:
        self.account = Account(path, "ros1")
        self.chunks = ChunkTable()
        self.compressed = False
        self.span_ns: tuple[int, int] | None = None
        self._path = path
        self._file = file
        self._size = path.stat().st_size
        self._room = room
        self._heads = Heads(file, self._size)
        self._runs = Runs(self.chunks)
        self._texts = Texts()
        self._declared: dict[int, Channel] = {}
        # Of the chunk that is being looked at: what was read, and what the entries behind promise.
        self._in_part: Counter[int] = Counter()
        self._promised: Counter[int] = Counter()
        self._missing = 0  # bytes that its head promises beyond the end of the file
        # Of the index: where it should be, and what was found there.
        self._index = 0
        self._index_records: tuple[int, int] = (0, 0)
        self._in_index: Counter[int] = Counter()
        self._of_index: Counter[int] = Counter()

    def run(self) -> None:
        """Look at the whole file.

        Raises:
            DataError: It is encrypted.
            ValueError: It holds more of something than any recording.
        """
        position = len(MAGIC["ros1"])
        while position < self._size:
            position = self._step(position)
        self._runs.end()
        self._end_part()
        found = self._of_index[Op.CONNECTION], self._of_index[Op.CHUNK_INFO]
        if 0 < self._index <= self._size and found == self._index_records:
            self.account.finished = True
            self.account.index(self._in_index)
            return
        if self._missing:
            what = "the file ends within a chunk"
            self.account.gap(self._size, self._size + self._missing, what)
        if self._index:
            self.account.note("the file was cut or damaged: its index is not complete")
        else:
            self.account.note("the recorder was stopped before it could write the index")

    def channels(self) -> tuple[Channel, ...]:
        """The channels that were found, with what was read of each."""
        found = self.account.found
        return tuple(replace(c, count=found[c.id]) for c in self._declared.values())

    def stored(self, offset: int, run: int) -> Stored:
        """The data of the chunk, or of the run of so many bytes, that was found at `offset`."""
        if run:
            return Stored(file=self._file, offset=offset, length=run, compression="", size=run)
        return self._stored(self._heads.at(offset))

    def _step(self, position: int) -> int:
        """Take in what lies at `position`; gives back where to go on."""
        head = self._head(position)
        if head is None:
            following = self._find(position + 1, self._recognisable)
            ends = following == self._size
            what = "the file ends within a record" if ends else "there is no record"
            self.account.gap(position, following, what)
            return following
        if position >= self._index > 0:
            self._of_index[head.op] += 1
        if head.op == Op.CHUNK:
            return self._chunk(position, head)
        try:
            self._take(position, head)
        except DAMAGE as e:
            self.account.gap(position, head.stop, why(e))
        return head.stop

    def _take(self, position: int, head: RecordHead) -> None:
        match head.op:
            case Op.MESSAGE:
                self._message(position, head)
            case Op.BAG:
                self._bag(head)
            case Op.CONNECTION:
                self._connection(head.fields, read_data(self._file, head))
            case Op.INDEX:
                self._promised[_u32(head, b"conn")] += _u32(head, b"count")
            case Op.CHUNK_INFO:
                data = read_data(self._file, head)
                for at in range(0, 8 * _u32(head, b"count"), 8):
                    (id_,), (count,) = U32.unpack_from(data, at), U32.unpack_from(data, at + 4)
                    self._in_index[id_] += count

    def _head(self, position: int) -> RecordHead | None:
        """The head of the record at `position`; None where no complete record is."""
        try:
            head = self._heads.at(position)
            if any(len(head.fields[name]) != size for name, size in _FIELDS[head.op].items()):
                return None
        except DAMAGE:
            return None
        return head if head.stop <= self._size or head.op == Op.CHUNK else None

    @cached_property
    def _recognisable(self) -> Collection[int]:
        """The kinds of records that may be looked for in a damaged stretch of this file.

        What does not shrink lies in compressed data as it was: a message may seem to be there, but
        parts of it are not its own.
        """
        first = self._find(0, {Op.CHUNK})
        plain = first < self._size and self._heads.at(first).fields[b"compression"] == b"none"
        return set(Op) if plain else _BETWEEN_CHUNKS

    def _find(self, start: int, ops: Collection[int]) -> int:
        """Where the next record of such kinds begins, the end of the file if there is none."""
        body = InFile(self._file, 0, self._size)
        for base in range(start, self._size, _STEP):
            window = body[base : min(self._size, base + _STEP + _MARK_BYTES)]
            for mark in _MARK.finditer(window):
                begin = max(start, base + mark.start() - _BEFORE_MARK)
                header = body[begin : base + mark.end()]
                for at in range(len(header) - _MARK_BYTES - 4, -1, -1):
                    (length,) = U32.unpack_from(header, at)
                    inside = len(header) - 4 - at <= length <= _MAX_HEADER_BYTES
                    head = self._head(begin + at) if inside else None
                    if head is not None and head.op in ops:
                        return begin + at
        return self._size

    def _bag(self, head: RecordHead) -> None:
        if name := encryptor(head):
            raise DataError(
                f"{self._path} is encrypted with {name!r}",
                hint="Decrypt it with `rosbag decrypt` on the robot.",
            )
        (self._index,) = U64.unpack(head.fields[b"index_pos"])
        self._index_records = _u32(head, b"conn_count"), _u32(head, b"chunk_count")

    def _message(self, position: int, head: RecordHead) -> None:
        if head.stop - head.start > MAX_MESSAGE_BYTES:
            raise ValueError(_too_long(head.stop - head.start))
        id_, recv_ns = _u32(head, b"conn"), time_of(head.fields[b"time"])
        self._runs.add(position, head.stop, recv_ns, id_)
        self._in_part[id_] += 1
        self.account.found[id_] += 1
        self._span(recv_ns, recv_ns)

    def _span(self, first_ns: int, last_ns: int) -> None:
        first, last = self.span_ns or (first_ns, last_ns)
        self.span_ns = min(first, first_ns), max(last, last_ns)

    def _connection(self, fields: Mapping[bytes, bytes], data: bytes) -> None:
        channel = channel_of(fields, data, self._texts)
        if len(self._declared) >= MAX_CHANNELS and channel.id not in self._declared:
            raise ValueError(f"it has more than {MAX_CHANNELS} connections")
        self._declared.setdefault(channel.id, channel)

    def _chunk(self, position: int, head: RecordHead) -> int:
        self._end_part()
        self._missing = max(0, head.stop - self._size)
        if head.fields[b"compression"] == b"none":
            return head.start
        stop = min(head.stop, self._size)
        try:
            stored = self._stored(head)
            self.compressed = True
            with self._room.chunk(stored) as body:
                reached = self._compressed(position, body)
                if reached < len(body) and not stored.cut:
                    what = f"the records of a chunk break off after {reached} of {len(body)} bytes"
                    self.account.gap(position, stop, what)
            if not stored.cut:
                return stop
            return self._find(head.start, _BETWEEN_CHUNKS)  # its length may be wrong
        except DAMAGE as e:
            if self._head(stop) is None:
                stop = self._find(head.start, _BETWEEN_CHUNKS)
            self.account.gap(position, stop, f"a chunk that cannot be read: {why(e)}")
            return stop

    def _stored(self, head: RecordHead) -> Stored:
        """The data of a chunk, as far as they are there.

        The head of a chunk that was still written when the recorder died promises no bytes.
        """
        stored = chunk_data(self._file, head)
        if not stored.size and not stored.length:
            stored = replace(stored, length=self._size, size=MAX_CHUNK_BYTES)
        if stored.offset + stored.length > self._size:
            stored = replace(stored, length=self._size - stored.offset, cut=True)
        return stored

    def _compressed(self, position: int, body: Body) -> int:
        """Take in the records of an inflated chunk; gives back how far they can be read."""
        found: Counter[int] = Counter()
        first_ns, last_ns, reached = 2**64 - 1, 0, 0
        for fields, start, stop in _records_in(body):
            reached = stop
            if fields[b"op"][0] == Op.CONNECTION:
                self._connection(fields, body[start:stop])
            elif fields[b"op"] != MESSAGE:
                continue
            elif stop - start > MAX_MESSAGE_BYTES:
                self.account.gap(position, position, _too_long(stop - start))
            else:
                recv_ns = time_of(fields[b"time"])
                first_ns, last_ns = min(first_ns, recv_ns), max(last_ns, recv_ns)
                found[U32.unpack(fields[b"conn"])[0]] += 1
        if found.total() > MAX_OPEN_MESSAGES:
            raise ValueError(f"it holds more than {MAX_OPEN_MESSAGES} messages")
        if found:
            self.chunks.add(first_ns, position, found.keys())
            self._span(first_ns, last_ns)
            self._in_part.update(found)
            self.account.found.update(found)
        return reached

    def _end_part(self) -> None:
        self.account.part(self._promised, self._in_part)
        self._promised.clear()
        self._in_part.clear()


def _messages_in(body: Body, wanted: Collection[int]) -> ChunkIndex:
    """Where the messages of the wanted connections lie in a chunk, as far as it can be read."""
    index = ChunkIndex()
    for fields, start, stop in _records_in(body):
        if fields[b"op"] == MESSAGE and stop - start <= MAX_MESSAGE_BYTES:
            (id_,) = U32.unpack(fields[b"conn"])
            if id_ in wanted:
                index.add(time_of(fields[b"time"]), id_, start, stop)
    return index


def _records_in(body: Body) -> Iterator[tuple[Mapping[bytes, bytes], int, int]]:
    """The records of a chunk up to the first that is cut or broken."""
    with suppress(ValueError, struct.error):
        for fields, start, stop in records_in(body):
            if any(len(fields[name]) != size for name, size in _FIELDS[fields[b"op"][0]].items()):
                return
            yield fields, start, stop


def _u32(head: RecordHead, name: bytes) -> int:
    (value,) = U32.unpack(head.fields[name])
    return int(value)


def _too_long(size: int) -> str:
    return f"a message of {size} bytes, more than {MAX_MESSAGE_BYTES}"
