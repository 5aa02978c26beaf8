"""One recording as a source: its storage files merged into one stream in log order."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from act_data.errors import DataError, NotFoundError
from act_data.records import FileRecovery, SourceRecord
from act_data.sources.chunk_room import ChunkRoom
from act_data.sources.given_types import changes_decoding
from act_data.sources.recording import Recording, open_storage
from act_data.sources.rosbag_metadata import read_promise
from act_data.sources.storage import (
    RECOVER,
    Channel,
    Definition,
    Storage,
    damage,
    merged,
    readable,
)
from act_data.sources.topic_types import TopicTypes
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


def _promised(recording: Recording, metadata: Path) -> dict[str, int]:
    """Messages by topic that `metadata.yaml` lists.

    Raises:
        DataError: It lists files that are not there.
    """
    promise = read_promise(metadata)
    if promise and len(promise.files) > len(recording.files):
        present = {f.name for f in recording.files}
        missing = [name for name in promise.files if name not in present]
        raise DataError(
            f"{metadata} lists {len(promise.files)} storage files, "
            f"{len(recording.files)} are there; missing: {', '.join(missing)}",
            hint="Copy the missing files, or delete metadata.yaml to use what is there.",
        )
    return dict(promise.counts) if promise else {}


class BagSource:
    """A `Source` over the files of one recording."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        counts: dict[str, int] = {}
        if recording.metadata is not None and not recording.reading.recover:
            counts = _promised(recording, recording.metadata)
        with ExitStack() as stack:
            room = ChunkRoom()
            stack.callback(room.close)
            self._storages: list[Storage] = []
            for file in recording.files:
                storage = open_storage(
                    file, recording.kind, room, recover=recording.reading.recover
                )
                stack.callback(storage.close)
                self._storages.append(storage)
            self._close = stack.pop_all()
        self._channels: dict[str, list[Channel]] = {}
        self._given: dict[str, Definition] = {}
        for storage in self._storages:
            for channel in storage.channels:
                complete = recording.reading.types.complete(channel)
                if complete is not channel and complete.definition is not None:
                    self._given[channel.topic] = complete.definition
                self._channels.setdefault(channel.topic, []).append(complete)
        self._topics = {
            name: TopicInfo(
                name=name,
                type=channels[0].type,
                count=max(sum(c.count for c in channels), counts.get(name, 0)),
            )
            for name, channels in sorted(self._channels.items())
        }
        self._types = TopicTypes(self._recording.name, self._channels)
        self._sha256 = ""

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
        last_ns = 0
        filled = [storage for storage in self._storages if storage.span_ns]
        starts = np.array([max(0, s.span_ns[0]) for s in filled if s.span_ns], np.uint64)
        for recv_ns, topic, channel, load in merged(starts, lambda i: filled[i].messages(wanted)):
            if not last_ns <= recv_ns <= _LAST_NS:
                raise DataError(
                    f"{self.name}: a message of {topic!r} was received at {recv_ns} ns after one "
                    f"at {last_ns} ns: the index is wrong about the order",
                    hint=RECOVER,
                )
            last_ns = recv_ns
            try:
                payload = load()
            except (OSError, ValueError) as e:
                raise DataError(
                    f"{self.name}: the message of {topic!r} received at {recv_ns} ns cannot be "
                    f"read: {e}",
                    hint=RECOVER,
                ) from e
            delivered[topic] += 1
            yield self._types.raw(recv_ns, channel, payload)
        lost = [
            f"{topic}: {count} of {self._topics[topic].count}"
            for topic, count in delivered.items()
            if count != self._topics[topic].count
        ]
        if lost:
            raise DataError(
                f"{self.name} delivered another number of messages than its index promises: "
                + "; ".join(lost),
                hint=RECOVER,
            )

    @property
    def recoveries(self) -> tuple[FileRecovery, ...]:
        """What was read of each file in whatever state; none when they are read as they say."""
        found = (storage.recovery for storage in self._storages)
        return tuple(recovery for recovery in found if recovery is not None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about what was read so far, in sentences for people."""
        found = [recovery.summary for recovery in self.recoveries if not recovery.whole]
        if nameless := sum(storage.nameless for storage in self._storages):
            found.append(f"{nameless} messages are of topics that the recording does not name")
        back_ns = max((storage.back_ns() for storage in self._storages), default=0)
        if back_ns >= NS_PER_S:
            found.append(
                f"receive times go back by up to {back_ns / NS_PER_S:.2f} s within the file: "
                "either the recorder's clock was set back, and messages of two times lie between "
                "each other, or a tool has written the file out of order"
            )
        return tuple(found)

    @property
    def compressions(self) -> tuple[str, ...]:
        """What it is compressed with, as far as it was read: "none", "lz4", "zstd", ...; sorted."""
        found = {name for storage in self._storages for name in storage.compressions}
        return tuple(sorted(found | self._types.compressions))

    def deserialize(self, raw: RawMessage) -> Any:
        """The message as rosbags' object: fields as attributes, arrays as numpy.

        Raises:
            DataError: The type is unknown or the payload does not fit it; names topic and time.
        """
        return self._types.deserialize(raw)

    def channel(self, topic: str) -> Channel:
        """Type, encoding and definition of a topic, on which all its publishers and files agree.

        Raises:
            NotFoundError: There is no such topic.
            DataError: They disagree.
        """
        return self._types.channel(topic)

    @property
    def span_ns(self) -> tuple[int, int]:
        """Receive times of the first and the last message of all topics; 0 without a message."""
        spans = [s.span_ns for s in self._storages if s.span_ns]
        first_ns = min((first for first, _ in spans), default=0)
        return first_ns, max((last for _, last in spans), default=0)

    def record(self, topics: Collection[str]) -> SourceRecord:
        """What to store about this recording; reads all its files once for the digest."""
        if not self._sha256:
            digest = hashlib.sha256()
            for file in self._recording.read_files:
                with damage(file, self._recording.kind), file.open("rb") as stream:
                    while block := stream.read(_HASH_BLOCK):
                        digest.update(block)
            self._sha256 = digest.hexdigest()
        start_ns, end_ns = self.span_ns
        return SourceRecord(
            name=self.name,
            kind=self._recording.kind,
            sha256=self._sha256,
            files=tuple(readable(str(f)) for f in self._recording.files),
            start_ns=start_ns,
            end_ns=end_ns,
            topics=tuple(sorted(topics)),
            types=self._given_digest(topics),
        )

    def _given_digest(self, topics: Collection[str]) -> str:
        changed = [
            (topic, self._given[topic].text)
            for topic in sorted(self._given.keys() & topics)
            if changes_decoding(self._channels[topic][0], self._given[topic])
        ]
        return hashlib.sha256(repr(changed).encode()).hexdigest() if changed else ""

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
