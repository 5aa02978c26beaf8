"""A spool read while it is written: what another thread or process records, as a `Source`."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from time import sleep
from types import TracebackType
from typing import Any, Self

from mcap.opcode import Opcode

from act_data.errors import DataError, NotFoundError
from act_data.records import SourceRecord
from act_data.sources.live.spool import ACTIVE
from act_data.sources.mcap_records import (
    MESSAGE,
    RECORD,
    Declarations,
    check_crc,
    chunk_record,
    records_in,
)
from act_data.sources.storage import MAGIC, Channel, damage, readable
from act_data.sources.topic_types import TopicTypes
from act_data.types import RawMessage, TopicInfo

_POLL_S = 0.05
_REST_BYTES = 2**20


class DiscardedError(DataError):
    """The recording was discarded while it was read."""


class FollowedSpool:
    """A `Source` over a `Spool` of this machine, from its first message to its last.

    However slow its reader is, nothing is lost and little memory is used: the file is the queue.
    Its messages, its types and its record are those of the finished file, bit for bit; so are the
    frames that they become.

    Attributes:
        counts: Messages so far, of all topics.
    """

    def __init__(self, target: Path, ended: Callable[[], bool] = lambda: False) -> None:
        """Wait until the first chunk of the spool of `target` is there.

        Args:
            ended: Whether nobody writes it any more, finished or not.

        Raises:
            DiscardedError: There is none any more.
            DataError: It is not a spool, or was left without an end.
        """
        self.counts: Counter[str] = Counter()
        self._target = target
        self._ended = ended
        self._sha256 = hashlib.sha256()
        self._at = 0
        self._declared = Declarations()
        self._span_ns: tuple[int, int] | None = None
        self._finished = False
        try:
            self._file = os.open(target.with_name(target.name + ACTIVE), os.O_RDONLY)
        except FileNotFoundError:
            try:
                self._file = os.open(target, os.O_RDONLY)  # it is finished already
            except FileNotFoundError as e:
                raise DiscardedError(f"{target.stem} was discarded") from e
        try:
            self._take(len(MAGIC["mcap"]))
            self._first = self._next_chunk()
        except BaseException:
            os.close(self._file)
            raise
        self._channels = {c.id: c for c in self._declared.channels({})}
        by_topic = {c.topic: [c] for c in self._channels.values()}
        self._types = TopicTypes(self.name, by_topic)

    @property
    def name(self) -> str:
        """The recording's name."""
        return readable(self._target.stem)

    @property
    def topics(self) -> Mapping[str, TopicInfo]:
        """The topics by name; nobody knows how many messages there will be."""
        return {
            c.topic: TopicInfo(name=c.topic, type=c.type)
            for c in sorted(self._channels.values(), key=lambda c: c.topic)
        }

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        """The messages of `topics` in log order; waits for those that are not written yet. Once.

        Ends when the spool is finished and has its name.

        Raises:
            NotFoundError: A topic is not recorded; raised at the call.
            DiscardedError: From the iterator: the recording was discarded.
            DataError: From the iterator: a message is too short for its header, or nobody
                finished the recording.
        """
        wanted = frozenset(topics)
        if missing := sorted(wanted - self.topics.keys()):
            raise NotFoundError(f"{self.name} has no topic {', '.join(map(repr, missing))}")
        return self._deliver(wanted)

    def _deliver(self, wanted: frozenset[str]) -> Iterator[RawMessage]:
        chunk = self._first
        while chunk is not None:
            for opcode, start, stop, head in records_in(chunk):
                if opcode == Opcode.MESSAGE:
                    id_, _, recv_ns, _ = MESSAGE.unpack(head)
                    channel = self._channels[id_]
                    self.counts[channel.topic] += 1
                    first_ns = self._span_ns[0] if self._span_ns else recv_ns
                    self._span_ns = first_ns, recv_ns
                    if channel.topic in wanted:
                        payload = chunk[start + MESSAGE.size : stop]
                        yield self._types.raw(recv_ns, channel, payload)
            chunk = self._next_chunk()
        self.wait()

    def wait(self) -> None:
        """Wait until the recording is finished, and leave out what was not read of it.

        Raises:
            DiscardedError: It was discarded.
            DataError: Nobody finished it.
        """
        while not self._target.exists():
            self._refuse_left()
            sleep(_POLL_S)
        while rest := os.pread(self._file, _REST_BYTES, self._at):
            self._sha256.update(rest)
            self._at += len(rest)
        self._finished = True

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing is odd about a file of our own."""
        return ()

    def deserialize(self, raw: RawMessage) -> Any:
        """The message as rosbags' object: fields as attributes, arrays as numpy.

        Raises:
            DataError: The type is unknown or the payload does not fit it; names topic and time.
        """
        return self._types.deserialize(raw)

    def channel(self, topic: str) -> Channel:
        """Type, encoding and definition of a topic."""
        return self._types.channel(topic)

    def record(self, topics: Collection[str]) -> SourceRecord:
        """What to store about the finished recording; after the last of its messages."""
        assert self._finished, "the recording still goes on"
        start_ns, end_ns = self._span_ns or (0, 0)
        return SourceRecord(
            name=self.name,
            kind="mcap",
            sha256=self._sha256.hexdigest(),
            files=(readable(str(self._target)),),
            start_ns=start_ns,
            end_ns=end_ns,
            topics=tuple(sorted(topics)),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    # --- the file that grows ---

    def _next_chunk(self) -> bytes | None:
        """The next chunk, inflated; None at the end of the data."""
        with damage(self._target, "mcap"):
            while True:
                self._wait_for(self._at + RECORD.size)
                begin = self._at
                opcode, length = RECORD.unpack(os.pread(self._file, RECORD.size, begin))
                self._wait_for(begin + RECORD.size + length)
                if opcode == Opcode.DATA_END:
                    return None
                data = self._take(RECORD.size + length)
                if opcode == Opcode.CHUNK:
                    return self._opened(begin, data)

    def _opened(self, begin: int, data: bytes) -> bytes:
        chunk = chunk_record(self._file, begin)
        if chunk.stored.compression:
            raise ValueError(f"the chunk at {begin} is not one of a spool")
        start = chunk.stored.offset - begin
        body = data[start : start + chunk.stored.length]
        check_crc(body, chunk.crc)
        for opcode, first, last, _ in records_in(body):
            if opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                self._declared.add(opcode, body[first:last])
        return body

    def _take(self, size: int) -> bytes:
        """The next `size` bytes, which are part of the digest."""
        self._wait_for(self._at + size)
        data = os.pread(self._file, size, self._at)
        self._sha256.update(data)
        self._at += size
        return data

    def _wait_for(self, end: int) -> None:
        """Wait until the file has `end` bytes."""
        while os.fstat(self._file).st_size < end:
            self._refuse_left()
            sleep(_POLL_S)

    def _refuse_left(self) -> None:
        if not os.fstat(self._file).st_nlink:
            raise DiscardedError(f"{self.name} was discarded")
        if self._ended() and not self._target.exists():
            raise DataError(
                f"{self.name} was not finished", hint="Recover it with `act-data recover`."
            )
