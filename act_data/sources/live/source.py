"""Live topics as a `Source`: what came into an inbox, spooled and given on in one order."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from threading import Event
from types import TracebackType
from typing import Any, Self

from act_data.errors import InputError, NotFoundError
from act_data.records import SourceRecord
from act_data.sources.live.backend import LiveBackend
from act_data.sources.live.inbox import Arrival, Inbox
from act_data.sources.live.spool import Spool
from act_data.sources.storage import Channel
from act_data.sources.topic_types import TopicTypes
from act_data.types import RawMessage, TopicInfo

POLL_S = 0.05  # how soon `stop` is noticed when nothing comes


class LiveSource:
    """A `Source` over the arrivals of an inbox, from now until `stop`.

    Every message is written to the spool before it is given on, so the finished file read back in
    log order is the same sequence: live and from the bag the same frames leave a synchronizer.
    Its topics are those that are known when it begins; one that appears later is counted, and is
    part of the next recording.

    Attributes:
        counts: Messages of its topics so far.
        left_out: Messages of topics that appeared after the beginning.
    """

    def __init__(
        self,
        backend: LiveBackend,
        inbox: Inbox,
        channels: Mapping[str, Channel],
        spool: Spool | None = None,
        *,
        after: LiveSource | None = None,
    ) -> None:
        """Listen to an inbox that `backend` was subscribed with. For one reader.

        Args:
            channels: By topic, as `backend.channel` tells them.
            spool: Gets every message; the caller finishes it.
            after: Who listened before. What was lost since its end was lost to this one.
        """
        self.counts: Counter[str] = Counter(dict.fromkeys(channels, 0))
        self.left_out: Counter[str] = Counter()
        self._backend = backend
        self._inbox = inbox
        self._channels = dict(channels)
        self._spool = spool
        self._types = TopicTypes(self.name, {t: [c] for t, c in self._channels.items()})
        self._stop = Event()
        self._lost_before = Counter(inbox.overflow) if after is None else after._overflow()
        self._lost_until: Counter[str] | None = None
        self._span_ns: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """What is listened to; the recording's name where there is one."""
        return self._spool.target.stem if self._spool else self._backend.name

    @property
    def topics(self) -> Mapping[str, TopicInfo]:
        """The topics by name."""
        return {
            topic: TopicInfo(name=topic, type=channel.type)
            for topic, channel in sorted(self._channels.items())
        }

    def arrivals(self) -> Iterator[Arrival]:
        """Every message of its topics as it was heard and spooled, until `stop` or the end.

        What had arrived before `stop` is still given.

        Raises:
            StoreError: The disk is full or failing. What was given on before is spooled.
        """
        last = False
        try:
            while not last:
                last = self._stop.is_set() or self._inbox.closed
                if last:  # before the last look: what is lost later, the next one counts
                    self._lost_until = Counter(self._inbox.overflow)
                waiting = deque(self._inbox.take(0 if last else POLL_S))
                while waiting:  # let go of each message: the next ones are coming in already
                    arrival = waiting.popleft()
                    if arrival.topic in self._channels:
                        self._take_in(arrival)
                        yield arrival
                    else:
                        self.left_out[arrival.topic] += 1
                if self._spool is not None:
                    self._spool.flush_if_due()
            if self._spool is not None:
                self._spool.flush()
        finally:
            if self._lost_until is None:  # its reader had enough, or the disk failed
                self._lost_until = Counter(self._inbox.overflow)

    def _take_in(self, arrival: Arrival) -> None:
        if self._spool is not None:
            self._spool.write(arrival)
        self.counts[arrival.topic] += 1
        first_ns = self._span_ns[0] if self._span_ns else arrival.recv_ns
        self._span_ns = first_ns, arrival.recv_ns

    def raw(self, arrival: Arrival) -> RawMessage:
        """The message with the stamp from its header.

        Raises:
            DataError: It is too short for its header.
        """
        return self._types.raw(arrival.recv_ns, self._channels[arrival.topic], arrival.payload)

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        """The messages of `topics` in order of arrival, until `stop`; all topics are spooled.

        Raises:
            NotFoundError: A topic is not one of its own; raised at the call.
            DataError: A message is too short for its header.
            StoreError: The disk is full or failing.
        """
        wanted = frozenset(topics)
        if missing := sorted(wanted - self._channels.keys()):
            raise NotFoundError(
                f"{self.name} has no topic {', '.join(map(repr, missing))}",
                hint=f"It has: {', '.join(sorted(self._channels)) or 'no topic at all'}.",
            )
        return (self.raw(a) for a in self.arrivals() if a.topic in wanted)

    def stop(self) -> None:
        """Let `messages` end, soon. From any thread."""
        self._stop.set()

    @property
    def notes(self) -> tuple[str, ...]:
        """What happened to the connections, and what the reader was too slow for."""
        lost, late = sorted(self.lost.items()), sorted(self.left_out.items())
        return (
            *self._backend.notes(),
            *(f"{topic}: {n} messages lost, the inbox was full" for topic, n in lost),
            *(f"{topic}: appeared later, {n} messages left out" for topic, n in late),
        )

    @property
    def lost(self) -> Counter[str]:
        """Messages that the inbox had no room for between its beginning and its end, by topic."""
        return self._overflow() - self._lost_before

    def _overflow(self) -> Counter[str]:
        """What the inbox had lost when this source ended; until now, while it has not."""
        return Counter(self._inbox.overflow) if self._lost_until is None else self._lost_until

    def deserialize(self, raw: RawMessage) -> Any:
        """The message as rosbags' object: fields as attributes, arrays as numpy.

        Raises:
            DataError: The type is unknown or the payload does not fit it; names topic and time.
        """
        return self._types.deserialize(raw)

    def record(self, topics: Collection[str]) -> SourceRecord:
        """What to store about this source: its spool, which must be finished.

        Raises:
            InputError: There is no spool, or it is not finished.
        """
        if self._spool is None or self._spool.path != self._spool.target:
            raise InputError(
                f"{self.name} has no finished recording yet", hint="Finish its spool first."
            )
        with self._spool.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        start_ns, end_ns = self._span_ns or (0, 0)
        return SourceRecord(
            name=self.name,
            kind="mcap",
            sha256=digest,
            files=(str(self._spool.path),),
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
        self.stop()
