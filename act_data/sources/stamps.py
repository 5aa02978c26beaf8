"""`header.stamp` and `header.seq` from the first bytes of a message, without decoding the rest."""

from __future__ import annotations

import struct
from typing import NamedTuple

from act_data.sources.storage import Encoding
from act_data.types import NS_PER_S

_ROS1 = struct.Struct("<II")  # sec is unsigned in ROS 1 ...
_CDR = {0: struct.Struct(">iI"), 1: struct.Struct("<iI")}  # ... and signed in ROS 2
_U32 = {0: struct.Struct(">I"), 1: struct.Struct("<I")}


class HeaderLayout(NamedTuple):
    """How the std_msgs/Header that a message begins with is laid out."""

    encoding: Encoding
    has_seq: bool


def header_stamp(payload: bytes | memoryview, layout: HeaderLayout) -> tuple[int, int | None]:
    """(stamp in ns, seq or None) of a message that begins with a header.

    ROS 1 is little-endian without prefix. CDR begins with four bytes of encapsulation, the second
    of which is 1 for little-endian and 0 for big-endian.

    Raises:
        ValueError: The message is too short, or its encapsulation is not plain CDR.
    """
    start, order, time = 0, 1, _ROS1
    if layout.encoding == "cdr":
        if len(payload) < 4 or payload[0] != 0 or payload[1] not in _CDR:
            raise ValueError(f"it begins with {bytes(payload[:4])!r}, which is not plain CDR")
        start, order = 4, payload[1]
        time = _CDR[order]
    seq: int | None = None
    try:
        if layout.has_seq:
            (seq,) = _U32[order].unpack_from(payload, start)
            start += 4
        sec, nsec = time.unpack_from(payload, start)
    except struct.error as e:
        raise ValueError(f"it has {len(payload)} bytes, too few for a header") from e
    return sec * NS_PER_S + nsec, seq
