"""Live topics for tests: channels and payloads of plain values, as a publisher would send them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from io import BytesIO
from itertools import count
from threading import Event, Thread
from typing import Literal

import numpy as np
from mcap.exceptions import EndOfFile
from mcap.records import Channel as Channel_
from mcap.records import Message
from mcap.stream_reader import StreamReader

from act_data.interfaces import Source
from act_data.observe import Observation
from act_data.sources.live import Inbox, MemoryBackend
from act_data.sources.storage import Channel, Definition
from act_data.types import EncodedImage, RobotSpec
from tests.bags import Entry, message, typestore
from tests.small_robot import HZ, S, entries

Encoding = Literal["ros1", "cdr"]
ENCODINGS: tuple[Encoding, ...] = ("ros1", "cdr")


def channel(topic: str, type_: str, encoding: Encoding = "cdr") -> Channel:
    """A channel with the full definition of a standard type."""
    store = typestore("ros1" if encoding == "ros1" else "mcap")
    text, _ = store.generate_msgdef(type_)
    definition = Definition(format="msg", text=text)
    return Channel(id=0, topic=topic, type=type_, encoding=encoding, definition=definition, count=0)


def channels(entries: Iterable[Entry], encoding: Encoding = "cdr") -> list[Channel]:
    """The channels of all topics in `entries`."""
    types = {topic: type_ for topic, type_, _, _ in entries}
    return [channel(topic, type_, encoding) for topic, type_ in types.items()]


def payloads(
    entries: Iterable[Entry], encoding: Encoding = "cdr"
) -> Iterator[tuple[int, str, bytes]]:
    """(receive time, topic, serialised message) of each entry, in order."""
    store = typestore("ros1" if encoding == "ros1" else "mcap")
    for topic, type_, recv_ns, values in entries:
        built = message(store, type_, values)
        serialize = store.serialize_ros1 if encoding == "ros1" else store.serialize_cdr
        yield recv_ns, topic, bytes(serialize(built, type_))


def streamed(data: bytes) -> list[tuple[str, Message]]:
    """Topic and message of all that mcap's own reader finds in a file that nobody finished."""
    found: list[tuple[str, Message]] = []
    topics: dict[int, str] = {}
    try:
        for record in StreamReader(BytesIO(data)).records:
            if isinstance(record, Channel_):
                topics[record.id] = record.topic
            if isinstance(record, Message):
                found.append((topics[record.channel_id], record))
    except EndOfFile:
        pass
    return found


def seen(source: Source, robot: RobotSpec) -> Iterator[tuple[object, ...]]:
    """All that a frame becomes, as values that compare."""
    view = Observation(source, robot)
    for frame in view.frames():
        found = view.observer.observe(frame)
        yield (
            frame.tick_ns,
            found.usable,
            found.skew_ns.tobytes(),
            found.reason.tobytes(),
            found.index.tobytes(),
            *(
                (name, v.data if isinstance(v, EncodedImage) else np.asarray(v).tobytes())
                for name, v in (*found.observation.items(), *found.action.items())
            ),
        )


class Endless(MemoryBackend):
    """The small robot, publishing in a time of its own for as long as somebody listens.

    It waits for whoever is slow, so that nothing depends on how fast this machine is.

    Args:
        pace: Its seconds in one second, at most.
        more: What else is published in frame i.
        silent: Topics that publish nothing in frame i.
    """

    def __init__(
        self,
        *,
        pace: float = 10.0,
        more: Callable[[int], list[Entry]] = lambda i: [],
        silent: Callable[[int], Collection[str]] = lambda i: (),
        size: tuple[int, int] = (16, 24),
    ) -> None:
        super().__init__(channels([*entries(1), *more(0)]))
        self._pace = pace
        self._more = more
        self._silent = silent
        self._size = size
        self._over = Event()
        self._thread: Thread | None = None

    def subscribe(self, topics: Collection[str], inbox: Inbox) -> None:
        """Begin to publish."""
        super().subscribe(topics, inbox)
        self._thread = Thread(target=self._publish, args=(inbox, frozenset(topics)))
        self._thread.start()

    def close(self) -> None:
        """Stop publishing."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        super().close()

    def _publish(self, inbox: Inbox, topics: frozenset[str]) -> None:
        usual = [(topic, payload) for _, topic, payload in payloads(entries(1, size=self._size))]
        for i in count():
            now = S + i * S // HZ
            more = [(topic, payload) for _, topic, payload in payloads(self._more(i))]
            replaced = {topic for topic, _ in more} | set(self._silent(i))
            for n, (topic, payload) in enumerate([u for u in usual if u[0] not in replaced] + more):
                stamp = now + n
                data = bytearray(payload)
                if len(data) > 12:  # it has a header
                    data[4:12] = struct.pack("<II", stamp // S, stamp % S)
                if len(data) > 1000:
                    data[-4:] = struct.pack("<I", i)  # the last pixel
                elif len(data) > 12:
                    data[-16:-8] = struct.pack("<d", i / 10)  # the second joint
                if topic in topics:
                    inbox.put(topic, bytes(data), stamp)
            while inbox.waiting_bytes > 100_000 and not self._over.is_set():
                self._over.wait(0.001)
            if self._over.wait(1 / HZ / self._pace):
                return
