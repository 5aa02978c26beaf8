"""Numbers of any message by field path: twists, IMUs, wrenches, arrays, custom types."""

from __future__ import annotations

import numbers
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.errors import DataError
from act_data.types import FIELD_PATH, StreamKind

Step = str | int | slice
_STEP = re.compile(r"([A-Za-z]\w*)|\[(\d+)\]|\[(\d*):(\d*)\]", re.ASCII)
_NUMBERS = (bool, np.bool_, int, float, np.integer, np.floating)
_SEQUENCES = (np.ndarray, list, tuple)
_PLAIN = (*_SEQUENCES, np.generic, numbers.Number, str, bytes)
_INNER = {StreamKind.TWIST: "twist", StreamKind.WRENCH: "wrench"}  # of the stamped message
_RANGES = {"LaserScan": "ranges", "Range": "range"}


class NumericDecoder:
    """The values of some field paths, one after another.

    A path may end at a number, a bool, an array (flattened in its own order) or a message with x,
    y, z (and w). Paths of a twist or wrench hold for the stamped message as well.
    """

    def __init__(self, kind: StreamKind, paths: tuple[str, ...]) -> None:
        self._kind = kind
        self._paths = tuple((path, steps(path)) for path in paths)

    def __call__(self, message: Any, type_name: str, where: str) -> NDArray[np.float32] | None:
        """(D,) float32; None when there is not a single value (an empty array).

        Raises:
            DataError: No such field, an index past the end, or something that is no number.
        """
        if self._kind is StreamKind.IMU:
            self._check_orientation(message, where)
        inner = _INNER.get(self._kind)
        if inner and type_name.endswith("Stamped") and self._paths[0][1][0] != inner:
            message = getattr(message, inner)
        found: list[float] = []
        arrays: list[NDArray[np.float64]] = []
        for path, path_steps in self._paths:
            values = _numbers(_follow(message, path_steps, path, where), path, where)
            if isinstance(values, float):
                found.append(values)
                continue
            if found:
                arrays.append(np.array(found))
                found = []
            if self._kind is StreamKind.MULTI_ARRAY and path == "data":  # padding in front
                values = values[int(message.layout.data_offset) :]
            arrays.append(values)
        if found:
            arrays.append(np.array(found))
        joined = np.concatenate(arrays)
        if self._paths[0][1][0] == _RANGES.get(type_name):
            joined = _within_range(joined, message)
        if not joined.size:
            return None
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # becomes infinite, which is found and masked later
            return joined.astype(np.float32)

    def _check_orientation(self, message: Any, where: str) -> None:
        """REP 145: a driver that does not estimate orientation says so in the covariance."""
        wanted = any(path_steps[0] == "orientation" for _, path_steps in self._paths)
        covariance: Any = getattr(message, "orientation_covariance", ())
        if wanted and len(covariance) and covariance[0] == -1:
            raise DataError(
                f"{where}: this IMU has no orientation (its orientation_covariance[0] is -1)",
                hint="Write `field: [angular_velocity, linear_acceleration]` for this stream.",
            )


def steps(path: str) -> tuple[Step, ...]:
    """The attributes, indices and the last slice of a field path.

    Raises:
        ValueError: It is no field path.
    """
    if not FIELD_PATH.fullmatch(path):
        raise ValueError(f"no field path: {path!r}")
    found: list[Step] = []
    for name, index, start, stop in _STEP.findall(path):  # one of four is not empty
        if name:
            found.append(name)
        elif index:
            found.append(int(index))
        else:
            found.append(slice(int(start or 0), int(stop) if stop else None))
    return tuple(found)


def _follow(message: Any, path_steps: tuple[Step, ...], path: str, where: str) -> Any:
    value = message
    for step in path_steps:
        if isinstance(step, str):
            if step in _declared(value):
                value = getattr(value, step)
                continue
            fields = _fields(value)
            if step not in fields:
                close = get_close_matches(step, fields, n=1)
                meant = f"Did you mean {close[0]!r}? " if close else ""
                has = f"There is: {', '.join(fields)}." if fields else "There are no fields."
                raise DataError(f"{where}: no {step!r} in field {path!r}", hint=meant + has)
            value = getattr(value, step)
            continue
        if not isinstance(value, _SEQUENCES):
            raise DataError(f"{where}: field {path!r} indexes a {type(value).__name__}")
        end = step if isinstance(step, int) else (step.stop or 1) - 1
        if end >= len(value):
            raise DataError(f"{where}: field {path!r} is past the end, there are {len(value)}")
        value = value[step]
    return value


def _declared(message: Any) -> Mapping[str, Any]:
    """The fields of a message class, hidden ones included; empty for what is no such object."""
    fields: Mapping[str, Any] = getattr(message, "__dataclass_fields__", {})
    return fields


def _fields(message: Any) -> tuple[str, ...]:
    """The fields of a message object; nothing else of it can be reached by a path."""
    if isinstance(message, _PLAIN):
        return ()
    names = _declared(message) or vars(message)
    return tuple(name for name in names if not name.startswith("_"))


def _numbers(value: Any, path: str, where: str) -> float | NDArray[np.float64]:
    if isinstance(value, _NUMBERS):
        return float(value)
    fields = _fields(value)
    if {"x", "y", "z"} <= set(fields):
        return np.array([float(getattr(value, axis)) for axis in "xyzw" if axis in fields])
    if isinstance(value, _SEQUENCES):
        array = np.asarray(value)
        if not array.size:
            return np.empty(0)
        if array.dtype.kind in "biuf":
            with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
                return array.astype(np.float64).reshape(-1)
    shown = f"a message with {', '.join(fields)}" if fields else type(value).__name__
    raise DataError(
        f"{where}: field {path!r} is {shown}", hint="Extend the path until it ends at numbers."
    )


def _within_range(values: NDArray[np.float64], message: Any) -> NDArray[np.float64]:
    """REP 117: +Inf is nothing within reach, -Inf is something too close; NaN stays unknown."""
    near, far = float(message.range_min), float(message.range_max)
    return np.where(np.isposinf(values), far, np.where(np.isneginf(values), near, values))
