"""A real rclpy node that follows commands of cobot_magic's kind, in a process of its own.

    python tests/ros2_follower.py NODE LOG

Speaks over stdin and stdout as `Follower.told` says. Arms listen for JointState and for
JointTrajectory.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

sys.path.insert(0, str(Path(__file__).parent))
from follower import ARMS, Follower, serve


class Ros2:
    def __init__(self, node: Any) -> None:
        self._node = node
        self.types = {
            "Image": Image,
            "JointState": JointState,
            "Odometry": Odometry,
            "Twist": Twist,
        }

    def publisher(self, topic: str, type_: Any, depth: int) -> Any:
        return self._node.create_publisher(type_, topic, depth)

    def subscribe(self, topic: str, type_: Any, heard: Callable[[Any], None]) -> None:
        self._node.create_subscription(type_, topic, heard, 10)

    def stamp(self, message: Any, stamp_ns: int) -> None:
        stamp = message.header.stamp
        stamp.sec, stamp.nanosec = divmod(stamp_ns, 10**9)


def main() -> None:
    name, log = sys.argv[1:]
    rclpy.init(args=[])
    node = rclpy.create_node(name, enable_rosout=False, start_parameter_services=False)
    ros, robot = Ros2(node), Follower(Path(log))
    for arm in ARMS:
        ros.subscribe(
            f"/{arm}/joint_trajectory",
            JointTrajectory,
            lambda message, arm=arm: robot.follow(
                arm,
                nanoseconds(message.header.stamp),
                [(nanoseconds(p.time_from_start), list(p.positions)) for p in message.points],
            ),
        )
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    serve(ros, robot, name, tick_s=0.01)
    executor.shutdown()
    spinning.join()
    node.destroy_node()
    rclpy.try_shutdown()


def nanoseconds(time: Any) -> int:
    return int(time.sec) * 10**9 + int(time.nanosec)


if __name__ == "__main__":
    main()
