"""One HTTP message over a socket, bounded in bytes and in total time.

The standard library bounds every single read: a peer that sends one byte a second holds it for
ever, and a body is read whatever its size. A ROS graph is other people's programs.
"""

from __future__ import annotations

import re
import socket
import time

MAX_BYTES = 8 * 2**20  # the graph of a large robot is below 1 MiB
MAX_HEAD_BYTES = 2**16
_BLOCK = 2**16
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,12})[ \t]*$", re.IGNORECASE | re.MULTILINE)


def request(host: str, path: str, body: bytes) -> bytes:
    """A POST that asks for the connection to be closed after the answer."""
    head = (
        f"POST {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: act-toolkit\r\n"
        f"Content-Type: text/xml\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def answer(body: bytes) -> bytes:
    """A successful answer."""
    head = f"HTTP/1.0 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def receive(sock: socket.socket, deadline_s: float) -> bytes:
    """The body of the one message that the other side sends.

    Args:
        deadline_s: On the monotonic clock; after it nothing is waited for.

    Raises:
        OSError: It does not come in time, or the connection breaks.
        ValueError: It is too long, is cut, or is not HTTP.
    """
    data = bytearray()
    while (body := message_body(data)) is None:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("it does not answer in time")
        sock.settimeout(left_s)
        block = sock.recv(_BLOCK)
        if not block:
            return _to_the_end(data)
        data += block
        if len(data) > MAX_BYTES:
            raise ValueError(f"it sends more than {MAX_BYTES} bytes")
    return body


def message_body(data: bytes | bytearray) -> bytes | None:
    """The body of the HTTP message that `data` begins with; None as long as it is not all there.

    Raises:
        ValueError: It is more than `MAX_BYTES`, is an answer other than 200, or is not HTTP.
    """
    end = data.find(_END)
    if end < 0:
        if len(data) > MAX_HEAD_BYTES:
            raise ValueError(f"it sends {len(data)} bytes that are no HTTP")
        return None
    head = bytes(data[: end + 2])
    first = head.split(b"\r\n", 1)[0]
    if first.startswith(b"HTTP/") and first.split(b" ")[1:2] != [b"200"]:
        raise ValueError(f"it answers {first[:80].decode('latin-1')!r}")
    length = _LENGTH.search(head.replace(b"\r\n", b"\n"))
    if length is None:
        return None  # ends with the connection
    size, start = int(length[1]), end + len(_END)
    if size > MAX_BYTES:
        raise ValueError(f"it announces {size} bytes, more than {MAX_BYTES}")
    return bytes(data[start : start + size]) if len(data) - start >= size else None


def _to_the_end(data: bytearray) -> bytes:
    """The body of a message without a length, whose end is the end of the connection."""
    head, end, body = bytes(data).partition(_END)
    if not end or _LENGTH.search(head.replace(b"\r\n", b"\n")):
        raise ValueError(f"it closes the connection after {len(data)} bytes of a message")
    return body
