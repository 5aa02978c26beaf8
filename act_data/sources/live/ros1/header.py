"""The header that opens a TCPROS connection: `name=value` fields, each with its length in front.

https://wiki.ros.org/ROS/Connection%20Header and https://wiki.ros.org/ROS/TCPROS
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.msg import normalize_msgtype

from act_data.sources.storage import Definition

MAX_HEADER_BYTES = 2**20  # a definition may have MAX_DEFINITION_BYTES
LENGTH = struct.Struct("<I")

_TYPE = re.compile(r"[A-Za-z]\w*/[A-Za-z]\w*", re.ASCII)
_MD5 = re.compile(r"[0-9a-f]{32}")
_MD5_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"  # std_msgs/Empty: its definition is ""
_ABOUT = ("callerid", "latching", "md5sum")
_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherHeader:
    """What a publisher says about the messages that follow.

    Attributes:
        caller: Name of its node; "" where it does not tell.
        type: Message type in the ROS 2 spelling.
        md5sum: ROS 1's fingerprint of the definition: equal ones are the same bytes.
        about: What else it says, as bags keep it: caller, fingerprint, latching.
    """

    caller: str
    type: str
    md5sum: str
    definition: Definition
    about: Mapping[str, str]


def encode_header(fields: Mapping[str, str]) -> bytes:
    """The header with its own length in front."""
    parts = [f"{name}={value}".encode() for name, value in fields.items()]
    body = b"".join(LENGTH.pack(len(part)) + part for part in parts)
    return LENGTH.pack(len(body)) + body


def decode_header(body: bytes) -> dict[str, str]:
    """The fields of a header, without the length in front of it.

    Raises:
        ValueError: A field reaches beyond the end, or has no name.
    """
    fields: dict[str, str] = {}
    position = 0
    while position < len(body):
        if len(body) - position < LENGTH.size:
            raise ValueError(f"its header ends within a length, after {position} bytes")
        (length,) = LENGTH.unpack_from(body, position)
        position += LENGTH.size
        part = body[position : position + length]
        if len(part) < length:
            raise ValueError(f"a field of its header has {length} bytes, {len(part)} are there")
        # Comments in a definition are in whatever encoding their author had.
        name, equals, value = part.decode("utf-8", "replace").partition("=")
        if not equals or not name:
            raise ValueError(f"its header has a field without a name: {part[:_SHOWN]!r}")
        fields[name.strip()] = value
        position += length
    return fields


def publisher_header(fields: Mapping[str, str]) -> PublisherHeader:
    """What the fields of a publisher's header say.

    Raises:
        ValueError: It refuses the connection, or does not say what it sends: that is the type,
            its md5sum, and its definition unless that is ROS Noetic's.
    """
    if "error" in fields:
        raise ValueError(f"it refuses the connection: {fields['error'][:_SHOWN]}")
    type_, md5sum = fields.get("type", ""), fields.get("md5sum", "")
    if not _TYPE.fullmatch(type_) or not _MD5.fullmatch(md5sum):
        raise ValueError(
            f"its header names no message type: type={type_[:_SHOWN]!r}, md5sum={md5sum[:_SHOWN]!r}"
        )
    text = fields.get("message_definition", "")
    if not text.strip() and md5sum != _MD5_OF_NOTHING:
        text = _standard_definition(normalize_msgtype(type_), md5sum)
    return PublisherHeader(
        caller=fields.get("callerid", "")[:_SHOWN],
        type=normalize_msgtype(type_),
        md5sum=md5sum,
        definition=Definition(format="msg", text=text),
        about={name: fields[name][:_SHOWN] for name in _ABOUT if name in fields},
    )


def _standard_definition(type_: str, md5sum: str) -> str:
    """What ROS Noetic defines, for a publisher that leaves its definition out as it may."""
    store = get_typestore(Stores.ROS1_NOETIC)
    if type_ in store.fielddefs:
        text, standard = store.generate_msgdef(type_, ros_version=1)
        if standard == md5sum:
            return text
    raise ValueError(
        f"it does not say how {type_} (md5sum {md5sum}) is defined, and it is no standard type"
    )
