"""A demonstrator that knows where everything is: waypoints of both tools, turned into joints.

The whole motion is planned before it begins, in the space of the tools, and then commanded in the
space of the joints without another look. Adding to a command what its joint lags behind (some
degrees: friction is large and the servos are springs) was tried: it helps neither task, holds fewer
pegs to the end, and makes the commands harder to learn. The same seed gives the same demonstration.

Shape suffixes: T ticks, A action dim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from act_model.sim.tasks import START_POSE, Task
from act_model.sim.world import Kinematics, World

_LEFT, _RIGHT = 0, 1
_PITCH = np.deg2rad(60)  # how steeply a tool comes from above
_OPEN, _CLOSED = 1.0, 0.0
_BASE_X, _BASE_Y = 0.469, 0.5  # of the arms: the left one at -x


@dataclass(frozen=True, slots=True, kw_only=True)
class Waypoint:
    """Where a tool is at a tick; it moves in straight lines between two, softly in time.

    Attributes:
        position: Metres, in the room.
        pitch: Radians that the tool looks down.
        roll: Radians that it is turned about its own axis.
        gripper: 0 closed, 1 open.
    """

    tick: int
    position: NDArray[np.float64]
    pitch: float
    roll: float = 0.0
    gripper: float = _OPEN


class Expert:
    """Plans demonstrations of a task."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._kinematics = Kinematics(task)
        self._rest = START_POSE[[0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]].reshape(2, 6)

    def plan(self, world: World) -> NDArray[np.float64]:
        """(T, A) what to command at each tick, for the objects of `world` as they lie now."""
        tools = [self._kinematics.tool(arm, self._rest[arm]) for arm in (_LEFT, _RIGHT)]
        plan = _PLANS[self._task.name](world.objects, [position for position, _ in tools])
        paths = [self._joint_path(arm, plan[arm], tools[arm][1]) for arm in (_LEFT, _RIGHT)]
        return np.concatenate(paths, axis=1)

    def _joint_path(
        self, arm: int, waypoints: Sequence[Waypoint], rest_axes: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(T, 7) joints and gripper of one arm."""
        path = np.empty((self._task.ticks, 7))
        joints = self._rest[arm]
        number = 0
        for tick in range(self._task.ticks):
            while number + 2 < len(waypoints) and tick >= waypoints[number + 1].tick:
                number += 1
            a, b = waypoints[number], waypoints[min(number + 1, len(waypoints) - 1)]
            share = _soft((tick - a.tick) / max(1, b.tick - a.tick))
            position = a.position + share * (b.position - a.position)
            pitch, roll = a.pitch + share * (b.pitch - a.pitch), a.roll + share * (b.roll - a.roll)
            axes = _axes(arm, position, pitch, roll)
            joints = self._kinematics.joints(arm, position, axes @ rest_axes, joints)
            path[tick, :6] = joints
            path[tick, 6] = a.gripper + share * (b.gripper - a.gripper)
        return path


def _transfer(
    objects: NDArray[np.float64], rest: Sequence[NDArray[np.float64]]
) -> tuple[list[Waypoint], list[Waypoint]]:
    """Right picks the cube up and holds it between the arms, left takes it from there."""
    cube = objects[:3].copy()
    cube[2] = 0.02
    meet = np.array([0.0, 0.5, 0.25])
    up, side = np.array([0.0, 0.0, 0.1]), np.array([0.1, 0.0, 0.0])
    right = [
        Waypoint(tick=0, position=rest[_RIGHT], pitch=0.0, gripper=_CLOSED),
        Waypoint(tick=80, position=cube + up, pitch=_PITCH),
        Waypoint(tick=110, position=cube, pitch=_PITCH),
        Waypoint(tick=115, position=cube, pitch=_PITCH),
        Waypoint(tick=135, position=cube, pitch=_PITCH, gripper=_CLOSED),
        Waypoint(tick=165, position=cube + up, pitch=_PITCH, gripper=_CLOSED),
        Waypoint(tick=220, position=meet, pitch=_PITCH, gripper=_CLOSED),
        Waypoint(tick=285, position=meet, pitch=_PITCH, gripper=_CLOSED),
        Waypoint(tick=305, position=meet, pitch=_PITCH),
        Waypoint(tick=335, position=meet + side + up, pitch=_PITCH),
        Waypoint(tick=400, position=meet + side + up, pitch=_PITCH),
    ]
    left = [
        Waypoint(tick=0, position=rest[_LEFT], pitch=0.0, gripper=_CLOSED),
        Waypoint(tick=120, position=meet - 1.5 * side, pitch=0.0, roll=-np.pi / 2),
        Waypoint(tick=215, position=meet - 1.5 * side, pitch=0.0, roll=-np.pi / 2),
        Waypoint(tick=255, position=meet, pitch=0.0, roll=-np.pi / 2),
        Waypoint(tick=260, position=meet, pitch=0.0, roll=-np.pi / 2),
        Waypoint(tick=280, position=meet, pitch=0.0, roll=-np.pi / 2, gripper=_CLOSED),
        Waypoint(tick=310, position=meet, pitch=0.0, roll=-np.pi / 2, gripper=_CLOSED),
        Waypoint(tick=350, position=meet - side, pitch=0.0, roll=-np.pi / 2, gripper=_CLOSED),
        Waypoint(tick=400, position=meet - side, pitch=0.0, roll=-np.pi / 2, gripper=_CLOSED),
    ]
    return left, right


def _insertion(
    objects: NDArray[np.float64], rest: Sequence[NDArray[np.float64]]
) -> tuple[list[Waypoint], list[Waypoint]]:
    """Each arm picks its part up; they come together along the parts' long side."""
    peg, socket = objects[:3].copy(), objects[7:10].copy()
    peg[2], socket[2] = 0.01, 0.022
    return (
        _carry(_LEFT, rest[_LEFT], socket, np.array([-0.043, 0.5, 0.2])),
        _carry(_RIGHT, rest[_RIGHT], peg, np.array([0.043, 0.5, 0.2])),
    )


def _carry(
    arm: int, rest: NDArray[np.float64], at: NDArray[np.float64], meet: NDArray[np.float64]
) -> list[Waypoint]:
    up = np.array([0.0, 0.0, 0.1])
    apart = np.array([-0.1 if arm == _LEFT else 0.1, 0.0, 0.0])

    def hold(tick: int, position: NDArray[np.float64], gripper: float) -> Waypoint:
        return Waypoint(tick=tick, position=position, pitch=_PITCH, gripper=gripper)

    return [
        Waypoint(tick=0, position=rest, pitch=0.0, gripper=_CLOSED),
        hold(80, at + up, _OPEN),
        hold(110, at, _OPEN),
        hold(125, at, _OPEN),
        hold(145, at, _CLOSED),
        hold(175, at + up, _CLOSED),
        hold(250, meet + apart, _CLOSED),
        hold(270, meet + apart, _CLOSED),
        hold(340, meet, _CLOSED),
        hold(400, meet, _CLOSED),
    ]


_PLANS: Mapping[
    str,
    Callable[
        [NDArray[np.float64], Sequence[NDArray[np.float64]]],
        tuple[list[Waypoint], list[Waypoint]],
    ],
] = {"transfer_cube": _transfer, "insertion": _insertion}


def _soft(share: float) -> float:
    """0 to 1 with zero velocity at both ends."""
    x = min(1.0, max(0.0, share))
    return x * x * (3 - 2 * x)


def _axes(
    arm: int, position: NDArray[np.float64], pitch: float, roll: float
) -> NDArray[np.float64]:
    """The rotation of a tool against its rest; the arms face each other along x.

    The tool looks where its arm points. Held parallel to x instead, the wrist would pass through
    its singularity, and solve it by a turn of forearm and hand by half a revolution to either side.
    """
    sign = 1.0 if arm == _LEFT else -1.0
    yaw = np.arctan2(sign * (position[1] - _BASE_Y), sign * position[0] + _BASE_X)
    about_z = _rotation(2, yaw)
    return about_z @ _rotation(1, sign * pitch) @ _rotation(0, sign * roll)


def _rotation(axis: int, angle: float) -> NDArray[np.float64]:
    c, s = np.cos(angle), np.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix
