"""What other programs of a robot send: ROS 1's nodes and master, and a foxglove bridge."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from act_data.errors import DataError
from act_data.sources.live.foxglove_messages import Advertise, parse_data, parse_text
from act_data.sources.live.ros1 import http, rpc
from act_data.sources.live.ros1.header import encode_header
from act_data.sources.live.ros1.master import Master
from act_data.sources.live.ros1.publisher import connected
from act_data.sources.live.ros1.sockets import Sockets
from act_data.sources.live.ros1.stream import messages
from act_data.sources.message_types import message_type
from act_data.sources.storage import Channel

_URI = "http://127.0.0.1:11311/"
_MAX_SENT = 1 << 16  # what a socket takes in without somebody who reads
# What the rooms above turn into notes and DataErrors.
_TOLD = (OSError, ValueError)


class _Canned(Sockets):
    """Real sockets, whose other ends have sent what is given and closed."""

    def __init__(self, *sent: bytes) -> None:
        super().__init__()
        self._sent = list(sent)

    @contextmanager
    def connected(self, host: str, port: int, timeout_s: float) -> Iterator[socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(self._sent.pop(0)[:_MAX_SENT])
            theirs.shutdown(socket.SHUT_WR)
            with self.held(ours) as sock:
                yield sock


def tcpros(data: bytes) -> None:
    """Everything that a publisher sends: its header, then messages. All that come are whole."""
    offer = http.answer(rpc.encode_answer(rpc.Answer(1, "", ["TCPROS", "127.0.0.1", 5000])))
    received = 0
    with (
        suppress(*_TOLD),
        connected(_Canned(offer, data), _URI, "/t", caller="/us") as (told, sock),
    ):
        channel = Channel(
            id=0, topic="/t", type=told.type, encoding="ros1", definition=told.definition, count=0
        )
        with suppress(*_TOLD):
            for payload in messages(lambda part, flags: sock.recv_into(part, 0, flags)):
                received += 4 + len(payload)
        assert received <= len(data)
        message_type(channel)


def ros1_master(data: bytes) -> None:
    """The HTTP answer of a ROS master to what a subscriber asks."""
    for ask in (
        lambda master: master.published(),
        lambda master: master.register("/t"),
        lambda master: master.knows_us(),
    ):
        with suppress(*_TOLD):
            ask(Master(_Canned(data), _URI, caller="/us"))


def ros1_call(data: bytes) -> None:
    """The HTTP request of another node to ours."""
    with suppress(*_TOLD):
        document = http.message_body(data)
        if document is not None:
            rpc.decode_call(document)
    with suppress(*_TOLD):
        rpc.decode_call(data)


def foxglove(data: bytes) -> None:
    """A frame of a foxglove server: binary, text, and the definitions that it advertises."""
    with suppress(ValueError):
        parse_data(data)
    said: object = None
    with suppress(ValueError):
        said = parse_text(data.decode("utf-8", "replace"))
    for offer in said.channels if isinstance(said, Advertise) else ():
        channel = Channel(
            id=offer.id,
            topic=offer.topic,
            type=offer.type,
            encoding=offer.encoding,
            definition=offer.definition,
            count=0,
        )
        with suppress(DataError):
            message_type(channel)


# --- seeds ------------------------------------------------------------------------------------


def tcpros_seeds() -> list[bytes]:
    """Headers with and without a definition, a refusal, and messages small and large."""
    known = {"callerid": "/cam", "type": "std_msgs/String"}
    known["md5sum"] = "992ce8a1687cec8c8bd883ec73ca41d1"
    own = {**known, "type": "a/B", "message_definition": "float64 x\nint8[] y\n"}
    small = struct.pack("<I", 5) + b"hello"
    large = struct.pack("<I", 9000) + bytes(9000)
    return [
        encode_header(own) + small * 3 + large + small,
        encode_header(known) + small,
        encode_header({"error": "no such topic"}),
        encode_header(own) + struct.pack("<I", 2**32 - 1) + b"x",
    ]


def foxglove_seeds() -> list[bytes]:
    """Frames as servers of both protocols send them."""
    joints = {
        "id": 1, "topic": "/j", "encoding": "cdr", "schemaName": "a/B", "schema": "float64 x",
    }  # fmt: skip
    ros1 = {**joints, "id": 2, "encoding": "ros1", "schemaEncoding": "ros1msg"}
    said = [
        {"op": "serverInfo", "name": "bridge", "capabilities": [], "sessionId": "1"},
        {"op": "status", "level": 2, "message": "lost"},
        {"op": "advertise", "channels": [joints, ros1, {**joints, "encoding": "json"}]},
        {"op": "unadvertise", "channelIds": [1, 2]},
        {"op": "parameterValues", "parameters": []},
    ]
    return [*(json.dumps(one).encode() for one in said), struct.pack("<BIQ", 1, 7, 9) + b"payload"]


def master_seeds() -> list[bytes]:
    """Answers that succeed, fail, and are faults; with a length and without."""
    values: list[object] = [
        [["/t", "std_msgs/String"], ["/u", "*"]],
        ["http://127.0.0.1:4000/", "http://[::1]:5000/x"],
        "http://127.0.0.1:4000/",
        0,
    ]
    answers = [http.answer(rpc.encode_answer(rpc.Answer(1, "", value))) for value in values]
    refused = http.answer(rpc.encode_answer(rpc.Answer(-1, "unknown", 0)))
    unmeasured = b"HTTP/1.1 200 OK\r\n\r\n" + rpc.encode_answer(rpc.Answer(1, "", []))
    return [*answers, refused, unmeasured, http.answer(rpc.encode_fault("no such method"))]


def call_seeds() -> list[bytes]:
    """Requests as a master and other nodes send them, and their documents alone."""
    calls = [
        rpc.encode_call("publisherUpdate", ["/master", "/t", ["http://127.0.0.1:4000/"]]),
        rpc.encode_call("requestTopic", ["/them", "/t", [["TCPROS"]]]),
        rpc.encode_call("getPid", [1, 2.5, True, {"a": [b"bytes"]}]),
    ]
    return [*calls, *(http.request("127.0.0.1:1", "/", call) for call in calls)]
