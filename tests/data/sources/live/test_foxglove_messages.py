"""What a server sends is read as values, or is a ValueError, whatever it is."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act_data.sources.live.foxglove_messages import (
    Advertise,
    Advertised,
    ServerInfo,
    Status,
    Unadvertise,
    parse_data,
    parse_text,
    subscribe_text,
)
from act_data.sources.storage import Definition

CHANNEL = {
    "id": 7,
    "topic": "/arm",
    "encoding": "cdr",
    "schemaName": "sensor_msgs/msg/JointState",
    "schema": "int32 a",
}


ROS1 = {"encoding": "ros1", "schemaName": "sensor_msgs/JointState", "schemaEncoding": "ros1msg"}


@pytest.mark.parametrize(
    ("changes", "encoding", "form"),
    [
        pytest.param({"schemaEncoding": "ros2msg"}, "cdr", "msg", id="ros2"),
        pytest.param({}, "cdr", "msg", id="ros2-by-encoding"),
        pytest.param({"schemaEncoding": "ros2idl"}, "cdr", "idl", id="idl"),
        pytest.param(ROS1, "ros1", "msg", id="ros1"),
        pytest.param({"encoding": "ros1"}, "ros1", "msg", id="ros1-by-encoding"),
        pytest.param({"encoding": "json"}, None, None, id="json"),
        pytest.param({"schemaEncoding": ["?"]}, "cdr", None, id="odd"),
    ],
)
def test_an_advertisement_tells_type_encoding_and_definition(
    changes: dict[str, object],
    encoding: Literal["ros1", "cdr"] | None,
    form: Literal["msg", "idl"] | None,
) -> None:
    said = parse_text(json.dumps({"op": "advertise", "channels": [{**CHANNEL, **changes}]}))
    definition = Definition(format=form, text="int32 a") if form else None
    type_ = "sensor_msgs/msg/JointState"
    told = Advertised(id=7, topic="/arm", type=type_, encoding=encoding, definition=definition)
    assert said == Advertise((told,))


def test_the_other_messages_are_told_apart() -> None:
    assert parse_text('{"op": "unadvertise", "channelIds": [7, 8]}') == Unadvertise((7, 8))
    assert parse_text('{"op": "serverInfo", "name": "robot", "more": 1}') == ServerInfo("robot")
    assert parse_text('{"op": "status", "level": 2, "message": "full"}') == Status(2, "full")
    assert parse_text('{"op": "advertiseServices", "services": []}') is None
    assert parse_data(struct.pack("<BIQ", 1, 7, 99) + b"payload") == (7, b"payload")
    assert parse_data(struct.pack("<BQ", 2, 99)) is None  # the server's time
    assert json.loads(subscribe_text({0: 7, 1: 9}))["subscriptions"] == [
        {"id": 0, "channelId": 7},
        {"id": 1, "channelId": 9},
    ]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
CHANNELS = st.fixed_dictionaries(
    {}, optional={key: st.just(value) | VALUES for key, value in CHANNEL.items()}
)
MESSAGES = st.fixed_dictionaries(
    {"op": st.sampled_from(["advertise", "unadvertise", "serverInfo", "status", "time"]) | VALUES},
    optional={
        "channels": st.lists(CHANNELS, max_size=3) | VALUES,
        "channelIds": st.lists(VALUES, max_size=3) | VALUES,
        "name": VALUES,
        "level": VALUES,
        "message": VALUES,
    },
)


@given(st.text() | MESSAGES.map(json.dumps))
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        said = parse_text(text)
        if isinstance(said, Advertise):
            for channel in said.channels:
                assert 0 <= channel.id < 2**64
                assert channel.topic.encode()
                assert channel.definition is None or channel.definition.text.encode()


@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_a_value_error(data: bytes) -> None:
    with suppress(ValueError):
        if (said := parse_data(data)) is not None:
            number, payload = said
            assert data == b"\x01" + struct.pack("<I", number) + data[5:13] + bytes(payload)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("[" * 10_000, "deeply", id="deep"),
        pytest.param("9" * 10_000, "digits", id="long-number"),
        pytest.param('{"op": "advertise", "channels": [{"id": 1}]}', "malformed", id="bare"),
        pytest.param(
            json.dumps({"op": "advertise", "channels": [{**CHANNEL, "topic": "\ud800"}]}),
            "surrogates", id="half-a-character",
        ),
        pytest.param(
            json.dumps({"op": "unadvertise", "channelIds": [True]}), "number", id="truth-as-number"
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_text(text)
