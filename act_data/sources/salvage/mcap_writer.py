"""Writes what was recovered as a complete MCAP file, in memory that does not grow with it.

mcap's own writer holds a large message five times, and an object for every chunk. Here a large
message is a plain chunk of its own that goes to the file in one piece, and the index of chunks
waits in a scratch file.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
import zlib
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

import lz4.frame
import zstandard
from mcap import records
from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.opcode import Opcode

from act_data.sources.mcap_records import CHUNK, MESSAGE, RECORD, U64, RawChannel
from act_data.sources.storage import MAGIC

CHUNK_BYTES = 4 * 2**20
_LIBRARY = "act-toolkit"
_COMPRESS = {
    "": bytes,
    "lz4": lz4.frame.compress,
    "zstd": zstandard.ZstdCompressor(level=1).compress,
}


@dataclass
class _Open:
    """The chunk that is being filled: its records, and time and place of each by channel."""

    records: bytearray = field(default_factory=bytearray)
    entries: dict[int, array[int]] = field(default_factory=dict)
    first_ns: int = 2**64 - 1
    last_ns: int = 0

    def add(self, channel: int, log_ns: int, place: int) -> None:
        """Note a message that begins at `place` of the chunk."""
        self.entries.setdefault(channel, array("Q")).extend((log_ns, place))
        self.first_ns = min(self.first_ns, log_ns)
        self.last_ns = max(self.last_ns, log_ns)


class McapWriter:
    """A new file: channels, then messages and extras in any order, then `finish`.

    Args:
        file: Empty, open for writing.
        channels: By the id that messages name.
        compression: "", "lz4" or "zstd".
    """

    def __init__(
        self, file: BinaryIO, profile: str, channels: Mapping[int, RawChannel], compression: str
    ) -> None:
        self._file = file
        self._compression = compression
        self._channels: dict[int, records.Channel] = {}
        self._schemas: dict[tuple[str, str, bytes], records.Schema] = {}
        self._open = _Open()
        self._counts: Counter[int] = Counter()
        self._span: tuple[int, int] | None = None
        self._chunks = 0
        self._extras: Counter[int] = Counter()
        self._index = tempfile.TemporaryFile()  # noqa: SIM115
        file.write(MAGIC["mcap"])
        self._put(records.Header(profile=profile, library=_LIBRARY))
        for id_, channel in channels.items():
            self._channels[id_] = records.Channel(
                id=id_,
                schema_id=self._schema(channel),
                topic=channel.topic,
                message_encoding=channel.encoding,
                metadata=dict(channel.metadata),
            )
        self._declare()

    def write(
        self,
        channel: int,
        log_ns: int,
        payload: bytes | memoryview,
        *,
        sequence: int = 0,
        publish_ns: int | None = None,
    ) -> None:
        """Append a message; `publish_ns` is `log_ns` where it is not known."""
        size = MESSAGE.size + len(payload)
        head = RECORD.pack(Opcode.MESSAGE, size) + MESSAGE.pack(
            channel, sequence, log_ns, log_ns if publish_ns is None else publish_ns
        )
        self._counts[channel] += 1
        first, last = self._span or (log_ns, log_ns)
        self._span = min(first, log_ns), max(last, log_ns)
        if size > CHUNK_BYTES:
            self._flush()
            self._open.add(channel, log_ns, 0)
            crc = zlib.crc32(payload, zlib.crc32(head))
            self._chunk("", len(head) + len(payload), crc, (head, payload))
            return
        self._open.add(channel, log_ns, len(self._open.records))
        self._open.records += head
        self._open.records += payload
        if len(self._open.records) >= CHUNK_BYTES:
            self._flush()

    def extra(self, opcode: int, body: bytes) -> None:
        """Append an attachment or metadata record as it was."""
        self._flush()
        offset = self._file.tell()
        self._file.write(RECORD.pack(opcode, len(body)) + body)
        stream, length = ReadDataStream(BytesIO(body)), RECORD.size + len(body)
        index: records.McapRecord
        if opcode == Opcode.METADATA:
            name = records.Metadata.read(stream).name
            index = records.MetadataIndex(offset=offset, length=length, name=name)
        else:
            attachment = records.Attachment.read(stream)
            index = records.AttachmentIndex(
                offset=offset,
                length=length,
                create_time=attachment.create_time,
                log_time=attachment.log_time,
                name=attachment.name,
                media_type=attachment.media_type,
                data_size=len(attachment.data),
            )
        self._extras[opcode] += 1
        self._index.write(_bytes_of(index))

    def finish(self) -> None:
        """Write the rest and the summary. The file itself stays open."""
        self._flush()
        self._put(records.DataEnd(data_section_crc=0))
        start = self._file.tell()
        self._declare()
        first, last = self._span or (0, 0)
        self._put(
            records.Statistics(
                attachment_count=self._extras[Opcode.ATTACHMENT],
                channel_count=len(self._channels),
                channel_message_counts=dict(self._counts),
                chunk_count=self._chunks,
                message_count=self._counts.total(),
                message_start_time=first,
                message_end_time=last,
                metadata_count=self._extras[Opcode.METADATA],
                schema_count=len(self._schemas),
            )
        )
        self._index.seek(0)
        shutil.copyfileobj(self._index, self._file, 2**20)
        self._put(records.Footer(summary_start=start, summary_offset_start=0, summary_crc=0))
        self._file.write(MAGIC["mcap"])
        self.close()

    def close(self) -> None:
        """Let go of the scratch file."""
        self._index.close()

    def _schema(self, channel: RawChannel) -> int:
        """The id of the schema of a channel, 0 for none."""
        key = channel.schema
        if not key[0] and not key[2]:
            return 0
        if key not in self._schemas:
            name, encoding, data = key
            id_ = len(self._schemas) + 1
            self._schemas[key] = records.Schema(id=id_, name=name, encoding=encoding, data=data)
        return self._schemas[key].id

    def _declare(self) -> None:
        for record in (*self._schemas.values(), *self._channels.values()):
            self._put(record)

    def _put(self, record: records.McapRecord) -> None:
        self._file.write(_bytes_of(record))

    def _flush(self) -> None:
        filled = self._open.records
        if filled:
            stored = _COMPRESS[self._compression](bytes(filled))
            self._chunk(self._compression, len(filled), zlib.crc32(filled), (stored,))

    def _chunk(
        self, compression: str, size: int, crc: int, data: tuple[bytes | memoryview, ...]
    ) -> None:
        """Write the open chunk, with `data` for its data, and what belongs behind it."""
        opened, self._open = self._open, _Open()
        stored = sum(len(part) for part in data)
        offset = self._file.tell()
        head = CHUNK.pack(opened.first_ns, opened.last_ns, size, crc, len(compression))
        head += compression.encode() + U64.pack(stored)
        self._file.write(RECORD.pack(Opcode.CHUNK, len(head) + stored) + head)
        for part in data:
            self._file.write(part)
        stop = self._file.tell()
        places: dict[int, int] = {}
        for channel, entries in opened.entries.items():
            places[channel] = self._file.tell()
            body = struct.pack("<HI", channel, 8 * len(entries)) + entries.tobytes()
            self._file.write(RECORD.pack(Opcode.MESSAGE_INDEX, len(body)) + body)
        self._chunks += 1
        index = records.ChunkIndex(
            chunk_length=stop - offset,
            chunk_start_offset=offset,
            compression=compression,
            compressed_size=stored,
            message_end_time=opened.last_ns,
            message_index_length=self._file.tell() - stop,
            message_index_offsets=places,
            message_start_time=opened.first_ns,
            uncompressed_size=size,
        )
        self._index.write(_bytes_of(index))


def _bytes_of(record: records.McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    data: bytes = builder.end()  # type: ignore[no-untyped-call]  # of mcap
    return data
