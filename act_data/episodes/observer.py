"""A frame's picks as the arrays of a robot: decoded once, interpolated, concatenated, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from act_data.episodes.interpolate import WRAPPED_ANGLE, between, quaternion_starts
from act_data.errors import DataError
from act_data.records import SyncColumn
from act_data.types import (
    DEFAULT_FIELD,
    ArrayPart,
    ArraySpec,
    EncodedImage,
    Frame,
    Pick,
    Reason,
    RobotSpec,
    Role,
    StreamKind,
    StreamSpec,
    Value,
)

T = TypeVar("T")

Decode = Callable[[T], Value | None]
OPTIONAL_WAIT_S = 1.0  # how long the first episode waits for what it could do without
_ABSENT: Pick[Any] = Pick(
    index=-1, stamp_ns=0, skew_ns=0, age_ns=0, reason=Reason.ABSENT, reused=False, sample=None
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One frame as arrays.

    Attributes:
        observation: By array name.
        action: By array name.
        skew_ns: (K,) int64, one per sync column: sample stamp minus tick.
        reason: (K,) uint8 `Reason`; NOT_FINITE where the synchronizer was content.
        index: (K,) int64 sample number; -1 for none.
        usable: Every required stream is valid and finite, and no array lacks its shape.
    """

    tick: int
    tick_ns: int
    observation: Mapping[str, Value]
    action: Mapping[str, Value]
    skew_ns: NDArray[np.int64]
    reason: NDArray[np.uint8]
    index: NDArray[np.int64]
    usable: bool


class Observer(Generic[T]):
    """Builds the observation and the action of a frame. The same one at ingest and at deployment.

    An array whose parts do not all have a decoder (an optional stream that the source does not
    have) is left out, and named in `absent`. So is one whose size nobody knows `OPTIONAL_WAIT_S`
    after all that is required was there: its optional stream is silent, or always empty.

    Attributes:
        arrays: The robot's arrays that are built.
        absent: Names of those that are left out.
        columns: One per stream and role, observations first.

    What an array shows where its pick is not valid: the pick's sample if there is any, else the
    stream's last value, else zeros (pictures) or NaN (vectors). The sync columns say that it is
    not valid. A part that its messages leave empty is NaN, and that is not a fault.

    Linear picks: plain interpolation, slerp where four paths in a row are x, y, z, w of one field
    (orientations of IMU and odometry), the short way round for streams whose unit is
    `WRAPPED_ANGLE`. Pictures take the earlier sample.
    """

    def __init__(self, robot: RobotSpec, decode: Mapping[ArrayPart, Decode[T]]) -> None:
        """Args: decode: A decoder for each part of the robot's arrays that the source has.

        Raises:
            ValueError: A part of a required stream has no decoder.
        """
        streams = {s.name: s for s in robot.streams}
        self.robot = robot
        self.arrays = tuple(a for a in robot.arrays if all(p in decode for p in a.parts))
        self.absent = tuple(a.name for a in robot.arrays if a not in self.arrays)
        for array in robot.arrays:
            for part in array.parts:
                if part not in decode and streams[part.stream].required:
                    raise ValueError(f"no decoder for {part} of array {array.name!r}")
        self.columns = _columns(robot, self.arrays)
        self._required = np.array([streams[c.stream].required for c in self.columns], dtype=bool)
        self._parts = {
            part: _Part(streams[part.stream], part, decode[part])
            for array in self.arrays
            for part in array.parts
        }
        self._used = {
            (column.stream, column.role): [
                part
                for array in self.arrays
                if array.role is column.role
                for part in array.parts
                if part.stream == column.stream
            ]
            for column in self.columns
        }
        self._shapes = {a.name: a.shape for a in self.arrays if a.shape}
        self._wait = round(OPTIONAL_WAIT_S * robot.fps)

    def observation(self, frame: Frame[T]) -> dict[str, Value]:
        """The observation arrays of `frame`, by name; optional ones when their size is known.

        Raises:
            DataError: A message does not fit its stream, or a required stream without a declared
                shape has not delivered yet.
        """
        return self._whole(frame, Role.OBSERVATION)

    def action(self, frame: Frame[T]) -> dict[str, Value]:
        """The action arrays of `frame`, by name. Raises as `observation` does."""
        return self._whole(frame, Role.ACTION)

    def observe(self, frame: Frame[T]) -> Observed:
        """Both roles of `frame`, with its sync columns and whether an episode can begin with it.

        Raises:
            DataError: A message does not fit its stream.
        """
        values = self._decoded(frame)
        observation = self._arrays(frame, Role.OBSERVATION, values)
        action = self._arrays(frame, Role.ACTION, values)
        picks = [frame.picks.get(column.stream, _ABSENT) for column in self.columns]
        reason = np.array(
            [
                Reason.NOT_FINITE
                if pick.valid and not all(_finite(values[p]) for p in self._used[c.stream, c.role])
                else pick.reason
                for c, pick in zip(self.columns, picks, strict=True)
            ],
            dtype=np.uint8,
        )
        valid = frame.valid and not reason[self._required].any()
        lacking = [a for a in self.arrays if a.name not in observation and a.name not in action]
        if valid and lacking:
            self._wait -= 1
            if self._wait < 0:
                self.arrays = tuple(a for a in self.arrays if a not in lacking)
                self.absent += tuple(a.name for a in lacking)
                lacking = []
        return Observed(
            tick=frame.tick,
            tick_ns=frame.tick_ns,
            observation=observation,
            action=action,
            skew_ns=np.array([p.skew_ns for p in picks], dtype=np.int64),
            reason=reason,
            index=np.array([p.index for p in picks], dtype=np.int64),
            usable=valid and not lacking,
        )

    def _whole(self, frame: Frame[T], role: Role) -> dict[str, Value]:
        arrays = self._arrays(frame, role, self._decoded(frame, role))
        for spec in self.arrays:
            silent = [s.name for p in spec.parts if (s := self._parts[p].stream).required]
            if spec.role is role and spec.name not in arrays and silent:
                raise DataError(
                    f"array {spec.name!r} has no shape yet: {', '.join(silent)} have not delivered",
                    hint="Wait for it, or declare its shape (or its joints) in the preset.",
                )
        return arrays

    def _decoded(self, frame: Frame[T], role: Role | None = None) -> dict[ArrayPart, Value | None]:
        """Each part's value in this frame; None where the pick has none or the message is empty."""
        return {
            part: self._parts[part].value(frame.picks.get(part.stream, _ABSENT))
            for column in self.columns
            if role in (None, column.role)
            for part in self._used[column.stream, column.role]
        }

    def _arrays(
        self, frame: Frame[T], role: Role, values: Mapping[ArrayPart, Value | None]
    ) -> dict[str, Value]:
        """The arrays of `role` that can be built by now."""
        found: dict[str, Value] = {}
        for spec in self.arrays:
            if spec.role is not role:
                continue
            whole = [self._shown(part, frame, values[part]) for part in spec.parts]
            pieces = [piece for piece in whole if piece is not None]
            if len(pieces) < len(whole):
                continue
            value = pieces[0] if spec.dtype != "float32" else _joined(pieces)
            shape = self._shapes.setdefault(spec.name, tuple(value.shape))
            if tuple(value.shape) != shape:
                topics = ", ".join(self._parts[part].stream.topic for part in spec.parts)
                raise DataError(
                    f"array {spec.name!r} ({topics}) has shape {tuple(value.shape)} at tick "
                    f"{frame.tick}, expected is {shape}",
                    hint="One episode has one shape per array; correct the preset or the bag.",
                )
            found[spec.name] = value
        return found

    def _shown(self, part: ArrayPart, frame: Frame[T], value: Value | None) -> Value | None:
        """What an array shows for `part`; None where not even a shape is known."""
        state = self._parts[part]
        if value is not None:
            return value
        empty = frame.picks.get(part.stream, _ABSENT).sample is not None
        if state.last is not None and not empty:
            return state.last
        if state.stream.kind is StreamKind.IMAGE:
            return np.zeros(state.stream.shape, np.uint8) if state.stream.shape else None
        if state.stream.kind is StreamKind.DEPTH:
            return np.zeros(state.stream.shape, np.uint16) if state.stream.shape else None
        width = state.width() or self._sibling_width(state)
        return np.full(width, np.nan, np.float32) if width else None

    def _sibling_width(self, state: _Part[T]) -> int:
        """Joints counted by another field of the stream: there are as many efforts as positions."""
        if state.stream.kind is not StreamKind.JOINT_STATE:
            return 0
        others = (p.width() for p in self._parts.values() if p.stream.name == state.stream.name)
        return max(others, default=0)


@dataclass
class _Part(Generic[T]):
    """One decoder with what it gave last: a sample that serves twice is decoded once."""

    stream: StreamSpec
    part: ArrayPart
    decode: Decode[T]
    last: Value | None = None
    _recent: list[tuple[T, Value | None]] = field(default_factory=list)

    def value(self, pick: Pick[T]) -> Value | None:
        if pick.sample is None:
            return None
        value = self._once(pick.sample)
        if value is not None and pick.other is not None and isinstance(value, np.ndarray):
            other = self._once(pick.other)
            if isinstance(other, np.ndarray) and self.stream.kind not in _PICTURES:
                value = self._interpolated(value, other, pick.weight)
        if value is not None:
            self.last = value
        return value

    def width(self) -> int:
        """Numbers that this part is made of; 0 while unknown."""
        if isinstance(self.last, np.ndarray):
            return self.last.size
        own = not self.part.field or self.stream.kind is StreamKind.JOINT_STATE
        declared = self.stream.shape[0] if own and len(self.stream.shape) == 1 else 0
        return declared or len(self.stream.joints)

    def _once(self, sample: T) -> Value | None:
        """Decoded by identity: `linear` needs both neighbours, and the next tick one of them."""
        for known, value in self._recent:
            if known is sample:
                return value
        value = self.decode(sample)
        self._recent = [*self._recent[-1:], (sample, value)]
        return value

    def _interpolated(
        self, first: NDArray[Any], second: NDArray[Any], weight: float
    ) -> NDArray[np.float32]:
        if first.shape != second.shape:
            raise DataError(
                f"stream {self.stream.name!r} ({self.stream.topic}) changes its shape from "
                f"{first.shape} to {second.shape}",
                hint="One episode has one shape per array; correct the preset or the bag.",
            )
        paths = self.part.field or self.stream.field or DEFAULT_FIELD.get(self.stream.kind, ())
        return between(
            first,
            second,
            weight,
            # Only where every path is one number do places in the list tell places in the vector.
            quaternions=quaternion_starts(paths) if len(paths) == first.size else (),
            wrapped=not self.part.field and self.stream.unit == WRAPPED_ANGLE,
        )


_PICTURES = (StreamKind.IMAGE, StreamKind.DEPTH)


def _columns(robot: RobotSpec, arrays: tuple[ArraySpec, ...]) -> tuple[SyncColumn, ...]:
    """One per (stream, role) in use: observations first, streams in declaration order."""
    used = {(part.stream, array.role) for array in arrays for part in array.parts}
    return tuple(
        SyncColumn(
            name=f"{stream.name}:action"
            if role is Role.ACTION and (stream.name, Role.OBSERVATION) in used
            else stream.name,
            stream=stream.name,
            role=role,
        )
        for role in (Role.OBSERVATION, Role.ACTION)
        for stream in robot.streams
        if (stream.name, role) in used
    )


def _joined(pieces: list[Value]) -> Value:
    vectors = [np.ravel(p) for p in pieces if not isinstance(p, EncodedImage)]
    return np.concatenate(vectors).astype(np.float32, copy=False)


def _finite(value: Value | None) -> bool:
    if value is None or isinstance(value, EncodedImage) or value.dtype.kind != "f":
        return True
    return bool(np.isfinite(value).all())
