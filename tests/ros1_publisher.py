"""A real rospy node, told over stdin what to publish. Runs on the Python that has Debian's ROS 1.

    /usr/bin/python3 tests/ros1_publisher.py NODE '{"/joints": {"type": "sensor_msgs/JointState"}}'

Reads one JSON object per line and answers each with one. Every message carries its number: images
in all their bytes (modulo 256), JPEGs in a comment, joint states in their positions.

    {"do": "subscribers"}                       answers how many each topic has
    {"do": "publish", "count": 30, "hz": 100}   of each topic; answers the stamps in ns by topic
    {"do": "unpublish", "topic": "/joints"}     the topic ends, the node goes on
"""

from __future__ import annotations

import base64
import json
import struct
import sys
import time
from typing import Any

import rospy
from genpy.dynamic import generate_dynamic
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String

TYPES = {cls._type: cls for cls in (CompressedImage, Image, JointState, Odometry, String)}


def main() -> None:
    node, topics = sys.argv[1], json.loads(sys.argv[2])
    rospy.init_node(node, disable_signals=True, disable_rosout=True)
    publishers = {topic: advertise(topic, **options) for topic, options in topics.items()}
    sent = dict.fromkeys(topics, 0)
    reply({"node": node})
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "subscribers":
            reply({topic: p.get_num_connections() for topic, p in publishers.items()})
        elif command["do"] == "publish":
            reply(publish(publishers, topics, sent, command["count"], command["hz"]))
        elif command["do"] == "unpublish":
            publishers.pop(command["topic"]).unregister()
            reply({})
    rospy.signal_shutdown("stdin was closed")


def reply(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def advertise(
    topic: str, *, type: str, definition: str = "", latch: bool = False, **_: Any
) -> rospy.Publisher:
    """A publisher; a type that no package has is made from its definition."""
    cls = generate_dynamic(type, definition)[type] if definition else TYPES[type]
    return rospy.Publisher(topic, cls, queue_size=1000, latch=latch)


def publish(
    publishers: dict[str, rospy.Publisher],
    topics: dict[str, dict[str, Any]],
    sent: dict[str, int],
    count: int,
    hz: float,
) -> dict[str, list[int]]:
    stamps: dict[str, list[int]] = {topic: [] for topic in publishers}
    start = time.monotonic()
    for i in range(count):
        time.sleep(max(0.0, start + i / hz - time.monotonic()))
        for topic, publisher in publishers.items():
            message = filled(publisher.data_class(), sent[topic], topics[topic])
            stamp_ns = time.time_ns()
            if hasattr(message, "header"):
                message.header.stamp.secs, message.header.stamp.nsecs = divmod(stamp_ns, 10**9)
            publisher.publish(message)
            stamps[topic].append(stamp_ns)
            sent[topic] += 1
    return stamps


def filled(message: Any, number: int, options: dict[str, Any]) -> Any:
    if isinstance(message, Image):
        message.height, message.width = options.get("size", (48, 64))
        message.encoding, message.step = "rgb8", message.width * 3
        message.data = bytes([number % 256]) * (message.height * message.step)
    elif isinstance(message, CompressedImage):
        jpeg = base64.b64decode(options["jpeg"])
        comment = b"\xff\xfe" + struct.pack(
            ">HQ", 10, number
        )  # behind the two bytes it begins with
        message.format, message.data = "jpeg", jpeg[:2] + comment + jpeg[2:]
    elif isinstance(message, JointState):
        message.name = [f"joint{i}" for i in range(7)]
        message.position = [number + i / 10 for i in range(7)]
        message.velocity = [0.5] * 7
    elif isinstance(message, Odometry):
        message.child_frame_id = "base_link"
        message.twist.twist.linear.x = float(number)
    elif isinstance(message, String):
        message.data = str(number)
    elif message._type == "interbotix_xs_msgs/JointGroupCommand":
        message.name, message.cmd = "arm", [float(number)] * 6
    return message


if __name__ == "__main__":
    main()
