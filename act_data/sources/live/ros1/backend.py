"""Live ROS 1 topics without a ROS installation: a subscriber that speaks TCPROS itself.

One thread watches the master, one answers it, and each publisher of each topic has a thread that
receives, stamps and appends. Which publishers there are is asked of the master; nobody else can
make the subscriber connect anywhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Condition, Thread
from typing import Any
from uuid import uuid4

from rosbags.typesys.msg import normalize_msgtype

from act_data.errors import DataError, InputError
from act_data.sources.live.inbox import Inbox
from act_data.sources.live.notes import Notes
from act_data.sources.live.ros1 import rpc
from act_data.sources.live.ros1.master import Master
from act_data.sources.live.ros1.node import Method, Node, is_loopback, place
from act_data.sources.live.ros1.sockets import Sockets
from act_data.sources.live.ros1.subscription import Subscription, resolved
from act_data.sources.storage import Channel
from act_data.types import TopicInfo

DEFAULT_MASTER = "http://localhost:11311"
CHECK_S = 1.0  # how soon it is noticed that the master died or came back
REFRESH_S = 5.0  # how often it is asked about topics on which nobody is heard


class Ros1Backend:
    """A `LiveBackend` for ROS 1. Topics and types are named as in bags.

    Args:
        master_uri: "http://host:port"; ROS_MASTER_URI, or this machine, when not given.

    Raises:
        InputError: The address of the master, or ROS_IP, is not one.
    """

    def __init__(self, master_uri: str | None = None) -> None:
        self._uri = master_uri or os.environ.get("ROS_MASTER_URI") or DEFAULT_MASTER
        try:
            self._master_host = rpc.address(self._uri).host
        except ValueError as e:
            raise InputError(
                f"the ROS master's address is not valid: {e}",
                hint="It looks like http://robot:11311.",
            ) from e
        self._place = place(os.environ)
        self._caller = f"/act_data_{os.getpid()}_{uuid4().hex[:8]}"
        self._sockets = Sockets()
        self._master = Master(self._sockets, self._uri, caller=self._caller)
        self._node: Node | None = None
        self._watcher: Thread | None = None
        self._subscriptions: dict[str, Subscription] = {}
        self._notes = Notes()
        self._resolved: frozenset[str] = frozenset()
        self._hinted: set[str] = set()  # topics whose publishers have changed
        self._closed = False
        self._changed = Condition()

    @property
    def name(self) -> str:
        """The master that is asked."""
        return f"ros1 {self._uri}"

    def topics(self) -> Mapping[str, TopicInfo]:
        """What is published at this moment, by name.

        Raises:
            DataError: The master does not answer.
        """
        with self._asking():
            published = self._master.published()
        return {
            name: TopicInfo(name=name, type="" if type_ == "*" else normalize_msgtype(type_))
            for name, type_ in sorted((resolved(n), t) for n, t in published.items())
        }

    def subscribe(self, topics: Collection[str], inbox: Inbox) -> None:
        """Begin to put the messages of `topics` into `inbox`; once.

        Raises:
            DataError: The master does not answer or refuses.
        """
        assert self._node is None, "subscribe once"
        self._subscriptions = {
            topic: Subscription(
                topic,
                number,
                caller=self._caller,
                inbox=inbox,
                notes=self._notes,
                sockets=self._sockets,
            )
            for number, topic in enumerate(sorted(set(topics)))
        }
        self._resolved = frozenset(s.resolved for s in self._subscriptions.values())
        try:
            self._node = self._listen()
            self._master = Master(
                self._sockets, self._uri, caller=self._caller, node_uri=self._node.uri
            )
            with self._asking():
                for subscription in self._subscriptions.values():
                    subscription.update(self._master.register(subscription.resolved))
        except BaseException:
            self.close()
            raise
        self._watcher = Thread(target=self._watch, name=f"ros1 master {self._uri}", daemon=True)
        self._watcher.start()

    def channel(self, topic: str) -> Channel | None:
        """Type and definition of a subscribed topic, as its first publisher told them.

        It is known before the first message is in the inbox, and does not change. What a
        publisher of another type sends is not taken in.

        Raises:
            DataError: Publishers of the topic disagree about its type.
        """
        return self._subscriptions[topic].channel()

    def notes(self) -> tuple[str, ...]:
        """What happened to the connections so far."""
        return self._notes.sentences()

    def close(self) -> None:
        """Stop listening and unregister; every thread has ended when this returns."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._sockets.cut()
        if self._watcher is not None:
            self._watcher.join()
        for subscription in self._subscriptions.values():
            subscription.close()
        if self._node is None:
            return
        self._node.thread.join()
        master = Master(Sockets(), self._uri, caller=self._caller, node_uri=self._node.uri)
        with suppress(OSError, ValueError):  # a master that is gone has forgotten us already
            for subscription in self._subscriptions.values():
                master.unregister(subscription.resolved)

    # --- the master ------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Keep the lists of publishers up to date, over restarts of the master too."""
        stale: set[Subscription] = set()
        here, refreshed_s = True, time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._hinted, CHECK_S)
                if self._closed:
                    return
                stale |= {s for s in self._subscriptions.values() if s.resolved in self._hinted}
                self._hinted = set()
            if time.monotonic() - refreshed_s >= REFRESH_S:
                stale |= self._perhaps_outdated()
                refreshed_s = time.monotonic()
            try:
                if not self._master.knows_us() and self._subscriptions:
                    self._notes.add("the ROS master was restarted: subscribed again")
                    stale = set(self._subscriptions.values())
                while stale:
                    subscription = next(iter(stale))
                    subscription.update(self._master.register(subscription.resolved))
                    stale.discard(subscription)
                here = True
            except (OSError, ValueError) as e:
                if here and not self._sockets.are_cut:
                    self._notes.add(f"the ROS master was lost: {e}")
                here = False

    def _perhaps_outdated(self) -> set[Subscription]:
        """Topics about which the master may know more than it could tell us.

        It calls back under an address that may be wrong for it: one of the loopback interface
        certainly is, for a master on another machine.
        """
        deaf = is_loopback(self._place.name) and not is_loopback(self._master_host)
        return {s for s in self._subscriptions.values() if deaf or not s.heard}

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as e:
            raise DataError(
                f"the ROS master at {self._uri} does not answer: {e}",
                hint="Start it (roscore), or name the right one with ROS_MASTER_URI.",
            ) from e

    # --- the node --------------------------------------------------------------------------------

    def _listen(self) -> Node:
        try:
            return Node(self._sockets, self._methods(), self._place)
        except OSError as e:
            raise DataError(
                f"cannot listen on {self._place.bind or 'any interface'}: {e.strerror or e}",
                hint="Set ROS_IP to an address of this machine, or unset it.",
            ) from e

    def _methods(self) -> Mapping[str, Method]:
        """What other nodes may ask. We publish nothing and keep no statistics."""

        def says(value: object, code: int = rpc.SUCCESS, message: str = "") -> Method:
            return lambda _: rpc.Answer(code, message, value)

        return {
            "getPid": says(os.getpid()),
            "getMasterUri": says(self._uri),
            "getBusStats": says([[], [], []]),
            "getPublications": says([]),
            "getSubscriptions": says([[s.resolved, "*"] for s in self._subscriptions.values()]),
            "getBusInfo": lambda _: rpc.Answer(rpc.SUCCESS, "", self._bus_info()),
            "publisherUpdate": self._publisher_update,
            "paramUpdate": says(0),
            "requestTopic": says([], -1, "it publishes nothing"),
            # Anybody may send this; a recording ends where it was started.
            "shutdown": says(0, -1, "stop it where it was started"),
        }

    def _bus_info(self) -> list[list[object]]:
        links = [(s.resolved, uri) for s in self._subscriptions.values() for uri in s.heard]
        return [[i, uri, "i", "TCPROS", topic, True] for i, (topic, uri) in enumerate(links)]

    def _publisher_update(self, parameters: tuple[Any, ...]) -> rpc.Answer:
        """The publishers of a topic have changed. Who they are, the master will say."""
        match parameters:
            case (_, str(topic), _):
                with self._changed:
                    self._hinted |= {topic} & self._resolved
                    self._changed.notify_all()
        return rpc.Answer(rpc.SUCCESS, "", 0)
