"""Publishing on ROS 1 without a ROS installation: the other half of TCPROS.

https://wiki.ros.org/ROS/TCPROS and https://wiki.ros.org/ROS/Technical%20Overview. One thread
watches the master, one answers it, one takes subscribers in; messages are sent by whoever
publishes, never waiting: a subscriber whose socket is full misses them.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Any
from uuid import uuid4

from act_data.commands.messages import Encoding, store_of
from act_data.errors import DataError, InputError
from act_data.sources.live.ros1 import rpc
from act_data.sources.live.ros1.header import LENGTH, decode_header, encode_header
from act_data.sources.live.ros1.node import Method, Node, place
from act_data.sources.live.ros1.sockets import Sockets

DEFAULT_MASTER = "http://localhost:11311"
CHECK_S = 1.0  # how soon a restarted master is told of us
HANDSHAKE_S = 2.0
MAX_REQUEST_BYTES = 2**16
MAX_SUBSCRIBERS = 64  # of one topic


class _Subscriber:
    """One connection. What a full socket did not take of a message is sent before the next one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""

    def send(self, frame: bytes) -> None:
        """Raises OSError when nobody is there any more."""
        if self._rest:
            self._rest = self._rest[self._sent(self._rest) :]
        if not self._rest:
            self._rest = frame[self._sent(frame) :]
            if len(self._rest) == len(frame):
                self._rest = b""  # not begun: left out whole

    def _sent(self, data: bytes) -> int:
        try:
            return self._connection.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        self._connection.close()


class _Topic:
    """One advertised topic and those who listen."""

    def __init__(self, name: str, type_: str) -> None:
        self.name = name
        self.type = type_.replace("/msg/", "/")
        self.definition, self.md5sum = store_of("ros1").generate_msgdef(type_, ros_version=1)
        self._subscribers: tuple[_Subscriber, ...] = ()
        self._lock = Lock()

    @property
    def listeners(self) -> int:
        return len(self._subscribers)

    def add(self, subscriber: _Subscriber) -> None:
        with self._lock:
            if len(self._subscribers) >= MAX_SUBSCRIBERS:
                raise ValueError(f"{self.name} has {MAX_SUBSCRIBERS} subscribers already")
            self._subscribers = (*self._subscribers, subscriber)

    def send(self, payload: bytes) -> None:
        frame = LENGTH.pack(len(payload)) + payload
        for subscriber in self._subscribers:
            try:
                subscriber.send(frame)
            except OSError:
                self._remove(subscriber)

    def close(self) -> None:
        for subscriber in self._subscribers:
            self._remove(subscriber)

    def _remove(self, subscriber: _Subscriber) -> None:
        with self._lock:
            self._subscribers = tuple(s for s in self._subscribers if s is not subscriber)
        subscriber.close()


class Ros1Publisher:
    """A node that publishes some topics.

    Args:
        topics: Message type by topic, in the ROS 2 spelling.
        master_uri: "http://host:port"; ROS_MASTER_URI, or this machine, when not given.

    Raises:
        InputError: The address of the master, or ROS_IP, is not one.
        DataError: The master does not answer or refuses.
    """

    encoding: Encoding = "ros1"

    def __init__(self, topics: Mapping[str, str], *, master_uri: str | None = None) -> None:
        self._uri = master_uri or os.environ.get("ROS_MASTER_URI") or DEFAULT_MASTER
        try:
            rpc.address(self._uri)
        except ValueError as e:
            raise InputError(
                f"the ROS master's address is not valid: {e}",
                hint="It looks like http://robot:11311.",
            ) from e
        where = place(os.environ)
        self._caller = f"/act_model_{os.getpid()}_{uuid4().hex[:8]}"
        self._topics = {name: _Topic(name, type_) for name, type_ in topics.items()}
        self._sockets = Sockets()
        self._closed = Event()
        try:
            family = socket.AF_INET6 if ":" in where.bind else socket.AF_INET
            self._listening = socket.create_server((where.bind, 0), family=family)
            self._offer = ["TCPROS", where.name, self._listening.getsockname()[1]]
            self._node = Node(self._sockets, self._methods(), where)
        except OSError as e:
            raise DataError(
                f"cannot listen on {where.bind or 'any interface'}: {e.strerror or e}",
                hint="Set ROS_IP to an address of this machine, or unset it.",
            ) from e
        self._threads = [
            Thread(target=self._accept, name="ros1 subscribers", daemon=True),
            Thread(target=self._watch, name=f"ros1 master {self._uri}", daemon=True),
        ]
        try:
            self._register()
        except (OSError, ValueError) as e:
            self._cut()
            raise DataError(
                f"the ROS master at {self._uri} does not answer: {e}",
                hint="Start it (roscore), or name the right one with ROS_MASTER_URI.",
            ) from e
        for thread in self._threads:
            thread.start()

    @property
    def name(self) -> str:
        """The master that was told."""
        return f"ros1 {self._uri}"

    def publish(self, topic: str, payload: bytes) -> None:
        """Send to all who listen. A master that is gone does not matter to them."""
        self._topics[topic].send(payload)

    def listeners(self, topic: str) -> int:
        """How many subscribe to it now."""
        return self._topics[topic].listeners

    def close(self) -> None:
        """Unregister, and let go of everybody."""
        if self._closed.is_set():
            return
        self._cut()
        for thread in self._threads:
            thread.join()
        with suppress(OSError, ValueError):  # a master that is gone has forgotten us already
            for topic in self._topics.values():
                self._tell("unregisterPublisher", topic.name, self._node.uri)

    def _cut(self) -> None:
        self._closed.set()
        self._sockets.cut()
        self._listening.close()
        self._node.thread.join()
        for topic in self._topics.values():
            topic.close()

    # --- the master ------------------------------------------------------------------------------

    def _register(self) -> None:
        for topic in self._topics.values():
            self._tell("registerPublisher", topic.name, topic.type, self._node.uri)

    def _tell(self, method: str, *parameters: object) -> Any:
        return rpc.ask(Sockets(), self._uri, method, self._caller, *parameters)

    def _watch(self) -> None:
        """Register again with a master that was restarted."""
        while not self._closed.wait(CHECK_S):
            with suppress(OSError, ValueError):
                answer = rpc.call(Sockets(), self._uri, "lookupNode", self._caller, self._caller)
                if answer.code != rpc.SUCCESS and not self._closed.is_set():
                    self._register()

    # --- the node --------------------------------------------------------------------------------

    def _methods(self) -> Mapping[str, Method]:
        def says(value: object, code: int = rpc.SUCCESS, message: str = "") -> Method:
            return lambda _: rpc.Answer(code, message, value)

        return {
            "getPid": says(os.getpid()),
            "getMasterUri": says(self._uri),
            "getBusStats": says([[], [], []]),
            "getBusInfo": says([]),
            "getPublications": says([[t.name, t.type] for t in self._topics.values()]),
            "getSubscriptions": says([]),
            "publisherUpdate": says(0),
            "paramUpdate": says(0),
            "requestTopic": self._request_topic,
            # Anybody may send this; publishing ends where it was started.
            "shutdown": says(0, -1, "stop it where it was started"),
        }

    def _request_topic(self, parameters: tuple[Any, ...]) -> rpc.Answer:
        match parameters:
            case (_, str(topic), [*protocols]) if topic in self._topics:
                if any(p[:1] == ["TCPROS"] for p in protocols if isinstance(p, list)):
                    return rpc.Answer(rpc.SUCCESS, "", self._offer)
                return rpc.Answer(0, "only TCPROS is spoken here", [])
        return rpc.Answer(-1, "it publishes no such topic", [])

    # --- subscribers -----------------------------------------------------------------------------

    def _accept(self) -> None:
        with suppress(OSError), self._sockets.held(self._listening) as listening:
            listening.settimeout(CHECK_S)  # where cutting a listening socket wakes nobody
            while not self._closed.is_set():
                try:
                    connection, _ = listening.accept()
                except TimeoutError:
                    continue
                try:
                    self._welcome(connection)
                except (OSError, ValueError):
                    connection.close()

    def _welcome(self, connection: socket.socket) -> None:
        """Shake hands, and add the subscriber to its topic.

        Raises:
            OSError, ValueError: It does not speak TCPROS, or wants what is not here.
        """
        deadline_s = time.monotonic() + HANDSHAKE_S
        (size,) = LENGTH.unpack(_exactly(connection, LENGTH.size, deadline_s))
        if size > MAX_REQUEST_BYTES:
            raise ValueError(f"its header has {size} bytes")
        asked = decode_header(_exactly(connection, size, deadline_s))
        topic = self._topics.get(asked.get("topic", ""))
        if topic is None or asked.get("md5sum", "*") not in ("*", topic.md5sum):
            connection.sendall(encode_header({"error": "this topic is not published here so"}))
            raise ValueError(f"it asks for {asked.get('topic', '')[:200]!r}")
        connection.sendall(
            encode_header(
                {
                    "callerid": self._caller,
                    "latching": "0",
                    "md5sum": topic.md5sum,
                    "message_definition": topic.definition,
                    "topic": topic.name,
                    "type": topic.type,
                }
            )
        )
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        topic.add(_Subscriber(connection))


def _exactly(connection: socket.socket, size: int, deadline_s: float) -> bytes:
    data = b""
    while len(data) < size:
        connection.settimeout(max(deadline_s - time.monotonic(), 1e-3))
        block = connection.recv(size - len(data))
        if not block:
            raise ValueError("it closes the connection within its header")
        data += block
    return data
