"""The records of an MCAP file: an operation code, a length, and a body.

https://mcap.dev/spec. mcap's own record classes parse the bodies that are small.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

from mcap import records
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode

from act_data.sources.chunk_room import WINDOW_BYTES, Body, ChunkIndex, InFile
from act_data.sources.inflate import Stored
from act_data.sources.storage import Channel, Definition, Encoding, Texts

RECORD = struct.Struct("<BQ")  # opcode, length
MESSAGE = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
CHUNK = struct.Struct("<QQQII")  # start, end, inflated size, crc, length of the next string
U64 = struct.Struct("<Q")

_MAX_NAME_BYTES = 64
_MAX_BODY_BYTES = 16 * 2**20  # of a record that is neither chunk nor message nor attachment

_DEFINITIONS: dict[str, Literal["msg", "idl"]] = {
    "ros1msg": "msg",
    "ros2msg": "msg",
    "ros2idl": "idl",
    "omgidl": "idl",
}
_FOREIGN = {"json", "protobuf", "flatbuffer", "cbor", "msgpack"}


def read_body(file: int, offset: int, stop: int) -> bytes:
    """The body of a small record; ValueError when the file ends within it."""
    length = stop - offset
    if length > _MAX_BODY_BYTES:
        raise ValueError(f"the record at byte {offset} claims {length} bytes")
    data = os.pread(file, length, offset)
    if len(data) != length:
        raise ValueError(f"the file ends within the record at byte {offset}")
    return data


def small(body: Body, start: int, stop: int) -> bytes:
    """The body of a small record of a chunk."""
    if stop - start > _MAX_BODY_BYTES:
        raise ValueError(f"a record claims {stop - start} bytes")
    return body[start:stop]


def records_between(file: int, start: int, stop: int) -> Iterator[tuple[int, int, int, bytes]]:
    """(opcode, start, stop, first bytes) of each record body between two offsets of a file."""
    for opcode, begin, end, first in records_in(InFile(file, start, stop - start)):
        yield opcode, start + begin, start + end, first


def records_in(body: Body) -> Iterator[tuple[int, int, int, bytes]]:
    """(opcode, start, stop, first bytes) of each record body of an inflated chunk.

    Looks at one window at a time where the chunk is not in memory, and skips what is large.

    Raises:
        ValueError: A record reaches beyond the chunk.
    """
    end, base = len(body), 0
    step = end if isinstance(body, bytes) else WINDOW_BYTES
    while base < end:
        window = body[base : base + step]
        last = base + len(window) == end
        at = 0
        while at < len(window) and (last or at + RECORD.size + MESSAGE.size <= len(window)):
            opcode, length = RECORD.unpack_from(window, at)
            if not opcode:
                raise ValueError(f"there is no record at {base + at}")
            start = at + RECORD.size
            at = start + length
            if base + at > end:
                raise ValueError(f"a record of {length} bytes reaches beyond its chunk")
            yield opcode, base + start, base + at, window[start : start + MESSAGE.size]
        base += at


def index_of(body: Body, wanted: Collection[int]) -> ChunkIndex:
    """Where the messages of the wanted channels lie in a chunk."""
    index = ChunkIndex()
    for opcode, start, stop, first in records_in(body):
        if opcode == Opcode.MESSAGE:
            channel, _, log_ns, _ = MESSAGE.unpack(first)
            if channel in wanted:
                index.add(log_ns, channel, start + MESSAGE.size, stop)
    return index


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChunk:
    """A chunk record: its data, their checksum (0: none), and where the next record begins."""

    stored: Stored
    crc: int
    stop: int


def chunk_record(file: int, offset: int) -> StoredChunk:
    """The chunk whose record begins at `offset`; its data may reach beyond the end of the file.

    Raises:
        ValueError: There is no chunk, or its head is broken.
    """
    opcode, length = RECORD.unpack(read_body(file, offset, offset + RECORD.size))
    if opcode != Opcode.CHUNK:
        raise ValueError("there is no chunk")
    begin = offset + RECORD.size
    _, _, size, crc, name_length = CHUNK.unpack(read_body(file, begin, begin + CHUNK.size))
    if name_length > _MAX_NAME_BYTES:
        raise ValueError(f"the name of its compression has {name_length} bytes")
    start = begin + CHUNK.size + name_length + 8
    rest = read_body(file, begin + CHUNK.size, start)
    (data,) = U64.unpack_from(rest, name_length)
    if start + data > begin + length:
        raise ValueError(f"its {data} bytes reach beyond its record")
    stored = Stored(
        file=file,
        offset=start,
        length=data,
        compression=rest[:name_length].decode(),
        size=size,
    )
    return StoredChunk(stored=stored, crc=crc, stop=begin + length)


def check_crc(body: Body, crc: int) -> None:
    """Raise ValueError when a chunk is not what its checksum says; 0 says nothing."""
    if not crc:
        return
    found = 0
    step = len(body) if isinstance(body, bytes) else WINDOW_BYTES
    for base in range(0, len(body), max(1, step)):
        found = zlib.crc32(body[base : base + step], found)
    if found != crc:
        raise ValueError(f"its checksum is {found:#010x} instead of {crc:#010x}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawChannel:
    """A channel as a record declares it.

    Attributes:
        schema: Name, encoding and data; all empty for none.
        encoding: Of its messages.
    """

    topic: str
    encoding: str
    schema: tuple[str, str, bytes]
    metadata: Mapping[str, str]


class Declarations:
    """The schemas and channels of a file, as its records declare them.

    Args:
        foreign: Keep the schemas that are not ROS's own, too, for `raw`.
    """

    def __init__(self, *, foreign: bool = False) -> None:
        self._texts = Texts()
        self._foreign: dict[int, bytes] | None = {} if foreign else None
        self._schemas: dict[int, tuple[str, str, Definition | None]] = {}
        self._channels: dict[int, tuple[int, str, str, Mapping[str, str]]] = {}

    def add(self, opcode: int, body: bytes) -> None:
        """Take in the body of a schema or channel record.

        Raises:
            ValueError: There are more names and definitions than in any recording.
        """
        texts, stream = self._texts, ReadDataStream(BytesIO(body))
        if opcode == Opcode.SCHEMA:
            schema = records.Schema.read(stream)
            form = _DEFINITIONS.get(schema.encoding)
            self._schemas[schema.id] = (
                texts.text(schema.name),
                texts.text(schema.encoding),
                texts.definition(form, schema.data) if form and schema.data else None,
            )
            if self._foreign is not None:
                texts.text(schema.data.decode("latin-1"))  # counted, so that they are bounded
                self._foreign[schema.id] = schema.data
        else:
            channel = records.Channel.read(stream)
            self._channels[channel.id] = (
                channel.schema_id,
                texts.text(channel.topic),
                texts.text(channel.message_encoding),
                texts.about(channel.metadata),
            )

    @property
    def ids(self) -> AbstractSet[int]:
        """The channels that were declared."""
        return self._channels.keys()

    @property
    def complete(self) -> bool:
        """Whether every channel's schema was declared, too."""
        return {channel[0] for channel in self._channels.values()} <= {0, *self._schemas}

    def raw(self) -> dict[int, RawChannel]:
        """The channels as they were declared, by id."""
        found: dict[int, RawChannel] = {}
        for id_, (schema, topic, encoding, metadata) in self._channels.items():
            name, form, _ = self._schemas.get(schema, ("", "", None))
            data = (self._foreign or {}).get(schema, b"")
            found[id_] = RawChannel(
                topic=topic, encoding=encoding, schema=(name, form, data), metadata=metadata
            )
        return found

    def channels(self, counts: Mapping[int, int]) -> tuple[Channel, ...]:
        """The channels with the messages that each has."""
        return tuple(
            self._channel(id_, counts.get(id_, 0), *declared)
            for id_, declared in self._channels.items()
        )

    def _channel(
        self,
        id_: int,
        count: int,
        schema: int,
        topic: str,
        message_encoding: str,
        about: Mapping[str, str],
    ) -> Channel:
        name, encoding, definition = self._schemas.get(schema, ("", "", None))
        return Channel(
            id=id_,
            topic=topic,
            type=name.replace("/", "/msg/") if name.count("/") == 1 else name,
            encoding=_encoding(message_encoding, encoding),
            definition=definition,
            count=count,
            about=about,
        )


def _encoding(channel: str, schema: str) -> Encoding | None:
    """How payloads are serialised, judged by the schema where the channel's own word is odd."""
    if channel in _FOREIGN:
        return None
    if channel == "ros1" or schema == "ros1msg":
        return "ros1"
    if channel == "cdr" or schema in _DEFINITIONS:
        return "cdr"
    return None
