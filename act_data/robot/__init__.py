"""Robots: presets read from YAML, and their streams bound to the topics of a recording."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from act_data.errors import DataError, InputError, NotFoundError
from act_data.robot.checks import nearest, parse
from act_data.robot.preset import RobotFile
from act_data.robot.yaml_lines import MAX_BYTES, Problem, read, refusal
from act_data.types import ArraySpec, RobotSpec, StreamKind, StreamSpec, TopicInfo

_IMAGE = r"sensor_msgs/msg/(Image|CompressedImage)"
TYPES: Mapping[StreamKind, str] = {
    StreamKind.IMAGE: _IMAGE,
    StreamKind.DEPTH: _IMAGE,
    StreamKind.JOINT_STATE: r"sensor_msgs/msg/JointState",
    StreamKind.ODOMETRY: r"nav_msgs/msg/Odometry",
    StreamKind.TWIST: r"geometry_msgs/msg/Twist(Stamped)?",
    StreamKind.IMU: r"sensor_msgs/msg/Imu",
    StreamKind.WRENCH: r"geometry_msgs/msg/Wrench(Stamped)?",
    StreamKind.MULTI_ARRAY: r"std_msgs/msg/\w+MultiArray",
    StreamKind.NUMERIC: r".+",
}
_TRANSPORTS: Mapping[StreamKind, tuple[str, ...]] = {
    StreamKind.IMAGE: ("/compressed",),
    StreamKind.DEPTH: ("/compressedDepth", "/compressed"),
}
_LISTED = 40  # topics of a recording that an error shows


def preset_names() -> tuple[str, ...]:
    """The robots that come with the toolkit, sorted."""
    folder = resources.files("act_schemas.presets")
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml")))


def preset_text(name: str) -> str:
    """The YAML file of a preset, comments included: something to start an own one from.

    Raises:
        NotFoundError: There is no preset called `name`.
    """
    presets = preset_names()
    if name not in presets:
        raise NotFoundError(f"no robot preset {name!r}", hint=nearest(name, presets))
    return _preset_file(name).read_text(encoding="utf-8")


def load_robot(name_or_file: str | Path) -> RobotSpec:
    """The robot of a preset (by name) or of a YAML file (by path).

    Raises:
        NotFoundError: Neither a preset nor a file.
        InputError: The file says something wrong; every problem of it with file, line, value and
            choices, all at once.
    """
    presets = preset_names()
    if isinstance(name_or_file, str) and name_or_file in presets:
        return _preset(name_or_file)
    path = Path(name_or_file)
    if not path.is_file():
        if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
            raise NotFoundError(
                f"no robot file {str(path)!r}",
                hint=f"Give an existing YAML file, or a preset: {', '.join(presets)}.",
            )
        raise NotFoundError(
            f"no robot preset {str(path)!r}",
            hint=f"{nearest(str(path), presets)} Or give the path of a YAML file.",
        )
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as e:
        raise InputError(f"{path}: cannot be read: {e.strerror}") from None
    return parse_robot(str(path), data)


@cache
def _preset(name: str) -> RobotSpec:
    return parse_robot(f"{name}.yaml", _preset_file(name).read_bytes())


def _preset_file(name: str) -> Traversable:
    return resources.files("act_schemas.presets") / f"{name}.yaml"


def parse_robot(file: str, data: bytes) -> RobotSpec:
    """The robot of a YAML file's content.

    Args:
        file: What errors call it.

    Raises:
        InputError: It says something wrong; all problems at once, as `load_robot`.
    """
    if len(data) > MAX_BYTES:
        raise InputError(
            f"{file}: larger than {MAX_BYTES} bytes", hint="A robot preset is a short YAML file."
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise refusal(file, [Problem(line, f"not UTF-8: byte {data[e.start]:#04x}")]) from None
    located, problems = read(text)
    if problems:
        raise refusal(file, problems)
    robot, problems = parse(located)
    if robot is None:
        raise refusal(file, problems)
    return robot


# --- the topics of a recording ----------------------------------------------------------------


def with_joints(robot: RobotSpec, joints: Mapping[str, tuple[str, ...]]) -> RobotSpec:
    """`robot` with the joint order that a recording has shown, where its preset declares none.

    Args:
        joints: Joint names in order, by stream.
    """
    streams = tuple(
        s if s.joints or s.kind is not StreamKind.JOINT_STATE
        else replace(s, joints=joints.get(s.name, ()))
        for s in robot.streams
    )  # fmt: skip
    order = {s.name: s.joints for s in streams}
    return replace(
        robot, streams=streams, arrays=tuple(_with_names(array, order) for array in robot.arrays)
    )


def _with_names(array: ArraySpec, order: Mapping[str, tuple[str, ...]]) -> ArraySpec:
    if array.names or not all(order[part.stream] for part in array.parts):
        return array
    names = tuple(f"{p.stream}/{joint}" for p in array.parts for joint in order[p.stream])
    return replace(array, names=names, shape=(len(names),))


def bind(robot: RobotSpec, topics: Mapping[str, TopicInfo]) -> dict[str, TopicInfo]:
    """The topic that is really read for each stream of `robot`, in declaration order.

    A picture's topic also stands for its transports: ".../image_raw" finds
    ".../image_raw/compressed" (and "/compressedDepth" for depth). Recordings that a script wrote
    may have topics without the leading slash: these are found, too. A topic that the index says is
    empty counts as missing. Optional streams without a topic are absent from the result.

    Raises:
        DataError: A topic has a type that the stream's kind cannot decode, or required streams
            have no topic: all of them, what the recording has, and the nearest names.
    """
    bound, missing, wrong = _matched(robot, topics)
    if wrong:
        raise DataError(
            f"topics of another type than robot {robot.name!r} expects:\n"
            + "\n".join(f"  {line}" for line in wrong),
            hint="Correct the kind of these streams in the preset.",
        )
    if missing:
        total = sum(s.required for s in robot.streams)
        lines = "\n".join(f"  {line}" for line in missing)
        raise DataError(
            f"the recording lacks {len(missing)} of {total} required topics of robot "
            f"{robot.name!r}:\n{lines}\nIt has: {_shown(topics.values())}",
            hint="Choose another robot, or copy the preset and correct the topics, "
            "with `required: false` for what you can do without.",
        )
    return bound


def misses(robot: RobotSpec, topics: Mapping[str, TopicInfo]) -> tuple[str, ...]:
    """Why `bind` would refuse `topics`, a line per stream; empty when it would not."""
    _, missing, wrong = _matched(robot, topics)
    return (*wrong, *missing)


def _matched(
    robot: RobotSpec, topics: Mapping[str, TopicInfo]
) -> tuple[dict[str, TopicInfo], list[str], list[str]]:
    """Streams with their topics; what required ones lack; topics of a type that does not fit."""
    bound: dict[str, TopicInfo] = {}
    missing: list[str] = []
    wrong: list[str] = []
    for stream in robot.streams:
        found = [topics[t] for t in _candidates(stream) if t in topics]
        fitting = [t for t in found if re.fullmatch(TYPES[stream.kind], t.type)]
        filled = [t for t in fitting if t.count != 0]
        if filled:
            bound[stream.name] = filled[0]
        elif found and not fitting:
            wrong.append(
                f"{stream.name}: {found[0].name} is {found[0].type!r}, "
                f"which {stream.kind.value!r} does not decode"
            )
        elif stream.required:
            missing.append(f"{stream.name}: {_lacking(stream, topics)}")
    return bound, missing, wrong


def _candidates(stream: StreamSpec) -> list[str]:
    endings = _TRANSPORTS.get(stream.kind, ())
    base = stream.topic
    for ending in endings:
        base = base.removesuffix(ending)
    full = dict.fromkeys([stream.topic, *(base + ending for ending in endings), base])
    return [*full, *(topic.removeprefix("/") for topic in full)]


def _lacking(stream: StreamSpec, topics: Mapping[str, TopicInfo]) -> str:
    if any(t in topics for t in _candidates(stream)):
        return f"{stream.topic} is there, without a single message"
    fitting = [t.name for t in topics.values() if re.fullmatch(TYPES[stream.kind], t.type)]
    close = get_close_matches(stream.topic, fitting, n=2, cutoff=0.5)
    return stream.topic + (f", nearest: {', '.join(close)}" if close else "")


def _shown(topics: Iterable[TopicInfo]) -> str:
    every = [f"{t.name} ({t.type.rsplit('/', 1)[-1]})" for t in topics]
    more = f", and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return (", ".join(every[:_LISTED]) or "no topic at all") + more


__all__ = [
    "TYPES",
    "RobotFile",
    "bind",
    "load_robot",
    "misses",
    "parse_robot",
    "preset_names",
    "preset_text",
    "with_joints",
]
