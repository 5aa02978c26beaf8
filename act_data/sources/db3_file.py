"""ROS 2 `.db3` files, in an order that does not depend on SQLite.

rosbags' reader refuses a whole file for one QoS text or one definition of a kind that it does not
know, and orders messages of one receive time as SQLite happens to. So the tables are read here.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import apsw

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

    compressions = ("none",)  # the format has none; rosbag2 compresses whole files or messages

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: tuple[int, ...] = ()
        self._back_ns: int | None = None
        check_magic(path, "db3")
        for suffix in ("-wal", "-journal"):
            ahead = path.with_name(path.name + suffix)
            if ahead.exists() and ahead.stat().st_size:
                raise DataError(
                    f"{path} is not complete without {ahead.name}: the recorder still runs or was "
                    "killed",
                    hint=f"Stop the recorder, then run: sqlite3 {path.name} 'PRAGMA user_version;'",
                )
        with damage(path, "db3", apsw.Error):
            _refuse_cut(path)
            # `immutable` reads a file that lies on a read-only disk, too.
            self._database = apsw.Connection(
                f"{path.resolve().as_uri()}?immutable=1",
                flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
            )
            try:
                self.channels: Sequence[Channel] = self._read_topics()
                ((first, last),) = self._rows("SELECT min(timestamp), max(timestamp) FROM messages")
            except BaseException:
                self._database.close()
                raise
        self.span_ns = None if first is None else (int(first), int(last))

    def messages(self, topics: Collection[str]) -> Iterator[Item]:
        """The messages of `topics` ordered by (recv_ns, topic), equal ones in file order.

        Sorts row numbers, then fetches each payload by its row: SQLite would otherwise carry
        the payloads through its sorter when the recording has no index on time.
        """
        channels = {c.id: c for c in self.channels if c.topic in topics}
        self._read, self._back_ns = tuple(channels), None
        query = (
            "SELECT id, topic_id, timestamp, length(data) FROM messages WHERE topic_id IN "
            f"({','.join('?' * len(channels))}) ORDER BY timestamp, id"
        )
        with damage(self.path, "db3", apsw.Error):
            rows = self._rows(query, tuple(channels))
            for recv_ns, together in _equal_times(rows):
                for row, topic_id, size in sorted(
                    together, key=lambda r: (channels[r[1]].topic, r[0])
                ):
                    channel = channels[topic_id]
                    if size > MAX_MESSAGE_BYTES:
                        raise ValueError(f"a message of {channel.topic!r} has {size} bytes")
                    ((data,),) = self._rows("SELECT data FROM messages WHERE id = ?", (row,))
                    payload = bytes(data)
                    yield recv_ns, channel.topic, channel, payload

    def back_ns(self) -> int:
        """The largest step back of receive times in the file, of the topics that were read."""
        query = (
            "SELECT max(back) FROM (SELECT max(timestamp) OVER (PARTITION BY topic_id ORDER BY id "
            "ROWS UNBOUNDED PRECEDING) - timestamp AS back FROM messages WHERE topic_id IN "
            f"({','.join('?' * len(self._read))}))"
        )
        if self._back_ns is None:
            with damage(self.path, "db3", apsw.Error):
                ((back,),) = self._rows(query, self._read)
            self._back_ns = int(back or 0)
        return self._back_ns

    def close(self) -> None:
        """Release the file."""
        self._database.close()

    def _rows(self, query: str, values: tuple[int, ...] = ()) -> Iterator[tuple[Any, ...]]:
        return self._database.execute(query, values)

    def _read_topics(self) -> tuple[Channel, ...]:
        tables = {name for (name,) in self._rows("SELECT name FROM sqlite_master")}
        if not {"topics", "messages"} <= tables:
            raise ValueError("it is a database without the tables of a recording")
        definitions: dict[str, Definition] = {}
        if "message_definitions" in tables:  # Iron and later
            found = self._rows(
                "SELECT topic_type, encoding, CAST(encoded_message_definition AS BLOB) "
                "FROM message_definitions"
            )
            for type_, encoding, text in found:
                if text and encoding in ("ros2msg", "ros2idl"):
                    form: Literal["msg", "idl"] = "msg" if encoding == "ros2msg" else "idl"
                    definitions[type_] = Definition(
                        format=form, text=bytes(text).decode("utf-8", "replace")
                    )
        counts = dict(self._rows("SELECT topic_id, count(*) FROM messages GROUP BY topic_id"))
        return tuple(
            Channel(
                id=id_,
                topic=name,
                type=type_,
                # The storage's own word for the encoding is not trusted (recordings with a
                # wrong one exist): rosbag2 writes CDR, and decoding checks it.
                encoding="cdr",
                definition=definitions.get(type_),
                count=counts.get(id_, 0),
            )
            for id_, name, type_ in self._rows("SELECT id, name, type FROM topics ORDER BY id")
        )


def _refuse_cut(path: Path) -> None:
    """SQLite itself notices missing pages only where a query happens to need one."""
    with path.open("rb") as file:
        header = file.read(100)
    page, pages = struct.unpack(">H10xI", header[16:32])
    promised = (65536 if page == 1 else page) * pages
    if header[24:28] == header[92:96] and path.stat().st_size < promised:
        raise ValueError(f"it has {path.stat().st_size} of {promised} bytes")


def _equal_times(
    rows: Iterator[tuple[Any, ...]],
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
