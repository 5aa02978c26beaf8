"""Peers that mean harm, or nothing at all: bytes for the port of `act-model serve`."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgpack
import numpy as np

from act_model.serve.dialects import SUBPROTOCOL

HANDSHAKE = (
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
OWN = f"{HANDSHAKE}Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode()
OPENPI = f"{HANDSHAKE}\r\n".encode()


def frame(payload: bytes, *, opcode: int = 2, fin: bool = True) -> bytes:
    """A masked websocket frame; the mask is zero, so the payload reads as it is."""
    first = bytes([(0x80 if fin else 0) | opcode])
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 2**16:
        length = b"\xfe" + struct.pack(">H", size)
    else:
        length = b"\xff" + struct.pack(">Q", size)
    return first + length + bytes(4) + payload


HELLO = frame(
    msgpack.packb({"type": "hello", "protocol": 1, "contract_digest": None, "client": "x"})
)


def broken_requests() -> list[bytes]:
    """What is no HTTP, or not all of it."""
    return [
        b"",
        b"\x00" * 200,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),  # a TLS hello
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"GET / HTTP/1.1\r\n",
        OWN[:60],
        OWN.replace(b"GET", b"POST"),
        OWN.replace(b"13", b"12"),
        OWN.replace(b"websocket", b"h2c"),
        OWN.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"short"),
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\n\r\n",
        b"GET /metrics\xff HTTP/1.1\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n" + bytes(1000),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]


def broken_frames() -> list[bytes]:
    """What is no websocket message."""
    return [
        b"\x82\xff" + struct.pack(">Q", 2**62) + bytes(4),
        b"\x82\xff" + struct.pack(">Q", 2**63) + bytes(4),
        b"\x82\xfe\x00\x01" + bytes(4) + b"x",  # longer form than needed
        b"\x82\x05hello",  # not masked
        b"\xf2\x80" + bytes(4),  # reserved bits
        b"\x83\x80" + bytes(4),  # reserved opcode
        b"\x80\x80" + bytes(4),  # continues nothing
        frame(bytes(200), opcode=9),  # a ping that is too long
        frame(b"", opcode=9, fin=False),
        frame(b"\x03", opcode=8),
        frame(b"\x00\x01", opcode=8),
        frame(b"a" * 1000, opcode=1),
        frame(b"\xff\xfe", opcode=1),
        frame(b"a", fin=False) + frame(b"b"),
        frame(b"", fin=False) + frame(b"", opcode=0, fin=False) * 3000,
        frame(b"a", fin=False) + frame(b"b", opcode=0, fin=False) * 20_000,
        frame(b"a" * 500, fin=False) * 1,
        frame(b"ping", opcode=9) * 2000,
        frame(bytes(3 * 2**20)),
        frame(bytes(100_000))[:-50_000],
    ]


def array(**change: Any) -> dict[str, Any]:
    return {"dtype": "uint8", "shape": [32, 48, 3], "data": bytes(32 * 48 * 3)} | change


def broken_messages() -> list[bytes]:
    """What is no request of ours, and no observation of openpi's."""
    ask = {"type": "infer", "id": 1, "within_ms": None, "observation": {}}
    values: list[Any] = [
        None, True, 1, -1, 2**63, 1.5, "", "infer", b"", [], [1], {}, {"type": None},
        {"type": "hello"}, {"type": "actions"}, {"type": ["infer"]}, {"type": "infer"},
        *(ask | {"id": i} for i in (-1, 2**64 - 1, 1.0, True, None, "1", [])),
        *(ask | {"within_ms": w} for w in (-1, 1e9, float("nan"), float("inf"), "1", True, [])),
        *(ask | {"observation": o} for o in (None, 1, [], "x", {b"x": array()}, {"x": 1})),
        ask | {"more": 1},
        *(
            ask | {"observation": {"images/top": a, "qpos": a}}
            for a in (
                array(dtype="object"), array(dtype="O"), array(dtype="float64"), array(dtype=1),
                array(dtype="V8"), array(dtype="uint8" * 500), array(shape=None), array(shape=3),
                array(shape=[]), array(shape=[-1, -4608]), array(shape=[2**62, 2**62]),
                array(shape=[2**32, 2**32, 0]), array(shape=[1.0]), array(shape=[True] * 3),
                array(shape=["1"]), array(shape=[1] * 16), array(data=b""), array(data="x" * 4608),
                array(data=None), array(data=bytes(4607)), array(more=1), array(), None, 0, [],
            )
        ),
        {b"__ndarray__": True},
        {"state": {b"__ndarray__": True, b"dtype": "|O", b"data": b"", b"shape": [1]}},
        {"state": {b"__ndarray__": True, b"dtype": "<f8", b"data": b"", b"shape": [2**60]}},
        {"state": {b"__ndarray__": True, b"dtype": "<f8", b"data": "x", b"shape": [1]}},
        {"state": {b"__ndarray__": True, b"dtype": ["<f8"], b"data": b"", b"shape": [0]}},
        {"state": {b"__ndarray__": True, b"dtype": "<M8[s]", b"data": bytes(8), b"shape": [1]}},
        {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}},
        {"x": [[[[]]]] * 16},
        {"x": msgpack.ExtType(5, b"abc")},
        {"x": msgpack.Timestamp(1, 2)},
        {str(i): i for i in range(5000)},
        {"x": list(range(5000))},
        {"x": "y" * 10_000},
        {1: 2},
        {"x": float("nan")},
    ]  # fmt: skip
    raw = [
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",  # a list of 2^32 - 1
        b"\xdf\xff\xff\xff\xff",  # a map
        b"\xdb\xff\xff\xff\xffabc",  # a text
        b"\xc6\xff\xff\xff\xffabc",  # bytes
        b"\xc9\xff\xff\xff\xff\x01abc",  # an extension
        b"\x91" * 60_000 + b"\xc0",  # deep
        b"\x81\xa1x" * 20_000 + b"\xc0",
        b"\x9f" * 4000 + b"\x90" * 60_000,  # wide and deep
        b"\x81\xa1x\xdc\x00\x10" + b"\x90" * 16,
        b"\x81\xa2\xff\xfe\x01",  # a key that is no UTF-8
        b"\xde\x00\x02\xa1a\x01\xa1a\x02",
        msgpack.packb({}) + b"rest",
    ]
    return [msgpack.packb(value) for value in values] + raw


def changed(rng: random.Random, valid: bytes) -> bytes:
    """`valid` with a few bytes of it changed, cut, or doubled; near the front, where it is thin."""
    data = bytearray(valid)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(data), 300)) if data else 0
        what = rng.randrange(4)
        if what == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif what == 1:
            del data[at : at + rng.randint(1, 8)]
        elif what == 2:
            data[at:at] = rng.randbytes(rng.randint(1, 8))
        else:
            del data[rng.randrange(len(data) + 1) :]
    return bytes(data)


def valid_request() -> bytes:
    qpos = {"dtype": "float32", "shape": [3], "data": np.zeros(3, "<f4").tobytes()}
    side = array(shape=[24, 40, 3], data=bytes(24 * 40 * 3))
    observation = {"qpos": qpos, "images/top": array(), "images/side": side}
    return msgpack.packb({"type": "infer", "id": 1, "within_ms": None, "observation": observation})  # type: ignore[no-any-return]


def everything(seed: int, changes: int) -> Iterator[bytes]:
    """All of the above, as what one connection sends; then `changes` of a valid request."""
    rng = random.Random(seed)
    yield from broken_requests()
    for head in (OWN, OPENPI, OWN + HELLO):
        yield from (head + broken for broken in broken_frames())
        yield from (head + frame(broken) for broken in broken_messages())
    for number in range(changes):
        kind = number % 4
        if kind == 0:
            yield rng.randbytes(rng.randint(1, 400))
        elif kind == 1:
            yield changed(rng, OWN + HELLO)
        else:
            yield (OWN + HELLO if kind == 2 else OPENPI) + frame(changed(rng, valid_request()))


def say(port: int, data: bytes) -> bytes:
    """Send `data` over a connection of its own; what came back before either side hung up."""
    opening = next((head for head in (OWN, OPENPI) if data.startswith(head)), b"")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        answer = b""
        with suppress(OSError):
            if opening:  # what comes before the answer to it would be lost
                sock.sendall(opening)
                while b"\r\n\r\n" not in answer and (part := sock.recv(65536)):
                    answer += part
                data = data[len(opening) :] + frame(b"", opcode=8)  # answered when all was read
            sock.sendall(data)
            if not data.startswith(b"GET") and not opening:
                sock.shutdown(socket.SHUT_WR)
            sock.settimeout(0.2)
            while part := sock.recv(65536):
                answer += part
        return answer
