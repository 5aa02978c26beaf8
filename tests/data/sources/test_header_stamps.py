"""The stamp read from the first bytes is the stamp that full decoding gives."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act_data.sources.stamps import HeaderLayout, header_stamp
from tests.bags import message, typestore

ROS1 = typestore("ros1")
ROS2 = typestore("mcap")
IMU = "sensor_msgs/msg/Imu"
U32 = st.integers(0, 2**32 - 1)


@given(sec=st.integers(0, 2**31 - 1), nsec=st.integers(0, 10**9 - 1), seq=U32, frame=st.text())
def test_ros_1_stamps_agree_with_full_decoding(sec: int, nsec: int, seq: int, frame: str) -> None:
    header = {"seq": seq, "stamp": sec * 10**9 + nsec, "frame_id": frame}
    payload = ROS1.serialize_ros1(message(ROS1, IMU, {"header": header}), IMU)
    decoded = ROS1.deserialize_ros1(payload, IMU).header  # type: ignore[attr-defined]
    assert header_stamp(payload, HeaderLayout("ros1", True)) == (
        decoded.stamp.sec * 10**9 + decoded.stamp.nanosec,
        decoded.seq,
    )


@given(sec=st.integers(-(2**31), 2**31 - 1), nsec=st.integers(0, 10**9 - 1), little=st.booleans())
def test_cdr_stamps_of_either_byte_order_agree_with_full_decoding(
    sec: int, nsec: int, little: bool
) -> None:
    imu = message(ROS2, IMU, {"header": {"stamp": sec * 10**9 + nsec, "frame_id": "imu"}})
    payload = ROS2.serialize_cdr(imu, IMU, little_endian=little)
    decoded = ROS2.deserialize_cdr(payload, IMU).header.stamp  # type: ignore[attr-defined]
    expected = decoded.sec * 10**9 + decoded.nanosec
    assert header_stamp(payload, HeaderLayout("cdr", False)) == (expected, None)


def test_ros_1_seconds_are_unsigned() -> None:
    payload = (7).to_bytes(4, "little") + (2**32 - 1).to_bytes(4, "little") + bytes(4)
    assert header_stamp(payload, HeaderLayout("ros1", True)) == ((2**32 - 1) * 10**9, 7)


@given(st.binary(max_size=16), st.booleans())
def test_any_bytes_give_a_stamp_or_a_value_error(payload: bytes, has_seq: bool) -> None:
    for encoding in ("ros1", "cdr"):
        with suppress(ValueError):
            header_stamp(payload, HeaderLayout(encoding, has_seq))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("payload", "says"),
    [(b"\x00\x01\x00\x00\x01", "too few"), (b"\x00\x03\x00\x00" + bytes(8), "not plain CDR")],
)
def test_what_is_no_header_says_so(payload: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        header_stamp(payload, HeaderLayout("cdr", False))
