"""Message types by the definitions that a recording carries, one closed set per topic.

Each topic gets a typestore of its own: a definition that cannot be parsed, or two topics that
disagree about a type, touch nobody else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import Typesdict
from rosbags.serde import SerdeError
from rosbags.typesys import (
    Stores,
    TypesysError,
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
)
from rosbags.typesys.store import Typestore

from act_data.errors import DataError
from act_data.sources.stamps import HeaderLayout
from act_data.sources.storage import DAMAGE, MAX_MESSAGE_BYTES, Channel, Definition

# Recordings without definitions are from Humble or older; what Humble lacks may be in a later one.
_DEFAULTS = (Stores.ROS2_HUMBLE, Stores.ROS2_JAZZY)

_UNFIT: tuple[type[Exception], ...] = (SerdeError, TypesysError, *DAMAGE)
_UNREADABLE: tuple[type[Exception], ...] = (SyntaxError, *_UNFIT)

_MAX_DEFINITION_BYTES = 2**20
_TYPE_NAME = re.compile(r"[A-Za-z]\w*(/[A-Za-z]\w*)+", re.ASCII)
_FIELD_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_IDL_INCLUDE = re.compile(r"^[ \t]*#.*$", re.MULTILINE)  # rosbags' grammar has no preprocessor
_IDL_PART = re.compile(r"^={80}\nIDL: .*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MessageType:
    """A type that payloads of one topic can be decoded with."""

    name: str
    layout: HeaderLayout | None
    encoding: str
    _store: Typestore

    def deserialize(self, payload: bytes | memoryview) -> Any:
        """The message object.

        Raises:
            ValueError: The payload does not fit the type.
        """
        try:
            if self.encoding == "ros1":
                return self._store.deserialize_ros1(payload, self.name)
            return self._store.deserialize_cdr(payload, self.name)
        except _UNFIT as e:
            raise ValueError(" ".join(str(e).split())[:200] or type(e).__name__) from e


def message_type(channel: Channel) -> MessageType:
    """The type of a channel's messages.

    Raises:
        DataError: It is not a ROS message, nobody defines it, or its definition is not readable;
            names topic and type.
    """
    what = f"topic {channel.topic!r} has type {channel.type!r}"
    if channel.encoding is None:
        raise DataError(
            f"{what} in an encoding that is not ROS's own",
            hint="Record the topic with rosbag or rosbag2, or leave it out of the robot.",
        )
    if channel.definition is None:
        store, name = _default(channel.type), channel.type
        if store is None:
            raise DataError(
                f"{what}, which the recording does not define and which is no standard type",
                hint="Record as MCAP, or with ROS 2 Iron or later: they keep the definitions.",
            )
    else:
        name = channel.type
        try:
            store = _own(channel.definition, name)
        except _UNREADABLE as e:
            detail = " ".join(str(e).split())[:160]
            raise DataError(
                f"{what}, whose definition in the recording is not readable: {detail}",
                hint="Check the message package on the robot, or leave the topic out.",
            ) from e
    return MessageType(name, _layout(store, name, channel), channel.encoding, store)


def standard_definition(name: str) -> Definition | None:
    """The definition of a ROS 2 type that every installation has; None for other types."""
    store = _default(name)
    if store is None:
        return None
    text, _ = store.generate_msgdef(name, ros_version=2)
    return Definition(format="msg", text=text)


@lru_cache(maxsize=256)  # the recordings of one robot share their definitions
def _own(definition: Definition, name: str) -> Typestore:
    if len(definition.text) > _MAX_DEFINITION_BYTES:
        raise ValueError(f"it has {len(definition.text)} bytes")
    types: Typesdict = {}
    if definition.format == "msg":
        types.update(get_types_from_msg(definition.text, name))
    else:
        for text in _IDL_PART.split(_IDL_INCLUDE.sub("", definition.text)):
            if text.strip():
                types.update(get_types_from_idl(text))
    if name not in types:
        raise ValueError("it defines other types only")
    _check_names(types)
    store = Typestore(max_sequence_length=MAX_MESSAGE_BYTES)
    for known, fields in get_typestore(Stores.EMPTY).fielddefs.items():
        types.setdefault(known, fields)
    store.register(types)
    store.get_msgdef(name)
    return store


def _check_names(types: Typesdict) -> None:
    """Nothing but plain names reaches rosbags' code generator, which executes what it writes."""
    for name, (constants, fields) in types.items():
        inner = [c[0] for c in constants] + [f[0] for f in fields]
        if not _TYPE_NAME.fullmatch(name) or not all(_FIELD_NAME.fullmatch(n) for n in inner):
            raise ValueError(f"{name!r} or one of its fields is not a plain name")


@cache
def _default_store(version: Stores) -> Typestore:
    return get_typestore(version)


def _default(name: str) -> Typestore | None:
    stores = (_default_store(version) for version in _DEFAULTS)
    return next((store for store in stores if name in store.fielddefs), None)


def _layout(store: Typestore, name: str, channel: Channel) -> HeaderLayout | None:
    fields = store.fielddefs[name][1]
    if not fields or fields[0][1] != (Nodetype.NAME, "std_msgs/msg/Header"):
        return None
    header = [n for n, _ in store.fielddefs["std_msgs/msg/Header"][1]]
    if channel.encoding is None or header not in (
        ["seq", "stamp", "frame_id"],
        ["stamp", "frame_id"],
    ):
        return None
    return HeaderLayout(channel.encoding, header[0] == "seq")
