"""Messages that mark episodes, for bags of tests."""

from __future__ import annotations

import struct

BOOL = "std_msgs/msg/Bool"
EMPTY = "std_msgs/msg/Empty"
JOY = "sensor_msgs/msg/Joy"


def event_payload(kind: int, number: int, request: bytes | None, order: str = "<") -> bytes:
    """A service event as rmw serialises it; `request` is the content of the request."""
    head = bytes([0, 1 if order == "<" else 0, 0, 0])
    info = struct.pack(order + "B3xiI16s4xq", kind, 1_700_000_000, 5, bytes(range(16)), number)
    body = struct.pack(order + "I", request is not None) + (request or b"")
    body += bytes(-len(body) % 4) + struct.pack(order + "I", 0)
    return head + info + body
