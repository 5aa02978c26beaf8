"""What a preset file may say, as checked models, and the `RobotSpec` that it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from act_data.records import SYNC_INDEX, SYNC_REASON, SYNC_SKEW, TIMESTAMP, Record
from act_data.types import (
    DEFAULT_FIELD,
    ArrayPart,
    ArraySpec,
    ClockPolicy,
    CommandKind,
    CommandSpec,
    JointLimit,
    RobotSpec,
    Role,
    StreamKind,
    StreamSpec,
    SyncPolicy,
)

JOINT_FIELDS = ("position", "velocity", "effort")
PICTURES = {StreamKind.IMAGE: "images/", StreamKind.DEPTH: "depth/"}
TOPIC = r"^(/[A-Za-z0-9_]+)+$"
RESERVED = (TIMESTAMP, SYNC_SKEW, SYNC_REASON, SYNC_INDEX)

# Message fields of fixed messages that stand for several numbers: "linear" is three paths.
_COMPONENTS = {
    "orientation": "xyzw",
    **dict.fromkeys(("position", "linear", "angular", "force", "torque"), "xyz"),
    **dict.fromkeys(("angular_velocity", "linear_acceleration"), "xyz"),
}
_FIXED = (StreamKind.ODOMETRY, StreamKind.TWIST, StreamKind.IMU, StreamKind.WRENCH)


def _listed(value: Any) -> Any:
    """One value may stand for a list of one."""
    return value if isinstance(value, list | tuple) else [value]


def _parts(value: Any) -> Any:
    """A stream's name stands for the stream with its own field."""
    return [{"stream": v} if isinstance(v, str) else v for v in _listed(value)]


Words = Annotated[
    tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...])
]


class PresetStream(Record):
    """One topic as this robot is read: see `StreamSpec`, whose defaults these are."""

    topic: str = Field(pattern=TOPIC)
    kind: StreamKind
    field: Words = ()
    joints: tuple[str, ...] = ()
    shape: tuple[PositiveInt, ...] = ()
    unit: str = ""
    sync: SyncPolicy = SyncPolicy.HOLD
    tolerance_ms: float = Field(50.0, gt=0, le=86_400_000)  # a day: latched topics
    required: bool = True


class PresetPart(Record):
    """A stream that an array is made of, and the field of it when not the stream's own."""

    stream: str
    field: Words = ()


_Part = str | PresetPart
_Parts = BeforeValidator(_parts, json_schema_input_type=_Part | tuple[_Part, ...])


class PresetArray(Record):
    """One array of an episode: its parts are concatenated in order."""

    role: Literal["observation", "action"]
    parts: Annotated[tuple[PresetPart, ...], _Parts] = Field(alias="from", min_length=1)
    unit: str = ""
    names: tuple[str, ...] = ()


class PresetLimit(Record):
    """What one joint may be told: see `JointLimit`."""

    low: float | None = Field(None, allow_inf_nan=False)
    high: float | None = Field(None, allow_inf_nan=False)
    velocity: float | None = Field(None, gt=0, allow_inf_nan=False)
    acceleration: float | None = Field(None, gt=0, allow_inf_nan=False)


class PresetCommand(Record):
    """Where the part of an action that was learned from one stream is sent: see `CommandSpec`."""

    topic: str = Field(pattern=TOPIC)
    kind: CommandKind
    stream: str = Field(alias="from")
    joints: tuple[str, ...] = ()
    group: str = ""
    feedback: str = ""
    scale: float = Field(1.0, allow_inf_nan=False)
    offset: float = Field(0.0, allow_inf_nan=False)
    limits: dict[str, PresetLimit] = Field(default_factory=dict)


class RobotFile(Record):
    """A preset file: the streams and arrays of one kind of robot, and where its commands go."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)
    description: str = ""
    fps: float = Field(gt=0, le=1000, allow_inf_nan=False)
    clock: ClockPolicy = ClockPolicy.AUTO
    action_shift: int = Field(0, ge=0, le=1000)
    streams: dict[str, PresetStream] = Field(min_length=1)
    arrays: dict[str, PresetArray] = Field(min_length=1)
    commands: dict[str, PresetCommand] = Field(default_factory=dict)


def robot_spec(preset: RobotFile) -> RobotSpec:
    """The robot of a preset whose parts fit together."""
    return RobotSpec(
        name=preset.name,
        fps=preset.fps,
        clock=preset.clock,
        action_shift=preset.action_shift,
        description=preset.description,
        streams=tuple(
            StreamSpec(
                name=name,
                topic=s.topic,
                kind=s.kind,
                field=_paths(s, s.field),
                joints=s.joints,
                shape=s.shape,
                unit=s.unit,
                policy=s.sync,
                tolerance_ms=s.tolerance_ms,
                required=s.required,
            )
            for name, s in preset.streams.items()
        ),
        arrays=tuple(array_spec(name, a, preset.streams) for name, a in preset.arrays.items()),
        commands=tuple(
            CommandSpec(
                name=name,
                topic=c.topic,
                kind=c.kind,
                stream=c.stream,
                joints=c.joints,
                group=c.group,
                feedback=c.feedback,
                scale=c.scale,
                offset=c.offset,
                limits={
                    joint: JointLimit(**limit.model_dump()) for joint, limit in c.limits.items()
                },
            )
            for name, c in preset.commands.items()
        ),
    )


def array_spec(name: str, array: PresetArray, streams: Mapping[str, PresetStream]) -> ArraySpec:
    """The array called `name`, with shape and names where the preset alone tells them."""
    kinds = {streams[part.stream].kind for part in array.parts}
    parts = tuple(
        ArrayPart(stream=p.stream, field=_paths(streams[p.stream], p.field) if p.field else ())
        for p in array.parts
    )
    units = {streams[p.stream].unit if not p.field else "" for p in array.parts}
    unit = array.unit or (units.pop() if len(units) == 1 else "")
    role = Role(array.role)
    if kinds & PICTURES.keys():
        return ArraySpec(
            name=name,
            role=role,
            parts=parts,
            dtype="uint8" if StreamKind.IMAGE in kinds else "uint16",
            shape=streams[parts[0].stream].shape,
            unit=unit,
        )
    elements = [_elements(p.stream, streams[p.stream], p.field) for p in array.parts]
    names = tuple(n for part in elements for n in part) if all(elements) else ()
    return ArraySpec(
        name=name,
        role=role,
        parts=parts,
        dtype="float32",
        shape=(len(names),) if names else (),
        unit=unit,
        names=array.names or names,
    )


def _paths(stream: PresetStream, paths: tuple[str, ...]) -> tuple[str, ...]:
    """`paths`, or the kind's own, with "linear" of a message that we know written out."""
    paths = paths or DEFAULT_FIELD.get(stream.kind, ())
    if stream.kind not in _FIXED:
        return paths
    return tuple(
        full
        for path in paths
        for full in (
            [f"{path}.{axis}" for axis in _COMPONENTS.get(path.rsplit(".", 1)[-1], "")] or [path]
        )
    )


def _elements(name: str, stream: PresetStream, field: tuple[str, ...]) -> list[str]:
    """A name for every number of a part; empty where only a recording can tell how many."""
    paths = _paths(stream, field or stream.field)
    if stream.kind is StreamKind.JOINT_STATE and stream.joints:
        return [f"{name}/{joint}" for joint in stream.joints]
    if stream.kind in _FIXED and all(path[-2:] in {".x", ".y", ".z", ".w"} for path in paths):
        return [f"{name}/{path}" for path in paths]
    own = not field or stream.kind is StreamKind.JOINT_STATE
    if not own or not stream.shape:
        return []
    (width,) = stream.shape if len(stream.shape) == 1 else (0,)
    if width == len(paths):
        return [f"{name}/{path}" for path in paths]
    label = f"{name}/{paths[0]}" if len(paths) == 1 else name
    return [f"{label}[{i}]" for i in range(width)]
