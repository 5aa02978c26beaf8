"""A robot that listens to ROS topics: its preset says which part of an action goes where."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from act_data.commands import Encoder, open_publisher
from act_data.errors import ActError, DataError, InputError
from act_data.robot import load_robot, with_joints
from act_data.types import (
    NS_PER_S,
    ArrayPart,
    CommandKind,
    CommandSpec,
    RobotSpec,
    Role,
    StreamKind,
)
from act_model.commands.interface import Plan
from act_model.config import Contract, VectorContract

REST_S = 0.5  # how long a controller brakes whose plan is recalled
_PLANNED = CommandKind.TRAJECTORY_CHUNK
_SAME = 1e-6  # of its unit: a command is what was planned
_TWISTS = (CommandKind.TWIST, CommandKind.TWIST_STAMPED)
_PATIENCE_S = 10.0  # how long the robot's drivers may take to listen
_RESTS = 3  # how often a base is told to stand still: its last message must not be one that is lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Commanded:
    """One command of a robot and what of the action it carries.

    Attributes:
        index: Positions in the action of its elements.
        elements: Joint names; of a twist "linear.x", ...
    """

    spec: CommandSpec
    index: NDArray[np.intp]
    elements: tuple[str, ...]


def commanded(robot: RobotSpec, action: Sequence[VectorContract]) -> list[Commanded]:
    """The commands of `robot` for an action made of the arrays `action`.

    Raises:
        InputError: An element of the action has no command, or an array is not the robot's.
    """
    robot = learned_joints(robot, action)
    places: dict[tuple[str, str], int] = {}
    start = 0
    for vector in action:
        for place in _elements(robot, vector):
            places[place] = start
            start += 1
    found = []
    for spec in robot.commands:
        elements = tuple(e for stream, e in places if stream == spec.stream)
        wanted = tuple(e for e in spec.joints or elements if e in elements)
        if wanted:
            index = np.array([places[spec.stream, element] for element in wanted])
            found.append(Commanded(spec=spec, index=index, elements=wanted))
    sent = {(c.spec.stream, element) for c in found for element in c.elements}
    if missing := [
        f"{stream}/{element}" for stream, element in places if (stream, element) not in sent
    ]:
        raise InputError(
            f"robot {robot.name!r} has no command for {', '.join(missing)}",
            hint="Add a `commands` section to its file that says where they are sent; "
            "`act-data robots cobot_magic` shows one.",
        )
    return found


def learned_joints(robot: RobotSpec, vectors: Sequence[VectorContract]) -> RobotSpec:
    """`robot` with the joint order of a policy, where its preset leaves it to a recording."""
    joints: dict[str, tuple[str, ...]] = {}
    for name, _, joint in (
        e.partition("/") for e in dict.fromkeys(n for v in vectors for n in v.names)
    ):
        joints[name] = (*joints.get(name, ()), joint)
    return with_joints(robot, joints)


def _elements(robot: RobotSpec, vector: VectorContract) -> list[tuple[str, str]]:
    """Stream and element of each number of an action array."""
    array = next((a for a in robot.arrays if a.name == vector.name and a.role is Role.ACTION), None)
    if array is None:
        raise InputError(
            f"robot {robot.name!r} has no action {vector.name!r}",
            hint="Name the robot that the policy was trained on.",
        )
    found = [(part.stream, e) for part in array.parts for e in _of_part(robot, part)]
    if len(found) != len(vector.names):
        raise InputError(
            f"action {vector.name!r} has {len(found)} elements in robot {robot.name!r} and "
            f"{len(vector.names)} in the policy",
            hint="Name the robot that the policy was trained on.",
        )
    return found


def _of_part(robot: RobotSpec, part: ArrayPart) -> tuple[str, ...]:
    stream = robot.stream(part.stream)
    if stream.kind is StreamKind.JOINT_STATE:
        return stream.joints
    return tuple(".".join(path.split(".")[-2:]) for path in part.field or stream.field)


class TopicSink:
    """Publishes every command as the robot's drivers expect it."""

    def __init__(self, ros: str, robot: RobotSpec, contract: Contract) -> None:
        """Advertise the command topics of `robot`.

        Args:
            ros: "ros1[:MASTER_URI]", "ros2[:DOMAIN]" or "mcap:FILE".

        Raises:
            InputError: An element of the action has no command.
            NotFoundError, DataError: ROS cannot be reached, or nobody listens to a command.
        """
        self._commands = commanded(robot, contract.action)
        topics: dict[str, str] = {}
        encoders = []
        for command in self._commands:
            encoder = Encoder(
                command.spec.kind,
                command.elements,
                "ros1" if ros.startswith("ros1") else "cdr",
                group=command.spec.group,
                period_ns=round(NS_PER_S / contract.rate_hz),
            )
            encoders.append(encoder)
            topics[command.spec.topic] = encoder.type
        self._encoders = encoders
        self._last: NDArray[np.float64] | None = None
        self._size = sum(len(vector.names) for vector in contract.action)
        self._stopped = False
        self._plan: Plan | None = None
        self._publisher = open_publisher(ros, topics)
        self._wait_for_listeners(time.monotonic() + _PATIENCE_S)

    def send(self, action_A: NDArray[np.float32], valid_ns: int) -> None:
        """Publish each part of the action on its topic.

        Raises:
            DataError: ROS cannot be reached any more.
        """
        if self._stopped:
            return
        self._last = action_A.astype(np.float64)
        planned = self._is_planned(self._last, valid_ns)
        if not planned:
            self._plan = None
        self._publish(self._last, moving=True, planned=planned)

    @property
    def plans(self) -> bool:
        """Whether a command of the robot is sent as trajectories."""
        return any(command.spec.kind is _PLANNED for command in self._commands)

    def plan(self, path_HA: NDArray[np.floating], valid_ns: int, period_ns: int) -> None:
        """Send it as one trajectory, which takes the place of the one before.

        Its stamp is the time of its first action on the wall clock; point i is to be reached i + 1
        periods later. What follows as planned is not sent again; the first command that is another
        one ends it.

        Raises:
            DataError: ROS cannot be reached any more.
        """
        if self._stopped:
            return
        path = path_HA.astype(np.float64)
        self._plan = Plan(path, valid_ns, period_ns)
        stamp_ns = time.time_ns() + valid_ns - time.monotonic_ns()
        for command, encode in zip(self._commands, self._encoders, strict=True):
            spec = command.spec
            if spec.kind is _PLANNED:
                points = path[:, command.index] * spec.scale + spec.offset
                self._publisher.publish(spec.topic, encode.along(points, stamp_ns, period_ns))

    @property
    def planned(self) -> Plan | None:
        """The trajectory that is being followed."""
        return self._plan

    def recall(self, plan: Plan) -> None:
        """Put a trajectory to rest in the place of `plan`, unless that is over.

        Raises:
            DataError: ROS cannot be reached any more.
        """
        if (rest := to_rest(plan, time.monotonic_ns())) is not None:
            self.plan(rest.path, rest.begin_ns, rest.period_ns)

    def hold(self) -> None:
        """Publish the last positions again, and velocities of zero."""
        if not self._stopped:
            self._rest(1)

    def stop(self) -> None:
        """Publish velocities of zero; arms stay where they were sent."""
        if not self._stopped:
            self._stopped = True
            self._rest(_RESTS)

    def close(self) -> None:
        """Advertise no more."""
        self._publisher.close()

    def listeners(self) -> dict[str, int]:
        """How many subscribe to each command topic."""
        topics = (command.spec.topic for command in self._commands)
        return {topic: self._publisher.listeners(topic) for topic in topics}

    def _wait_for_listeners(self, deadline_s: float) -> None:
        while deaf := [topic for topic, n in self.listeners().items() if n == 0]:
            if time.monotonic() > deadline_s:
                name = self._publisher.name
                self.close()
                raise DataError(
                    f"nobody listens to {', '.join(deaf)} on {name}",
                    hint="Start the drivers of the robot, or correct `commands` in its file.",
                )
            time.sleep(0.02)

    def _is_planned(self, action_A: NDArray[np.float64], valid_ns: int) -> bool:
        if self._plan is None:
            return False
        path_HA, begin_ns, period_ns = self._plan
        number = round((valid_ns - begin_ns) / period_ns)
        if not 0 <= number < len(path_HA):
            return False
        return bool((np.abs(path_HA[number] - action_A) <= _SAME).all())

    def _rest(self, times: int) -> None:
        self._plan = None
        positions = np.zeros(self._size) if self._last is None else self._last
        for _ in range(times):
            with suppress(ActError):  # it is gone: there is nobody to hold
                self._publish(positions, moving=False, arms=self._last is not None)

    def _publish(
        self,
        action_A: NDArray[np.float64],
        *,
        moving: bool,
        arms: bool = True,
        planned: bool = False,
    ) -> None:
        stamp_ns = time.time_ns()
        for command, encode in zip(self._commands, self._encoders, strict=True):
            spec = command.spec
            if planned and spec.kind is _PLANNED:
                continue
            if spec.kind in _TWISTS and not moving:
                values = np.zeros(len(command.index))
            elif spec.kind in _TWISTS or arms:
                values = action_A[command.index] * spec.scale + spec.offset
            else:
                continue
            self._publisher.publish(spec.topic, encode(values, stamp_ns))


def to_rest(plan: Plan, now_ns: int) -> Plan | None:
    """On along `plan` from where its controller is, ever slower, until it stands after `REST_S`.

    So it stays within what was checked, is never faster, and goes as far as the plan does in half
    of that time. None: the plan is over.
    """
    last = len(plan.path) - 1
    place = (now_ns - plan.begin_ns) / plan.period_ns - 1
    if place >= last:
        return None
    steps = math.ceil(REST_S * NS_PER_S / plan.period_ns)
    step = np.arange(1, steps + 1)
    places = np.clip(place + step - step**2 / (2 * steps), 0, last)
    path = [np.interp(places, np.arange(last + 1), way) for way in plan.path.T]
    return Plan(np.stack(path, axis=1), now_ns, plan.period_ns)


def topic_sink(ros: str, where: str, contract: Contract) -> TopicSink:
    """The sink "ros1:WHERE", "ros2:WHERE", "mcap:FILE"; "WHERE#ROBOT" is for another robot."""
    place, _, robot = where.partition("#")
    spec = load_robot(robot or contract.robot)
    return TopicSink(f"{ros}:{place}" if place else ros, spec, contract)
