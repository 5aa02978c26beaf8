"""Which numbers the messages of one topic hold: of types that are known, and of any other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.decode import decoder
from act_data.errors import DataError
from act_data.inspect.cards import FieldCard, NumberCard
from act_data.robot import TYPES
from act_data.types import DEFAULT_FIELD, FIELD_PATH, StreamKind, StreamSpec

_KINDS = (
    StreamKind.ODOMETRY, StreamKind.TWIST, StreamKind.IMU, StreamKind.WRENCH,
    StreamKind.MULTI_ARRAY,
)  # fmt: skip
# What is worth reading of types that the kinds do not know.
_FIELDS = {
    "geometry_msgs/msg/Pose": ("position", "orientation"),
    "geometry_msgs/msg/PoseStamped": ("pose.position", "pose.orientation"),
    "sensor_msgs/msg/LaserScan": ("ranges",),
    "sensor_msgs/msg/Range": ("range",),
    "trajectory_msgs/msg/JointTrajectory": ("points[0].positions",),
}
MAX_WIDTH = 512  # numbers of one field; a field of more is no state
_MAX_FIELDS = 64
_MAX_DEPTH = 4
# Fields that say when, or how sure, not what.
_BESIDE = re.compile(r"header|stamp|\w*covariance\w*|layout")


class NumberLook:
    """The field paths of one topic that hold numbers, and what these were like.

    All of them are decoded together, as a stream with these fields would be. A field that cannot
    be read like the first time (another length, no such element) is left out from there on.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._kind = StreamKind.NUMERIC
        self._widths: dict[str, int] | None = None  # by path; None before the first message
        self._left_out: dict[str, str] = {}
        self._moves: dict[str, bool] = {}
        self._not_finite: dict[str, int] = {}
        self._decode = decoder(self._spec(("data",)))

    def seen(self, type_: str, message: Any) -> None:
        """Take in one message.

        Raises:
            DataError: It lacks what its type should have.
        """
        if self._widths is None:
            self._begin(type_, message)
            return
        if not self._widths:
            return
        values = self._read(type_, message)
        while values is None or values.size != sum(self._widths.values()):
            self._narrow(type_, message)
            if not self._widths:
                return
            values = self._read(type_, message)
        self._count(values)

    def card(self) -> NumberCard:
        """What was found."""
        return NumberCard(
            kind=self._kind.value,
            fields=tuple(
                FieldCard(
                    path=path,
                    width=width,
                    moves=self._moves[path],
                    not_finite=self._not_finite[path],
                )
                for path, width in (self._widths or {}).items()
            ),
            left_out=self._left_out,
        )

    def _begin(self, type_: str, message: Any) -> None:
        self._kind = next((k for k in _KINDS if re.fullmatch(TYPES[k], type_)), self._kind)
        known = DEFAULT_FIELD.get(self._kind) or _FIELDS.get(type_)
        if self._kind is StreamKind.IMU and message.orientation_covariance[0] == -1:
            known = tuple(path for path in known or () if not path.startswith("orientation"))
            self._left_out["orientation"] = "this IMU says that it has none"
        self._widths = {}
        for path in known or _paths(message):
            if len(self._widths) >= _MAX_FIELDS:
                self._left_out[path] = f"more than {_MAX_FIELDS} fields"
                continue
            width = self._width(path, type_, message)
            if isinstance(width, int):
                self._widths[path] = width
            else:
                self._left_out[path] = width
        self._moves = dict.fromkeys(self._widths, False)
        self._not_finite = dict.fromkeys(self._widths, 0)
        self._decode = decoder(self._spec(tuple(self._widths) or ("data",)))
        values = self._read(type_, message) if self._widths else None
        if values is not None:
            self._count(values)

    def _width(self, path: str, type_: str, message: Any) -> int | str:
        """How many numbers a field holds, or why it cannot be read."""
        try:
            value = decoder(self._spec((path,)))(type_, message)
        except DataError as e:
            return str(e).removeprefix(f"{self._topic} ({type_}): ")
        size = value.size if isinstance(value, np.ndarray) else 0
        if not size:
            return "empty"
        return size if size <= MAX_WIDTH else f"{size} numbers"

    def _narrow(self, type_: str, message: Any) -> None:
        """Leave the fields out that this message does not hold as the first one did."""
        assert self._widths is not None
        for path, width in list(self._widths.items()):
            now = self._width(path, type_, message)
            if now != width:
                shown = f"{now} numbers" if isinstance(now, int) else now
                self._left_out[path] = f"its length varies: {width} numbers, then {shown}"
                del self._widths[path]
        self._decode = decoder(self._spec(tuple(self._widths) or ("data",)))

    def _read(self, type_: str, message: Any) -> NDArray[Any] | None:
        try:
            values = self._decode(type_, message)
        except DataError:
            return None
        return values if isinstance(values, np.ndarray) else None

    def _count(self, values: NDArray[Any]) -> None:
        assert self._widths is not None
        finite = np.isfinite(values)
        whole, at = bool(finite.all()), 0
        for path, width in self._widths.items():
            if not self._moves[path]:
                self._moves[path] = bool(values[at : at + width].any())
            if not whole:
                self._not_finite[path] += not finite[at : at + width].all()
            at += width

    def _spec(self, paths: tuple[str, ...]) -> StreamSpec:
        return StreamSpec(name="look", topic=self._topic, kind=self._kind, field=paths)


def _paths(message: Any, prefix: str = "", depth: int = 0) -> Iterator[str]:
    """The field paths of a message that end at numbers, in the order of its definition."""
    for name in _names(message):
        path = prefix + name
        if _BESIDE.fullmatch(name) or not FIELD_PATH.fullmatch(path):
            continue
        value = getattr(message, name)
        inner = set(_names(value))
        vector = {"x", "y", "z"} <= inner <= {"x", "y", "z", "w"}
        if vector or isinstance(value, bool | int | float | np.ndarray):
            yield path
        elif inner and not {"sec", "nanosec"} <= inner and depth < _MAX_DEPTH:
            yield from _paths(value, f"{path}.", depth + 1)


def _names(message: Any) -> list[str]:
    """The fields of a message; its constants are written as class variables."""
    if not is_dataclass(message):
        return []
    return [f.name for f in fields(message) if not str(f.type).startswith("ClassVar")]
