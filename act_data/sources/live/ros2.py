"""Live ROS 2 topics through rclpy: raw subscriptions on one wait set, in a thread of its own.

Why a wait set of our own and not one of rclpy's executors: docs/ros2.md.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from threading import Event, Thread
from typing import Any

from act_data.errors import DataError, InputError
from act_data.sources.live.inbox import Inbox
from act_data.sources.live.notes import Notes
from act_data.sources.live.ros2_graph import TOPIC, Ros2Graph, line_of
from act_data.sources.live.ros2_topic import Asked, HeardTopic, agreed_type, node_name
from act_data.sources.live.ros2_types import installed_definition, message_class
from act_data.sources.storage import Channel
from act_data.types import TopicInfo

with suppress(ImportError):  # Ros2Graph says it
    from rclpy.event_handler import SubscriptionEventCallbacks
    from rclpy.impl.implementation_singleton import rclpy_implementation
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
    from rclpy.topic_endpoint_info import TopicEndpointInfo

# What waits for the thread: at least five seconds of a fast joint state, or of the usual camera.
# A reader that falls further behind loses the oldest messages.
_DEPTH = 2000
_IMAGE_DEPTH = 150
_LARGE = ("Image", "CompressedImage", "PointCloud2")

_WAIT_NS = 100_000_000  # how soon `close` is noticed when nothing comes
_LOOK_S = 0.25  # how soon a new publisher is noticed
_DISCOVERY_S = 2.0  # how long participants take to hear of each other


class Ros2Backend:
    """A `LiveBackend` over the ROS 2 graph of one domain.

    A topic is subscribed as RELIABLE when every publisher of it offers that, else as BEST_EFFORT;
    as TRANSIENT_LOCAL when every one offers that, so that what was latched before arrives. A
    publisher that appears later and offers less makes it subscribe anew, and `notes` tells.
    """

    def __init__(self, *, domain_id: int | None = None) -> None:
        """Take part in the graph.

        Args:
            domain_id: None: what ROS_DOMAIN_ID says, else 0.

        Raises:
            NotFoundError: There is no rclpy for this Python.
            InputError: There is no such domain.
            DataError: ROS 2 does not start.
        """
        self._graph = Ros2Graph(domain_id, "act_data")
        self._node = self._graph.node
        self._discovered = time.monotonic() + _DISCOVERY_S
        self._heard: dict[str, HeardTopic] = {}
        self._notes = Notes()
        if self._graph.advice:
            self._notes.add(self._graph.advice)
        self._stop = Event()
        self._thread: Thread | None = None

    @property
    def name(self) -> str:
        """The domain."""
        return self._graph.name

    def topics(self) -> Mapping[str, TopicInfo]:
        """What is published at this moment; the first call waits until the graph is known.

        A topic with publishers of several types has the first of them here.
        """
        time.sleep(max(0.0, self._discovered - time.monotonic()))
        found: dict[str, TopicInfo] = {}
        for topic, types in sorted(self._node.get_topic_names_and_types()):
            if any(p.node_name != self._node.get_name() for p in self._publishers(topic)):
                found[topic] = TopicInfo(name=topic, type=types[0])
        return found

    def subscribe(self, topics: Collection[str], inbox: Inbox) -> None:
        """Begin to put the messages of `topics` into `inbox`; once. Topics may appear later.

        Raises:
            InputError: Names that no ROS 2 topic can have; all of them.
            DataError: A topic that is published has a type whose package is not installed here,
                or its publishers disagree about the type.
        """
        wrong = sorted(t for t in topics if not TOPIC.fullmatch(t))
        if wrong:
            raise InputError(
                f"no ROS 2 topic is called {', '.join(map(repr, wrong))}",
                hint="A name is words of letters, digits and _, each after a slash: /camera/image.",
            )
        for topic in sorted(topics):
            if publishers := self._publishers(topic):
                message_class(topic, agreed_type(topic, publishers))
        self._heard = {t: HeardTopic(t, number) for number, t in enumerate(sorted(topics))}
        self._thread = Thread(target=self._listen, args=(inbox,), name="ros2", daemon=True)
        self._thread.start()

    def channel(self, topic: str) -> Channel | None:
        """Type and definition; None until a publisher appeared.

        Raises:
            DataError: Publishers of the topic disagree about its type, or its package is not
                installed here.
        """
        heard = self._heard.get(topic)
        if heard is None:
            return None
        if heard.refused is not None:
            raise heard.refused
        return heard.channel

    @property
    def missing(self) -> Mapping[str, int]:
        """Messages by topic that were published after its first one here, and never arrived.

        At least: the numbers that a publisher gives its messages tell it exactly as long as the
        topic has one publisher; with several, what the middleware says it lost.
        """
        found = {topic: heard.missing for topic, heard in self._heard.items()}
        return {topic: n for topic, n in found.items() if n}

    def notes(self) -> tuple[str, ...]:
        """What happened to the connections, and what was lost on the way."""
        lost = (f"{t}: at least {n} messages were lost on the way" for t, n in self.missing.items())
        return (*self._notes.sentences(), *lost)

    def close(self) -> None:
        """Leave the graph. Every thread has ended when this returns; a second call does nothing."""
        if self._stop.is_set():
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._graph.close()

    # --- in the thread ---

    def _listen(self, inbox: Inbox) -> None:
        try:
            next_look = 0.0
            while not self._stop.is_set():
                if time.monotonic() >= next_look:
                    for heard in self._heard.values():
                        self._look(heard)
                    next_look = time.monotonic() + _LOOK_S
                    ready = [h for h in self._heard.values() if h.subscription is not None]
                    waiting = self._wait_set(ready)
                if not ready:
                    self._stop.wait(_LOOK_S)
                    continue
                waiting.clear_entities()
                for heard in ready:
                    heard.wait_in(waiting)
                waiting.wait(_WAIT_NS)
                for heard in ready:
                    heard.take(waiting, inbox)
        except RuntimeError as e:  # RCLError is one
            self._notes.add(f"listening ended: {line_of(e)}")
            inbox.close()

    def _look(self, heard: HeardTopic) -> None:
        """Follow the publishers of a topic: subscribe when the first appears, note changes."""
        publishers = self._publishers(heard.topic)
        who = {bytes(p.endpoint_gid): node_name(p) for p in publishers}
        before, heard.publishers = heard.publishers, who
        for gid, name in who.items():
            if name != before.get(gid):  # a node's name may come after its publisher, or never
                self._notes.add(f"{heard.topic}: published by {name or 'a node'}")
        for gid in before.keys() - who.keys():
            self._notes.add(f"{heard.topic}: {before[gid] or 'a node'} publishes no more")
        same = who.keys() == before.keys()
        heard.settle(one_publisher=same and len(who) == 1)
        if same or not publishers:
            return
        try:
            type_ = agreed_type(heard.topic, publishers, heard.channel)
            class_ = message_class(heard.topic, type_)
        except DataError as e:
            heard.refused = e
            self._notes.add(str(e))
            return
        heard.refused = None
        offer = _offer(publishers)
        asked = heard.asked
        if asked is None or not asked.within(offer) or (not before and asked != offer):
            self._subscribe(heard, type_, class_, offer)

    def _subscribe(self, heard: HeardTopic, type_: str, class_: Any, asked: Asked) -> None:
        if heard.subscription is not None:
            self._node.destroy_subscription(heard.subscription)
            self._notes.add(f"{heard.topic}: subscribed anew, {asked}; what came meanwhile is lost")
        else:
            self._notes.add(f"{heard.topic}: subscribed, {asked}")
        heard.subscription = self._node.create_subscription(
            class_,
            heard.topic,
            _never_called,
            QoSProfile(
                depth=_IMAGE_DEPTH if type_.endswith(_LARGE) else _DEPTH,
                reliability=ReliabilityPolicy.RELIABLE
                if asked.reliable
                else ReliabilityPolicy.BEST_EFFORT,
                durability=DurabilityPolicy.TRANSIENT_LOCAL
                if asked.latched
                else DurabilityPolicy.VOLATILE,
            ),
            raw=True,
            event_callbacks=SubscriptionEventCallbacks(
                message_lost=_never_called, use_default_callbacks=False
            ),
        )
        heard.asked, heard.class_ = asked, class_
        heard.channel = Channel(
            id=heard.number,
            topic=heard.topic,
            type=type_,
            encoding="cdr",
            definition=installed_definition(type_),
            count=0,
        )

    def _wait_set(self, ready: Sequence[HeardTopic]) -> Any:
        events = sum(len(h.subscription.event_handlers) for h in ready)
        return rclpy_implementation.WaitSet(
            len(ready), 0, 0, 0, 0, events, self._graph.context.handle
        )

    def _publishers(self, topic: str) -> list[TopicEndpointInfo]:
        return list(self._node.get_publishers_info_by_topic(topic))


def _offer(publishers: Sequence[TopicEndpointInfo]) -> Asked:
    """What every one of `publishers` offers."""
    profiles = [p.qos_profile for p in publishers]
    return Asked(
        reliable=all(p.reliability == ReliabilityPolicy.RELIABLE for p in profiles),
        latched=all(p.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in profiles),
    )


def _never_called(_: object) -> None:
    """Messages are taken by the thread; only an executor would call this."""
