"""ROS 2 `.db3` files, in an order that does not depend on SQLite.

rosbags' reader refuses a whole file for one QoS text or one definition of a kind that it does not
know, and orders messages of one receive time as SQLite happens to. So the tables are read here.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal

import apsw

from act_data.errors import DataError
from act_data.sources.bounds import MAX_CHANNELS, MAX_MESSAGE_BYTES
from act_data.sources.storage import (
    RECOVER,
    SIDES,
    Channel,
    Definition,
    Item,
    Texts,
    check_magic,
    damage,
)

# A database may declare a million tables. SQLite counts about half of what it takes.
apsw.hard_heap_limit(96 * 2**20)

ABOUT = ("serialization_format", "offered_qos_profiles", "type_description_hash")
_TABLE_PAGES = (b"\x05", b"\x0d")
_calls = count()
_LARGE_BYTES = 2**20


class Db3File:
    """One SQLite storage file of a ROS 2 recording."""

    recovery = None
    compressions = ("none",)  # the format has none; rosbag2 compresses whole files or messages

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: tuple[int, ...] = ()
        self._back_ns: int | None = None
        check_magic(path, "db3")
        for suffix in SIDES:
            ahead = path.with_name(path.name + suffix)
            if ahead.exists() and ahead.stat().st_size:
                raise DataError(
                    f"{path} is not complete without {ahead.name}: the recorder still runs or was "
                    "killed",
                    hint="Stop the recorder. " + RECOVER,
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
                self.span_ns = self._span()
            except BaseException:
                self._database.close()
                raise

    def messages(self, topics: Collection[str]) -> Iterator[Item]:
        """The messages of `topics` ordered by (recv_ns, topic), equal ones in file order.

        Sorts row numbers, then fetches each payload by its row: SQLite would otherwise carry
        the payloads through its sorter when the recording has no index on time.
        """
        channels = {c.id: c for c in self.channels if c.topic in topics}
        self._read, self._back_ns = tuple(channels), None
        if not channels:
            return
        rank = rank_function(self._database, channels)
        query = (
            "SELECT id, topic_id, timestamp, length(data) FROM messages WHERE topic_id IN "
            f"({','.join(map(str, channels))}) ORDER BY timestamp, {rank}(topic_id), id"
        )
        with damage(self.path, "db3", apsw.Error):
            for row, topic_id, recv_ns, size in self._rows(query):
                channel = channels[topic_id]
                if not isinstance(recv_ns, int):
                    raise ValueError(f"message {row} of {channel.topic!r} has time {recv_ns!r}")
                if size > MAX_MESSAGE_BYTES:
                    raise ValueError(
                        f"message {row} of {channel.topic!r} has {size} bytes, more than "
                        f"{MAX_MESSAGE_BYTES}"
                    )
                yield recv_ns, channel.topic, channel, partial(self._payload, row, size)

    def back_ns(self) -> int:
        """The largest step back of receive times in the file, of the topics that were read."""
        if self._back_ns is None:
            with damage(self.path, "db3", apsw.Error):
                self._back_ns = back_ns_of(self._database, self._read)
        return self._back_ns

    def close(self) -> None:
        """Release the file."""
        self._database.close()

    def _span(self) -> tuple[int, int] | None:
        """Of all times that are any: SQLite lets texts lie in the column, too."""
        ((first, last),) = self._rows(
            "SELECT min(timestamp), max(timestamp) FROM messages "
            "WHERE typeof(timestamp) = 'integer'"
        )
        return None if first is None else (int(first), int(last))

    def _payload(self, row: int, size: int) -> bytes:
        with damage(self.path, "db3", apsw.Error):
            if size > _LARGE_BYTES:  # a query would hold it twice
                with self._database.blob_open("main", "messages", "data", row, False) as blob:
                    return blob.read()
            ((data,),) = self._rows("SELECT data FROM messages WHERE id = ?", (row,))
            return data if isinstance(data, bytes) else str(data).encode()

    def _rows(self, query: str, values: tuple[int, ...] = ()) -> Iterator[tuple[Any, ...]]:
        return self._database.execute(query, values)

    def _read_topics(self) -> tuple[Channel, ...]:
        """The topics, their definitions, and how many messages each has."""
        # A view or a computed column would run whatever its author wanted.
        tables = dict(self._rows("SELECT name, type FROM sqlite_master WHERE type != 'index'"))
        if tables.get("topics") != "table" or tables.get("messages") != "table":
            raise ValueError("it is a database without the tables of a recording")
        for table in ("topics", "messages"):
            for _, column, *_, hidden in self._rows(f"PRAGMA table_xinfo({table})"):
                if hidden:
                    raise ValueError(f"column {column!r} of {table!r} is computed")
        texts = Texts()
        definitions: dict[str, Definition] = {}
        if tables.get("message_definitions") == "table":  # Iron and later
            found = self._rows(
                "SELECT topic_type, encoding, CAST(encoded_message_definition AS BLOB) "
                "FROM message_definitions WHERE length(encoded_message_definition) > 0"
            )
            for type_, encoding, data in found:
                if encoding in ("ros2msg", "ros2idl"):
                    form: Literal["msg", "idl"] = "msg" if encoding == "ros2msg" else "idl"
                    definitions[texts.text(type_)] = texts.definition(form, data)
        columns = [row[1] for row in self._rows("PRAGMA table_xinfo(topics)")]
        about = [c for c in ABOUT if c in columns]
        ((topics,),) = self._rows("SELECT count(*) FROM topics")
        if topics > MAX_CHANNELS:
            raise ValueError(f"it has {topics} topics, more than {MAX_CHANNELS}")
        counts = dict(
            self._rows(
                "SELECT topic_id, count(*) FROM messages WHERE topic_id IN (SELECT id FROM topics) "
                "GROUP BY topic_id"
            )
        )
        ((messages,),) = self._rows("SELECT count(*) FROM messages")
        self.nameless = int(messages) - sum(counts.values())
        channels: list[Channel] = []
        for id_, name, type_, *others in self._rows(
            f"SELECT {', '.join(('id', 'name', 'type', *about))} FROM topics ORDER BY id"
        ):
            if not (isinstance(id_, int) and isinstance(name, str) and isinstance(type_, str)):
                raise ValueError(f"topic {name!r} has id {id_!r} and type {type_!r}")
            channels.append(
                Channel(
                    id=id_,
                    topic=texts.text(name),
                    type=texts.text(type_),
                    # The storage's own word for the encoding is not trusted (recordings with a
                    # wrong one exist): rosbag2 writes CDR, and decoding checks it.
                    encoding="cdr",
                    definition=definitions.get(type_),
                    count=counts.get(id_, 0),
                    about=texts.about({k: str(v) for k, v in zip(about, others, strict=True)}),
                )
            )
        return tuple(channels)


def rank_function(database: apsw.Connection, channels: Mapping[int, Channel]) -> str:
    """The name of a function of SQL that gives the rank of a topic id by the topic's name.

    A function for each call: two may be read at once, and a WHEN for each of thousands of topics
    would be looked through for every row.
    """
    names = sorted({channel.topic for channel in channels.values()})
    rank_of_name = {name: rank for rank, name in enumerate(names)}
    of_topic = {id_: rank_of_name[channel.topic] for id_, channel in channels.items()}

    def rank_of(*topic: Any) -> int:
        return of_topic[topic[0]]

    name = f"rank_{next(_calls)}"
    database.create_scalar_function(name, rank_of, 1, deterministic=True)
    return name


def back_ns_of(database: apsw.Connection, topics: Sequence[int]) -> int:
    """The largest step back of receive times within one of the topics, in the order of rows."""
    query = (
        "SELECT max(back) FROM (SELECT max(timestamp) OVER (PARTITION BY topic_id ORDER BY id "
        "ROWS UNBOUNDED PRECEDING) - timestamp AS back FROM messages WHERE topic_id IN "
        f"({','.join(map(str, topics))}))"
    )
    ((back,),) = database.execute(query)
    return int(back or 0)


def _refuse_cut(path: Path) -> None:
    """SQLite itself notices missing pages only where a query happens to need one.

    A recorder that is killed within a transaction leaves pages that the header does not count.
    """
    with path.open("rb") as file:
        header = file.read(100)
        page, pages = struct.unpack(">H10xI", header[16:32])
        page = 65536 if page == 1 else page
        size = file.seek(0, 2)
        if header[24:28] != header[92:96]:  # an old SQLite wrote it, which does not count pages
            return
        if size < page * pages:
            raise ValueError(f"it has {size} of {page * pages} bytes")
        for place in range(page * pages, size, page):
            file.seek(place)
            if file.read(1) in _TABLE_PAGES:
                raise ValueError(f"it has {size} bytes, and its header knows of {page * pages}")
