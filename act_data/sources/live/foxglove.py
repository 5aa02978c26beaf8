"""Live topics of any ROS through a foxglove bridge: a websocket that carries their definitions.

For robots whose ROS this Python cannot load, and for any other machine that reaches the bridge.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from threading import Condition, Event, Thread
from time import monotonic
from urllib.parse import urlsplit

from act_data.errors import DataError, InputError, NotFoundError
from act_data.sources.live.foxglove_messages import (
    Advertise,
    Advertised,
    Said,
    ServerInfo,
    Status,
    Unadvertise,
    parse_data,
    parse_text,
    subscribe_text,
)
from act_data.sources.live.inbox import Inbox
from act_data.sources.live.notes import Notes
from act_data.sources.storage import Channel
from act_data.types import TopicInfo

try:
    from websockets.exceptions import ConnectionClosedOK, WebSocketException
    from websockets.sync.client import ClientConnection, connect
    from websockets.typing import Subprotocol
except ImportError as e:
    _missing: ImportError | None = e
else:
    _missing = None

MAX_BYTES = 64 * 2**20  # of one message; a raw 4K picture has 25 MB
_PROTOCOLS = ("foxglove.sdk.v1", "foxglove.websocket.v1")
_QUEUE = 4  # messages that may wait between socket and thread
_MAX_CHANNELS = 10_000

_OPEN_S = 5.0  # for the connection, and again for the list of topics
_PING_S = 5.0  # of silence: a robot that lost its power says nothing
_FIRST_RETRY_S, _LAST_RETRY_S = 0.5, 10.0

# A server may offer a channel a moment before it accepts a subscription of it (foxglove-sdk 0.30).
_TOO_EARLY = re.compile(r"Unknown channel ID: (\d{1,19})")
_ASK_AGAIN_S, _ASKED_AT_MOST = 0.05, 20


class FoxgloveBackend:
    """A `LiveBackend` over what one foxglove server offers.

    Only `url` is contacted, directly, whatever proxies the environment names. When the connection
    breaks it is made again, with pauses from half a second to ten; what was published meanwhile
    is lost, and `notes` tells when.
    """

    def __init__(self, url: str) -> None:
        """Nothing is contacted yet.

        Args:
            url: "ws://robot:8765"; wss:// for one with TLS.

        Raises:
            NotFoundError: There is no websocket library.
            InputError: `url` is no websocket address.
        """
        if _missing is not None:
            raise NotFoundError(
                f"a foxglove bridge needs the package websockets: {_missing}",
                hint="pip install 'act-toolkit[foxglove]'",
            )
        if not _is_websocket(url):
            raise InputError(
                f"{url!r} is no address of a foxglove bridge",
                hint="Write it as ws://HOST:PORT, for example ws://127.0.0.1:8765.",
            )
        self._url = url
        self._thread: Thread | None = None
        self._stop = Event()
        self._changed = Condition()  # guards everything below
        self._connection: ClientConnection | None = None
        self._failure: str | None = None
        self._listed = False
        self._offers: dict[int, Advertised] = {}
        self._subscribed: dict[int, str] = {}  # topic by number of the subscription
        self._asked: dict[int, int] = {}  # again, by id of the channel
        self._next_number = 0
        self._wanted: tuple[str, ...] = ()
        self._known: dict[str, Channel] = {}
        self._refused: dict[str, DataError] = {}
        self._inbox: Inbox | None = None
        self._notes = Notes()

    @property
    def name(self) -> str:
        """The address."""
        return f"foxglove {self._url}"

    def topics(self) -> Mapping[str, TopicInfo]:
        """What the bridge offers at this moment.

        Raises:
            DataError: It does not answer, or is no foxglove bridge.
        """
        self._reach()
        with self._changed:
            offers = sorted(self._offers.values(), key=lambda offer: offer.topic)
            return {o.topic: TopicInfo(name=o.topic, type=o.type) for o in reversed(offers)}

    def subscribe(self, topics: Collection[str], inbox: Inbox) -> None:
        """Begin to put the messages of `topics` into `inbox`; once. Topics may appear later.

        Raises:
            DataError: The bridge does not answer, a topic is not in an encoding of ROS, or is
                offered with several types.
        """
        self._reach()
        with self._changed:
            self._wanted, self._inbox = tuple(sorted(topics)), inbox
            self._take_up(self._offers.values())
            if self._refused:
                raise next(iter(self._refused.values()))

    def channel(self, topic: str) -> Channel | None:
        """Type, encoding and definition; None until the bridge offered the topic.

        Raises:
            DataError: It is not in an encoding of ROS, or is offered with several types.
        """
        with self._changed:
            if topic in self._refused:
                raise self._refused[topic]
            return self._known.get(topic)

    def notes(self) -> tuple[str, ...]:
        """What happened to the connection, and what the bridge warned of."""
        return self._notes.sentences()

    def close(self) -> None:
        """Hang up. Every thread has ended when this returns; a second call does nothing."""
        self._stop.set()
        with self._changed:
            connection, thread = self._connection, self._thread
        if connection is not None:
            connection.close()
        if thread is not None:
            thread.join()

    def _reach(self) -> None:
        """Be connected and know what is offered."""
        with self._changed:
            if self._thread is None:
                self._failure = None
                self._thread = Thread(target=self._stay_connected, name="foxglove", daemon=True)
                self._thread.start()
            self._changed.wait_for(lambda: self._listed or self._failure, 2 * _OPEN_S)
            if self._failure is not None or self._connection is None:
                raise DataError(
                    f"{self._url} does not answer as a foxglove bridge does: "
                    f"{self._failure or 'it says nothing'}",
                    hint="Start the bridge on the robot (ROS 2: ros2 run foxglove_bridge "
                    "foxglove_bridge), and check address and port.",
                )

    # --- in the thread ---

    def _stay_connected(self) -> None:
        pause_s = _FIRST_RETRY_S
        while not self._stop.is_set():
            began = monotonic()
            try:
                with connect(
                    self._url,
                    subprotocols=[Subprotocol(p) for p in _PROTOCOLS],
                    compression=None,
                    proxy=None,
                    open_timeout=_OPEN_S,
                    close_timeout=1.0,
                    ping_interval=None,  # its thread would outlive `close`
                    max_size=MAX_BYTES,
                    max_queue=_QUEUE,
                ) as connection:
                    if connection.subprotocol is None:
                        raise ValueError("it speaks none of " + ", ".join(_PROTOCOLS))
                    with self._changed:
                        self._connection = connection
                    self._hear(connection)
                why = "closed by the bridge"
            except (OSError, WebSocketException, ValueError) as e:
                why = " ".join(str(e).split())[:300] or type(e).__name__
            if self._hung_up(why):
                return
            if monotonic() - began > _LAST_RETRY_S:
                pause_s = _FIRST_RETRY_S
            self._stop.wait(pause_s)
            pause_s = min(2 * pause_s, _LAST_RETRY_S)

    def _hear(self, connection: ClientConnection) -> None:
        pong: Event | None = None
        while not self._stop.is_set():
            try:
                frame = connection.recv(timeout=_PING_S)
            except TimeoutError:
                if pong is not None and not pong.is_set():
                    raise TimeoutError("it does not answer any more") from None
                pong = connection.ping()
                continue
            except ConnectionClosedOK:
                return
            if isinstance(frame, str):
                said = parse_text(frame)
                if isinstance(said, Status) and (early := _TOO_EARLY.fullmatch(said.message)):
                    self._ask_again(int(early[1]), said)
                else:
                    self._heed(said)
            elif (data := parse_data(frame)) is not None:
                number, payload = data
                topic = self._subscribed.get(number)
                if topic is not None and self._inbox is not None:
                    self._inbox.put(topic, payload)

    def _heed(self, said: Said | None) -> None:
        with self._changed:
            match said:
                case ServerInfo(name):
                    self._notes.add(f"connected to {name or 'a bridge without a name'!r}")
                case Status(level, message) if level > 0:
                    self._notes.add(f"the bridge says: {message}")
                case Advertise(channels):
                    if len(self._offers) + len(channels) > _MAX_CHANNELS:
                        raise ValueError(f"it offers more than {_MAX_CHANNELS} channels")
                    self._offers |= {channel.id: channel for channel in channels}
                    self._take_up(channels)
                    self._listed = True
                    self._changed.notify_all()
                case Unadvertise(ids):
                    for id_ in ids:
                        gone = self._offers.pop(id_, None)
                        if gone is not None and gone.topic in self._wanted:
                            self._notes.add(f"{gone.topic}: no more offered")

    def _ask_again(self, id_: int, said: Status) -> None:
        """Subscribe once more to what is offered and what the server does not know yet."""
        self._stop.wait(_ASK_AGAIN_S)
        with self._changed:
            offer = self._offers.get(id_)
            asked = self._asked.get(id_, 0)
            if offer is None or asked >= _ASKED_AT_MOST:
                self._notes.add(f"the bridge says: {said.message}")
                return
            self._asked[id_] = asked + 1
            self._take_up([offer])

    def _take_up(self, offers: Collection[Advertised]) -> None:
        """Subscribe to what is wanted of `offers`; holds the lock."""
        asked: dict[int, int] = {}
        for offer in offers:
            if offer.topic not in self._wanted:
                continue
            try:
                known = _agreed(offer, self._known.get(offer.topic))
            except DataError as e:
                self._refused[offer.topic] = e
                self._notes.add(str(e))
                continue
            number = self._wanted.index(offer.topic)
            self._known.setdefault(offer.topic, replace(known, id=number))
            self._notes.add(f"{offer.topic}: subscribed")
            asked[self._next_number] = offer.id
            self._subscribed[self._next_number] = offer.topic
            self._next_number += 1
        if asked and self._connection is not None:
            self._connection.send(subscribe_text(asked))

    def _hung_up(self, why: str) -> bool:
        """Forget the connection; whether it is to stay so."""
        with self._changed:
            first = not self._listed and self._inbox is None
            self._connection = None
            self._offers.clear()
            self._asked.clear()
            self._subscribed = {}
            if first:
                self._failure, self._thread = why, None
            elif not self._stop.is_set():
                self._notes.add(f"the connection was lost: {why}")
            self._changed.notify_all()
            return first


def _is_websocket(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False


def _agreed(offer: Advertised, known: Channel | None) -> Channel:
    """The channel of a topic, if the offer is one of ROS and the same as before.

    Raises:
        DataError: It is not.
    """
    if offer.encoding is None:
        raise DataError(
            f"topic {offer.topic!r} comes in an encoding that is not ROS's own, "
            f"type {offer.type!r}",
            hint="Leave the topic out, or bridge the ROS topic itself.",
        )
    if known is None:
        return Channel(
            id=0,
            topic=offer.topic,
            type=offer.type,
            encoding=offer.encoding,
            definition=offer.definition,
            count=0,
        )
    if (known.type, known.encoding) != (offer.type, offer.encoding):
        raise DataError(
            f"topic {offer.topic!r} is offered with different types: {known.type} "
            f"({known.encoding}) and {offer.type} ({offer.encoding})",
            hint="Stop the publisher that is not meant, or give it a topic of its own.",
        )
    return known
