"""A preset file as the robot it describes, or everything that is wrong with it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from act_data.robot.preset import (
    JOINT_FIELDS,
    PICTURES,
    RESERVED,
    PresetArray,
    PresetCommand,
    PresetLimit,
    PresetPart,
    PresetStream,
    RobotFile,
    array_spec,
    robot_spec,
)
from act_data.robot.yaml_lines import Located, Path, Problem
from act_data.types import FIELD_PATH, CommandKind, RobotSpec, StreamKind, SyncPolicy


def parse(file: Located) -> tuple[RobotSpec | None, list[Problem]]:
    """The robot that `file` describes, or all that is wrong with it, in the order of its lines."""
    problems: list[Problem] = []
    preset: RobotFile | None = None
    try:
        preset = RobotFile.model_validate(file.data)
    except ValidationError as e:
        problems += [_problem(error, file) for error in e.errors()]
    # What fits on its own is checked against the rest, even when the file as a whole does not.
    streams = _fitting(file.data, "streams", PresetStream)
    arrays = _fitting(file.data, "arrays", PresetArray)
    for name, stream in streams.items():
        problems += _stream_problems(name, stream, file)
    for name, array in arrays.items():
        problems += _array_problems(name, array, streams, file)
    for name, command in _fitting(file.data, "commands", PresetCommand).items():
        problems += _command_problems(name, command, streams, arrays, file)
    if preset is None or problems:
        return None, sorted(problems, key=lambda p: p.line)
    return robot_spec(preset), []


def nearest(word: str, choices: Mapping[str, Any] | tuple[str, ...]) -> str:
    """A sentence with the choice that is spelled most like `word`, and all of them."""
    close = get_close_matches(word, list(choices), n=1, cutoff=0.6)
    meant = f"Did you mean {close[0]!r}? " if close else ""
    return f"{meant}Use one of: {', '.join(choices)}."


# --- what pydantic finds ----------------------------------------------------------------------


def _fitting(data: Any, key: str, model: type[BaseModel]) -> dict[str, Any]:
    """The entries under `key`, each without what is wrong by itself; None where nothing is left."""
    entries = data.get(key) if isinstance(data, dict) else None
    found: dict[str, Any] = {}
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        found[name] = None
        entry = copy.deepcopy(entry)
        for _ in range(2):
            try:
                found[name] = model.model_validate(entry)
                break
            except ValidationError as e:
                for error in e.errors():
                    _remove(entry, error["loc"])
    return found


def _remove(entry: Any, path: Path) -> None:
    for step in path[:-1]:
        if isinstance(entry, dict):
            entry = entry.get(step)
        elif isinstance(entry, list) and isinstance(step, int) and step < len(entry):
            entry = entry[step]
    if isinstance(entry, dict):
        entry.pop(path[-1], None)


def _problem(error: ErrorDetails, file: Located) -> Problem:
    path: Path = tuple(error["loc"])
    where = ".".join(str(p) for p in path[:-1])
    inside = f" in {where}" if where else ""
    line = file.line(path)
    match error["type"]:
        case "extra_forbidden":
            return Problem(line, f"unknown key {path[-1]!r}{inside}", nearest(*_keys(path)))
        case "missing":
            return Problem(line, f"key {path[-1]!r} is missing{inside}", "Add it.")
        case "enum" | "literal_error":
            expected = str(error.get("ctx", {}).get("expected", ""))
            choices = tuple(w.strip(" '") for w in expected.replace(" or ", ",").split(","))
            return Problem(
                line,
                f"{_dotted(path)} is {error['input']!r}",
                nearest(str(error["input"]), choices),
            )
        case "string_pattern_mismatch" if path[-1] == "topic":
            return Problem(
                line, f"{_dotted(path)} is {error['input']!r}", 'Write a full topic, like "/odom".'
            )
        case _:
            shown = repr(error["input"])
            shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
            return Problem(line, f"{_dotted(path)} is {shown}", f"{error['msg']}.")


def _dotted(path: Path) -> str:
    return ".".join(str(p) for p in path) or "the file"


def _keys(path: Path) -> tuple[str, tuple[str, ...]]:
    """The unknown key at the end of `path`, and those that its place allows."""
    model: type[BaseModel] = RobotFile
    inside: dict[str, type[BaseModel]] = {
        "streams": PresetStream,
        "arrays": PresetArray,
        "commands": PresetCommand,
    }
    if path[0] in inside and len(path) > 1:
        model = inside[str(path[0])]
    if "from" in path[:-1]:
        model = PresetPart
    if "limits" in path[:-1]:
        model = PresetLimit
    return str(path[-1]), tuple(f.alias or name for name, f in model.model_fields.items())


# --- what needs more than one value to see ----------------------------------------------------


def _stream_problems(name: str, stream: PresetStream | None, file: Located) -> Iterator[Problem]:
    at: Path = ("streams", name)
    if not name.isidentifier() or not name.isascii():
        yield Problem(
            file.line(at), f"stream name {name!r}", "Use letters, digits and underscores."
        )
    if stream is None:
        return
    yield from _field_problems(stream, stream.field, (*at, "field"), f"stream {name!r}", file)
    if stream.kind is StreamKind.NUMERIC and not stream.field:
        yield Problem(
            file.line(at), f"stream {name!r} is numeric and names no field", "Add a field path."
        )
    if stream.joints and stream.kind is not StreamKind.JOINT_STATE:
        yield Problem(
            file.line((*at, "joints")),
            f"stream {name!r} of kind {stream.kind.value!r} lists joints",
            "Only joint_state has joints.",
        )
    twice = {j for j in stream.joints if stream.joints.count(j) > 1}
    if twice:
        yield Problem(
            file.line((*at, "joints")), f"stream {name!r} lists joints twice: {sorted(twice)}"
        )
    if stream.kind in PICTURES and stream.sync is SyncPolicy.LINEAR:
        yield Problem(
            file.line((*at, "sync")),
            f"stream {name!r} would interpolate pictures",
            "Use one of: hold, nearest, next.",
        )
    wanted = {StreamKind.IMAGE: "[H, W, 3]", StreamKind.DEPTH: "[H, W]"}.get(stream.kind, "[D]")
    fits = len(stream.shape) == wanted.count(",") + 1 and (
        stream.kind is not StreamKind.IMAGE or stream.shape[-1] == 3
    )
    if stream.shape and not fits:
        yield Problem(
            file.line((*at, "shape")),
            f"stream {name!r} has shape {list(stream.shape)}",
            f"A stream of kind {stream.kind.value} is {wanted}.",
        )
    if stream.joints and stream.shape and stream.shape != (len(stream.joints),):
        yield Problem(
            file.line((*at, "shape")),
            f"stream {name!r} has shape {list(stream.shape)} and {len(stream.joints)} joints",
            "Leave the shape out.",
        )


def _field_problems(
    stream: PresetStream, paths: tuple[str, ...], at: Path, owner: str, file: Located
) -> Iterator[Problem]:
    if not paths:
        return
    line = file.line(at)
    if stream.kind in PICTURES:
        yield Problem(line, f"{owner} names the field {paths[0]!r} of a picture", "Leave it out.")
    elif stream.kind is StreamKind.JOINT_STATE:
        if len(paths) != 1 or paths[0] not in JOINT_FIELDS:
            yield Problem(line, f"{owner} has field {list(paths)}", nearest(paths[0], JOINT_FIELDS))
    else:
        for path in paths:
            if not FIELD_PATH.fullmatch(path):
                yield Problem(
                    line,
                    f"{owner} has field {path!r}",
                    "A path is like pose.position.x, wrenches[0].force.z or ranges[0:8].",
                )


def _array_problems(
    name: str,
    array: PresetArray | None,
    streams: Mapping[str, PresetStream | None],
    file: Located,
) -> Iterator[Problem]:
    at: Path = ("arrays", name)
    base = name.split("/", 1)[-1]
    if not (base.isidentifier() and base.isascii()) or name in RESERVED:
        yield Problem(
            file.line(at),
            f"array name {name!r}",
            f"Use letters, digits and underscores, and none of {', '.join(RESERVED)}.",
        )
    if array is None:
        return
    known: list[PresetStream] = []
    for i, part in enumerate(array.parts):
        where: Path = (*at, "from", i)
        if part.stream not in streams:
            yield Problem(
                file.line(where),
                f"array {name!r} is made from the unknown stream {part.stream!r}",
                nearest(part.stream, streams),
            )
        elif (stream := streams[part.stream]) is not None:
            known.append(stream)
            owner = f"array {name!r}"
            yield from _field_problems(stream, part.field, (*where, "field"), owner, file)
    if len(known) < len(array.parts):
        return
    pictures = [s for s in known if s.kind in PICTURES]
    if pictures and len(known) > 1:
        yield Problem(
            file.line((*at, "from")), f"array {name!r} has {len(known)} parts", "A picture has one."
        )
    prefix = PICTURES[pictures[0].kind] if pictures else ""
    if name != prefix + base:
        yield Problem(
            file.line(at),
            f"array name {name!r} does not fit its kind {known[0].kind.value!r}",
            f"Call it {prefix + base!r}.",
        )
    spec = array_spec(name, array, {n: s for n, s in streams.items() if s is not None})
    if array.names and spec.shape and (pictures or spec.shape != (len(array.names),)):
        yield Problem(
            file.line((*at, "names")),
            f"array {name!r} has {len(array.names)} names and shape {list(spec.shape)}",
            "Give one name per number, or leave them out.",
        )


_TWISTS = (CommandKind.TWIST, CommandKind.TWIST_STAMPED)
_NAMED = (CommandKind.JOINT_GROUP, CommandKind.JOINT_SINGLE)


def _command_problems(
    name: str,
    command: PresetCommand | None,
    streams: Mapping[str, PresetStream | None],
    arrays: Mapping[str, PresetArray | None],
    file: Located,
) -> Iterator[Problem]:
    at: Path = ("commands", name)
    if command is None:
        return
    acting = {
        part.stream: streams.get(part.stream)
        for array in arrays.values()
        if array is not None and array.role == "action"
        for part in array.parts
    }
    if command.stream not in acting:
        yield Problem(
            file.line((*at, "from")),
            f"command {name!r} is learned from {command.stream!r}, which no action is made of",
            nearest(command.stream, acting),
        )
        return
    stream = acting[command.stream]
    if stream is None:
        return
    joints = stream.joints
    strangers = [joint for joint in command.joints if joint not in joints]
    if strangers and (joints or stream.kind is not StreamKind.JOINT_STATE):
        yield Problem(
            file.line((*at, "joints")),
            f"command {name!r} has joints {strangers} that stream {command.stream!r} has not",
            f"It has: {', '.join(joints) or 'no joints'}.",
        )
    if (command.kind in _TWISTS) is (stream.kind is StreamKind.JOINT_STATE):
        yield Problem(
            file.line((*at, "kind")),
            f"command {name!r} of kind {command.kind.value!r} is learned from a stream of kind "
            f"{stream.kind.value!r}",
            "Joints are sent as joints, velocities of a base as a twist.",
        )
    if (command.kind in _NAMED) is not bool(command.group):
        yield Problem(
            file.line((*at, "group")),
            f"command {name!r} of kind {command.kind.value!r} has group {command.group!r}",
            f"A group is for {' and '.join(k.value for k in _NAMED)}, which need one.",
        )
    measured = streams.get(command.feedback) if command.feedback else None
    if command.feedback and (measured is None or measured.kind is not StreamKind.JOINT_STATE):
        yield Problem(
            file.line((*at, "feedback")),
            f"command {name!r} has feedback {command.feedback!r}, which is no joint_state stream",
            nearest(command.feedback, streams),
        )
    if command.scale == 0:
        yield Problem(file.line((*at, "scale")), f"command {name!r} has scale 0")
    yield from _limit_problems(name, command, stream, file)


def _limit_problems(
    name: str, command: PresetCommand, stream: PresetStream, file: Located
) -> Iterator[Problem]:
    if command.kind in _TWISTS:
        known = tuple(f"{part}.{axis}" for part in ("linear", "angular") for axis in "xyz")
    else:
        known = command.joints or stream.joints
    for joint, limit in command.limits.items():
        at: Path = ("commands", name, "limits", joint)
        if known and joint not in known:
            yield Problem(
                file.line(at),
                f"command {name!r} limits {joint!r}, which it does not send",
                nearest(joint, known),
            )
        low = float("-inf") if limit.low is None else limit.low
        high = float("inf") if limit.high is None else limit.high
        if low > high:
            yield Problem(
                file.line((*at, "low")),
                f"command {name!r} limits {joint!r} to low {low:g}, high {high:g}",
                "The low one comes first.",
            )
        elif command.kind in _TWISTS and not low <= 0 <= high:
            yield Problem(
                file.line(at),
                f"command {name!r} limits {joint!r} to {low:g} to {high:g}",
                "A velocity must be allowed to be 0: it could not be stopped.",
            )
