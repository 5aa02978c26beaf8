"""Writes what was recovered as a complete `.bag`, in memory that does not grow with it.

rosbags' own writer keeps an entry for every message of the bag until its end.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from array import array
from collections.abc import Iterable, Mapping
from typing import BinaryIO

import lz4.frame
from rosbags.typesys.msg import denormalize_msgtype

from act_data.sources.ros1_records import U32, U64, Op
from act_data.sources.storage import MAGIC, Channel
from act_data.types import NS_PER_S

CHUNK_BYTES = 768 * 2**10  # ROS's own recorder
_LARGE_BYTES = 4 * 2**20
_HEADER_BYTES = 4096
_ENTRY = struct.Struct("<III")  # sec, nsec, place


class Ros1Writer:
    """A new bag: messages in any order, then `finish`.

    Args:
        file: Empty, open for writing.
        channels: Their ids become those of the connections.
        compression: "" or "lz4".
    """

    def __init__(self, file: BinaryIO, channels: Iterable[Channel], compression: str) -> None:
        self._file = file
        self._compression = compression
        self._connections = {c.id: _connection(c) for c in channels}
        self._declared: set[int] = set()
        self._records = bytearray()
        self._entries: dict[int, array[int]] = {}  # time and place of each message by connection
        self._chunks = 0
        self._index = tempfile.TemporaryFile()  # noqa: SIM115
        file.write(MAGIC["ros1"] + _bag_record(0, 0, 0))

    def write(self, connection: int, recv_ns: int, payload: bytes | memoryview) -> None:
        """Append a message of a connection that was given."""
        large = len(payload) > _LARGE_BYTES
        if large:
            self._flush()
        if connection not in self._declared:
            self._declared.add(connection)
            self._records += self._connections[connection]
        head = _head(
            {b"conn": U32.pack(connection), b"op": bytes([Op.MESSAGE]), b"time": _time(recv_ns)},
            len(payload),
        )
        self._entries.setdefault(connection, array("Q")).extend((recv_ns, len(self._records)))
        self._records += head
        if large:
            self._chunk("none", len(self._records) + len(payload), (self._records, payload))
            return
        self._records += payload
        if len(self._records) >= CHUNK_BYTES:
            self._flush()

    def finish(self) -> None:
        """Write the rest and the index. The file itself stays open."""
        self._flush()
        start = self._file.tell()
        for record in self._connections.values():
            self._file.write(record)
        self._index.seek(0)
        shutil.copyfileobj(self._index, self._file, 2**20)
        self._file.seek(len(MAGIC["ros1"]))
        self._file.write(_bag_record(start, len(self._connections), self._chunks))
        self._file.seek(0, 2)
        self.close()

    def close(self) -> None:
        """Let go of the scratch file."""
        self._index.close()

    def _flush(self) -> None:
        if self._records and self._compression:
            stored = lz4.frame.compress(bytes(self._records))
            self._chunk(self._compression, len(self._records), (stored,))
        elif self._records:
            self._chunk("none", len(self._records), (self._records,))

    def _chunk(
        self, compression: str, size: int, data: tuple[bytes | bytearray | memoryview, ...]
    ) -> None:
        """Write the open chunk, with `data` for its data, and what belongs behind it."""
        offset = self._file.tell()
        fields = {
            b"compression": compression.encode(),
            b"op": bytes([Op.CHUNK]),
            b"size": U32.pack(size),
        }
        self._file.write(_head(fields, sum(len(part) for part in data)))
        for part in data:
            self._file.write(part)
        times = [ns for entries in self._entries.values() for ns in entries[::2]]
        counts = {c: len(entries) // 2 for c, entries in self._entries.items()}
        for connection, entries in self._entries.items():
            fields = {
                b"conn": U32.pack(connection),
                b"count": U32.pack(counts[connection]),
                b"op": bytes([Op.INDEX]),
                b"ver": U32.pack(1),
            }
            pairs = zip(entries[::2], entries[1::2], strict=True)
            body = b"".join(_ENTRY.pack(*divmod(ns, NS_PER_S), place) for ns, place in pairs)
            self._file.write(_head(fields, len(body)) + body)
        fields = {
            b"chunk_pos": U64.pack(offset),
            b"count": U32.pack(len(counts)),
            b"end_time": _time(max(times, default=0)),
            b"op": bytes([Op.CHUNK_INFO]),
            b"start_time": _time(min(times, default=0)),
            b"ver": U32.pack(1),
        }
        body = b"".join(U32.pack(c) + U32.pack(n) for c, n in counts.items())
        self._index.write(_head(fields, len(body)) + body)
        self._chunks += 1
        self._records, self._entries = bytearray(), {}


def _connection(channel: Channel) -> bytes:
    """The record that declares a connection."""
    topic = channel.topic.encode()
    about = {
        b"topic": topic,
        b"type": denormalize_msgtype(channel.type).encode(),
        b"md5sum": channel.about.get("md5sum", "*").encode(),
        b"message_definition": (channel.definition.text if channel.definition else "").encode(),
    }
    about |= {
        name.encode(): value.encode() for name, value in channel.about.items() if name != "md5sum"
    }
    body = _fields(about)
    fields = {b"conn": U32.pack(channel.id), b"op": bytes([Op.CONNECTION]), b"topic": topic}
    return _head(fields, len(body)) + body


def _bag_record(index: int, connections: int, chunks: int) -> bytes:
    """The first record, of the size that ROS's own recorder gives it."""
    fields = {
        b"chunk_count": U32.pack(chunks),
        b"conn_count": U32.pack(connections),
        b"index_pos": U64.pack(index),
        b"op": bytes([Op.BAG]),
    }
    padding = _HEADER_BYTES - len(_head(fields, 0))
    return _head(fields, padding) + b" " * padding


def _head(fields: Mapping[bytes, bytes], size: int) -> bytes:
    """A record up to its data, which have `size` bytes."""
    header = _fields(fields)
    return U32.pack(len(header)) + header + U32.pack(size)


def _fields(fields: Mapping[bytes, bytes]) -> bytes:
    pairs = (name + b"=" + value for name, value in fields.items())
    return b"".join(U32.pack(len(pair)) + pair for pair in pairs)


def _time(recv_ns: int) -> bytes:
    return struct.pack("<II", *divmod(recv_ns, NS_PER_S))
