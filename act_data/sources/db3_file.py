"""ROS 2 `.db3` files: rosbags' SQLite storage, read in an order that does not depend on SQLite."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import cast

import apsw
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from act_data.errors import DataError
from act_data.sources.storage import (
    MAX_MESSAGE_BYTES,
    Channel,
    Definition,
    Item,
    check_magic,
    damage,
)


class Db3File:
    """One SQLite storage file of a ROS 2 recording."""

    def __init__(self, path: Path) -> None:
        self.path = path
        check_magic(path, "db3")
        ahead = path.with_name(path.name + "-wal")
        if ahead.exists() and ahead.stat().st_size:
            raise DataError(
                f"{path} has messages in {ahead.name} that are not in it yet: the recorder is "
                "still running or was killed",
                hint=f"Stop the recorder, then run: sqlite3 {path.name} 'PRAGMA wal_checkpoint;'",
            )
        self._reader = Sqlite3Reader(path)
        with damage(path, "db3", ReaderError, apsw.Error):
            self._reader.open()
        self.channels: Sequence[Channel] = tuple(
            Channel(
                id=c.id,
                topic=c.topic,
                type=c.msgtype,
                # The storage's own word for the encoding is not trusted (recordings with a
                # wrong one exist): rosbag2 writes CDR, and decoding checks it.
                encoding="cdr",
                definition=_definition(c.msgdef),
                count=c.msgcount,
            )
            for c in self._reader.connections
        )
        known = self._reader.metadata
        self.span_ns = (known.start_time, known.end_time - 1) if known.message_count else None

    def messages(self, topics: Collection[str]) -> Iterator[Item]:
        """The messages of `topics` ordered by (recv_ns, topic), equal ones in file order.

        Sorts row numbers, then fetches each payload by its row: SQLite would otherwise carry
        the payloads through its sorter when the recording has no index on time.
        """
        channels = {c.id: c for c in self.channels if c.topic in topics}
        connection = self._reader.dbconn
        assert connection is not None
        query = (
            "SELECT id, topic_id, timestamp, length(data) FROM messages WHERE topic_id IN "
            f"({','.join('?' * len(channels))}) ORDER BY timestamp, id"
        )
        with damage(self.path, "db3", apsw.Error):
            rows = cast(
                Iterator[tuple[int, int, int, int]], connection.execute(query, tuple(channels))
            )
            for recv_ns, together in _equal_times(rows):
                for row, topic_id, size in sorted(
                    together, key=lambda r: (channels[r[1]].topic, r[0])
                ):
                    channel = channels[topic_id]
                    if size > MAX_MESSAGE_BYTES:
                        raise ValueError(f"a message of {channel.topic!r} has {size} bytes")
                    found = connection.execute("SELECT data FROM messages WHERE id = ?", (row,))
                    ((payload,),) = cast(Iterator[tuple[bytes]], found)
                    yield recv_ns, channel.topic, channel, payload

    def close(self) -> None:
        """Release the file."""
        self._reader.close()


def _equal_times(
    rows: Iterator[tuple[int, int, int, int]],
) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
    """Rows of one receive time together, each as (row, topic id, payload size)."""
    together: list[tuple[int, int, int]] = []
    time_ns = 0
    for row, topic_id, recv_ns, size in rows:
        if together and recv_ns != time_ns:
            yield time_ns, together
            together = []
        time_ns = recv_ns
        together.append((row, topic_id, size))
    if together:
        yield time_ns, together


def _definition(found: MessageDefinition) -> Definition | None:
    if found.format is MessageDefinitionFormat.NONE:
        return None
    return Definition(
        format="msg" if found.format is MessageDefinitionFormat.MSG else "idl", text=found.data
    )
