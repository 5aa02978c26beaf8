"""`.mcap` files of any profile: only the selected channels are looked at, every size is bounded.

rosbags refuses a whole file for its profile, for one JSON channel or for one definition that it
cannot parse, and inflates chunks without a bound; mcap's reader sorts a file without chunks in
memory. So the records are walked here, with mcap's record classes.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import lz4.frame
import numpy as np
from mcap import records
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode

from act_data.errors import DataError
from act_data.sources.file_order import FileOrder
from act_data.sources.storage import (
    MAGIC,
    MAX_CHUNK_BYTES,
    MAX_MESSAGE_BYTES,
    RECORD_AGAIN,
    Channel,
    Definition,
    Encoding,
    Item,
    check_magic,
    damage,
    inflate_zstd,
    merged,
)

_RECORD = struct.Struct("<BQ")  # opcode, length
_MESSAGE = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_CHUNK = struct.Struct("<QQQII")  # start, end, inflated size, crc, length of the next string
_FOOTER_BYTES = _RECORD.size + 20 + len(MAGIC["mcap"])

_DEFINITIONS = {"ros1msg": "msg", "ros2msg": "msg", "ros2idl": "idl", "omgidl": "idl"}
_FOREIGN = {"json", "protobuf", "flatbuffer", "cbor", "msgpack"}


@dataclass
class _Contents:
    """What is known about a file: from its summary, or from walking through it.

    Attributes:
        chunks: First and last log time, offset of the record, channels inside (None: unknown).
        loose: Messages outside of chunks as parallel arrays of log time, channel, offset, size.
        counts: Messages by channel id.
    """

    schemas: dict[int, records.Schema] = field(default_factory=dict)
    channels: dict[int, records.Channel] = field(default_factory=dict)
    chunks: list[tuple[int, int, int, Collection[int] | None]] = field(default_factory=list)
    loose: tuple[array[int], array[int], array[int], array[int]] = field(
        default_factory=lambda: (array("Q"), array("H"), array("Q"), array("Q"))
    )
    counts: dict[int, int] = field(default_factory=dict)
    span_ns: tuple[int, int] | None = None

    def seen(self, log_ns: int, channel: int) -> None:
        """Count one message."""
        self.counts[channel] = self.counts.get(channel, 0) + 1
        first, last = self.span_ns or (log_ns, log_ns)
        self.span_ns = min(first, log_ns), max(last, log_ns)


class McapFile:
    """One complete MCAP file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.compressions: set[str] = set()
        self._order = FileOrder()
        check_magic(path, "mcap")
        self._file: BinaryIO = path.open("rb")
        try:
            with damage(path, "mcap", McapError):
                self._footer, summary = self._read_footer()
                self._data_end = summary or self._footer
                known = self._summary(summary) if summary else None
                self._contents = known if known is not None else self._walk()
                self.channels: Sequence[Channel] = tuple(
                    self._channel(c) for c in self._contents.channels.values()
                )
        except BaseException:
            self._file.close()
            raise
        self.span_ns = self._contents.span_ns

    def messages(self, topics: Collection[str]) -> Iterator[Item]:
        """The messages of `topics` ordered by (recv_ns, topic), equal ones in file order."""
        wanted = {c.id: c for c in self.channels if c.topic in topics}
        parts = [
            (first, partial(self._in_chunk, offset, wanted))
            for first, _, offset, inside in sorted(
                self._contents.chunks, key=lambda chunk: chunk[2]
            )
            if inside is None or any(id_ in wanted for id_ in inside)
        ]
        if self._contents.loose[0]:
            parts.append((min(self._contents.loose[0]), partial(self._loose, wanted)))
        with damage(self.path, "mcap", McapError):
            yield from merged(parts)

    def back_ns(self) -> int:
        """The largest step back of receive times in the file, in what was read so far."""
        return self._order.back_ns()

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    # --- the index ---

    def _read_footer(self) -> tuple[int, int]:
        """Where the footer and where the summary begins (0: there is no summary)."""
        size = self._file.seek(0, 2)
        if size >= _FOOTER_BYTES + len(MAGIC["mcap"]):
            self._file.seek(size - _FOOTER_BYTES)
            tail = self._file.read()
            if tail.endswith(MAGIC["mcap"]) and tail[:9] == _RECORD.pack(Opcode.FOOTER, 20):
                (summary,) = struct.unpack_from("<Q", tail, _RECORD.size)
                footer = size - _FOOTER_BYTES
                if summary > footer:
                    raise ValueError(f"its summary would begin at {summary}, behind its end")
                return footer, summary
        raise DataError(
            f"{self.path} was cut: its end mark is missing, the recorder did not finish it",
            hint=RECORD_AGAIN["mcap"],
        )

    def _summary(self, start: int) -> _Contents | None:
        """The contents as the summary tells them; None when it leaves something out."""
        found = _Contents()
        statistics: records.Statistics | None = None
        for opcode, offset, length in self._records(start, self._footer):
            if opcode not in (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.CHUNK_INDEX, Opcode.STATISTICS):
                continue
            body = _stream(self._exactly(offset, length))
            if opcode == Opcode.STATISTICS:
                statistics = records.Statistics.read(body)
            elif opcode == Opcode.CHUNK_INDEX:
                chunk = records.ChunkIndex.read(body)
                inside = chunk.message_index_offsets or None
                found.chunks.append(
                    (
                        chunk.message_start_time,
                        chunk.message_end_time,
                        chunk.chunk_start_offset,
                        inside,
                    )
                )
            else:
                _declare(found, opcode, body)
        if (
            statistics is None
            or statistics.chunk_count != len(found.chunks)
            or (statistics.message_count and not found.chunks)
            or not statistics.channel_message_counts.keys() <= found.channels.keys()
            or not {c.schema_id for c in found.channels.values()} <= {0, *found.schemas}
        ):
            return None
        found.counts = dict(statistics.channel_message_counts)
        if statistics.message_count:
            found.span_ns = statistics.message_start_time, statistics.message_end_time
        return found

    def _walk(self) -> _Contents:
        """The contents as one pass over the data section finds them."""
        found = _Contents()
        times, channels, offsets, sizes = found.loose
        for opcode, offset, length in self._records(len(MAGIC["mcap"]), self._data_end):
            if opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                _declare(found, opcode, _stream(self._exactly(offset, length)))
            elif opcode == Opcode.MESSAGE:
                id_, _, log_ns, _ = _MESSAGE.unpack(self._exactly(offset, _MESSAGE.size))
                times.append(log_ns)
                channels.append(id_)
                offsets.append(offset + _MESSAGE.size)
                sizes.append(length - _MESSAGE.size)
                found.seen(log_ns, id_)
            elif opcode == Opcode.CHUNK:
                self._walk_chunk(found, offset - _RECORD.size)
        return found

    def _walk_chunk(self, found: _Contents, chunk_offset: int) -> None:
        data = self._inflated(chunk_offset)
        inside: set[int] = set()
        first, last = 2**64 - 1, 0
        for opcode, offset, length in _records_in(data):
            if opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                _declare(found, opcode, _stream(data[offset : offset + length]))
            elif opcode == Opcode.MESSAGE:
                id_, _, log_ns, _ = _MESSAGE.unpack_from(data, offset)
                inside.add(id_)
                first, last = min(first, log_ns), max(last, log_ns)
                found.seen(log_ns, id_)
        if inside:
            found.chunks.append((first, last, chunk_offset, inside))

    def _channel(self, channel: records.Channel) -> Channel:
        schema = self._contents.schemas.get(channel.schema_id)
        name = schema.name if schema else ""
        form = _DEFINITIONS.get(schema.encoding) if schema else None
        definition = None
        if schema and form and schema.data:
            definition = Definition(
                format="msg" if form == "msg" else "idl",
                text=schema.data.decode("utf-8", "replace"),
            )
        return Channel(
            id=channel.id,
            topic=channel.topic,
            type=name.replace("/", "/msg/") if name.count("/") == 1 else name,
            encoding=_encoding(channel, schema),
            definition=definition,
            count=self._contents.counts.get(channel.id, 0),
        )

    # --- the messages ---

    def _in_chunk(self, chunk_offset: int, wanted: dict[int, Channel]) -> Iterator[Item]:
        data = self._inflated(chunk_offset)
        found: list[tuple[int, str, int, int, int]] = []
        for opcode, offset, length in _records_in(data):
            if opcode == Opcode.MESSAGE:
                id_, _, log_ns, _ = _MESSAGE.unpack_from(data, offset)
                if id_ in wanted:
                    start = offset + _MESSAGE.size
                    found.append((log_ns, wanted[id_].topic, start, offset + length, id_))
        self._order.seen(chunk_offset, ((log_ns, id_) for log_ns, _, _, _, id_ in found))
        for log_ns, topic, start, stop, id_ in sorted(found):
            yield log_ns, topic, wanted[id_], data[start:stop]

    def _loose(self, wanted: dict[int, Channel]) -> Iterator[Item]:
        times, channels, offsets, sizes = (np.array(a) for a in self._contents.loose)
        self.compressions.add("none")
        selected = np.isin(channels, list(wanted))
        pairs = zip(times[selected].tolist(), channels[selected].tolist(), strict=True)
        self._order.seen(0, pairs)
        rank = {topic: i for i, topic in enumerate(sorted({c.topic for c in wanted.values()}))}
        ranks = np.array([rank[wanted[c].topic] if c in wanted else -1 for c in channels])
        for i in np.lexsort((offsets, ranks, times)):
            if ranks[i] >= 0:
                channel = wanted[int(channels[i])]
                payload = self._exactly(int(offsets[i]), int(sizes[i]), MAX_MESSAGE_BYTES)
                yield int(times[i]), channel.topic, channel, payload

    def _inflated(self, chunk_offset: int) -> bytes:
        opcode, length = _RECORD.unpack(self._exactly(chunk_offset, _RECORD.size))
        if opcode != Opcode.CHUNK:
            raise ValueError(f"there is no chunk at {chunk_offset}")
        body = chunk_offset + _RECORD.size
        _, _, size, crc, name_length = _CHUNK.unpack(self._exactly(body, _CHUNK.size))
        if size > MAX_CHUNK_BYTES:
            raise ValueError(
                f"the chunk at {chunk_offset} claims to inflate to {size} bytes, "
                f"more than {MAX_CHUNK_BYTES}"
            )
        rest = self._exactly(body + _CHUNK.size, length - _CHUNK.size)
        compression = rest[:name_length].decode()
        data = rest[name_length + 8 :]
        if compression == "zstd":
            data = inflate_zstd(data, size)
        elif compression == "lz4":
            data = lz4.frame.LZ4FrameDecompressor().decompress(data, size + 1)
        elif compression:
            raise ValueError(f"the chunk at {chunk_offset} is compressed with {compression!r}")
        if len(data) != size or (crc and zlib.crc32(data) != crc):
            raise ValueError(f"the chunk at {chunk_offset} does not match its size or checksum")
        self.compressions.add(compression or "none")
        return data

    def _records(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """(opcode, offset, length) of each record body between two offsets of the file."""
        while start < stop:
            opcode, length = _RECORD.unpack(self._exactly(start, _RECORD.size))
            start += _RECORD.size + length
            if start > stop:
                raise ValueError(f"a record of {length} bytes reaches beyond its section")
            yield opcode, start - length, length

    def _exactly(self, offset: int, length: int, limit: int = MAX_CHUNK_BYTES) -> bytes:
        if not 0 <= length <= limit:
            raise ValueError(f"a record at {offset} claims {length} bytes")
        self._file.seek(offset)
        data = self._file.read(length)
        if len(data) != length:
            raise ValueError(f"the file ends within a record at {offset}")
        return data


def _records_in(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(opcode, offset, length) of each record body of an inflated chunk."""
    start = 0
    while start < len(data):
        opcode, length = _RECORD.unpack_from(data, start)
        start += _RECORD.size + length
        if start > len(data):
            raise ValueError(f"a record of {length} bytes reaches beyond its chunk")
        yield opcode, start - length, length


def _declare(found: _Contents, opcode: int, body: ReadDataStream) -> None:
    if opcode == Opcode.SCHEMA:
        schema = records.Schema.read(body)
        found.schemas[schema.id] = schema
    else:
        channel = records.Channel.read(body)
        found.channels[channel.id] = channel


def _encoding(channel: records.Channel, schema: records.Schema | None) -> Encoding | None:
    """How payloads are serialised, judged by the schema where the channel's own word is odd."""
    if channel.message_encoding in _FOREIGN:
        return None
    if channel.message_encoding == "ros1" or (schema and schema.encoding == "ros1msg"):
        return "ros1"
    if channel.message_encoding == "cdr" or (schema and schema.encoding in _DEFINITIONS):
        return "cdr"
    return None


def _stream(data: bytes) -> ReadDataStream:
    return ReadDataStream(BytesIO(data))
