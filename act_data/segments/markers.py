"""Markers: messages that tell where segments begin and end, heard while a recording is read.

| type                     | event                                        | says        |
|--------------------------|----------------------------------------------|-------------|
| std_msgs/Bool            | every message                                | true, false |
| std_msgs/Empty           | every message                                |             |
| sensor_msgs/Joy          | a button goes down                           |             |
| a service's events       | every call, whoever saw it first             |             |
| ... of std_srvs/SetBool  | every call, whoever saw it first             | true, false |

The time of an event is its receive time: a Bool has no other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

from act_data.errors import DataError
from act_data.segments.segment import Action, Mark
from act_data.segments.service_event import REQUESTS, SUFFIX, service_event
from act_data.segments.split import By, Split
from act_data.types import RawMessage, TopicInfo

Listener = Callable[[RawMessage], None]
Put = Callable[[Mark], None]
Deserialize = Callable[[RawMessage], Any]
Events = Callable[[RawMessage], list[bool | None]]
"""The events of a message: true or false where it says so, None where it only happens."""

_CALLS = 64  # a call's other events follow its first within these
_TYPES = "std_msgs/msg/Bool, std_msgs/msg/Empty, sensor_msgs/msg/Joy, or the events of a service"


def listeners(
    splits: Sequence[Split],
    topics: Mapping[str, TopicInfo],
    required: Collection[str],
    deserialize: Deserialize,
    put: Put,
) -> dict[str, Listener]:
    """Who must hear the messages of which topic, so that `put` gets the marks of `splits`.

    Args:
        topics: Those of the source.
        required: Topics that the robot cannot do without: their silence is a silence.

    Raises:
        DataError: A topic is not in the source, or is no marker.
    """
    heard: dict[str, list[Listener]] = {}
    for split in splits:
        if split.by is By.SILENCE:
            silence = _Silence(split.silence_ns, put)
            for topic in required:
                heard.setdefault(topic, []).append(silence)
        else:
            topic_ = _topic(split, topics)
            marker = _Marker(split, _events(split, topic_, deserialize), put)
            heard.setdefault(topic_.name, []).append(marker)
    return {topic: partial(_tell, each) for topic, each in heard.items()}


def opens_at_first(splits: Sequence[Split]) -> bool:
    """Whether a recording begins inside of a segment: nothing else would ever begin one."""
    return not any(split.by in (By.MARKER, By.START) for split in splits)


def _tell(each: Sequence[Listener], raw: RawMessage) -> None:
    for listener in each:
        listener(raw)


class _Marker:
    """Turns the events of one topic into marks."""

    def __init__(self, split: Split, events: Events, put: Put) -> None:
        self._by = split.by
        self._events = events
        self._put = put
        self._said = False

    def __call__(self, raw: RawMessage) -> None:
        for said in self._events(raw):
            if action := self._action(said):
                self._put(Mark(recv_ns=raw.recv_ns, action=action))

    def _action(self, said: bool | None) -> Action | None:
        if self._by is By.MARKER:
            if said is None:
                return Action.TOGGLE
            return Action.START if said else Action.STOP
        before, self._said = self._said, bool(said)
        if said is False or (said and before):  # a topic that repeats what it said
            return None
        return Action(self._by.value)


class _Silence:
    """A mark at the first message after a silence: what lies before it is not usable anyway."""

    def __init__(self, length_ns: int, put: Put) -> None:
        self._length_ns = length_ns
        self._put = put
        self._last_ns: int | None = None

    def __call__(self, raw: RawMessage) -> None:
        if self._last_ns is not None and raw.recv_ns - self._last_ns > self._length_ns:
            self._put(Mark(recv_ns=raw.recv_ns, action=Action.CUT))
        self._last_ns = raw.recv_ns


def _topic(split: Split, topics: Mapping[str, TopicInfo]) -> TopicInfo:
    names = (split.name, split.name + SUFFIX)
    for name in (*names, *(n.removeprefix("/") for n in names)):
        if name in topics:
            return topics[name]
    markers = [t.name.removesuffix(SUFFIX) for t in topics.values() if _is_marker(t)]
    near = get_close_matches(split.name, topics, n=2, cutoff=0.6)
    raise DataError(
        f"there is no topic {split.name!r} to split by, and no events of a service of that name",
        hint=f"Markers here: {', '.join(markers) or 'none'}."
        + (f" Near: {', '.join(near)}." if near else ""),
    )


def _is_marker(topic: TopicInfo) -> bool:
    known = ("std_msgs/msg/Bool", "std_msgs/msg/Empty", "sensor_msgs/msg/Joy")
    return topic.type in known or topic.name.endswith(SUFFIX)


def _events(split: Split, topic: TopicInfo, deserialize: Deserialize) -> Events:
    if topic.name.endswith(SUFFIX):
        return _Calls(topic.type)
    if topic.type == "std_msgs/msg/Bool":
        return lambda raw: [bool(deserialize(raw).data)]
    if topic.type == "std_msgs/msg/Empty":
        return lambda raw: [None]
    if topic.type == "sensor_msgs/msg/Joy":
        return _Button(split.button, deserialize)
    raise DataError(
        f"{topic.name} is {topic.type!r}, which marks nothing",
        hint=f"A marker is {_TYPES}.",
    )


class _Button:
    """One event each time a joystick's button goes down. It counts as up before the first one."""

    def __init__(self, button: int, deserialize: Deserialize) -> None:
        self._button = button
        self._deserialize = deserialize
        self._down = False

    def __call__(self, raw: RawMessage) -> list[bool | None]:
        buttons = self._deserialize(raw).buttons
        if self._button >= len(buttons):
            raise DataError(
                f"{raw.topic} has {len(buttons)} buttons, and none with number {self._button}",
                hint="Buttons are counted from 0, as in sensor_msgs/Joy.",
            )
        before, self._down = self._down, bool(buttons[self._button])
        return [None] if self._down and not before else []


class _Calls:
    """One event for each call of a service: the request, as the client or the server saw it."""

    def __init__(self, type_: str) -> None:
        self._says = type_.startswith("std_srvs/") and type_.endswith("/SetBool_Event")
        self._seen: deque[tuple[bytes, int]] = deque(maxlen=_CALLS)

    def __call__(self, raw: RawMessage) -> list[bool | None]:
        try:
            event = service_event(raw.payload)
        except ValueError as e:
            raise DataError(
                f"the message of {raw.topic!r} received at {raw.recv_ns} ns is no service event: "
                f"{e}",
                hint="Split by something else.",
            ) from e
        if event.kind not in REQUESTS or event.call in self._seen:
            return []
        self._seen.append(event.call)
        if not self._says:
            return [None]
        if not event.request:
            raise DataError(
                f"the events of {raw.topic.removesuffix(SUFFIX)!r} do not tell what was asked for",
                hint="Record them with service introspection set to `contents`, or use start:, "
                "stop: or cut:.",
            )
        return [bool(event.request[0])]
