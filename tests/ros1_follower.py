"""A real rospy node that follows the commands of cobot_magic. Runs on Debian's Python.

    /usr/bin/python3 tests/ros1_follower.py NODE LOG

Speaks over stdin and stdout as `Follower.told` says.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import rospy
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image, JointState

sys.path.insert(0, str(Path(__file__).parent))
from follower import ARMS, JOINTS, Follower

CAMERAS = ("/camera_f/color/image_raw", "/camera_l/color/image_raw", "/camera_r/color/image_raw")
HEIGHT, WIDTH = 48, 64
TICK_S = 0.005


def main() -> None:
    node, log = sys.argv[1:]
    rospy.init_node(node, disable_signals=True, disable_rosout=True)
    robot = Follower(Path(log))
    for arm in ARMS:
        rospy.Subscriber(
            f"/master/joint_{arm}",
            JointState,
            lambda message, arm=arm: robot.arm(arm, message.position),
            tcp_nodelay=True,
        )
    rospy.Subscriber(
        "/cmd_vel", Twist, lambda m: robot.drive(m.linear.x, m.angular.z), tcp_nodelay=True
    )
    ended = threading.Event()
    moving = threading.Thread(target=live, args=(robot, ended))
    moving.start()
    reply({"node": node})
    for line in sys.stdin:
        reply(robot.told(json.loads(line)))
    ended.set()
    moving.join()
    rospy.signal_shutdown("stdin was closed")


def reply(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def live(robot: Follower, ended: threading.Event) -> None:
    joints = {
        arm: rospy.Publisher(f"/puppet/joint_{arm}", JointState, queue_size=100) for arm in ARMS
    }
    cameras = [rospy.Publisher(topic, Image, queue_size=10) for topic in CAMERAS]
    odometry = rospy.Publisher("/odom", Odometry, queue_size=50)
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
        if tick % 4 == 0:
            odom = stamped(Odometry(), robot)
            odom.twist.twist.linear.x, odom.twist.twist.angular.z = robot.base
            odometry.publish(odom)
        if tick % 6 == 0:
            for publisher in cameras:
                publisher.publish(picture(robot, tick))


def picture(robot: Follower, tick: int) -> Image:
    image = stamped(Image(), robot)
    image.height, image.width, image.encoding, image.step = HEIGHT, WIDTH, "rgb8", 3 * WIDTH
    image.data = bytes([tick % 256]) * (HEIGHT * image.step)
    return image


def stamped(message: Any, robot: Follower) -> Any:
    stamp = message.header.stamp
    stamp.secs, stamp.nsecs = divmod(robot.stamp_ns(), 10**9)
    return message


if __name__ == "__main__":
    main()
