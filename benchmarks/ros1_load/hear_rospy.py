"""Subscribers of rospy, as people write them. Needs Debian's packages in PYTHONPATH.

python hear_rospy.py rospy|any|slow quiet|busy '{"/arm": ["JointState", 200]}'
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import rospy
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image, JointState

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.ros1_load.listening import SAMPLES, note, until_the_end

WORK_S = 0.05
TYPES = {"Image": Image, "JointState": JointState, "Odometry": Odometry}


def main() -> None:
    how, main_thread, topics = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    SAMPLES.update({topic: [] for topic in topics})
    rospy.init_node("hear_rospy", disable_signals=True, disable_rosout=True)
    for topic, (kind, _) in topics.items():
        if how == "any":
            rospy.Subscriber(topic, rospy.AnyMsg, raw, callback_args=topic, buff_size=2**24)
        else:
            work = slow if how == "slow" and kind == "Image" else decoded
            rospy.Subscriber(topic, TYPES[kind], work, callback_args=topic)
    until_the_end(list(topics), busy=main_thread == "busy")
    os._exit(0)  # rospy's threads wait for a master that is no longer needed


def raw(message: Any, topic: str) -> None:
    note(topic, time.time_ns(), message._buff[:12])


def decoded(message: Any, topic: str) -> None:
    now_ns, header = time.time_ns(), message.header
    SAMPLES[topic].append((header.seq, (now_ns - header.stamp.to_nsec()) // 1000))


def slow(message: Any, topic: str) -> None:
    """Work in the callback: here it only waits, and leaves the interpreter to the others."""
    decoded(message, topic)
    time.sleep(WORK_S)


if __name__ == "__main__":
    main()
