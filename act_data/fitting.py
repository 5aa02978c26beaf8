"""Which robot recordings are of, and that every one of them fits it: before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from act_data.errors import DataError
from act_data.robot import bind, load_robot, preset_names
from act_data.sources import Recording, open_recording
from act_data.types import RobotSpec, TopicInfo

T = TypeVar("T")

AUTO = "auto"


def robot_of(recordings: Sequence[Recording], name: str) -> RobotSpec:
    """The robot called `name`, which all recordings are of.

    Args:
        name: Preset or YAML file; "auto" is the preset that fits the first recording best.

    Raises:
        InputError: The YAML file says something wrong.
        NotFoundError: There is no such preset or file.
        DataError: Recordings that cannot be opened, or lack topics of the robot; all of them.
    """
    robot, unfit = fitting(recordings, name)
    if unfit or robot is None:
        raise together(list(unfit.values()), len(recordings))
    return robot


def fitting(
    recordings: Sequence[Recording], name: str
) -> tuple[RobotSpec | None, dict[Recording, DataError]]:
    """The robot called `name`, and the recordings that are not of it, with the reason.

    Reads the index of every recording, so that a damaged one is found now and not after hours.

    Args:
        name: Preset or YAML file; "auto" is the preset that fits the first recording best. None
            fits any: no robot.

    Raises:
        InputError: The YAML file says something wrong.
        NotFoundError: There is no such preset or file.
    """
    robot = None if name == AUTO else load_robot(name)
    topics, unfit = _each(recordings, _topics)
    for recording in topics if robot is None else ():
        found, misses = _each([recording], lambda first: fitting_robot(topics[first]))
        unfit |= misses
        if robot := found.get(recording):
            break
    if robot is not None:
        chosen = robot
        unfit |= _each(list(topics), lambda recording: bind(chosen, topics[recording]))[1]
    return robot, {r: unfit[r] for r in recordings if r in unfit}


def together(errors: Sequence[DataError], recordings: int) -> DataError:
    """One error about all `errors` of so many recordings."""
    if len(errors) == 1:
        return errors[0]
    return DataError(
        f"{len(errors)} of {recordings} recordings cannot be ingested:\n"
        + "\n".join(f"  {e}" for e in errors),
        hint=f"Nothing was written. Leave them out, or: {errors[0].hint}",
    )


def fitting_robot(topics: Mapping[str, TopicInfo]) -> RobotSpec:
    """The preset whose required streams are all in `topics`; of several, the one that reads most.

    Raises:
        DataError: No preset fits; says what each one misses.
    """
    fitting: dict[str, int] = {}
    misses: list[str] = []
    for name in preset_names():
        try:
            fitting[name] = len(bind(load_robot(name), topics))
        except DataError as e:
            misses.append(f"  {str(e).splitlines()[0].rstrip(':')}")
    if not fitting:
        there = ", ".join(f"{t.name} ({t.type.rsplit('/', 1)[-1]})" for t in topics.values())
        raise DataError(
            "no robot preset fits the topics:\n"
            + "\n".join(misses)
            + f"\nIt has: {there or 'no topic at all'}",
            hint="Say which with --robot: a preset (`act-data robots`) or an own YAML file; "
            "`act-data inspect BAG --write robot.yaml` proposes one.",
        )
    return load_robot(max(fitting, key=lambda name: fitting[name]))


def named(error: DataError, recording: Recording) -> DataError:
    """`error` with the recording that it is about, and a way out."""
    text = str(error)
    if not text.startswith(f"{recording.name}:") and all(
        str(f) not in text for f in recording.files
    ):
        text = f"{recording.name}: {text}"
    return DataError(text, hint=error.hint or "Leave this recording out, or record it again.")


def _topics(recording: Recording) -> Mapping[str, TopicInfo]:
    with open_recording(recording) as source:
        return source.topics


def _each(
    recordings: Sequence[Recording], ask: Callable[[Recording], T]
) -> tuple[dict[Recording, T], dict[Recording, DataError]]:
    """What `ask` gives for each recording, and the error for each for which it raises."""
    found: dict[Recording, T] = {}
    errors: dict[Recording, DataError] = {}
    for recording in recordings:
        try:
            found[recording] = ask(recording)
        except DataError as e:
            errors[recording] = named(e, recording)
    return found, errors
