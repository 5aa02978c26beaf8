"""The limits of a robot's preset, turned from what is sent into what a policy says."""

from __future__ import annotations

from collections.abc import Sequence

from act_data.types import CommandSpec, JointLimit, RobotSpec
from act_model.commands import labels
from act_model.commands.topics import commanded
from act_model.config import VectorContract


def preset_limits(robot: RobotSpec, action: Sequence[VectorContract]) -> dict[str, JointLimit]:
    """The limits of every element of `action` that has some, by its name and in its unit.

    Raises:
        InputError: The action is not that of the robot.
    """
    if not any(spec.limits for spec in robot.commands):
        return {}
    names = [name for name, _ in labels(action)]
    return {
        names[i]: _as_learned(command.spec.limits[element], command.spec)
        for command in commanded(robot, action)
        for i, element in zip(command.index, command.elements, strict=True)
        if element in command.spec.limits
    }


def _as_learned(limit: JointLimit, spec: CommandSpec) -> JointLimit:
    """`limit` before the scale and offset of its command."""
    low, high = (
        None if value is None else (value - spec.offset) / spec.scale
        for value in (limit.low, limit.high)
    )
    if spec.scale < 0:
        low, high = high, low
    size = abs(spec.scale)
    return JointLimit(
        low=low,
        high=high,
        velocity=None if limit.velocity is None else limit.velocity / size,
        acceleration=None if limit.acceleration is None else limit.acceleration / size,
    )
