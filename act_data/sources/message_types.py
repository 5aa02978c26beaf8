"""Message types by the definitions that a recording carries, one closed set per topic.

Each topic gets a typestore of its own: a definition that cannot be parsed, or two topics that
disagree about a type, touch nobody else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import Constdefs, Fielddefs, Typesdict
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
from act_data.sources.bounds import (
    MAX_COMPILED_FIELDS,
    MAX_DEFINITION_BYTES,
    MAX_FIELDS,
    MAX_LISTED_OBJECTS,
    MAX_MESSAGE_BYTES,
)
from act_data.sources.stamps import HeaderLayout
from act_data.sources.storage import DAMAGE, Channel, Definition, Encoding
from act_data.sources.weight import weight

# Recordings without definitions are from Humble or older; what Humble lacks may be in a later one.
DEFAULTS: dict[Encoding, tuple[Stores, ...]] = {
    "ros1": (Stores.ROS1_NOETIC,),
    "cdr": (Stores.ROS2_HUMBLE, Stores.ROS2_JAZZY),
}

_UNFIT: tuple[type[Exception], ...] = (SerdeError, TypesysError, *DAMAGE)
UNREADABLE: tuple[type[Exception], ...] = (SyntaxError, *_UNFIT)

_TYPE_LINES = 8  # what a type costs without fields, in the measure of fields
_TYPE_NAME = re.compile(r"[A-Za-z]\w*(/[A-Za-z]\w*)+", re.ASCII)
_FIELD_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_IDL_INCLUDE = re.compile(r"^[ \t]*#.*$", re.MULTILINE)  # rosbags' grammar has no preprocessor
_IDL_PART = re.compile(r"^={80}\nIDL: .*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MessageType:
    """A type that payloads of one topic can be decoded with.

    Attributes:
        size: Fields that were compiled for it, a measure of the memory that it takes.
        max_bytes: Messages that are longer are not decoded: they would be too many objects.
    """

    name: str
    encoding: str
    size: int
    max_bytes: int
    _store: Typestore

    def deserialize(self, payload: bytes | memoryview) -> Any:
        """The message object.

        Raises:
            ValueError: The payload does not fit the type, or would be too large an object.
        """
        if len(payload) > self.max_bytes:
            raise ValueError(
                f"it has {len(payload)} bytes; with lists of messages or texts in it, no more than "
                f"{self.max_bytes} are decoded"
            )
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
        store, size, name = _default(channel.type, channel.encoding), 0, channel.type
        if store is None:
            raise DataError(
                f"{what}, which the recording does not define and which is no standard type",
                hint="Give its definition with --msg-path, the folder of its package.",
            )
    else:
        name = channel.type
        try:
            store, size = _known.store(channel.definition, name)
            weight(name, store.fielddefs, channel.encoding)
        except UNREADABLE as e:
            detail = " ".join(str(e).split())[:160]
            raise DataError(
                f"{what}, whose definition is not readable: {detail}",
                hint="Give a better one with --msg-path, or leave the topic out.",
            ) from e
    lightest = weight(name, store.fielddefs, channel.encoding).lightest
    return MessageType(name, channel.encoding, size, MAX_LISTED_OBJECTS * lightest, store)


def standard_definition(name: str, encoding: Encoding = "cdr") -> Definition | None:
    """The definition of a type that every installation has; None for other types."""
    store = _default(name, encoding)
    if store is None:
        return None
    text, _ = store.generate_msgdef(name, ros_version=1 if encoding == "ros1" else 2)
    return Definition(format="msg", text=text)


def header_layout(channel: Channel) -> HeaderLayout | None:
    """How the header is laid out with which a channel's messages begin.

    None where they begin with something else, or nobody knows; nothing is compiled to find out.
    """
    if channel.encoding is None:
        return None
    if channel.definition is None:
        store = _default(channel.type, channel.encoding)
        types = {} if store is None else store.fielddefs
    else:
        try:
            types = parsed(channel.definition, channel.type)
        except UNREADABLE:
            return None
    header = "std_msgs/msg/Header"
    _, fields = types.get(channel.type, ((), ()))
    if not fields or fields[0][1] != (Nodetype.NAME, header) or header not in types:
        return None
    names = [name for name, _ in types[header][1]]
    if names not in (["seq", "stamp", "frame_id"], ["stamp", "frame_id"]):
        return None
    return HeaderLayout(channel.encoding, names[0] == "seq")


class _Known:
    """Types that were compiled; the recordings of one robot share them."""

    def __init__(self) -> None:
        self._stores: dict[tuple[Definition, str], tuple[Typestore, int]] = {}
        self._size = 0

    def store(self, definition: Definition, name: str) -> tuple[Typestore, int]:
        """The typestore that a definition makes, and its size; what `_own` raises."""
        found = self._stores.get((definition, name))
        if found is None:
            found = _own(definition, name)
            if self._size + found[1] > MAX_COMPILED_FIELDS:
                self._stores.clear()
                self._size = 0
            self._stores[definition, name] = found
            self._size += found[1]
        return found


_known = _Known()


def _own(definition: Definition, name: str) -> tuple[Typestore, int]:
    types = parsed(definition, name)
    size = _checked_size(types)
    store = Typestore(max_sequence_length=MAX_MESSAGE_BYTES)
    for known, fields in get_typestore(Stores.EMPTY).fielddefs.items():
        types.setdefault(known, fields)
    used = {other for fields in types.values() for other in referred(fields)}
    if missing := sorted(used - types.keys(), key=lambda other: (_is_standard(other), other)):
        raise ValueError(f"it refers to {missing[0]}, which nobody defines")
    store.register(types)
    store.get_msgdef(name)
    return store, size


def parsed(definition: Definition, name: str) -> Typesdict:
    """The types that a definition declares, `name` among them; raises what is in UNREADABLE."""
    if len(definition.text) > MAX_DEFINITION_BYTES:
        raise ValueError(f"it has more than {MAX_DEFINITION_BYTES} bytes")
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
    return types


def referred(definition: tuple[Constdefs, Fielddefs]) -> list[str]:
    """The types that the fields of a type are of."""
    found: list[str] = []
    for _, (node, inner) in definition[1]:
        of = inner[0] if node in (Nodetype.ARRAY, Nodetype.SEQUENCE) else (node, inner)
        if of[0] == Nodetype.NAME:
            found.append(str(of[1]))
    return found


def _check_names(types: Typesdict) -> None:
    """Nothing but plain names reaches rosbags' code generator, which executes what it writes."""
    for name, (constants, fields) in types.items():
        inner = [c[0] for c in constants] + [f[0] for f in fields]
        if not _TYPE_NAME.fullmatch(name) or not all(_FIELD_NAME.fullmatch(n) for n in inner):
            raise ValueError(f"{name!r} or one of its fields is not a plain name")


def _checked_size(types: Typesdict) -> int:
    """rosbags writes a line of code for each field, and for each element of a fixed array."""
    lines = _TYPE_LINES
    for constants, fields in types.values():
        lines += len(constants) + len(fields)
        for _, (node, inner) in fields:
            if node == Nodetype.ARRAY and (
                inner[0][0] == Nodetype.NAME or inner[0][1][0] == "string"
            ):
                lines += int(inner[1])
    if lines > MAX_FIELDS:
        raise ValueError(f"it has {lines} fields and elements, more than {MAX_FIELDS}")
    return lines


@cache
def _default_store(version: Stores) -> Typestore:
    return get_typestore(version)


def _is_standard(name: str) -> bool:
    return _default(name, "cdr") is not None


def _default(name: str, encoding: Encoding) -> Typestore | None:
    stores = (_default_store(version) for version in DEFAULTS[encoding])
    return next((store for store in stores if name in store.fielddefs), None)
