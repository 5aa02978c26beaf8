"""Where every message of a whole bag lies, found without the toolkit's own readers."""

from __future__ import annotations

import bz2
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import lz4.frame
import zstandard


@dataclass(frozen=True)
class Lying:
    """One message.

    Attributes:
        stop: The byte of the file behind the last one that it needs.
        chunk: Number of the compressed chunk that it is in; -1 outside of such.
    """

    recv_ns: int
    topic: str
    payload: bytes
    stop: int
    chunk: int = -1


def lying(path: Path) -> list[Lying]:
    """The messages of a whole file in the order in which they lie in it."""
    data = path.read_bytes()
    if data.startswith(b"#ROSBAG"):
        return list(_ros1(data))
    if data.startswith(b"\x89MCAP"):
        return list(_mcap(data))
    return list(_db3(path, data))


def in_order(messages: list[Lying]) -> list[tuple[int, str, bytes]]:
    """(recv_ns, topic, payload) as they are delivered."""
    ordered = sorted(messages, key=lambda m: (m.recv_ns, m.topic))
    return [(m.recv_ns, m.topic, m.payload) for m in ordered]


def _ros1(data: bytes) -> Iterator[Lying]:
    topics: dict[int, str] = {}
    chunks = 0
    for fields, body, stop in _ros1_records(data, 13):
        if fields[b"op"] == b"\x05":
            inflate = {b"none": bytes, b"lz4": lz4.frame.decompress, b"bz2": bz2.decompress}
            compressed = fields[b"compression"] != b"none"
            begin = stop - len(body)
            inner = inflate[fields[b"compression"]](body)
            for fields_, payload, inner_stop in _ros1_records(inner, 0):
                end = stop if compressed else begin + inner_stop
                yield from _ros1_message(
                    fields_, payload, end, chunks if compressed else -1, topics
                )
            chunks += compressed


def _ros1_message(
    fields: dict[bytes, bytes], payload: bytes, stop: int, chunk: int, topics: dict[int, str]
) -> Iterator[Lying]:
    if fields[b"op"] == b"\x07":
        (number,) = struct.unpack("<I", fields[b"conn"])
        topics[number] = fields[b"topic"].decode()
    elif fields[b"op"] == b"\x02":
        (number,) = struct.unpack("<I", fields[b"conn"])
        sec, nsec = struct.unpack("<II", fields[b"time"])
        yield Lying(sec * 10**9 + nsec, topics[number], payload, stop, chunk)


def _ros1_records(data: bytes, at: int) -> Iterator[tuple[dict[bytes, bytes], bytes, int]]:
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        header, at = data[at + 4 : at + 4 + length], at + 4 + length
        fields = {}
        while header:
            (length,) = struct.unpack_from("<I", header)
            name, _, value = header[4 : 4 + length].partition(b"=")
            fields[name], header = value, header[4 + length :]
        (length,) = struct.unpack_from("<I", data, at)
        at += 4 + length
        yield fields, data[at - length : at], at


def _mcap(data: bytes) -> Iterator[Lying]:
    topics: dict[int, str] = {}
    chunks = 0
    for opcode, body, stop in _mcap_records(data, 8):
        if opcode == 6:
            (length,) = struct.unpack_from("<I", body, 28)
            name = body[32 : 32 + length]
            stored = body[32 + length + 8 :]
            inner = stored
            if name == b"zstd":
                inner = zstandard.ZstdDecompressor().decompressobj().decompress(stored)
            elif name == b"lz4":
                inner = lz4.frame.decompress(stored)
            for opcode_, body_, inner_stop in _mcap_records(inner, 0):
                end = stop if name else stop - len(stored) + inner_stop
                yield from _mcap_message(opcode_, body_, end, chunks if name else -1, topics)
            chunks += bool(name)
        else:
            yield from _mcap_message(opcode, body, stop, -1, topics)
        if opcode == 2:
            return


def _mcap_message(
    opcode: int, body: bytes, stop: int, chunk: int, topics: dict[int, str]
) -> Iterator[Lying]:
    if opcode == 4:
        number, _, length = struct.unpack_from("<HHI", body)
        topics[number] = body[8 : 8 + length].decode()
    elif opcode == 5:
        number, _, log_ns, _ = struct.unpack_from("<HIQQ", body)
        yield Lying(log_ns, topics[number], body[22:], stop, chunk)


def _mcap_records(data: bytes, at: int) -> Iterator[tuple[int, bytes, int]]:
    while at < len(data):
        opcode, length = struct.unpack_from("<BQ", data, at)
        at += 9 + length
        yield opcode, data[at - length : at], at


def _db3(path: Path, data: bytes) -> Iterator[Lying]:
    """By its payloads, every 32 bytes of which must be found at one place only."""
    with closing(sqlite3.connect(path)) as database:
        ((page,),) = database.execute("PRAGMA page_size")
        rows = database.execute(
            "SELECT timestamp, name, data FROM messages JOIN topics ON topics.id = topic_id "
            "ORDER BY messages.id"
        ).fetchall()
    for recv_ns, topic, payload in rows:
        places = [data.find(payload[i : i + 32]) for i in range(0, len(payload), 32)]
        found = [place for place in places if place >= 0]  # the others lie across two pages
        yield Lying(recv_ns, topic, payload, (max(found) // page + 1) * page)
