"""One publisher of one topic, heard until it is gone: https://wiki.ros.org/ROS/TCPROS"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from act_data.sources.live.ros1 import rpc
from act_data.sources.live.ros1.header import (
    LENGTH,
    MAX_HEADER_BYTES,
    PublisherHeader,
    decode_header,
    encode_header,
    publisher_header,
)
from act_data.sources.live.ros1.sockets import Sockets

HANDSHAKE_S = 5.0
# A publisher's machine that lost power is noticed after about half a minute.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


@contextmanager
def connected(
    sockets: Sockets, uri: str, topic: str, *, caller: str
) -> Iterator[tuple[PublisherHeader, socket.socket]]:
    """Connect to the node at `uri`, which publishes `topic`; the messages come next.

    Any type is accepted (`*`); what it is, with its definition, is in the header. The socket
    blocks without a time limit.

    Raises:
        OSError: It cannot be reached, or does not answer in time.
        ValueError: It refuses, or answers something that is not TCPROS.
    """
    host, port = _where(rpc.ask(sockets, uri, "requestTopic", caller, topic, [["TCPROS"]]))
    deadline_s = time.monotonic() + HANDSHAKE_S
    with sockets.connected(host, port, HANDSHAKE_S) as sock:
        sock.sendall(
            encode_header(
                {"callerid": caller, "topic": topic, "type": "*", "md5sum": "*", "tcp_nodelay": "1"}
            )
        )
        (size,) = LENGTH.unpack(_exactly(sock, LENGTH.size, deadline_s))
        if size > MAX_HEADER_BYTES:
            raise ValueError(f"its header has {size} bytes, more than {MAX_HEADER_BYTES}")
        header = publisher_header(decode_header(_exactly(sock, size, deadline_s)))
        sock.settimeout(None)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        yield header, sock


def _where(protocol: object) -> tuple[str, int]:
    match protocol:
        case ["TCPROS", str(host), int(port)] if 0 < port < 2**16:
            return host, port
    raise ValueError("it offers no TCPROS connection")


def _exactly(sock: socket.socket, size: int, deadline_s: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        sock.settimeout(max(deadline_s - time.monotonic(), 1e-3))
        block = sock.recv(min(size - len(data), 2**16))
        if not block:
            raise ValueError(f"it closes the connection within its header, after {len(data)} bytes")
        data += block
    return bytes(data)
