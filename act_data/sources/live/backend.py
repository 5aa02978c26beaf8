"""The seam of live capture: what every way of hearing a robot has in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from act_data.sources.live.inbox import Inbox
from act_data.sources.storage import Channel
from act_data.types import TopicInfo


class LiveBackend(Protocol):
    """One way to hear live topics. Its threads stamp and append to the inbox, nothing else.

    A publisher that leaves and comes back is heard again; several publishers of one topic are all
    heard. Nothing is decoded here.
    """

    @property
    def name(self) -> str:
        """For people: what is listened to, e.g. "ros1 http://127.0.0.1:11311"."""

    def topics(self) -> Mapping[str, TopicInfo]:
        """What is published at this moment, by name; the types in the ROS 2 spelling.

        Raises:
            DataError: The master, the bridge or the network does not answer; says which.
        """

    def subscribe(self, topics: Collection[str], inbox: Inbox) -> None:
        """Begin to put the messages of `topics` into `inbox`; once. Topics may appear later.

        Raises:
            DataError: The other side cannot be reached, or refuses.
        """

    def channel(self, topic: str) -> Channel | None:
        """Type, encoding and definition of a subscribed topic; None until a publisher told them.

        Raises:
            DataError: Publishers of the topic disagree about its type.
        """

    def notes(self) -> tuple[str, ...]:
        """What happened to the connections so far, in sentences for people."""

    def close(self) -> None:
        """Stop listening. Every thread has ended when this returns; a second call does nothing."""
