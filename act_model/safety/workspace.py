"""The file of a workspace: boxes for the tips of a robot, checked when it is read."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from act_data.errors import InputError, NotFoundError
from act_data.robot.yaml_lines import MAX_BYTES, Problem, read, refusal
from act_model.safety.records import Box, WorkspaceFile

_EXAMPLE = "boxes: [{frame: LINK, min: [0, -0.4, 0], max: [0.6, 0.4, 0.5]}]"


def read_workspace(path: Path) -> tuple[Box, ...]:
    """The boxes of the YAML file at `path`.

    Raises:
        NotFoundError: There is no such file.
        InputError: It cannot be read, or says something wrong: file, line and value, all problems
            at once.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(
            f"no workspace file {str(path)!r}", hint=f"Give a YAML file: {_EXAMPLE}"
        ) from None
    except OSError as e:
        raise InputError(f"{path}: cannot be read: {e.strerror}", hint="Give a file.") from None
    return parse_workspace(str(path), data)


def parse_workspace(file: str, data: bytes) -> tuple[Box, ...]:
    """The boxes of a YAML file's content.

    Args:
        file: What errors call it.

    Raises:
        InputError: It says something wrong; all problems at once.
    """
    if len(data) > MAX_BYTES:
        raise InputError(
            f"{file}: larger than {MAX_BYTES} bytes", hint="A workspace is a short YAML file."
        )
    try:
        located, problems = read(data.decode("utf-8"))
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise refusal(file, [Problem(line, f"not UTF-8: byte {data[e.start]:#04x}")]) from None
    if problems:
        raise refusal(file, problems)
    try:
        return WorkspaceFile.model_validate(located.data).boxes
    except ValidationError as e:
        found = []
        for error in e.errors():
            where = ".".join(map(str, error["loc"])) or "the file"
            said = "missing" if error["type"] == "missing" else _shown(error["input"])
            what = f"{where} is {said}: {error['msg']}"
            found.append(Problem(located.line(error["loc"]), what, f"Write: {_EXAMPLE}"))
        raise refusal(file, sorted(found, key=lambda p: p.line)) from None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
