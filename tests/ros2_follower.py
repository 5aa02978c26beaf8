"""A real rclpy node that follows commands of cobot_magic's kind, in a process of its own.

    python tests/ros2_follower.py NODE LOG

Speaks over stdin and stdout as `Follower.told` says. Arms listen for JointState and for
JointTrajectory.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import rclpy
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

sys.path.insert(0, str(Path(__file__).parent))
from follower import ARMS, JOINTS, Follower

CAMERAS = ("/camera_f/color/image_raw", "/camera_l/color/image_raw", "/camera_r/color/image_raw")
HEIGHT, WIDTH = 48, 64
TICK_S = 0.01


def main() -> None:
    name, log = sys.argv[1:]
    rclpy.init(args=[])
    node = rclpy.create_node(name, enable_rosout=False, start_parameter_services=False)
    robot = Follower(Path(log))
    for arm in ARMS:
        node.create_subscription(
            JointState,
            f"/master/joint_{arm}",
            lambda message, arm=arm: robot.arm(arm, list(message.position)),
            10,
        )
        node.create_subscription(
            JointTrajectory,
            f"/{arm}/joint_trajectory",
            lambda message, arm=arm: robot.follow(
                arm,
                message.header.stamp.sec * 10**9 + message.header.stamp.nanosec,
                [
                    (p.time_from_start.sec * 10**9 + p.time_from_start.nanosec, list(p.positions))
                    for p in message.points
                ],
            ),
            10,
        )
    node.create_subscription(Twist, "/cmd_vel", lambda m: robot.drive(m.linear.x, m.angular.z), 10)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    ended = threading.Event()
    moving = threading.Thread(target=live, args=(robot, node, ended))
    moving.start()
    reply({"node": name})
    for line in sys.stdin:
        reply(robot.told(json.loads(line)))
    ended.set()
    moving.join()
    executor.shutdown()
    spinning.join()
    node.destroy_node()
    rclpy.try_shutdown()


def reply(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def live(robot: Follower, node: Any, ended: threading.Event) -> None:
    joints = {arm: node.create_publisher(JointState, f"/puppet/joint_{arm}", 100) for arm in ARMS}
    cameras = [node.create_publisher(Image, topic, 10) for topic in CAMERAS]
    odometry = node.create_publisher(Odometry, "/odom", 50)
    began, tick = time.monotonic(), 0
    while not ended.is_set():
        tick += 1
        time.sleep(max(0.0, began + tick * TICK_S - time.monotonic()))
        robot.move(TICK_S)
        if robot.frozen:
            continue
        for arm, publisher in joints.items():
            state = stamped(JointState(), robot)
            state.name = JOINTS
            state.position, state.velocity = robot.position[arm], robot.velocity[arm]
            state.effort = [0.0] * len(JOINTS)
            publisher.publish(state)
        if tick % 2 == 0:
            odom = stamped(Odometry(), robot)
            odom.twist.twist.linear.x, odom.twist.twist.angular.z = robot.base
            odometry.publish(odom)
        if tick % 3 == 0:
            for publisher in cameras:
                publisher.publish(picture(robot, tick))


def picture(robot: Follower, tick: int) -> Image:
    image = stamped(Image(), robot)
    image.height, image.width, image.encoding, image.step = HEIGHT, WIDTH, "rgb8", 3 * WIDTH
    image.data = bytes([tick % 256]) * (HEIGHT * image.step)
    return image


def stamped(message: Any, robot: Follower) -> Any:
    stamp = message.header.stamp
    stamp.sec, stamp.nanosec = divmod(robot.stamp_ns(), 10**9)
    return message


if __name__ == "__main__":
    main()
