"""A damaged `.mcap`: every complete record that lies in it, whatever its summary says or lacks.

A chunk with a checksum is read when it is what the checksum says, and left out otherwise. Of a
chunk within which the file ends, everything up to that end is read, compressed or not.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from mcap import records
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from numpy.typing import NDArray

from act_data.sources.bounds import MAX_MESSAGE_BYTES, MAX_OPEN_MESSAGES
from act_data.sources.chunk_room import Body, ChunkIndex, ChunkRoom, InFile, items
from act_data.sources.chunk_table import ChunkTable, Runs
from act_data.sources.file_order import FileOrder
from act_data.sources.inflate import Stored
from act_data.sources.mcap_records import (
    MESSAGE,
    RECORD,
    Declarations,
    StoredChunk,
    check_crc,
    chunk_record,
    read_body,
    records_in,
    small,
)
from act_data.sources.salvage.account import Account
from act_data.sources.storage import (
    DAMAGE,
    MAGIC,
    Channel,
    Item,
    check_magic,
    chunk_at,
    damage,
    merged,
    why,
)

_BROKEN: tuple[type[Exception], ...] = (*DAMAGE, McapError)
_CANDIDATE = re.compile(rb"(?=[\x01-\x0f].{5}\x00\x00\x00)", re.DOTALL)  # less than 2^40 bytes
_STEP = 2**20
_MAX_EXTRAS = 1000
_IN_CHUNKS = {Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE}
_BETWEEN_CHUNKS = set(range(1, 16)) - _IN_CHUNKS
_FIXED = {Opcode.FOOTER: 20, Opcode.DATA_END: 4}
_INDEX = struct.Struct("<HI")  # channel, bytes of its entries
_ENTRY_BYTES = 16


class SalvagedMcap:
    """One MCAP file in whatever state; a `Storage` of what can be read of it.

    Attributes:
        recovery: The account of it.
        compressed: Whether it has compressed chunks.
        profile: As its header says.
        extras: Opcode and place of its attachments and metadata.
        raw: Its channels as they were declared, by id.
    """

    def __init__(self, path: Path, room: ChunkRoom) -> None:
        self.path = path
        self.compressions: set[str] = set()
        self._room = room
        self._order = FileOrder()
        check_magic(path, "mcap")
        self._file: BinaryIO = path.open("rb")
        try:
            with damage(path, "mcap", McapError):
                self._scan = _Scan(path, self._file.fileno(), room)
                self._scan.run()
                self.channels = self._scan.declared.channels(self._scan.account.found)
        except BaseException:
            self._file.close()
            raise
        self.span_ns = self._scan.span_ns
        self.profile, self.extras = self._scan.profile, self._scan.extras
        self.raw = self._scan.declared.raw()
        self.recovery = self._scan.account.report(self.channels)
        self.nameless = self.recovery.nameless
        self.compressed = self._scan.compressed

    def messages(self, topics: Collection[str], *, before: int = 0) -> Iterator[Item]:
        """The messages of `topics` ordered by (recv_ns, topic), equal ones in file order.

        Args:
            before: Bytes before each payload that are given with it: `MESSAGE.size` for its head.
        """
        wanted = {c.id: c for c in self.channels if c.topic in topics}
        ranks = {topic: rank for rank, topic in enumerate(sorted(topics))}
        starts, offsets, runs = self._scan.chunks.holding(wanted)
        opened = partial(self._in_chunk, offsets, runs, wanted, ranks, before)
        with damage(self.path, "mcap", McapError):
            yield from merged(starts, opened)

    def extra(self, start: int, stop: int) -> bytes:
        """The body of one of `extras`; ValueError when it is larger than any message."""
        if stop - start > MAX_MESSAGE_BYTES:
            raise ValueError(f"it has {stop - start} bytes, more than {MAX_MESSAGE_BYTES}")
        return InFile(self._file.fileno(), start, stop - start)[:]

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
        before: int,
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
            yield from items(body, index, wanted, ranks, before=before)


class _Scan:
    """One pass over a file from front to back."""

    def __init__(self, path: Path, file: int, room: ChunkRoom) -> None:
        self.account = Account(path, "mcap")
        self.declared = Declarations(foreign=True)
        self.chunks = ChunkTable()
        self.compressed = False
        self.span_ns: tuple[int, int] | None = None
        self.profile = ""
        self.extras: list[tuple[int, int, int]] = []
        self._file = file
        self._size = path.stat().st_size
        self._body = InFile(file, 0, self._size)
        self._room = room
        self._runs = Runs(self.chunks)
        # Of the chunk that is being looked at: what was read, and what the entries behind promise.
        self._in_part: Counter[int] = Counter()
        self._promised: Counter[int] = Counter()
        self._missing = 0  # bytes that its head promises beyond the end of the file

    def run(self) -> None:
        """Look at the whole file."""
        position = len(MAGIC["mcap"])
        while position < self._size:
            position = self._step(position)
        self._runs.end()
        self._end_part()
        if not self.account.finished:
            if self._missing:
                what = "the file ends within a chunk"
                self.account.gap(self._size, self._size + self._missing, what)
            self.account.note("its end is missing: the recorder did not finish it, or it was cut")

    def stored(self, offset: int, run: int) -> Stored:
        """The data of the chunk, or of the run of so many bytes, that was found at `offset`."""
        if run:
            return Stored(file=self._file, offset=offset, length=run, compression="", size=run)
        return self._stored(chunk_record(self._file, offset))

    def _step(self, position: int) -> int:
        """Take in what lies at `position`; gives back where to go on."""
        record = self._record(position)
        if record is None:
            following = self._find(position + 1, self._recognisable)
            ends = following == self._size
            what = "the file ends within a record" if ends else "there is no record"
            self.account.gap(position, following, what)
            return following
        opcode, start, stop = record
        if opcode == Opcode.CHUNK:
            return self._chunk(position, stop)
        try:
            self._take(opcode, start, stop)
        except _BROKEN as e:
            self.account.gap(position, stop, why(e))
        if opcode == Opcode.FOOTER and self._body[stop : stop + 9] == MAGIC["mcap"]:
            self.account.finished = True
            return self._size
        return stop

    def _record(self, position: int) -> tuple[int, int, int] | None:
        """(opcode, start, stop) of the record at `position`; None where no complete one is.

        A chunk may reach beyond the end of the file.
        """
        head = self._body[position : position + RECORD.size]
        if len(head) < RECORD.size:
            return None
        opcode, length = RECORD.unpack(head)
        start = position + RECORD.size
        if not (0 < opcode < 0x10 or opcode >= 0x80) or _FIXED.get(opcode, length) != length:
            return None
        if opcode == Opcode.MESSAGE and length < MESSAGE.size:
            return None
        if start + length > self._size and opcode != Opcode.CHUNK:
            return None
        return opcode, start, start + length

    def _sound(self, position: int) -> bool:
        """Whether a record begins at `position` that is one by more than its head."""
        record = self._record(position)
        if record is None:
            return False
        opcode, start, stop = record
        try:
            if opcode == Opcode.CHUNK:
                self._stored(chunk_record(self._file, position))
            elif opcode == Opcode.MESSAGE:
                channel, _, _, _ = MESSAGE.unpack(self._body[start : start + MESSAGE.size])
                if self.declared.ids and channel not in self.declared.ids:
                    return False
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                Declarations().add(opcode, read_body(self._file, start, stop))
            elif opcode == Opcode.MESSAGE_INDEX:
                _count_of_index(self._body[start : start + _INDEX.size], stop - start)
        except _BROKEN:
            return False
        return stop >= self._size or self._record(stop) is not None

    @cached_property
    def _recognisable(self) -> Collection[int]:
        """The kinds of records that may be looked for in a damaged stretch of this file.

        What does not shrink lies in compressed data as it was: a message may seem to be there, but
        parts of it are not its own.
        """
        first = self._find(len(MAGIC["mcap"]), {Opcode.CHUNK})
        plain = first == self._size or not chunk_record(self._file, first).stored.compression
        return _BETWEEN_CHUNKS | _IN_CHUNKS if plain else _BETWEEN_CHUNKS

    def _find(self, start: int, kinds: Collection[int]) -> int:
        """Where the next record of such kinds begins, the end of the file if there is none."""
        for base in range(start, self._size, _STEP):
            window = self._body[base : base + _STEP + RECORD.size]
            for candidate in _CANDIDATE.finditer(window, 0, min(len(window), _STEP + RECORD.size)):
                place = candidate.start()
                if place < _STEP and window[place] in kinds and self._sound(base + place):
                    return base + place
        return self._size

    def _take(self, opcode: int, start: int, stop: int) -> None:
        if opcode == Opcode.MESSAGE:
            self._message(start, stop)
        elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
            self.declared.add(opcode, read_body(self._file, start, stop))
        elif opcode == Opcode.MESSAGE_INDEX:
            channel, count = _count_of_index(self._body[start : start + _INDEX.size], stop - start)
            self._promised[channel] += count
        elif opcode == Opcode.STATISTICS:
            statistics = records.Statistics.read(self._stream(start, stop))
            self.account.index(statistics.channel_message_counts)
        elif opcode == Opcode.HEADER:
            self.profile = records.Header.read(self._stream(start, stop)).profile
        elif opcode in (Opcode.ATTACHMENT, Opcode.METADATA):
            if len(self.extras) == _MAX_EXTRAS:
                raise ValueError(f"it has more than {_MAX_EXTRAS} attachments and metadata records")
            self.extras.append((opcode, start, stop))

    def _stream(self, start: int, stop: int) -> ReadDataStream:
        return ReadDataStream(BytesIO(read_body(self._file, start, stop)))

    def _message(self, start: int, stop: int) -> None:
        payload = start + MESSAGE.size
        if stop - payload > MAX_MESSAGE_BYTES:
            raise ValueError(_too_long(stop - payload))
        channel, _, log_ns, _ = MESSAGE.unpack(self._body[start:payload])
        self._runs.add(start - RECORD.size, stop, log_ns, channel)
        self._in_part[channel] += 1
        self.account.found[channel] += 1
        self._span(log_ns, log_ns)

    def _span(self, first_ns: int, last_ns: int) -> None:
        first, last = self.span_ns or (first_ns, last_ns)
        self.span_ns = min(first, first_ns), max(last, last_ns)

    def _chunk(self, position: int, stop: int) -> int:
        """Take in the chunk at `position`, which ends at `stop` if its length is right."""
        self._end_part()
        try:
            chunk = chunk_record(self._file, position)
        except _BROKEN as e:
            following = self._find(position + 1, self._recognisable)
            self.account.gap(position, following, f"a chunk that cannot be read: {why(e)}")
            return following
        self._missing = max(0, stop - self._size)
        plain = not chunk.stored.compression
        self.compressed = self.compressed or not plain
        broken = "the file ends within it"
        if not self._missing:
            broken = self._complete(position, chunk)
            if not broken:
                return stop
            certain = stop == self._size or self._record(stop) is not None
            if certain and not (plain and not chunk.crc):
                self.account.gap(position, stop, f"a chunk that cannot be read: {broken}")
                return stop
        # Its length may be wrong, and other records may lie in what seems to be its data. Those
        # of a plain chunk are records like any other.
        if plain:
            return chunk.stored.offset
        following = self._find(chunk.stored.offset, _BETWEEN_CHUNKS)
        if self._missing:
            broken = self._beginning(position, chunk)
        if broken:
            self.account.gap(position, following, f"a chunk that cannot be read: {broken}")
        return following

    def _complete(self, position: int, chunk: StoredChunk) -> str:
        """Take in a chunk that is all there; gives back what is wrong with it, or ""."""
        try:
            with self._room.chunk(chunk.stored) as body:
                check_crc(body, chunk.crc)
                reached = self._inside(position, body, broken=bool(chunk.crc))
                if reached < len(body):
                    what = f"the records of a chunk break off after {reached} of {len(body)} bytes"
                    self.account.gap(position, chunk.stop, what)
        except _BROKEN as e:
            return why(e)
        return ""

    def _beginning(self, position: int, chunk: StoredChunk) -> str:
        """Take in what can be inflated of a chunk within which the file ends; as `_complete`."""
        try:
            with self._room.chunk(self._stored(chunk)) as body:
                self._inside(position, body, broken=True)
        except _BROKEN as e:
            return why(e)
        return ""

    def _stored(self, chunk: StoredChunk) -> Stored:
        """The data of a chunk, as far as they are there."""
        stored = chunk.stored
        if stored.offset + stored.length > self._size:
            return replace(stored, length=self._size - stored.offset, cut=True)
        return stored

    def _inside(self, position: int, body: Body, *, broken: bool) -> int:
        """Take in the records of a chunk; gives back how far they can be read.

        Args:
            broken: Whether they may break off before its end.
        """
        found: Counter[int] = Counter()
        first_ns, last_ns, reached = 2**64 - 1, 0, 0
        for opcode, start, stop, first in _records_in(body):
            reached = stop
            if opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                self.declared.add(opcode, small(body, start, stop))
            elif opcode == Opcode.MESSAGE and stop - start - MESSAGE.size > MAX_MESSAGE_BYTES:
                self.account.gap(position, position, _too_long(stop - start - MESSAGE.size))
            elif opcode == Opcode.MESSAGE:
                channel, _, log_ns, _ = MESSAGE.unpack(first)
                first_ns, last_ns = min(first_ns, log_ns), max(last_ns, log_ns)
                found[channel] += 1
        if reached < len(body) and not broken:
            raise ValueError(f"its records break off after {reached} of {len(body)} bytes")
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
    """Where the messages of the wanted channels lie in a chunk, as far as it can be read."""
    index = ChunkIndex()
    for opcode, start, stop, first in _records_in(body):
        if opcode == Opcode.MESSAGE and stop - start - MESSAGE.size <= MAX_MESSAGE_BYTES:
            channel, _, log_ns, _ = MESSAGE.unpack(first)
            if channel in wanted:
                index.add(log_ns, channel, start + MESSAGE.size, stop)
    return index


def _records_in(body: Body) -> Iterator[tuple[int, int, int, bytes]]:
    """The records of a chunk up to the first that is cut or broken."""
    with suppress(ValueError, struct.error):
        for opcode, start, stop, first in records_in(body):
            if opcode == Opcode.MESSAGE and stop - start < MESSAGE.size:
                return
            yield opcode, start, stop, first


def _count_of_index(head: bytes, length: int) -> tuple[int, int]:
    """Channel of a message index, and how many messages it lists."""
    channel, size = _INDEX.unpack(head)
    if size != length - _INDEX.size or size % _ENTRY_BYTES:
        raise ValueError("a broken message index")
    return channel, size // _ENTRY_BYTES


def _too_long(size: int) -> str:
    return f"a message of {size} bytes, more than {MAX_MESSAGE_BYTES}"
