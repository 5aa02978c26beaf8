"""ROS 1 `.bag` files: rosbags' reader, with bounded chunks and counts that check each other."""

from __future__ import annotations

import bz2
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import lz4.frame
from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader, ReaderError
from rosbags.rosbag1.reader import Header, RecordType, decompressors

from act_data.errors import DataError
from act_data.sources.storage import (
    MAX_CHUNK_BYTES,
    RECORD_AGAIN,
    Channel,
    Definition,
    Item,
    check_magic,
    damage,
)


class Ros1File:
    """One indexed ROS 1 bag."""

    def __init__(self, path: Path) -> None:
        self.path = path
        check_magic(path, "ros1")
        _refuse_unindexed(path)
        self._reader = Reader(path)
        with damage(path, "ros1", ReaderError):
            self._reader.open()
        self._reader.chunks = {
            position: chunk._replace(decompressor=_BOUNDED[chunk.decompressor])
            for position, chunk in self._reader.chunks.items()
        }
        # The counts come from the chunk infos, the messages through the index records: two
        # places of the file that must agree, or something was lost.
        promised: dict[int, int] = {}
        for info in self._reader.chunk_infos:
            for connection, count in info.connection_counts.items():
                promised[connection] = promised.get(connection, 0) + count
        self.channels: Sequence[Channel] = tuple(
            Channel(
                id=c.id,
                topic=c.topic,
                type=c.msgtype,
                encoding="ros1",
                definition=Definition(format="msg", text=c.msgdef.data),
                count=promised.get(c.id, 0),
            )
            for c in self._reader.connections
        )
        self.span_ns = _span(self._reader)

    def messages(self, topics: Collection[str]) -> Iterator[Item]:
        """The messages of `topics` ordered by (recv_ns, topic), equal ones in file order."""
        channels = {c.id: c for c in self.channels}
        chosen: list[Connection] = sorted(
            (c for c in self._reader.connections if c.topic in topics), key=lambda c: c.topic
        )
        if not chosen:  # rosbags takes an empty choice for all
            return
        with damage(self.path, "ros1", ReaderError):
            # rosbags merges stably in the order of the connections, hence by topic.
            for connection, recv_ns, payload in self._reader.messages(chosen):
                yield recv_ns, connection.topic, channels[connection.id], payload

    def close(self) -> None:
        """Release the file."""
        self._reader.close()


def quick_look(path: Path) -> tuple[tuple[int, int] | None, set[str]]:
    """The span of a bag and the topics with messages, without the index of every chunk.

    Raises:
        DataError: The bag is damaged or has no index.
    """
    check_magic(path, "ros1")
    _refuse_unindexed(path)
    reader = Reader(path)
    with damage(path, "ros1", ReaderError), path.open("rb") as file:
        header = _bag_header(file)
        reader.bio = file
        file.seek(header.get_uint64("index_pos"))
        topics = {
            c.id: c.topic
            for c in (reader.read_connection() for _ in range(header.get_uint32("conn_count")))
        }
        reader.chunk_infos = [
            reader.read_chunk_info() for _ in range(header.get_uint32("chunk_count"))
        ]
        filled = {
            topics[id_] for i in reader.chunk_infos for id_, n in i.connection_counts.items() if n
        }
    return _span(reader), filled


def _span(reader: Reader) -> tuple[int, int] | None:
    infos = [i for i in reader.chunk_infos if i.connection_counts]
    if not infos:
        return None
    return min(i.start_time for i in infos), max(i.end_time for i in infos) - 1


def _bag_header(file: BinaryIO) -> Header:
    file.readline()
    return Header.read(file, RecordType.BAGHEADER)


def _refuse_unindexed(path: Path) -> None:
    with damage(path, "ros1", ReaderError), path.open("rb") as file:
        if _bag_header(file).get_uint64("index_pos"):
            return
    raise DataError(
        f"{path} has no index: the recorder was stopped before it could write one",
        hint=RECORD_AGAIN["ros1"],
    )


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
