"""One topic and everybody who publishes it, each heard by a thread of its own."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Condition, Thread

from rosbags.rosbag1.reader import normalize

from act_data.errors import DataError
from act_data.sources.live.inbox import Inbox
from act_data.sources.live.notes import Notes
from act_data.sources.live.ros1.header import PublisherHeader
from act_data.sources.live.ros1.publisher import connected
from act_data.sources.live.ros1.sockets import Sockets
from act_data.sources.live.ros1.stream import messages
from act_data.sources.storage import Channel

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0  # between two tries to reach a publisher
TRIES_UNLISTED = 4  # for one that the master does not name, or does not name any more


@dataclass(eq=False, slots=True)
class _Publisher:
    """One node that publishes the topic. `header` is set while it is heard."""

    uri: str
    name: str = ""
    header: PublisherHeader | None = None
    disagreement: str = ""


class Subscription:
    """What is heard on one topic goes into the inbox.

    A publisher that is lost is tried again: for ever while the master names it, a few times when
    it does not. A master that was restarted names nobody, so no connection is given up for that.

    Args:
        topic: As the subscriber wrote it; messages come under this name.
        number: Unique among the topics of the backend.
        caller: Name of our node.
    """

    def __init__(
        self, topic: str, number: int, *, caller: str, inbox: Inbox, notes: Notes, sockets: Sockets
    ) -> None:
        self.topic = topic
        self.resolved = resolved(topic)
        self._number = number
        self._caller = caller
        self._inbox = inbox
        self._notes = notes
        self._sockets = sockets
        self._header: PublisherHeader | None = None
        self._listed: frozenset[str] = frozenset()
        self._publishers: dict[str, _Publisher] = {}
        self._gone: set[str] = set()  # names of nodes that were heard and are not any more
        self._threads: set[Thread] = set()
        self._closed = False
        self._changed = Condition()

    @property
    def heard(self) -> Sequence[str]:
        """The addresses of the nodes that are heard at this moment."""
        with self._changed:
            return [uri for uri, p in self._publishers.items() if p.header is not None]

    def channel(self) -> Channel | None:
        """As the first publisher told; None before that.

        Raises:
            DataError: Publishers that are there disagree about the type.
        """
        with self._changed:
            for publisher in self._publishers.values():
                if publisher.disagreement:
                    raise DataError(
                        publisher.disagreement,
                        hint="Stop one of them, or let each publish on a topic of its own.",
                    )
            if self._header is None:
                return None
            return Channel(
                id=self._number,
                topic=self.topic,
                type=self._header.type,
                encoding="ros1",
                definition=self._header.definition,
                count=0,
                about=self._header.about,
            )

    def update(self, listed: Sequence[str]) -> None:
        """These are the publishers that the master names now; listen to whoever is new."""
        with self._changed:
            self._listed = frozenset(listed)
            self._threads = {thread for thread in self._threads if thread.is_alive()}
            for uri in listed:
                if self._closed or uri in self._publishers:
                    continue
                publisher = self._publishers[uri] = _Publisher(uri)
                thread = Thread(
                    target=self._hear, args=(publisher,), name=f"ros1 {self.topic}", daemon=True
                )
                self._threads.add(thread)
                thread.start()

    def close(self) -> None:
        """Wait for the end of every thread. The sockets have been cut."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in tuple(self._threads):
            thread.join()

    def _hear(self, publisher: _Publisher) -> None:
        """Receive what `publisher` sends, again and again, as long as there is hope."""
        tries, pause_s = 0, FIRST_PAUSE_S
        while True:
            why, began_s = "", time.monotonic()
            try:
                with connected(
                    self._sockets, publisher.uri, self.resolved, caller=self._caller
                ) as (header, sock):
                    self._accept(publisher, header)
                    self._receive(sock)
            except (OSError, ValueError) as e:
                why = str(e)
            self._lost(publisher, why)
            if time.monotonic() - began_s > LONGEST_PAUSE_S:
                tries, pause_s = 0, FIRST_PAUSE_S
            tries += 1
            with self._changed:
                hopeless = publisher.uri not in self._listed and tries >= TRIES_UNLISTED
                if hopeless or self._changed.wait_for(lambda: self._closed, pause_s):
                    del self._publishers[publisher.uri]
                    return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _accept(self, publisher: _Publisher, header: PublisherHeader) -> None:
        """Take in a publisher that has introduced itself.

        Raises:
            ValueError: Its messages are of another type than those of the topic so far.
        """
        with self._changed:
            first = self._header or header
            if (first.type, first.md5sum) != (header.type, header.md5sum):
                publisher.disagreement = (
                    f"the publishers of {self.topic} disagree about its type: "
                    f"{first.type} (md5sum {first.md5sum}) from {first.caller or 'the first'}, "
                    f"{header.type} (md5sum {header.md5sum}) from {header.caller or publisher.uri}"
                )
                raise ValueError(publisher.disagreement)
            self._header, publisher.header, publisher.disagreement = first, header, ""
            publisher.name = header.caller or publisher.uri
            back = publisher.name in self._gone
            self._gone.discard(publisher.name)
            names = sorted({p.name for p in self._publishers.values() if p.header is not None})
        if back:
            self._notes.add(f"{self.topic}: {publisher.name} is back")
        if len(names) > 1:
            self._notes.add(f"{self.topic} is published by {len(names)} nodes: {', '.join(names)}")

    def _receive(self, sock: socket.socket) -> None:
        put, topic = self._inbox.put, self.topic
        for payload in messages(lambda part, flags: sock.recv_into(part, 0, flags)):
            put(topic, payload)

    def _lost(self, publisher: _Publisher, why: str) -> None:
        with self._changed:
            was_heard, publisher.header = publisher.header is not None, None
            if was_heard:
                self._gone.add(publisher.name)
        if self._sockets.are_cut:
            return
        if was_heard:
            lost = f"was lost: {why}" if why else "left"
            self._notes.add(f"{self.topic}: {publisher.name} {lost}")
        elif not publisher.name:  # it was never heard
            self._notes.add(f"{self.topic}: {publisher.uri} cannot be heard: {why}")


def resolved(topic: str) -> str:
    """The name as the master has it: global, without doubled or trailing slashes."""
    return "/" + normalize(topic).removeprefix("/") if topic.strip("/") else "/"
