"""One ROS 2 topic that is listened to: what has come, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from act_data.errors import DataError
from act_data.sources.live.inbox import Inbox
from act_data.sources.storage import Channel

_NAMELESS = "_NODE_NAME_UNKNOWN_"
_AT_ONCE = 64  # messages of one topic before the others have their turn


class Asked(NamedTuple):
    """What a subscription asks its publishers for, or what all of them offer."""

    reliable: bool
    latched: bool

    def within(self, offer: Asked) -> bool:
        """Whether publishers with this offer are all heard."""
        return self.reliable <= offer.reliable and self.latched <= offer.latched

    def __str__(self) -> str:
        words = "reliable" if self.reliable else "best effort"
        return f"{words}, latched" if self.latched else words


class HeardTopic:
    """One topic that is listened to. Everything but reading happens in the thread."""

    def __init__(self, topic: str, number: int) -> None:
        self.topic = topic
        self.number = number
        self.publishers: Mapping[bytes, str] = {}
        self.channel: Channel | None = None
        self.refused: DataError | None = None
        self.asked: Asked | None = None
        self.subscription: Any = None
        self.class_: Any = None
        self._place = 0
        self._last: int | None = None  # the number of the newest message
        self._gaps = 0  # messages between the numbers, of a topic with one publisher
        self._new_gaps = 0  # since the last look at the publishers
        self._told_lost = 0  # by the middleware

    @property
    def missing(self) -> int:
        """Messages that never arrived, at least."""
        new = self._new_gaps if len(self.publishers) == 1 else 0
        return max(self._gaps + new, self._told_lost)

    def settle(self, *, one_publisher: bool) -> None:
        """Count the gaps since the last call, if the topic had one publisher all the time."""
        self._gaps += self._new_gaps if one_publisher else 0
        self._new_gaps = 0
        if not one_publisher:
            self._last = None

    def wait_in(self, waiting: Any) -> None:
        """Take part in the next wait."""
        self._place = waiting.add_subscription(self.subscription.handle)
        for event in self.subscription.event_handlers:
            event.add_to_wait_set(waiting)

    def take(self, waiting: Any, inbox: Inbox) -> None:
        """Put what has come into the inbox."""
        for event in self.subscription.event_handlers:
            if event.is_ready(waiting):
                self._told_lost += event.take_data().total_count_change
        if not waiting.is_ready("subscription", self._place):
            return
        take_message = self.subscription.handle.take_message
        for _ in range(_AT_ONCE):
            taken = take_message(self.class_, True)
            if taken is None:
                return
            payload, info = taken
            inbox.put(self.topic, payload)
            number = info["publication_sequence_number"]
            if number is not None:
                if self._last is not None and number > self._last + 1:
                    self._new_gaps += number - self._last - 1
                self._last = number


def agreed_type(topic: str, publishers: Sequence[Any], known: Channel | None = None) -> str:
    """The type that all publishers of a topic name, and that it had before.

    Raises:
        DataError: There are several.
    """
    types: dict[str, str] = {p.topic_type: node_name(p) or "a node" for p in publishers}
    if known is not None:
        types.setdefault(known.type, "a publisher before")
    if len(types) > 1:
        told = ", ".join(f"{type_} ({who})" for type_, who in sorted(types.items()))
        raise DataError(
            f"topic {topic!r} has publishers of different types: {told}",
            hint="Stop the ones that are not meant, or give them topics of their own.",
        )
    return next(iter(types))


def node_name(publisher: Any) -> str:
    """The full name of a publisher's node; "" as long as the graph does not know it."""
    if publisher.node_name == _NAMELESS:
        return ""
    return f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
