"""ROS 1 `.bag` files: chunk by chunk, so that memory does not grow with the number of messages.

rosbags' reader keeps one tuple per message of the whole bag. Here only its record parsers are
used: the list of chunks at the end of the bag says what to read and what to expect, and each
chunk is walked when its time comes.
"""

from __future__ import annotations

import bz2
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import lz4.frame
from rosbags.rosbag1 import Reader, ReaderError
from rosbags.rosbag1.reader import ChunkInfo, Header, RecordType, decompressors, normalize
from rosbags.typesys.msg import normalize_msgtype

from act_data.errors import DataError
from act_data.sources.file_order import FileOrder
from act_data.sources.storage import (
    MAX_CHUNK_BYTES,
    RECORD_AGAIN,
    Channel,
    Definition,
    Item,
    check_magic,
    damage,
    merged,
)
from act_data.types import NS_PER_S

_U32 = struct.Struct("<I")
_TIME = struct.Struct("<II")
_MESSAGE = bytes([RecordType.MSGDATA])
_VIEW_SHARE = 2  # a message of at least one part in so many of its chunk is not copied


class Ros1File:
    """One indexed ROS 1 bag."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.compressions: set[str] = set()
        self._order = FileOrder()
        check_magic(path, "ros1")
        self._file: BinaryIO = path.open("rb")
        try:
            with damage(path, "ros1", ReaderError):
                self._reader, self._chunks, self.channels = self._read_index()
        except BaseException:
            self._file.close()
            raise
        filled = [c for c in self._chunks if c.connection_counts]
        self.span_ns: tuple[int, int] | None = None
        if filled:
            self.span_ns = (
                min(c.start_time for c in filled),
                max(c.end_time for c in filled) - 1,
            )

    def messages(self, topics: Collection[str]) -> Iterator[Item]:
        """The messages of `topics` ordered by (recv_ns, topic), equal ones in file order."""
        wanted = {c.id: c for c in self.channels if c.topic in topics}
        parts = [
            (chunk.start_time, partial(self._in_chunk, chunk.pos, wanted))
            for chunk in sorted(self._chunks, key=lambda c: c.pos)
            if not wanted.keys().isdisjoint(chunk.connection_counts)
        ]
        with damage(self.path, "ros1", ReaderError):
            yield from merged(parts)

    def back_ns(self) -> int:
        """The largest step back of receive times in the file, in what was read so far."""
        return self._order.back_ns()

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _read_index(self) -> tuple[Reader, list[ChunkInfo], Sequence[Channel]]:
        self._file.readline()
        header = Header.read(self._file, RecordType.BAGHEADER)
        index = header.get_uint64("index_pos")
        if index == 0:
            raise DataError(
                f"{self.path} has no index: the recorder was stopped before it could write one",
                hint=RECORD_AGAIN["ros1"],
            )
        reader = Reader(self.path)
        reader.bio = self._file
        self._file.seek(index)
        channels = [self._read_connection() for _ in range(header.get_uint32("conn_count"))]
        chunks = [reader.read_chunk_info() for _ in range(header.get_uint32("chunk_count"))]
        counts = dict.fromkeys((c.id for c in channels), 0)
        for chunk in chunks:
            for id_, count in chunk.connection_counts.items():
                counts[id_] += count
        return reader, chunks, tuple(replace(c, count=counts[c.id]) for c in channels)

    def _read_connection(self) -> Channel:
        header = Header.read(self._file, RecordType.CONNECTION)
        fields = Header.read(self._file)
        return Channel(
            id=header.get_uint32("conn"),
            topic=normalize(header.get_string("topic")),
            type=normalize_msgtype(fields.get_string("type")),
            encoding="ros1",
            # Comments are in whatever encoding their author had.
            definition=Definition(
                format="msg", text=fields["message_definition"].decode("utf-8", "replace")
            ),
            count=0,
        )

    def _in_chunk(self, offset: int, wanted: Mapping[int, Channel]) -> Iterator[Item]:
        self._file.seek(offset)
        chunk = self._reader.read_chunk()
        self._file.seek(chunk.datapos)
        stored = self._file.read(chunk.datasize)
        if len(stored) != chunk.datasize:
            raise ValueError(f"the file ends within the chunk at {offset}")
        data = _BOUNDED[chunk.decompressor](stored)
        self.compressions.add(_NAMES[chunk.decompressor])
        found: list[tuple[int, str, int, int, int]] = []
        for fields, start, stop in _records_in(data):
            if fields[b"op"] != _MESSAGE:
                continue
            (id_,) = _U32.unpack(fields[b"conn"])
            if id_ in wanted:
                sec, nsec = _TIME.unpack(fields[b"time"])
                found.append((sec * NS_PER_S + nsec, wanted[id_].topic, start, stop, id_))
        self._order.seen(offset, ((recv_ns, id_) for recv_ns, _, _, _, id_ in found))
        whole = memoryview(data)
        for recv_ns, topic, start, stop, id_ in sorted(found):
            # A picture is most of its chunk: a view saves a copy and keeps little else alive.
            view = (stop - start) * _VIEW_SHARE >= len(data)
            yield recv_ns, topic, wanted[id_], (whole if view else data)[start:stop]


def _records_in(data: bytes) -> Iterator[tuple[dict[bytes, bytes], int, int]]:
    """(header fields, start, stop of the body) of each record of an inflated chunk."""
    position = 0
    while position < len(data):
        fields: dict[bytes, bytes] = {}
        (length,) = _U32.unpack_from(data, position)
        position += 4
        end = position + length
        while position < end:
            (length,) = _U32.unpack_from(data, position)
            position += 4
            name, _, value = data[position : position + length].partition(b"=")
            fields[name] = value
            position += length
        (length,) = _U32.unpack_from(data, position)
        position += 4
        if position + length > len(data):
            raise ValueError(f"a record of {length} bytes reaches beyond its chunk")
        yield fields, position, position + length
        position += length


def _bz2(data: bytes) -> bytes:
    decompressor = bz2.BZ2Decompressor()
    return _within(decompressor.decompress(data, MAX_CHUNK_BYTES), decompressor.eof)


def _lz4(data: bytes) -> bytes:
    decompressor = lz4.frame.LZ4FrameDecompressor()
    raw: bytes = decompressor.decompress(data, MAX_CHUNK_BYTES)
    return _within(raw, decompressor.eof)


def _within(raw: bytes, complete: bool) -> bytes:
    if complete:
        return raw
    if len(raw) < MAX_CHUNK_BYTES:
        raise ValueError("a compressed chunk ends early")
    raise ValueError(f"a chunk inflates to more than {MAX_CHUNK_BYTES} bytes")


_BOUNDED: dict[Callable[[bytes], bytes], Callable[[bytes], bytes]] = {
    decompressors["none"]: decompressors["none"],
    decompressors["bz2"]: _bz2,
    decompressors["lz4"]: _lz4,
}
_NAMES = {decompress: name for name, decompress in decompressors.items()}
