"""What lies beside a recording in words: its sidecar, and files that list segments.

    bags/pour_3.bag      bags/pour_3.yaml          (or .json)
    bags/pour_4/         bags/pour_4/episode.yaml  of a rosbag2 directory

A sidecar holds `task`, `operator`, `success` and `notes`, and `steps` where the recorder was asked
for so many; all optional.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import Field, ValidationError

from act_data.errors import InputError
from act_data.records import Annotation, Record
from act_data.robot.yaml_lines import MAX_BYTES, Problem, read
from act_data.sources import Recording

_SUFFIXES = (".yaml", ".json")
_LISTED = 20


class Sidecar(Annotation):
    """What lies beside a recording.

    Attributes:
        steps: How many steps of the recording are wanted. A recorder stops when it has seen so
            many, and a few more wait in it at that moment.
    """

    steps: int | None = Field(None, ge=1)


def sidecar_of(recording: Recording) -> Path | None:
    """The file that annotates `recording`, if there is one.

    Raises:
        InputError: There are two.
    """
    if recording.metadata is not None:
        stem = recording.metadata.parent / "episode"
    else:
        stem = recording.files[0].parent / recording.name
    found = [path for s in _SUFFIXES if (path := stem.with_name(stem.name + s)).is_file()]
    if len(found) > 1:
        raise InputError(
            f"{recording.name} is annotated twice: {found[0]} and {found[1]}",
            hint="Keep one of them.",
        )
    return found[0] if found else None


def annotation_of(recording: Recording) -> Sidecar:
    """What its sidecar says about `recording`; nothing when it has none.

    Raises:
        InputError: The sidecar is no annotation; names file and line of every problem.
    """
    path = sidecar_of(recording)
    if path is None:
        return Sidecar()
    located, problems = read(text_of(path, MAX_BYTES))
    if not problems and not isinstance(located.data, dict):
        problems = [Problem(1, "not a mapping", f"Say one of: {', '.join(Sidecar.model_fields)}.")]
    if not problems:
        try:
            return Sidecar.model_validate(located.data)
        except ValidationError as e:
            problems = field_problems(e, lambda name: located.line((name,)), Sidecar)
    raise error_in(path, problems)


def field_problems(
    error: ValidationError, line: Callable[[str], int], known: type[Record] = Annotation
) -> list[Problem]:
    """What is wrong with the fields of a record; `line` gives the line of a field's name."""
    names = ", ".join(known.model_fields)
    return [
        Problem(line(str(e["loc"][0])), f"unknown key {str(e['loc'][0])!r}", f"Known: {names}.")
        if e["type"] == "extra_forbidden"
        else Problem(line(str(e["loc"][0])), f"{e['loc'][0]} is {e['input']!r}: {e['msg']}")
        for e in error.errors()
    ]


def text_of(path: Path, limit: int) -> str:
    """The text of a file that a person wrote.

    Raises:
        InputError: It cannot be read, is larger than `limit` bytes, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as e:
        raise InputError(
            f"{path}: cannot be read: {e.strerror}", hint="Check the path and its permissions."
        ) from None
    if len(data) > limit:
        raise InputError(f"{path}: larger than {limit} bytes", hint="Split it.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise error_in(path, [Problem(line, f"not UTF-8: byte {data[e.start]:#04x}")]) from None


def error_in(path: Path, problems: list[Problem]) -> InputError:
    """One error about all problems of a file."""
    lines = [f"{path}:{p.line}: {p.what}" for p in problems[:_LISTED]]
    if len(problems) > _LISTED:
        lines.append(f"and {len(problems) - _LISTED} more")
    way_out = next((p.way_out for p in problems if p.way_out), "") or "Correct this line."
    if len(lines) == 1:
        return InputError(lines[0], hint=way_out)
    return InputError(
        f"{path} has {len(problems)} problems:\n  " + "\n  ".join(lines), hint=way_out
    )
