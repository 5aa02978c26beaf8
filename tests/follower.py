"""A robot that does as it is told, for tests: two arms that follow commands, and a base.

`ros1_follower.py` and `ros2_follower.py` are it on a real ROS. Only the standard library: it also
runs on the Python of Debian's ROS 1.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

JOINTS = [f"joint{i}" for i in range(7)]
ARMS = ("left", "right")
CAMERAS = ("/camera_f/color/image_raw", "/camera_l/color/image_raw", "/camera_r/color/image_raw")
HEIGHT, WIDTH = 48, 64
MAX_SPEED = 3.0  # rad/s of every joint


class Follower:
    """Moves each joint towards what was commanded last, and logs every command.

    A base that has been told to move goes on until it is told otherwise: nothing here stops it.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        log.write_text("")
        self._wanted = {arm: [0.0] * len(JOINTS) for arm in ARMS}
        self._path: dict[str, list[tuple[int, list[float]]]] = {arm: [] for arm in ARMS}
        self.position = {arm: [0.0] * len(JOINTS) for arm in ARMS}
        self.velocity = {arm: [0.0] * len(JOINTS) for arm in ARMS}
        self.base = (0.0, 0.0)
        self.commands = 0
        self.frozen = False  # publishes nothing
        self.shift_ns = 0  # added to every stamp

    def arm(self, arm: str, position: list[float]) -> None:
        """A command to an arm."""
        self._wanted[arm] = [float(p) for p in position]
        self._path[arm] = []
        self._note(arm, self._wanted[arm])

    def follow(self, arm: str, stamp_ns: int, points: list[tuple[int, list[float]]]) -> None:
        """A trajectory, as joint_trajectory_controller takes one: it replaces the one before.

        Args:
            stamp_ns: Wall clock.
            points: When each is to be reached, after the stamp, and where it is.
        """
        self._path[arm] = [(stamp_ns + after_ns, list(where)) for after_ns, where in points]
        self._note(f"path {arm}", [len(points), (stamp_ns - time.time_ns()) / 1e9])

    def drive(self, linear: float, angular: float) -> None:
        """A command to the base."""
        self.base = (float(linear), float(angular))
        self._note("base", list(self.base))

    def _note(self, what: str, values: list[float]) -> None:
        self.commands += 1
        line = {"at": time.monotonic_ns(), "what": what, "values": values}
        with self._log.open("a") as log:
            log.write(json.dumps(line) + "\n")

    def move(self, seconds: float) -> None:
        """Let that time pass."""
        now_ns = time.time_ns()
        for arm in ARMS:
            while self._path[arm] and self._path[arm][0][0] <= now_ns:  # points of the past too
                self._wanted[arm] = [float(p) for p in self._path[arm].pop(0)[1]]
            for i, (here, there) in enumerate(
                zip(self.position[arm], self._wanted[arm], strict=True)
            ):
                step = max(-MAX_SPEED * seconds, min(MAX_SPEED * seconds, there - here))
                self.position[arm][i] = here + step
                self.velocity[arm][i] = step / seconds

    def stamp_ns(self) -> int:
        """What its messages are stamped with."""
        return time.time_ns() + self.shift_ns

    def told(self, command: dict[str, Any]) -> dict[str, Any]:
        """A test speaks to it: {"do": "state" | "freeze" | "thaw" | "shift", "seconds": 10}."""
        if command["do"] == "freeze":
            self.frozen = True
        elif command["do"] == "thaw":
            self.frozen = False
        elif command["do"] == "shift":
            self.shift_ns = int(command["seconds"] * 1e9)
        return {"commands": self.commands, "position": self.position, "base": self.base}


class Node(Protocol):
    """One ROS. Attributes: types: Its Image, JointState, Odometry and Twist, by name."""

    types: dict[str, Any]

    def publisher(self, topic: str, type_: Any, depth: int) -> Any: ...

    def subscribe(self, topic: str, type_: Any, heard: Callable[[Any], None]) -> None: ...

    def stamp(self, message: Any, stamp_ns: int) -> None: ...


def serve(node: Node, robot: Follower, name: str, *, tick_s: float) -> None:
    """Be cobot_magic until standard input is closed; a line there is something it is told."""
    twist, joint_state = node.types["Twist"], node.types["JointState"]
    for arm in ARMS:
        node.subscribe(
            f"/master/joint_{arm}",
            joint_state,
            lambda message, arm=arm: robot.arm(arm, list(message.position)),
        )
    node.subscribe("/cmd_vel", twist, lambda m: robot.drive(m.linear.x, m.angular.z))
    ended = threading.Event()
    moving = threading.Thread(target=_live, args=(node, robot, ended, tick_s))
    moving.start()
    _reply({"node": name})
    for line in sys.stdin:
        _reply(robot.told(json.loads(line)))
    ended.set()
    moving.join()


def _reply(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _live(node: Node, robot: Follower, ended: threading.Event, tick_s: float) -> None:
    def new(type_: str) -> Any:
        message = node.types[type_]()
        node.stamp(message, robot.stamp_ns())
        return message

    joints = {
        arm: node.publisher(f"/puppet/joint_{arm}", node.types["JointState"], 100) for arm in ARMS
    }
    cameras = [node.publisher(topic, node.types["Image"], 10) for topic in CAMERAS]
    odometry = node.publisher("/odom", node.types["Odometry"], 50)
    began, tick = time.monotonic(), 0
    odometry_every, picture_every = round(0.02 / tick_s), round(0.03 / tick_s)
    while not ended.is_set():
        tick += 1
        time.sleep(max(0.0, began + tick * tick_s - time.monotonic()))
        robot.move(tick_s)
        if robot.frozen:
            continue
        for arm, publisher in joints.items():
            state = new("JointState")
            state.name = JOINTS
            state.position, state.velocity = robot.position[arm], robot.velocity[arm]
            state.effort = [0.0] * len(JOINTS)
            publisher.publish(state)
        if tick % odometry_every == 0:
            odom = new("Odometry")
            odom.twist.twist.linear.x, odom.twist.twist.angular.z = robot.base
            odometry.publish(odom)
        if tick % picture_every == 0:
            for publisher in cameras:
                image = new("Image")
                image.height, image.width, image.step = HEIGHT, WIDTH, 3 * WIDTH
                image.encoding = "rgb8"
                image.data = bytes([tick % 256]) * (HEIGHT * image.step)
                publisher.publish(image)
