"""Bag files byte by byte: what no recorder writes, and where every message of a file lies."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

ROS1_MAGIC = b"#ROSBAG V2.0\n"
MCAP_MAGIC = b"\x89MCAP0\r\n"


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


# --- ROS 1 ---


def ros1_fields(fields: Mapping[str, bytes]) -> bytes:
    return b"".join(
        u32(len(name) + 1 + len(value)) + name.encode() + b"=" + value
        for name, value in fields.items()
    )


def ros1_head(fields: Mapping[str, bytes], size: int) -> bytes:
    """A record up to its data, which have `size` bytes."""
    header = ros1_fields(fields)
    return u32(len(header)) + header + u32(size)


def ros1_record(fields: Mapping[str, bytes], data: bytes) -> bytes:
    return ros1_head(fields, len(data)) + data


def ros1_time(ns: int) -> bytes:
    return struct.pack("<II", ns // 10**9, ns % 10**9)


def ros1_message_head(connection: int, ns: int, size: int) -> bytes:
    fields = {"conn": u32(connection), "op": b"\x02", "time": ros1_time(ns)}
    return ros1_head(fields, size)


def ros1_connection(
    number: int, topic: str, type_: str = "std_msgs/String", definition: str = "string data\n"
) -> bytes:
    about = {
        "topic": topic.encode(),
        "type": type_.encode(),
        "md5sum": b"0" * 32,
        "message_definition": definition.encode(),
    }
    head = {"conn": u32(number), "op": b"\x07", "topic": topic.encode()}
    return ros1_record(head, ros1_fields(about))


def ros1_start(index: int, connections: int, chunks: int) -> bytes:
    fields = {
        "chunk_count": u32(chunks),
        "conn_count": u32(connections),
        "index_pos": u64(index),
        "op": b"\x03",
    }
    head = ros1_fields(fields)
    padding = 4096 - 8 - len(head)
    return ROS1_MAGIC + u32(len(head)) + head + u32(padding) + b" " * padding


def ros1_chunk_head(compression: str, size: int, stored: int) -> bytes:
    fields = {"compression": compression.encode(), "op": b"\x05", "size": u32(size)}
    return ros1_head(fields, stored)


def ros1_chunk_info(offset: int, span_ns: tuple[int, int], counts: Mapping[int, int]) -> bytes:
    fields = {
        "chunk_pos": u64(offset),
        "count": u32(len(counts)),
        "end_time": ros1_time(span_ns[1]),
        "op": b"\x06",
        "start_time": ros1_time(span_ns[0]),
        "ver": u32(1),
    }
    return ros1_record(fields, b"".join(u32(c) + u32(n) for c, n in counts.items()))


# --- MCAP ---


def mcap_string(text: str) -> bytes:
    return u32(len(text.encode())) + text.encode()


def mcap_head(opcode: int, size: int) -> bytes:
    return bytes([opcode]) + u64(size)


def mcap_record(opcode: int, body: bytes) -> bytes:
    return mcap_head(opcode, len(body)) + body


def mcap_start() -> bytes:
    return MCAP_MAGIC + mcap_record(1, mcap_string("ros2") + mcap_string(""))


def mcap_schema(number: int, name: str, encoding: str, data: bytes) -> bytes:
    body = struct.pack("<H", number) + mcap_string(name) + mcap_string(encoding)
    return mcap_record(3, body + u32(len(data)) + data)


def mcap_channel(number: int, topic: str, schema: int) -> bytes:
    body = struct.pack("<HH", number, schema) + mcap_string(topic) + mcap_string("cdr") + u32(0)
    return mcap_record(4, body)


def mcap_message_head(channel: int, ns: int, size: int) -> bytes:
    return mcap_head(5, 22 + size) + struct.pack("<HIQQ", channel, 0, ns, ns)


def mcap_chunk_head(compression: str, span_ns: tuple[int, int], size: int, stored: int) -> bytes:
    name = mcap_string(compression)
    body = struct.pack("<QQQI", *span_ns, size, 0) + name + u64(stored)
    return mcap_head(6, len(body) + stored) + body


def mcap_end(summary: int = 0) -> bytes:
    return mcap_record(2, struct.pack("<QQI", summary, 0, 0)) + MCAP_MAGIC


def mcap_text_type(first_channel: int, topics: Sequence[str]) -> bytes:
    """Channels of std_msgs/msg/String."""
    return mcap_schema(1, "std_msgs/msg/String", "ros2msg", b"string data\n") + b"".join(
        mcap_channel(first_channel + i, topic, 1) for i, topic in enumerate(topics)
    )
