"""What a robot's preset says about the elements of an action: limits, and how they are sent."""

from __future__ import annotations

from collections.abc import Sequence

from act_data.types import JointLimit, RobotSpec
from act_model.commands import labels
from act_model.commands.topics import commanded
from act_model.config import VectorContract
from act_model.safety.limits import Sent


def preset_limits(robot: RobotSpec, action: Sequence[VectorContract]) -> dict[str, JointLimit]:
    """The limits of what is sent for each element of `action` that has some, by its name.

    Raises:
        InputError: The action is not that of the robot.
    """
    if not robot.commands:
        return {}
    names = [name for name, _ in labels(action)]
    return {
        names[i]: command.spec.limits[element]
        for command in commanded(robot, action)
        for i, element in zip(command.index, command.elements, strict=True)
        if element in command.spec.limits
    }


def sent_by(robot: RobotSpec, action: Sequence[VectorContract]) -> Sent:
    """How the robot's commands turn `action` into what is sent; as it is where it has none.

    Raises:
        InputError: The action is not that of the robot.
    """
    sent = Sent.as_it_is(len(labels(action)))
    for command in commanded(robot, action) if robot.commands else ():
        sent.scale[command.index] = command.spec.scale
        sent.offset[command.index] = command.spec.offset
    return sent
