"""Live topics of this process: what a test or a program publishes itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from act_data.errors import InputError
from act_data.sources.live.inbox import Inbox
from act_data.sources.storage import Channel
from act_data.types import TopicInfo


class MemoryBackend:
    """A `LiveBackend` whose messages come from `publish`. Nobody hears what nobody subscribed."""

    name = "memory"

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._channels = {channel.topic: channel for channel in channels}
        self._subscribed: frozenset[str] = frozenset()
        self._inbox: Inbox | None = None

    def publish(self, topic: str, payload: bytes | memoryview) -> None:
        """Send one message. From any thread.

        Raises:
            InputError: The topic has no channel.
        """
        if topic not in self._channels:
            raise InputError(f"topic {topic!r} was not advertised")
        if self._inbox is not None and topic in self._subscribed:
            self._inbox.put(topic, payload)

    def end(self) -> None:
        """Nothing will be published any more."""
        if self._inbox is not None:
            self._inbox.close()

    def topics(self) -> Mapping[str, TopicInfo]:
        """The advertised topics."""
        return {name: TopicInfo(name=name, type=c.type) for name, c in self._channels.items()}

    def subscribe(self, topics: Collection[str], inbox: Inbox) -> None:
        """Begin to put the messages of `topics` into `inbox`."""
        self._subscribed, self._inbox = frozenset(topics), inbox

    def channel(self, topic: str) -> Channel | None:
        """What was advertised."""
        return self._channels.get(topic)

    def notes(self) -> tuple[str, ...]:
        """Nothing ever happens to the connections."""
        return ()

    def close(self) -> None:
        """Stop listening."""
        self._inbox = None
