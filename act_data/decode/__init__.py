"""Messages become arrays: one decoder per stream kind, none of which needs ROS.

A decoder takes a message type and a deserialised message (any object whose attributes are the
fields) and gives back pictures as uint8 RGB or uint16 millimetres, vectors as float32, JPEG files
untouched, or None where the message leaves the field empty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from act_data.decode.compressed import compressed_colour, compressed_depth
from act_data.decode.image import colour, depth
from act_data.decode.joints import JointDecoder
from act_data.decode.numeric import NumericDecoder
from act_data.errors import DataError
from act_data.types import DEFAULT_FIELD, StreamKind, StreamSpec, Value

Decoder = Callable[[str, Any], Value | None]
_Inner = Callable[[Any, str, str], Value | None]  # (message, type name, where for errors)

_RAW = ("height", "width", "encoding", "is_bigendian", "step", "data")
_COMPRESSED = ("format", "data")
_NEEDED = {
    (StreamKind.IMAGE, "Image"): _RAW,
    (StreamKind.IMAGE, "CompressedImage"): _COMPRESSED,
    (StreamKind.DEPTH, "Image"): _RAW,
    (StreamKind.DEPTH, "CompressedImage"): _COMPRESSED,
    (StreamKind.JOINT_STATE, "JointState"): ("name", "position", "velocity", "effort"),
    (StreamKind.ODOMETRY, "Odometry"): ("pose", "twist"),
    (StreamKind.TWIST, "Twist"): ("linear", "angular"),
    (StreamKind.TWIST, "TwistStamped"): ("twist",),
    (StreamKind.IMU, "Imu"): ("orientation", "angular_velocity", "linear_acceleration"),
    (StreamKind.WRENCH, "Wrench"): ("force", "torque"),
    (StreamKind.WRENCH, "WrenchStamped"): ("wrench",),
}


def decoder(stream: StreamSpec, field: tuple[str, ...] = ()) -> Decoder:
    """A decoder for the messages of `stream`; it may remember what the first message fixed.

    Args:
        field: What to read instead of the stream's own field. The declared shape is that of the
            stream's own field, so it is not checked for another one (joints always have theirs).

    Raises:
        DataError: (the decoder) The message does not fit its own sizes, the stream's kind, its
            joints or its shape; names topic, type and both sides.
        ValueError: (here) A field path that no preset could hold.
    """
    paths = field or stream.field or DEFAULT_FIELD.get(stream.kind, ())
    inner: _Inner
    match stream.kind:
        case StreamKind.IMAGE:
            inner = _colour
        case StreamKind.DEPTH:
            inner = _depth
        case StreamKind.JOINT_STATE:
            inner = JointDecoder(stream.joints, paths[0])
        case _:
            inner = NumericDecoder(stream.kind, paths)
    own = not field or field == stream.field or stream.kind is StreamKind.JOINT_STATE
    return _StreamDecoder(stream, inner, stream.shape if own else ())


def joint_names(decode: Decoder) -> tuple[str, ...]:
    """The joint order of a `joint_state` decoder: declared, or else that of its first message.

    Empty for every other kind, before the first message, and for messages without names.
    """
    inner = decode.inner if isinstance(decode, _StreamDecoder) else None
    return inner.names if isinstance(inner, JointDecoder) else ()


@dataclass
class _StreamDecoder:
    stream: StreamSpec
    inner: _Inner
    shape: tuple[int, ...]
    _known_type: str = ""
    _type_name: str = ""
    _where: str = ""

    def __call__(self, type_: str, message: Any) -> Value | None:
        if type_ != self._known_type:
            self._where = f"{self.stream.topic} ({type_})"
            self._type_name = type_.rsplit("/", 1)[-1]
            self._check_type(type_, message, self._where)
            self._known_type = type_
        value = self.inner(message, self._type_name, self._where)
        if value is not None and self.shape and value.shape != self.shape:
            raise DataError(
                f"{self._where}: stream {self.stream.name!r} has shape {tuple(value.shape)}, "
                f"declared is {self.shape}",
                hint="Correct the shape in the preset, or leave it out.",
            )
        return value

    def _check_type(self, type_: str, message: Any, where: str) -> None:
        kind, name = self.stream.kind, type_.rsplit("/", 1)[-1]
        if kind is StreamKind.NUMERIC:
            return
        needed = _NEEDED.get((kind, name))
        if kind is StreamKind.MULTI_ARRAY and name.endswith("MultiArray"):
            needed = ("layout", "data")
        if needed is None:
            raise DataError(
                f"{where}: stream {self.stream.name!r} of kind {kind.value!r} cannot decode it",
                hint="Correct the kind in the preset; `numeric` reads any message by field path.",
            )
        lacking = [f for f in needed if not hasattr(message, f)]
        if lacking:
            raise DataError(f"{where}: its definition in the recording lacks {', '.join(lacking)}")


def _colour(message: Any, type_name: str, where: str) -> Value:
    if type_name == "CompressedImage":
        return compressed_colour(message, where)
    return colour(message, where)


def _depth(message: Any, type_name: str, where: str) -> Value:
    if type_name == "CompressedImage":
        return compressed_depth(message, where)
    return depth(message, where)


__all__ = ["Decoder", "decoder", "joint_names"]
