"""One recording as a source: its storage files merged into one stream in log order."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self

from act_data.errors import DataError, NotFoundError
from act_data.records import SourceRecord
from act_data.sources.message_types import MessageType, message_type
from act_data.sources.recording import Recording, open_storage, readable
from act_data.sources.rosbag_metadata import read_promise
from act_data.sources.stamps import header_stamp
from act_data.sources.storage import (
    MAX_MESSAGE_BYTES,
    ZSTD_MAGIC,
    Channel,
    Storage,
    damage,
    inflate_zstd,
    merged,
)
from act_data.types import NS_PER_S, RawMessage, TopicInfo

_HASH_BLOCK = 2**20
_LAST_NS = 2**63 - 1


def open_recording(recording: Recording) -> BagSource:
    """The messages of a recording. Close it, or use it in a `with` statement.

    Every storage file is opened by itself; what a `metadata.yaml` says is only compared.

    Raises:
        DataError: A file is empty, cut, unindexed, damaged, missing, or of another kind.
    """
    return BagSource(recording)


class BagSource:
    """A `Source` over the files of one recording."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        promise = read_promise(recording.metadata) if recording.metadata else None
        counts = dict(promise.counts) if promise else {}
        if promise and len(promise.files) > len(recording.files):
            present = {f.name for f in recording.files}
            missing = [name for name in promise.files if name not in present]
            raise DataError(
                f"{recording.metadata} lists {len(promise.files)} storage files, "
                f"{len(recording.files)} are there; missing: {', '.join(missing)}",
                hint="Copy the missing files, or delete metadata.yaml to use what is there.",
            )
        with ExitStack() as stack:
            self._storages: list[Storage] = []
            for file in recording.files:
                storage = open_storage(file, recording.kind)
                stack.callback(storage.close)
                self._storages.append(storage)
            self._close = stack.pop_all()
        self._channels: dict[str, list[Channel]] = {}
        for storage in self._storages:
            for channel in storage.channels:
                self._channels.setdefault(channel.topic, []).append(channel)
        self._topics = {
            name: TopicInfo(
                name=name,
                type=channels[0].type,
                count=max(sum(c.count for c in channels), counts.get(name, 0)),
            )
            for name, channels in sorted(self._channels.items())
        }
        self._types: dict[str, MessageType] = {}
        self._sha256 = ""
        self._per_message: set[str] = set()

    @property
    def name(self) -> str:
        """The recording's name."""
        return self._recording.name

    @property
    def topics(self) -> Mapping[str, TopicInfo]:
        """All topics by name, with the counts that the index promises."""
        return self._topics

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        """The messages of `topics` in log order; those of one receive time in order of topic.

        The same recording gives the same order in every format. Memory holds the chunks that
        overlap in time, one as a rule. A topic whose type nobody defines is delivered without a
        stamp; only decoding it fails.

        Raises:
            NotFoundError: A topic is not in the recording; raised at the call.
            DataError: From the iterator: the recording is damaged, or delivered another number
                of messages than its index promised.
        """
        wanted = frozenset(topics)
        missing = sorted(wanted - self._topics.keys())
        if missing:
            raise NotFoundError(
                f"{self.name} has no topic {', '.join(map(repr, missing))}",
                hint=f"It has: {', '.join(self._topics) or 'no topic at all'}.",
            )
        return self._deliver(wanted)

    def _deliver(self, wanted: frozenset[str]) -> Iterator[RawMessage]:
        delivered = dict.fromkeys(sorted(wanted), 0)
        types = {topic: self._type_or_none(topic) for topic in delivered}
        last_ns = 0
        parts = [
            (storage.span_ns[0], partial(storage.messages, wanted))
            for storage in self._storages
            if storage.span_ns
        ]
        for recv_ns, topic, channel, data in merged(parts):
            if not last_ns <= recv_ns <= _LAST_NS:
                raise DataError(
                    f"{self.name}: a message of {topic!r} was received at {recv_ns} ns after one "
                    f"at {last_ns} ns: the index is wrong about the order",
                    hint="Rebuild the index with `rosbag reindex` or `ros2 bag reindex`.",
                )
            last_ns = recv_ns
            delivered[topic] += 1
            type_ = types[topic]
            payload = self._payload(topic, recv_ns, channel, data)
            stamp_ns: int | None = None
            seq: int | None = None
            if type_ is not None and type_.layout is not None:
                try:
                    stamp_ns, seq = header_stamp(payload, type_.layout)
                except ValueError as e:
                    raise self._unfit(topic, channel.type, recv_ns, e) from e
            yield RawMessage(
                topic=topic,
                recv_ns=recv_ns,
                stamp_ns=stamp_ns,
                seq=seq,
                type=self._topics[topic].type,
                encoding=channel.encoding or "cdr",
                payload=payload,
            )
        lost = [
            f"{topic}: {count} of {self._topics[topic].count}"
            for topic, count in delivered.items()
            if count != self._topics[topic].count
        ]
        if lost:
            raise DataError(
                f"{self.name} delivered another number of messages than its index promises: "
                + "; ".join(lost),
                hint="Rebuild the index with `rosbag reindex` or `ros2 bag reindex`, then retry.",
            )

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about what was read so far, in sentences for people."""
        back_ns = max((storage.back_ns() for storage in self._storages), default=0)
        if back_ns < NS_PER_S:
            return ()
        return (
            f"receive times go back by up to {back_ns / NS_PER_S:.2f} s within the file: either "
            "the recorder's clock was set back, and messages of two times lie between each other, "
            "or a tool has written the file out of order",
        )

    @property
    def compressions(self) -> tuple[str, ...]:
        """What it is compressed with, as far as it was read: "none", "lz4", "zstd", ...; sorted."""
        found = {name for storage in self._storages for name in storage.compressions}
        return tuple(sorted(found | self._per_message))

    def deserialize(self, raw: RawMessage) -> Any:
        """The message as rosbags' object: fields as attributes, arrays as numpy.

        Raises:
            DataError: The type is unknown or the payload does not fit it; names topic and time.
        """
        type_ = self._types.get(raw.topic) or self._type(raw.topic)
        try:
            return type_.deserialize(raw.payload)
        except ValueError as e:
            raise self._unfit(raw.topic, raw.type, raw.recv_ns, e) from e

    def record(self, topics: Collection[str]) -> SourceRecord:
        """What to store about this recording; reads all its files once for the digest."""
        if not self._sha256:
            digest = hashlib.sha256()
            for file in self._recording.files:
                with damage(file, self._recording.kind), file.open("rb") as stream:
                    while block := stream.read(_HASH_BLOCK):
                        digest.update(block)
            self._sha256 = digest.hexdigest()
        spans = [s.span_ns for s in self._storages if s.span_ns]
        return SourceRecord(
            name=self.name,
            kind=self._recording.kind,
            sha256=self._sha256,
            files=tuple(readable(str(f)) for f in self._recording.files),
            start_ns=min((first for first, _ in spans), default=0),
            end_ns=max((last for _, last in spans), default=0),
            topics=tuple(sorted(topics)),
        )

    def close(self) -> None:
        """Release the files."""
        self._close.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _type(self, topic: str) -> MessageType:
        """The type of a topic, on which all its publishers and files must agree."""
        channels = self._channels.get(topic)
        if not channels:
            raise NotFoundError(f"{self.name} has no topic {topic!r}")
        kinds = sorted({c.type for c in channels})
        texts = {c.definition.text.strip() for c in channels if c.definition}
        if len(kinds) > 1 or len(texts) > 1:
            raise DataError(
                f"{self.name}: topic {topic!r} carries messages of different types: "
                + (", ".join(kinds) if len(kinds) > 1 else f"{kinds[0]} in {len(texts)} versions"),
                hint="Record the publishers of different types on topics of their own.",
            )
        type_ = message_type(next((c for c in channels if c.definition), channels[0]))
        self._types[topic] = type_
        return type_

    def _type_or_none(self, topic: str) -> MessageType | None:
        try:
            return self._type(topic)
        except DataError:
            return None  # deserialize says why, should anybody want to decode it

    def _payload(
        self, topic: str, recv_ns: int, channel: Channel, data: bytes | memoryview
    ) -> bytes | memoryview:
        if channel.encoding == "cdr" and data[:4] == ZSTD_MAGIC:  # rosbag2 compression per message
            try:
                data = inflate_zstd(data, MAX_MESSAGE_BYTES)
            except ValueError as e:
                raise self._unfit(topic, channel.type, recv_ns, e) from e
            self._per_message.add("zstd per message")
        if len(data) > MAX_MESSAGE_BYTES:
            too_long = ValueError(f"it has {len(data)} bytes, more than {MAX_MESSAGE_BYTES}")
            raise self._unfit(topic, channel.type, recv_ns, too_long)
        return data

    def _unfit(self, topic: str, type_: str, recv_ns: int, why: ValueError) -> DataError:
        return DataError(
            f"{self.name}: the message of {topic!r} received at {recv_ns} ns is no valid {type_}: "
            f"{why}",
            hint="Leave the topic out, or record again.",
        )
