"""Live topics for tests: channels and payloads of plain values, as a publisher would send them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Literal

import numpy as np
from mcap.exceptions import EndOfFile
from mcap.records import Channel as Channel_
from mcap.records import Message
from mcap.stream_reader import StreamReader

from act_data.interfaces import Source
from act_data.observe import Observation
from act_data.sources.storage import Channel, Definition
from act_data.types import EncodedImage, RobotSpec
from tests.bags import Entry, message, typestore

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
