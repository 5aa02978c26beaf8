"""`.mcap` files of any profile: only the selected channels are looked at, every size is bounded.

rosbags refuses a whole file for its profile, for one JSON channel or for one definition that it
cannot parse, and inflates chunks without a bound; mcap's reader sorts a file without chunks in
memory. So the records are walked here, with mcap's record classes.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from mcap import records
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from numpy.typing import NDArray

from act_data.errors import DataError
from act_data.sources.chunk_room import Body, ChunkRoom, items
from act_data.sources.chunk_table import ChunkTable, Runs
from act_data.sources.file_order import FileOrder
from act_data.sources.inflate import Stored
from act_data.sources.mcap_records import (
    MESSAGE,
    RECORD,
    U64,
    Declarations,
    check_crc,
    chunk_record,
    index_of,
    read_body,
    records_between,
    records_in,
    small,
)
from act_data.sources.storage import (
    MAGIC,
    RECOVER,
    Channel,
    Item,
    check_magic,
    chunk_at,
    damage,
    merged,
)

_FOOTER_BYTES = RECORD.size + 20 + len(MAGIC["mcap"])


@dataclass
class _Contents:
    """What is known about a file: from its summary, or from walking through it.

    Attributes:
        counts: Messages by channel id.
    """

    declared: Declarations = field(default_factory=Declarations)
    chunks: ChunkTable = field(default_factory=ChunkTable)
    counts: dict[int, int] = field(default_factory=dict)
    span_ns: tuple[int, int] | None = None

    def seen(self, log_ns: int, channel: int) -> None:
        """Count one message."""
        self.counts[channel] = self.counts.get(channel, 0) + 1
        first, last = self.span_ns or (log_ns, log_ns)
        self.span_ns = min(first, log_ns), max(last, log_ns)


class McapFile:
    """One complete MCAP file."""

    recovery = None

    def __init__(self, path: Path, room: ChunkRoom) -> None:
        self.path = path
        self.compressions: set[str] = set()
        self._room = room
        self._order = FileOrder()
        check_magic(path, "mcap")
        self._file: BinaryIO = path.open("rb")
        try:
            with damage(path, "mcap", McapError):
                footer, summary = self._read_footer()
                known = self._summary(summary, footer) if summary else None
                contents = known if known is not None else self._walk(summary or footer)
                self.channels: Sequence[Channel] = contents.declared.channels(contents.counts)
        except BaseException:
            self._file.close()
            raise
        self._chunks = contents.chunks
        self.nameless = sum(contents.counts.values()) - sum(c.count for c in self.channels)
        self.span_ns = contents.span_ns

    def messages(self, topics: Collection[str]) -> Iterator[Item]:
        """The messages of `topics` ordered by (recv_ns, topic), equal ones in file order."""
        wanted = {c.id: c for c in self.channels if c.topic in topics}
        ranks = {topic: rank for rank, topic in enumerate(sorted(topics))}
        starts, offsets, runs = self._chunks.holding(wanted)
        with damage(self.path, "mcap", McapError):
            yield from merged(starts, partial(self._in_chunk, offsets, runs, wanted, ranks))

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
            if tail.endswith(MAGIC["mcap"]) and tail[:9] == RECORD.pack(Opcode.FOOTER, 20):
                (summary,) = U64.unpack_from(tail, RECORD.size)
                footer = size - _FOOTER_BYTES
                if summary > footer:
                    raise ValueError(f"its summary would begin at {summary}, behind its end")
                return footer, summary
        raise DataError(
            f"{self.path} was cut: its end mark is missing, the recorder did not finish it",
            hint=RECOVER,
        )

    def _summary(self, start: int, footer: int) -> _Contents | None:
        """The contents as the summary tells them; None when it leaves something out."""
        file, found = self._file.fileno(), _Contents()
        statistics: records.Statistics | None = None
        begins, ends = array("Q"), array("Q")
        for opcode, offset, stop, _ in records_between(file, start, footer):
            if opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                found.declared.add(opcode, read_body(file, offset, stop))
            elif opcode == Opcode.STATISTICS:
                statistics = records.Statistics.read(_stream(read_body(file, offset, stop)))
            elif opcode == Opcode.CHUNK_INDEX:
                chunk = records.ChunkIndex.read(_stream(read_body(file, offset, stop)))
                begins.append(chunk.chunk_start_offset)
                ends.append(begins[-1] + chunk.chunk_length + chunk.message_index_length)
                inside = chunk.message_index_offsets.keys() or None
                found.chunks.add(chunk.message_start_time, begins[-1], inside)
        if (
            statistics is None
            or statistics.chunk_count != len(begins)
            or not statistics.channel_message_counts.keys() <= found.declared.ids
            or not found.declared.complete
        ):
            return None
        try:
            self._find_runs(found, begins, ends, start)
        except (ValueError, struct.error):  # the chunks are not as long as the summary says
            return None
        found.counts = dict(statistics.channel_message_counts)
        if statistics.message_count:
            found.span_ns = statistics.message_start_time, statistics.message_end_time
        return found

    def _find_runs(self, found: _Contents, begins: array[int], ends: array[int], stop: int) -> None:
        """Add the messages that lie outside of the chunks, which the summary does not list."""
        runs = Runs(found.chunks)
        at = len(MAGIC["mcap"])
        for chunk in np.argsort(np.array(begins, np.uint64), kind="stable").tolist():
            self._find_runs_between(runs, at, begins[chunk])
            at = max(at, ends[chunk])
        self._find_runs_between(runs, at, stop)
        runs.end()

    def _find_runs_between(self, runs: Runs, start: int, stop: int) -> None:
        for opcode, offset, end, first in records_between(self._file.fileno(), start, stop):
            if opcode == Opcode.MESSAGE:
                channel, _, log_ns, _ = MESSAGE.unpack(first)
                runs.add(offset - RECORD.size, end, log_ns, channel)

    def _walk(self, stop: int) -> _Contents:
        """The contents as one pass over the data section finds them."""
        file, found = self._file.fileno(), _Contents()
        runs = Runs(found.chunks)
        for opcode, offset, end, first in records_between(file, len(MAGIC["mcap"]), stop):
            if opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                found.declared.add(opcode, read_body(file, offset, end))
            elif opcode == Opcode.MESSAGE:
                channel, _, log_ns, _ = MESSAGE.unpack(first)
                found.seen(log_ns, channel)
                runs.add(offset - RECORD.size, end, log_ns, channel)
            elif opcode == Opcode.CHUNK:
                self._walk_chunk(found, offset - RECORD.size)
        runs.end()
        return found

    def _walk_chunk(self, found: _Contents, chunk_offset: int) -> None:
        inside: set[int] = set()
        first_ns = 2**64 - 1
        with chunk_at(chunk_offset), self._opened(chunk_offset, 0) as body:
            for opcode, start, stop, first in records_in(body):
                if opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                    found.declared.add(opcode, small(body, start, stop))
                elif opcode == Opcode.MESSAGE:
                    channel, _, log_ns, _ = MESSAGE.unpack(first)
                    inside.add(channel)
                    first_ns = min(first_ns, log_ns)
                    found.seen(log_ns, channel)
        if inside:
            found.chunks.add(first_ns, chunk_offset, inside)

    # --- the messages ---

    def _in_chunk(
        self,
        offsets: NDArray[np.uint64],
        runs: NDArray[np.uint64],
        wanted: Mapping[int, Channel],
        ranks: Mapping[str, int],
        number: int,
    ) -> Iterator[Item]:
        offset = int(offsets[number])
        with chunk_at(offset), ExitStack() as opened:
            body = opened.enter_context(self._opened(offset, int(runs[number])))
            index = index_of(body, wanted)
            opened.enter_context(self._room.messages(index))
            self._order.seen(number, zip(index.times, index.channels, strict=True))
            yield from items(body, index, wanted, ranks)

    @contextmanager
    def _opened(self, offset: int, run: int) -> Iterator[Body]:
        """The records of a chunk, or of a run of that many bytes outside of chunks."""
        file, crc = self._file.fileno(), 0
        stored = Stored(file=file, offset=offset, length=run, compression="", size=run)
        if not run:
            chunk = chunk_record(file, offset)
            stored, crc = chunk.stored, chunk.crc
        with self._room.chunk(stored) as body:
            check_crc(body, crc)
            self.compressions.add(stored.compression or "none")
            yield body


def _stream(data: bytes) -> ReadDataStream:
    return ReadDataStream(BytesIO(data))
