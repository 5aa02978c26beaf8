"""Small bags for tests: written from plain values, or converted between formats."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rosbags.convert.converter import convert as rosbags_convert
from rosbags.interfaces import Nodetype
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

Kind = Literal["ros1", "db3", "mcap"]
KINDS: tuple[Kind, ...] = ("ros1", "db3", "mcap")
Values = Mapping[str, Any]
Entry = tuple[str, str, int, Values]  # topic, type ("sensor_msgs/msg/Imu"), recv_ns, values

JOINT_COMMAND = "interbotix_xs_msgs/msg/JointGroupCommand"
JOINT_COMMAND_DEFINITION = "string name\nfloat32[] cmd\n"


def typestore(kind: Kind, definitions: Mapping[str, str] | None = None) -> Typestore:
    """The standard types of a ROS version plus own ones by name and `.msg` text."""
    store = get_typestore(Stores.ROS1_NOETIC if kind == "ros1" else Stores.ROS2_HUMBLE)
    for name, text in (definitions or {}).items():
        store.register(get_types_from_msg(text, name))
    return store


def message(store: Typestore, type_: str, values: Values) -> Any:
    """A message object from nested plain values; what is left out is zero or empty.

    A time is int nanoseconds. `header` may be an int: the stamp alone.
    """
    fields = {}
    for name, kind in store.fielddefs[type_][1]:
        value = values.get(name)
        if name == "header" and isinstance(value, int):
            value = {"stamp": value}
        fields[name] = _value(store, kind, value)
    if unknown := values.keys() - fields.keys() - {"seq"}:
        raise KeyError(f"{type_} has no field {sorted(unknown)}")
    return store.types[type_](**fields)


def _value(store: Typestore, kind: Any, value: Any) -> Any:
    if kind[0] == Nodetype.NAME:
        if kind[1] in ("builtin_interfaces/msg/Time", "builtin_interfaces/msg/Duration"):
            ns = int(value or 0)
            return store.types[kind[1]](sec=ns // 10**9, nanosec=ns % 10**9)
        return message(store, kind[1], value or {})
    if kind[0] == Nodetype.BASE:
        default: Any = {"string": "", "bool": False}.get(kind[1][0], 0)
        return default if value is None else value
    inner, length = kind[1]
    if inner[0] == Nodetype.NAME:
        return [_value(store, inner, v) for v in value or []]
    if inner[1][0] == "string":
        return list(value or [])
    dtype = {"bool": "bool", "byte": "uint8", "char": "uint8"}.get(inner[1][0], inner[1][0])
    if value is None:
        value = np.zeros(length if kind[0] == Nodetype.ARRAY else 0)
    if isinstance(value, bytes):
        return np.frombuffer(value, np.uint8)
    return np.asarray(value, dtype=dtype)


def write(
    target: Path,
    kind: Kind,
    entries: Iterable[Entry],
    *,
    definitions: Mapping[str, str] | None = None,
    compression: Literal["lz4", "bz2"] | None = None,
) -> Path:
    """Write a bag and give back what to open: the `.bag` file, or the rosbag2 directory.

    Args:
        target: The path without suffix.
        entries: In the order of writing.
        definitions: Own types by name; they travel in the bag.
        compression: ROS 1 only.
    """
    store = typestore(kind, definitions)
    if kind == "ros1":
        path = target.with_name(target.name + ".bag")
        writer1 = Writer1(path)
        if compression:
            writer1.set_compression(Writer1.CompressionFormat[compression.upper()])
        with writer1:
            known = {}
            for topic, type_, recv_ns, values in entries:
                if topic not in known:
                    known[topic] = writer1.add_connection(topic, type_, typestore=store)
                payload = store.serialize_ros1(message(store, type_, values), type_)
                writer1.write(known[topic], recv_ns, payload)
        return path
    plugin = StoragePlugin.MCAP if kind == "mcap" else StoragePlugin.SQLITE3
    with Writer2(target, version=9, storage_plugin=plugin) as writer2:
        known = {}
        for topic, type_, recv_ns, values in entries:
            if topic not in known:
                known[topic] = writer2.add_connection(topic, type_, typestore=store)
            payload = store.serialize_cdr(message(store, type_, values), type_)
            writer2.write(known[topic], recv_ns, payload)
    return target


def convert(bag: Path, target: Path, kind: Literal["db3", "mcap"]) -> Path:
    """Convert a ROS 1 bag to a rosbag2 directory with rosbags' converter.

    Receive times, header stamps, the order and custom types (with their definitions) are kept;
    `header.seq` is not, since ROS 2 has none.
    """
    rosbags_convert(
        [bag], target, "mcap" if kind == "mcap" else "sqlite3", 9, None, "file",
        None, None, (), (), (), (),
    )  # fmt: skip
    return target


def joint_state(recv_ns: int, stamp_ns: int, position: Iterable[float]) -> Entry:
    """One JointState on /joints."""
    values = {"header": stamp_ns, "name": [f"j{i}" for i, _ in enumerate(position)]}
    return "/joints", "sensor_msgs/msg/JointState", recv_ns, {**values, "position": list(position)}


def command(recv_ns: int, cmd: Iterable[float]) -> Entry:
    """One message of a type that only the bag defines, on /command."""
    return "/command", JOINT_COMMAND, recv_ns, {"name": "arm", "cmd": list(cmd)}


def patch(path: Path, old: bytes, new: bytes, *, count: int = 1) -> None:
    """Overwrite the `count` occurrences of `old` in a file; the test fails if there are others."""
    data = path.read_bytes()
    assert data.count(old) == count, f"{data.count(old)} occurrences"
    assert len(old) == len(new)
    path.write_bytes(data.replace(old, new))


def u32(value: int) -> bytes:
    """A little-endian uint32."""
    return struct.pack("<I", value)
