"""What a person writes down about a network and a run: a YAML or JSON file, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from act_data.errors import InputError, NotFoundError
from act_data.records import Record
from act_data.robot.checks import nearest
from act_data.robot.yaml_lines import MAX_BYTES, Located, Problem, read, refusal
from act_model.config import AugmentConfig, LossConfig, NetworkConfig, TrainConfig
from act_model.families import DEFAULT, family_of

_OF_THE_DATASET: Mapping[str, object] = {"state_dim": 1, "action_dim": 1}  # never written down
_SECTIONS = ("model", "train")
_RECORDS: Mapping[tuple[str, ...], type[Record]] = {
    ("train",): TrainConfig,
    ("train", "loss"): LossConfig,
    ("train", "augment"): AugmentConfig,
}


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The fields that a file sets, checked one by one; the others are for the command to say.

    Attributes:
        model: Fields of the network's configuration, without the sizes that come from the dataset.
        train: Fields of TrainConfig; `loss` and `augment` are mappings of their own fields.
    """

    model: Mapping[str, Any]
    train: Mapping[str, Any]


def read_config(path: Path, policy: str | None = None) -> ConfigFile:
    """The file at `path`: `model:` with fields of the network, `train:` with those of TrainConfig.

    JSON is YAML, so one reader does for both. Nothing is constructed from it.

    Args:
        policy: The family whose network it is; None: the one that the file names, or the default.

    Raises:
        NotFoundError: There is no such file.
        InputError: It cannot be read, or says something wrong: file, line, value and choices, all
            problems at once.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(
            f"no configuration file {str(path)!r}", hint="Give an existing YAML or JSON file."
        ) from None
    except OSError as e:
        raise InputError(f"{path}: cannot be read: {e.strerror}", hint="Give a file.") from None
    if len(data) > MAX_BYTES:
        raise InputError(
            f"{path}: larger than {MAX_BYTES} bytes", hint="A configuration is a short file."
        )
    try:
        located, problems = read(data.decode("utf-8"))
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise InputError(
            f"{path}:{line}: not UTF-8: byte {data[e.start]:#04x}", hint="Save it as UTF-8."
        ) from None
    file = ConfigFile(model={}, train={})
    if not problems:
        file, problems = _checked(located, policy)
    if problems:
        raise refusal(str(path), sorted(problems, key=lambda p: p.line))
    return file


def _checked(located: Located, policy: str | None) -> tuple[ConfigFile, list[Problem]]:
    """What the values mean, and everything that is wrong with them."""
    data = located.data
    if not isinstance(data, dict):
        return ConfigFile({}, {}), [
            Problem(1, f"{data!r} is not a mapping", "Write `model:` and `train:`.")
        ]
    problems = [
        Problem(located.line((name,)), f"unknown key {name!r}", nearest(name, _SECTIONS))
        for name in data
        if name not in _SECTIONS
    ]
    try:
        network = _network(data, policy)
    except InputError as e:
        line = located.line(("model", "policy"))
        return ConfigFile({}, {}), [*problems, Problem(line, str(e), e.hint)]
    records = {**_RECORDS, ("model",): network}
    sections: dict[str, Mapping[str, Any]] = {}
    for name in _SECTIONS:
        given = data.get(name)
        if given is None:  # absent, or nothing but comments
            given = {}
        if not isinstance(given, dict):
            what = f"{name} is {given!r}, not a mapping of its fields"
            problems.append(Problem(located.line((name,)), what))
            continue
        sizes = _OF_THE_DATASET if name == "model" else {}
        for field in sizes.keys() & given.keys():
            what = f"{name}.{field} comes from the dataset"
            problems.append(Problem(located.line((name, field)), what, "Leave it out."))
        try:
            checked = records[name,].model_validate({**given, **sizes})
        except ValidationError as e:
            problems += [_problem(name, error, located, records) for error in e.errors()]
        else:
            dumped = checked.model_dump(exclude_unset=True)
            sections[name] = {field: v for field, v in dumped.items() if field not in sizes}
    return ConfigFile(sections.get("model", {}), sections.get("train", {})), problems


def _network(data: Mapping[str, Any], policy: str | None) -> type[NetworkConfig]:
    """The configuration of the family that is asked for, in the file or otherwise."""
    model = data.get("model")
    named = model.get("policy", DEFAULT) if isinstance(model, dict) else DEFAULT
    kind: type[NetworkConfig] = family_of(str(policy or named)).config
    return kind


def _problem(
    section: str,
    error: ErrorDetails,
    located: Located,
    records: Mapping[tuple[str, ...], type[Record]],
) -> Problem:
    where = (section, *error["loc"])
    line, name = located.line(where), ".".join(map(str, where))
    if error["type"] == "extra_forbidden":
        fields = tuple(f for f in records[_names(where[:-1])].model_fields)
        choices = tuple(f for f in fields if f not in _OF_THE_DATASET)
        return Problem(line, f"unknown key {name!r}", nearest(str(where[-1]), choices))
    way_out = ""
    if _names(where) in records:
        way_out = f"Its fields are: {', '.join(records[_names(where)].model_fields)}."
    return Problem(line, f"{name} is {error['input']!r}: {error['msg']}", way_out)


def _names(where: tuple[str | int, ...]) -> tuple[str, ...]:
    return tuple(map(str, where))
