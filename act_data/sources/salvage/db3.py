"""A damaged `.db3`: every complete row that lies on any of its pages.

First the tables are walked from their roots, as far as they hang together. Then every page that
was not reached, and is not in the list of free ones, is looked at: a recorder that was killed in
the middle of a transaction leaves full pages that nothing points to yet. What was found is put in
order by SQLite, in a scratch file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import apsw

from act_data.sources.bounds import MAX_CHANNELS, MAX_MESSAGE_BYTES
from act_data.sources.db3_file import ABOUT, back_ns_of, rank_function
from act_data.sources.salvage.account import Account
from act_data.sources.salvage.sqlite_pages import Cell, Image, Pages, columns, integer, is_integer
from act_data.sources.salvage.sqlite_tables import Tables, Value
from act_data.sources.storage import (
    DAMAGE,
    SIDES,
    Channel,
    Definition,
    Item,
    Texts,
    check_magic,
    damage,
    why,
)

_HEADER_BYTES = 64  # of the record of a message before its payload
_BATCH = 1000
_SCRATCH = """
CREATE TABLE messages(
    id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, complete INTEGER, page INTEGER,
    file INTEGER, offset INTEGER, size INTEGER, start INTEGER, local INTEGER, overflow INTEGER,
    payload INTEGER
)"""


class SalvagedDb3:
    """One SQLite file of a ROS 2 recording in whatever state; a `Storage` of what can be read.

    Attributes:
        recovery: The account of it.
    """

    compressions = ("none",)

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: tuple[int, ...] = ()
        self._back_ns: int | None = None
        check_magic(path, "db3")
        with damage(path, "db3", apsw.Error), ExitStack() as stack:
            beside = [path.with_name(path.name + side) for side in SIDES]
            there = [p.is_file() and p.stat().st_size > 0 for p in beside]
            wal, journal = (
                stack.enter_context(p.open("rb")).fileno() if is_there else None
                for p, is_there in zip(beside, there, strict=True)
            )
            self._pages = Pages(stack.enter_context(path.open("rb")).fileno(), wal, journal)
            self._found = apsw.Connection("")
            stack.callback(self._found.close)
            with self._found:
                scan = _Scan(path, self._pages, self._found)
                scan.run()
            for p, is_there in zip(beside, there, strict=True):
                if is_there:
                    scan.account.note(f"what lies in {p.name} was read, too")
            self.channels = scan.channels()
            span = "SELECT min(timestamp), max(timestamp) FROM messages WHERE complete"
            ((first, last),) = self._found.execute(span)
            self._close = stack.pop_all()
        self.span_ns = None if first is None else (int(first), int(last))
        self.recovery = scan.account.report(self.channels)
        self.nameless = self.recovery.nameless

    def messages(self, topics: Collection[str]) -> Iterator[Item]:
        """The messages of `topics` ordered by (recv_ns, topic), equal ones in order of rows."""
        channels = {c.id: c for c in self.channels if c.topic in topics}
        self._read, self._back_ns = tuple(channels), None
        if not channels:
            return
        rank = rank_function(self._found, channels)
        query = (
            "SELECT topic_id, timestamp, page, file, offset, id, size, start, local, overflow, "
            f"payload FROM messages WHERE complete AND topic_id IN ({','.join(map(str, channels))})"
            f" ORDER BY timestamp, {rank}(topic_id), id"
        )
        with damage(self.path, "db3", apsw.Error):
            for topic, recv_ns, page, file, offset, *cell, payload in self._found.execute(query):
                found = Cell(Image(page, file, offset), *cell)
                load = partial(self._pages.record, found, payload, found.size)
                yield recv_ns, channels[topic].topic, channels[topic], load

    def back_ns(self) -> int:
        """The largest step back of receive times in the file, of the topics that were read."""
        if self._back_ns is None:
            with damage(self.path, "db3", apsw.Error):
                self._back_ns = back_ns_of(self._found, self._read)
        return self._back_ns

    def close(self) -> None:
        """Release the files."""
        self._close.close()


class _Message(NamedTuple):
    """What the page of a message tells of it; its payload begins at `payload` of its record."""

    topic: int
    recv_ns: int
    payload: int


class _Scan:
    """One look at every page of a file."""

    def __init__(self, path: Path, pages: Pages, found: apsw.Connection) -> None:
        self.account = Account(path, "db3")
        self._pages = pages
        self._found = found
        self._tables = Tables(pages, self._broken)
        self._topics: dict[int, Channel] = {}
        self._definitions: dict[str, Definition] = {}
        self._texts = Texts()
        self._whole = not pages.state
        self._last_row = 0
        self._rows: list[tuple[int, ...]] = []

    def run(self) -> None:
        """Look at the whole file."""
        self._found.execute(_SCRATCH)
        if self._pages.state:
            self.account.note(self._pages.state)
        roots = self._tables.roots()
        self._whole = self._whole and {"topics", "messages"} <= roots.keys()
        for name, (kind, root) in sorted(roots.items(), key=lambda item: item[0] == "messages"):
            self._tables.last_row = 0  # the messages come last: theirs is kept
            for image in self._tables.leaves(root, index=kind == "index") if root else ():
                if name == "timestamp_idx":
                    self._last_row = max(self._last_row, self._pages.last_row_of_index(image))
                elif name in ("topics", "messages", "message_definitions"):
                    self._page(image, name)
        self._tables.skip_free()
        for image in self._tables.loose():
            if self._page(image, ""):
                self._whole = False
        self._flush()
        self._count()

    def channels(self) -> tuple[Channel, ...]:
        """The topics that were found, with what was read of each."""
        found = self.account.found
        return tuple(
            replace(c, count=found[id_], definition=self._definitions.get(c.type))
            for id_, c in sorted(self._topics.items())
        )

    def _broken(self, page: int, what: str) -> None:
        self._whole = False
        size = self._pages.page_bytes
        self.account.gap((page - 1) * size, page * size, f"page {page}: {what}")

    def _page(self, image: Image, table: str) -> int:
        """Take in the rows of a page; gives back how many of them were taken.

        Args:
            table: The table that it is of; "" when nobody knows.
        """
        taken = 0
        try:
            for cell in self._pages.cells(image):
                try:
                    taken += self._row(cell, table)
                except DAMAGE as e:
                    if table:
                        self._broken(image.number, f"row {cell.row} of {table!r}: {why(e)}")
        except DAMAGE as e:
            if table or taken:
                self._broken(image.number, why(e))
        return taken

    def _row(self, cell: Cell, table: str) -> bool:
        message = self._message(cell) if table in ("messages", "") else None
        if message is not None:
            self._take(cell, message)
            return True
        if table == "messages":
            raise ValueError("it is no message")
        return self._declare(self._tables.values(cell), cell.row, table)

    def _message(self, cell: Cell) -> _Message | None:
        """The message that a row is, None when it is something else."""
        head = self._pages.record(cell, 0, min(cell.size, _HEADER_BYTES))
        found = columns(head)
        if len(found) != 4 or found[3][0] < 12 or found[3][2] != cell.size:
            return None
        (_, *topic), (_, *time) = found[1:3]
        if not (is_integer(found[1][0]) and is_integer(found[2][0])) or found[3][1] > len(head):
            return None
        recv_ns = integer(found[2][0], head[slice(*time)])
        if recv_ns < 0:
            return None
        return _Message(integer(found[1][0], head[slice(*topic)]), recv_ns, found[3][1])

    def _take(self, cell: Cell, message: _Message) -> None:
        size = cell.size - message.payload
        if size > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {size} bytes, more than {MAX_MESSAGE_BYTES}")
        complete = self._pages.is_complete(cell)
        self._whole = self._whole and complete
        self._rows.append(
            (
                *(cell.row, message.topic, message.recv_ns, complete, *cell.image, cell.size),
                *(cell.start, cell.local, cell.overflow, message.payload),
            )
        )
        if len(self._rows) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        """Keep what was found; of a row that was found twice the first that is complete."""
        self._found.executemany(
            "INSERT INTO messages VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET (topic_id, timestamp, complete, page, file, offset, size, start, local, overflow, "
            "payload) = (excluded.topic_id, excluded.timestamp, excluded.complete, excluded.page, "
            "excluded.file, excluded.offset, excluded.size, excluded.start, excluded.local, "
            "excluded.overflow, excluded.payload) WHERE excluded.complete > complete",
            self._rows,
        )
        self._rows.clear()

    def _declare(self, values: list[Value], row: int, table: str) -> bool:
        """Take in a topic or a definition, if it is one; the columns differ between versions."""
        _, *columns_ = values
        texts = [v for v in columns_ if isinstance(v, str)]
        if len(texts) < (2 if table == "topics" else 3) or texts != columns_[: len(texts)]:
            if table:
                raise ValueError("it is not what it should be")
            return False
        form: Literal["msg", "idl"] | None
        form = {"ros2msg": "msg", "ros2idl": "idl"}.get(texts[1])  # type: ignore[assignment]
        if table == "message_definitions" or (not table and form is not None):
            if form is not None and texts[2]:
                definition = self._texts.definition(form, texts[2].encode())
                self._definitions.setdefault(self._texts.text(texts[0]), definition)
            return True
        if not table and texts[2] != "cdr":
            return False
        if len(self._topics) >= MAX_CHANNELS:
            raise ValueError(f"it has more than {MAX_CHANNELS} topics")
        self._topics.setdefault(
            row,
            Channel(
                id=row,
                topic=self._texts.text(texts[0]),
                type=self._texts.text(texts[1]),
                encoding="cdr",
                definition=None,
                count=0,
                about=self._texts.about(dict(zip(ABOUT, texts[2:], strict=False))),
            ),
        )
        return True

    def _count(self) -> None:
        """Complete the account."""
        query = "SELECT topic_id, count(*) FROM messages WHERE complete = ? GROUP BY topic_id"
        self.account.found.update(dict(self._found.execute(query, (True,))))
        cut = Counter(dict(self._found.execute(query, (False,))))
        self.account.part(cut, {})
        self.account.finished = self._whole
        if not self._whole:
            # Recorders number the rows from 1 without leaving one out.
            ((last, rows),) = self._found.execute("SELECT max(id), count(*) FROM messages")
            last = max(last or 0, self._tables.last_row, self._last_row)
            self.account.unattributed = max(0, last - rows)
