"""A real rospy node that follows the commands of cobot_magic. Runs on Debian's Python.

    /usr/bin/python3 tests/ros1_follower.py NODE LOG

Speaks over stdin and stdout as `Follower.told` says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rospy
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image, JointState

sys.path.insert(0, str(Path(__file__).parent))
from follower import Follower, serve


class Ros1:
    def __init__(self) -> None:
        self.types = {
            "Image": Image,
            "JointState": JointState,
            "Odometry": Odometry,
            "Twist": Twist,
        }

    def publisher(self, topic: str, type_: Any, depth: int) -> Any:
        return rospy.Publisher(topic, type_, queue_size=depth)

    def subscribe(self, topic: str, type_: Any, heard: Callable[[Any], None]) -> None:
        rospy.Subscriber(topic, type_, heard, tcp_nodelay=True)

    def stamp(self, message: Any, stamp_ns: int) -> None:
        stamp = message.header.stamp
        stamp.secs, stamp.nsecs = divmod(stamp_ns, 10**9)


def main() -> None:
    name, log = sys.argv[1:]
    rospy.init_node(name, disable_signals=True, disable_rosout=True)
    serve(Ros1(), Follower(Path(log)), name, tick_s=0.005)
    rospy.signal_shutdown("stdin was closed")


if __name__ == "__main__":
    main()
