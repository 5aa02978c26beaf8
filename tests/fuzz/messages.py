"""Payloads of every decoder kind, and the definitions that say how to read them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from act_data.decode import Decoder, decoder
from act_data.errors import DataError
from act_data.inspect.topic import TopicLook
from act_data.sources.message_types import message_type
from act_data.sources.storage import Channel, Definition
from act_data.sources.topic_types import TopicTypes
from act_data.types import StreamKind, StreamSpec, TopicInfo
from tests.bags import message, typestore

Encoding = Literal["ros1", "cdr"]
OWN = "my_msgs/msg/Own"
OWN_TEXT = (
    "std_msgs/Header header\nfloat64 force\nbool[] flags\nstring[] names\nfloat32[3] cells\n"
    "geometry_msgs/Point[] points\n"
)

KINDS: tuple[tuple[StreamKind, str, tuple[str, ...]], ...] = (
    (StreamKind.IMAGE, "sensor_msgs/msg/Image", ()),
    (StreamKind.DEPTH, "sensor_msgs/msg/Image", ()),
    (StreamKind.IMAGE, "sensor_msgs/msg/CompressedImage", ()),
    (StreamKind.DEPTH, "sensor_msgs/msg/CompressedImage", ()),
    (StreamKind.JOINT_STATE, "sensor_msgs/msg/JointState", ()),
    (StreamKind.JOINT_STATE, "sensor_msgs/msg/JointState", ("effort",)),
    (StreamKind.ODOMETRY, "nav_msgs/msg/Odometry", ()),
    (StreamKind.TWIST, "geometry_msgs/msg/Twist", ()),
    (StreamKind.TWIST, "geometry_msgs/msg/TwistStamped", ()),
    (StreamKind.IMU, "sensor_msgs/msg/Imu", ()),
    (StreamKind.WRENCH, "geometry_msgs/msg/WrenchStamped", ()),
    (StreamKind.MULTI_ARRAY, "std_msgs/msg/Float64MultiArray", ()),
    (StreamKind.MULTI_ARRAY, "std_msgs/msg/UInt8MultiArray", ()),
    (StreamKind.NUMERIC, "sensor_msgs/msg/LaserScan", ("ranges[0:4]",)),
    (StreamKind.NUMERIC, "geometry_msgs/msg/PoseArray", ("poses[1].position",)),
    (StreamKind.NUMERIC, OWN, ("force", "points[0]", "cells[0:2]")),
)
VALUES: Mapping[str, Mapping[str, Any]] = {
    "sensor_msgs/msg/Image": {
        "height": 2, "width": 2, "encoding": "rgb8", "step": 6, "data": bytes(range(12)),
    },
    "sensor_msgs/msg/CompressedImage": {"format": "jpeg", "data": b"\xff\xd8\xff\xc0\0\x11\x08"},
    "sensor_msgs/msg/JointState": {
        "name": ["a", "b"], "position": [0.1, 0.2], "velocity": [1, 2], "effort": [3, 4],
    },
    "std_msgs/msg/Float64MultiArray": {"data": [1.0, 2.0]},
    "std_msgs/msg/UInt8MultiArray": {"layout": {"data_offset": 1}, "data": [1, 2]},
    "sensor_msgs/msg/LaserScan": {"range_max": 9.0, "ranges": [1.0, np.inf, np.nan, 2.0]},
    "geometry_msgs/msg/PoseArray": {"poses": [{}, {"position": {"x": 1.0}}]},
    OWN: {"force": 1.0, "flags": [1, 0], "names": ["x", ""], "cells": [1, 2, 3], "points": [{}]},
}  # fmt: skip


class Case(NamedTuple):
    """One way to read a payload."""

    channel: Channel
    types: TopicTypes
    decode: Decoder
    seed: bytes


@cache
def cases() -> tuple[Case, ...]:
    """Every kind in both encodings."""
    return tuple(
        _case(kind, type_, field, encoding)
        for encoding in ("ros1", "cdr")
        for kind, type_, field in KINDS
    )


def _case(kind: StreamKind, type_: str, field: tuple[str, ...], encoding: Encoding) -> Case:
    store = typestore("ros1" if encoding == "ros1" else "mcap", {OWN: OWN_TEXT})
    text, _ = store.generate_msgdef(type_, ros_version=1 if encoding == "ros1" else 2)
    channel = Channel(
        id=0,
        topic="/t",
        type=type_,
        encoding=encoding,
        definition=Definition(format="msg", text=text),
        count=1,
    )
    whole = message(store, type_, {**VALUES.get(type_, {}), **_header(store, type_)})
    serialize = store.serialize_ros1 if encoding == "ros1" else store.serialize_cdr
    stream = StreamSpec(name="s", topic="/t", kind=kind, field=field)
    return Case(
        channel,
        TopicTypes("fuzz", {"/t": [channel]}),
        decoder(stream),
        bytes(serialize(whole, type_)),
    )


def _header(store: Any, type_: str) -> dict[str, int]:
    return {"header": 10**9 + 5} if store.fielddefs[type_][1][0][0] == "header" else {}


def payload(data: bytes) -> None:
    """A payload from its bytes to an array; the first byte says how it is read.

    The decoder lives as long as the process, as it does in an ingest: what one message fixes, the
    next one has to fit.
    """
    if not data:
        return
    case = cases()[data[0] % len(cases())]
    raw = case.types.raw(7, case.channel, data[1:])
    case.decode(raw.type, case.types.deserialize(raw))


def look(data: bytes) -> None:
    """What `act-data inspect` makes of a few payloads of one topic: always a card.

    The first byte says how they are read, the second where the first of them ends.
    """
    if len(data) < 2:
        return
    case = cases()[data[0] % len(cases())]
    info = TopicInfo(name="/t", type=case.channel.type, count=2)
    seen = TopicLook(info, 0, 1024)
    split = 2 + data[1] * len(data) // 255
    for n, part in enumerate((data[2:split], data[split:], case.seed)):
        with suppress(DataError):  # of the header: the reader's to tell
            seen.seen(case.types.raw(n * 10**8, case.channel, part), case.types.deserialize)
    seen.card(10**9)


def payloads() -> list[bytes]:
    """A whole message of every kind."""
    return [bytes([n]) + case.seed for n, case in enumerate(cases())]


def looks() -> list[bytes]:
    """A message of every kind; the target adds another."""
    return [bytes([n, 255]) + case.seed for n, case in enumerate(cases())]


def definition(data: bytes) -> None:
    """A definition as the recording carries it, then payloads that may or may not fit it.

    The first byte chooses between .msg in ROS 1, .msg in ROS 2 and IDL.
    """
    if not data:
        return
    encoding: Encoding = "ros1" if data[0] % 3 == 0 else "cdr"
    channel = Channel(
        id=0,
        topic="/t",
        type="a/msg/B",
        encoding=encoding,
        definition=Definition(
            format="idl" if data[0] % 3 == 2 else "msg", text=data[1:].decode("utf-8", "replace")
        ),
        count=1,
    )
    message_type(channel)  # what cannot be read is refused here
    types = TopicTypes("fuzz", {"/t": [channel]})
    numeric = decoder(StreamSpec(name="s", topic="/t", kind=StreamKind.NUMERIC, field=("x",)))
    few = b"\3\0\0\0" * 16
    for body in (b"", bytes(64), few, b"\0\1\0\0" + few, b"\0\1\0\0" + b"\xff" * 64):
        with suppress(DataError):
            raw = types.raw(7, channel, body)
            numeric(raw.type, types.deserialize(raw))


_RULE = "=" * 80
_IDL = """module a { module msg {
  typedef double double__3[3];
  const short LIMIT = 4;
  enum Mode { OFF, ON };
  struct Inner { long n; string<8> name; };
  @verbatim (language="comment", text="of a robot")
  struct B {
    double x; float64 y; sequence<double> many; sequence<Inner, 3> few; double__3 three;
    @default (value=TRUE) boolean flag; octet raw[4]; wstring wide;
  };
}; };
"""


def definitions() -> list[bytes]:
    """Definitions of all three forms, with the parts of their grammars."""
    texts = [
        "float64 x\n", "int32 LIMIT=5\nstring NAME=a # b\nfloat64[] x # comment\nbool[4] b\n",
        "Header header\ntime t\nduration d\nchar c\nbyte b\nfloat64 x\n",
        f"C[] x\nC[2] y\n{_RULE}\nMSG: a/C\nD inner\n{_RULE}\nMSG: a/D\nuint8 v\n",
        f"geometry_msgs/Point x\n{_RULE}\nMSG: geometry_msgs/Point\nfloat64 x\nfloat64 y\n",
        "string<=10 s\nfloat64[<=3] x\nint32 n 5\nstring d \"hello\"\nfloat32[2] a [1.0, 2.0]\n",
        "",
    ]  # fmt: skip
    found = [bytes([form]) + text.encode() for form in (0, 1) for text in texts]
    simple = "module a { module msg { struct B { double x; }; }; };"
    parts = f"{_RULE}\nIDL: a/msg/B\n{simple}\n{_RULE}\nIDL: a/msg/C\nmodule a {{ }};\n"
    return [*found, *(b"\2" + text.encode() for text in (_IDL, simple, parts))]
