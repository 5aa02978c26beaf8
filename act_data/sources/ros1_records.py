"""The records of a ROS 1 bag, version 2.0: a header of named fields, then data.

https://wiki.ros.org/Bags/Format/2.0
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple

from rosbags.typesys.msg import normalize_msgtype

from act_data.sources.chunk_room import WINDOW_BYTES, Body, ChunkIndex, InFile
from act_data.sources.inflate import Stored
from act_data.sources.storage import Channel, Texts
from act_data.types import NS_PER_S

U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")
TIME = struct.Struct("<II")

_MAX_HEADER_BYTES = WINDOW_BYTES - 8
_MAX_DATA_BYTES = 4 * 2**20  # of a record that is neither chunk nor message
_COMPRESSIONS = {b"none": "", b"lz4": "lz4", b"bz2": "bz2"}


class Op(IntEnum):
    """What a record is."""

    MESSAGE = 2
    BAG = 3
    INDEX = 4
    CHUNK = 5
    CHUNK_INFO = 6
    CONNECTION = 7


MESSAGE = bytes([Op.MESSAGE])


class RecordHead(NamedTuple):
    """The fields of a record and where its data lie in the file."""

    fields: Mapping[bytes, bytes]
    start: int
    stop: int

    @property
    def op(self) -> int:
        """What the record is; ValueError when it does not say."""
        return self.fields.get(b"op", b"\0")[0]


def read_head(file: int, offset: int) -> RecordHead:
    """The head of the record at `offset`; its data may reach beyond the end of the file.

    Raises:
        ValueError: There is no record, or the file ends within its head.
    """
    start = os.pread(file, 4, offset)
    if len(start) < 4:
        raise ValueError("the file ends here")
    (length,) = U32.unpack(start)
    if length > _MAX_HEADER_BYTES:
        raise ValueError(f"a record header of {length} bytes")
    head = os.pread(file, length + 4, offset + 4)
    if len(head) < length + 4:
        raise ValueError("the file ends within a record header")
    (data,) = U32.unpack_from(head, length)
    begin = offset + 8 + length
    return RecordHead(fields_of(head[:length]), begin, begin + data)


class Heads:
    """Record heads at any place of a file, read in windows."""

    def __init__(self, file: int, size: int) -> None:
        self._body = InFile(file, 0, size)
        self._base = 0
        self._window = b""

    def at(self, position: int) -> RecordHead:
        """The head of the record at `position`; raises what `read_head` raises."""
        at = position - self._base
        if not 0 <= at <= len(self._window) - 4:
            at = self._fill(position)
        (length,) = U32.unpack_from(self._window, at)
        if at + 8 + length > len(self._window):
            at = self._fill(position)
        start = at + 8 + length
        if start > len(self._window):
            raise ValueError(f"there is no record header at {position}")
        (data,) = U32.unpack_from(self._window, start - 4)
        begin = self._base + start
        return RecordHead(fields_of(self._window[at + 4 : start - 4]), begin, begin + data)

    def _fill(self, position: int) -> int:
        self._base = position
        self._window = self._body[position : position + WINDOW_BYTES]
        return 0


def encryptor(head: RecordHead) -> str:
    """With what a bag is encrypted, by its first record; "" for a plain one."""
    return head.fields.get(b"encryptor", b"").decode("ascii", "replace")


def expect(head: RecordHead, op: Op) -> RecordHead:
    """`head`; ValueError when it is not one of `op`."""
    if head.op != op:
        raise ValueError(f"there is no {op.name.lower().replace('_', ' ')} record at {head.start}")
    return head


def fields_of(data: bytes) -> dict[bytes, bytes]:
    """The named fields of a record header; ValueError when it is none."""
    fields: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        (length,) = U32.unpack_from(data, position)
        position += 4 + length
        name, equals, value = data[position - length : position].partition(b"=")
        if position > len(data) or not equals:
            raise ValueError("a broken record header")
        fields[name] = value
    return fields


def records_in(body: Body) -> Iterator[tuple[Mapping[bytes, bytes], int, int]]:
    """(header fields, start, stop of the data) of each record of an inflated chunk.

    Looks at one window at a time where the chunk is not in memory, and skips what is large.
    """
    end, base = len(body), 0
    step = end if isinstance(body, bytes) else WINDOW_BYTES
    while base < end:
        window = body[base : base + step]
        at = 0
        while at + 8 <= len(window):
            (length,) = U32.unpack_from(window, at)
            start = at + 8 + length
            if start > len(window):
                break
            fields = fields_of(window[at + 4 : start - 4])
            (data,) = U32.unpack_from(window, start - 4)
            at = start + data
            if base + at > end:
                raise ValueError(f"a record of {data} bytes reaches beyond its chunk")
            yield fields, base + start, base + at
        if not at:
            raise ValueError("it ends within a record")
        base += at


def index_of(body: Body, wanted: Mapping[int, Channel]) -> ChunkIndex:
    """Where the messages of the wanted connections lie in a chunk."""
    index = ChunkIndex()
    for fields, start, stop in records_in(body):
        if fields.get(b"op") == MESSAGE:
            (id_,) = U32.unpack(fields[b"conn"])
            if id_ in wanted:
                index.add(time_of(fields[b"time"]), id_, start, stop)
    return index


def time_of(field: bytes) -> int:
    """A time in ns."""
    sec, nsec = TIME.unpack(field)
    return int(sec) * NS_PER_S + int(nsec)


def read_data(file: int, head: RecordHead) -> bytes:
    """The data of an index or connection record; ValueError when the file ends within them."""
    length = head.stop - head.start
    if length > _MAX_DATA_BYTES:
        raise ValueError(f"a record of {length} bytes at {head.start}")
    data = os.pread(file, length, head.start)
    if len(data) < length:
        raise ValueError(f"the file ends within the record at {head.start}")
    return data


def chunk_data(file: int, head: RecordHead) -> Stored:
    """Where the data of a chunk lie.

    Raises:
        ValueError: It is compressed with something else.
    """
    compression = _COMPRESSIONS.get(head.fields[b"compression"])
    if compression is None:
        name = head.fields[b"compression"].decode("ascii", "replace")
        raise ValueError(f"it is compressed with {name!r}")
    length = head.stop - head.start
    (size,) = U32.unpack(head.fields[b"size"])
    return Stored(
        file=file,
        offset=head.start,
        length=length,
        compression=compression,
        size=size if compression else length,
    )


def channel_of(fields: Mapping[bytes, bytes], data: bytes, texts: Texts) -> Channel:
    """The channel that a connection record declares; ValueError when it is broken."""
    about = fields_of(data)
    others = {
        name.decode(): value.decode("utf-8", "replace")
        for name, value in about.items()
        if name in (b"callerid", b"latching", b"md5sum")
    }
    return Channel(
        id=U32.unpack(fields[b"conn"])[0],
        topic=texts.text(_topic(fields[b"topic"].decode())),
        type=texts.text(normalize_msgtype(about[b"type"].decode())),
        encoding="ros1",
        definition=texts.definition("msg", about[b"message_definition"]),
        count=0,
        about=texts.about(others),
    )


def _topic(name: str) -> str:
    """The name with single slashes."""
    return "/" * name.startswith("/") + "/".join(part for part in name.split("/") if part)
