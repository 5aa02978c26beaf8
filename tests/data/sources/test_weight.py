"""Types that would make a small message a large object, or an endless one, are refused."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Literal

import pytest

from act_data.errors import DataError
from act_data.sources.bounds import MAX_LISTED_OBJECTS, MAX_MESSAGE_BYTES
from act_data.sources.message_types import MessageType, message_type
from act_data.sources.storage import Channel, Definition
from act_data.sources.weight import weight
from tests.bags import typestore

Encoding = Literal["ros1", "cdr"]
RULE = "=" * 80


def definition(first: str, **others: str) -> str:
    return first + "".join(f"{RULE}\nMSG: a/{name}\n{text}" for name, text in others.items())


def declared(text: str, encoding: Encoding = "ros1") -> MessageType:
    return message_type(
        Channel(
            id=0, topic="/t", type="a/msg/B", encoding=encoding,
            definition=Definition(format="msg", text=text), count=1,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(
            definition("C[] x\n", C=""), "a list of a/msg/C has fewer bytes", id="empty-elements"
        ),
        pytest.param(
            definition("C[] x\n", C="int8 K=4\n"), "fewer bytes than objects", id="constants-only"
        ),
        pytest.param(
            definition("C[] x\n", C="D d\nuint8 v\n", D=""), "fewer bytes", id="half-empty-elements"
        ),
        pytest.param(
            definition("C[50] x\n", C="D[50] y\n", D="uint8 v\n"), "more than 2048", id="arrays"
        ),
        pytest.param(
            definition(
                "T1 a\nT1 b\n",
                **{f"T{i}": f"T{i + 1} a\nT{i + 1} b\n" for i in range(1, 30)},
                T30="",
            ),
            "more than 2048 messages",
            id="doubling",
        ),
        pytest.param("B x\n", "recursion", id="itself"),
        pytest.param(definition("C[] x\n", C="B[] y\n"), "recursion", id="each-other"),
    ],
)
def test_a_type_that_weighs_more_than_its_bytes_is_refused(text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        declared(text)


def test_an_empty_type_has_a_byte_in_ros_2() -> None:
    text = definition("C[] x\n", C="")
    type_ = declared(text, "cdr")
    assert len(type_.deserialize(b"\0\1\0\0" + struct.pack("<I", 5) + bytes(5)).x) == 5


@pytest.mark.parametrize(
    ("text", "bytes_each"),
    [
        pytest.param(definition("C[] x\n", C="uint8 v\n"), 1, id="messages"),
        pytest.param("string[] x\n", 4, id="texts"),
        pytest.param(definition("C[] x\n", C="string s\nint64 a\nint64 b\n"), 10, id="both"),
        pytest.param(definition("C[] x\n", C="int64 a\nD[] d\n", D="int16 v\n"), 2, id="nested"),
    ],
)
def test_a_message_with_lists_of_objects_has_a_bound_of_its_own(text: str, bytes_each: int) -> None:
    type_ = declared(text)
    assert type_.max_bytes == bytes_each * MAX_LISTED_OBJECTS
    with pytest.raises(ValueError, match=f"no more than {type_.max_bytes} are decoded"):
        type_.deserialize(bytes(type_.max_bytes + 1))


def test_the_largest_such_message_stays_within_the_bounds() -> None:
    type_ = declared(definition("C[] x\n", C="uint8 v\n"))
    count = MAX_LISTED_OBJECTS - 4
    tracemalloc.start()
    message = type_.deserialize(struct.pack("<I", count) + bytes(count))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(message.x) == count
    assert peak < 256 * 2**20


@pytest.mark.parametrize("kind", ["ros1", "mcap"])
def test_no_standard_type_is_too_heavy(kind: Literal["ros1", "mcap"]) -> None:
    types = typestore(kind).fielddefs
    encoding: Encoding = "ros1" if kind == "ros1" else "cdr"
    weights = {name: weight(name, types, encoding) for name in types}
    for picture in ("Image", "CompressedImage"):
        assert weights[f"sensor_msgs/msg/{picture}"].lightest >= MAX_MESSAGE_BYTES
    assert weights["std_msgs/msg/UInt8MultiArray"].lightest == 6  # 6 MiB
    # stamp (two numbers) and a text; position and orientation
    assert weights["std_msgs/msg/Header"].bytes == (16 if kind == "ros1" else 12)
    assert (weights["geometry_msgs/msg/Pose"].bytes, weights["geometry_msgs/msg/Pose"].objects) == (
        56,
        3,
    )
