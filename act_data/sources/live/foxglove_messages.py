"""What a foxglove server says, as values: pure functions on what came over the wire.

Text messages are JSON objects with an `op`; binary ones begin with an opcode of one byte. The
protocols foxglove.websocket.v1 and foxglove.sdk.v1 share what is read here
(github.com/foxglove/ws-protocol, docs/spec.md). Whatever is malformed is a ValueError.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, Literal

from act_data.sources.storage import Definition, Encoding

MAX_TEXT = 32 * 2**20  # the definitions of thousands of topics
_DATA = struct.Struct("<BIQ")  # opcode, subscription, time of the server
_DATA_OPCODE = 1

_ENCODINGS: dict[str, Encoding] = {"ros1": "ros1", "cdr": "cdr"}
_FORMS: dict[str, Literal["msg", "idl"]] = {
    "ros1msg": "msg",
    "ros2msg": "msg",
    "ros2idl": "idl",
    "omgidl": "idl",
}
_USUAL = {"ros1": "ros1msg", "cdr": "ros2msg"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertised:
    """One channel that the server offers.

    Attributes:
        id: Unique among the channels of a connection.
        type: In the ROS 2 spelling.
        encoding: None for what is not a ROS message (json, protobuf, ...).
    """

    id: int
    topic: str
    type: str
    encoding: Encoding | None
    definition: Definition | None


@dataclass(frozen=True, slots=True)
class Advertise:
    """Channels that are there from now on."""

    channels: tuple[Advertised, ...]


@dataclass(frozen=True, slots=True)
class Unadvertise:
    """Channels that are gone."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The first message of a connection."""

    name: str


@dataclass(frozen=True, slots=True)
class Status:
    """Something that the server wants people to know; level 0 info, 1 warning, 2 error."""

    level: int
    message: str


Said = Advertise | Unadvertise | ServerInfo | Status


def parse_text(text: str) -> Said | None:
    """A text message; None for one that is about services, parameters and the like.

    Raises:
        ValueError: It is not a message of the protocol.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"a text message of {len(text)} characters")
    try:
        said = json.loads(text)
    except RecursionError as e:
        raise ValueError("a text message that is nested too deeply") from e
    match said:
        case {"op": "advertise", "channels": list(channels)}:
            return Advertise(tuple(_advertised(channel) for channel in channels))
        case {"op": "unadvertise", "channelIds": list(ids)}:
            return Unadvertise(tuple(_id(id_) for id_ in ids))
        case {"op": "serverInfo"}:
            return ServerInfo(str(said.get("name", ""))[:200])
        case {"op": "status"}:
            level = said.get("level")
            return Status(
                level if isinstance(level, int) else 0, str(said.get("message", ""))[:500]
            )
        case {"op": "advertise" | "unadvertise"}:
            raise ValueError(f"a malformed message {text[:80]!r}")
        case {"op": str()}:
            return None
    raise ValueError(f"text that is no message: {text[:80]!r}")


def parse_data(data: bytes) -> tuple[int, memoryview] | None:
    """(subscription, payload) of a binary message; None for one that is not message data.

    The payload is a view of `data`.

    Raises:
        ValueError: It is cut short.
    """
    if not data:
        raise ValueError("an empty binary message")
    if data[0] != _DATA_OPCODE:
        return None
    if len(data) < _DATA.size:
        raise ValueError(f"message data of {len(data)} bytes")
    _, subscription, _ = _DATA.unpack_from(data)
    return subscription, memoryview(data)[_DATA.size :]


def subscribe_text(subscriptions: dict[int, int]) -> str:
    """The request for the messages of channels, given by subscription number."""
    pairs = [{"id": number, "channelId": channel} for number, channel in subscriptions.items()]
    return json.dumps({"op": "subscribe", "subscriptions": pairs})


def _advertised(channel: Any) -> Advertised:
    match channel:
        case {
            "id": id_,
            "topic": str(topic),
            "encoding": str(encoding),
            "schemaName": str(name),
            "schema": str(text),
        }:
            for words in (topic, name, text):
                words.encode()  # half of a surrogate pair could not be recorded
            # Without a name of its own the schema's form is the one that goes with the encoding.
            named = channel.get("schemaEncoding") or _USUAL.get(encoding)
            form = _FORMS.get(named) if isinstance(named, str) else None
            return Advertised(
                id=_id(id_),
                topic=topic,
                type=name.replace("/", "/msg/") if name.count("/") == 1 else name,
                encoding=_ENCODINGS.get(encoding),
                definition=Definition(format=form, text=text) if form and text else None,
            )
    raise ValueError(f"a malformed channel {str(channel)[:80]!r}")


def _id(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
        raise ValueError(f"{str(value)[:80]!r} as a channel's number")
    return value
