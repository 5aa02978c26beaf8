"""The messages of a TCPROS connection: each is a length and that many bytes.

Two ways of reading in one: what is small is taken from a read-ahead of a few kilobytes, several
messages with one system call; what is larger is received into a buffer of its own, with one call
that returns when the last byte is there. Python's lock is then taken once per message and not once
per packet, which is what makes rospy late beside a busy thread (docs/threads.md).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import numpy as np

from act_data.sources.bounds import MAX_MESSAGE_BYTES
from act_data.sources.live.ros1.header import LENGTH

READ_AHEAD_BYTES = 8192

# Fills a part of the buffer and gives back how many bytes that were, 0 at the end; the flags are
# those of recv(2).
Receive = Callable[[memoryview, int], int]


def messages(receive: Receive) -> Iterator[bytes | memoryview]:
    """The payloads in order, each in memory of its own.

    Raises:
        ValueError: A message is announced that no message can be.
        ConnectionError: The connection ends within a message.
    """
    ahead = memoryview(bytearray(READ_AHEAD_BYTES))
    have = 0
    while got := receive(ahead[have:], 0):
        have += got
        at = 0
        while have - at >= LENGTH.size:
            (size,) = LENGTH.unpack_from(ahead, at)
            body = at + LENGTH.size
            if body + size <= have:
                yield bytes(ahead[body : body + size])
                at = body + size
            elif LENGTH.size + size <= READ_AHEAD_BYTES:
                break
            else:
                yield _large(receive, size, ahead[body:have])
                at = have
        ahead[: have - at] = bytes(ahead[at:have])
        have -= at
    if have:
        raise ConnectionError(f"the connection ended {have} bytes into a message")


def _large(receive: Receive, size: int, begun: memoryview) -> memoryview:
    """The message of `size` bytes of which `begun` has come already."""
    if size > MAX_MESSAGE_BYTES:
        raise ValueError(f"it announces a message of {size} bytes, more than {MAX_MESSAGE_BYTES}")
    # Unlike a bytearray this costs no memory before the bytes are really there.
    message = np.empty(size, np.uint8).data
    have = len(begun)
    message[:have] = begun
    while have < size:
        got = receive(message[have:], socket.MSG_WAITALL)
        if not got:
            raise ConnectionError(f"the connection ended {have} bytes into a message of {size}")
        have += got
    return message.toreadonly()
