"""A rospy node that publishes at fixed rates. Runs on Debian's Python, which has no numpy.

    /usr/bin/python3 publish.py NODE SECONDS '{"/arm": ["JointState", 200]}' [FRAMES]

Waits until everything is subscribed, then for a line on stdin; says what it has sent: by topic the
first and the last `header.seq`, and how late the latest message left, in ms.
"""

from __future__ import annotations

import heapq
import json
import sys
import time
from pathlib import Path

import rospy
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image, JointState

HEIGHT, WIDTH = 480, 640
QUEUE = {"Image": 10, "JointState": 100, "Odometry": 100}


def main() -> None:
    node, seconds, topics = sys.argv[1], float(sys.argv[2]), json.loads(sys.argv[3])
    rospy.init_node(node, disable_signals=True, disable_rosout=True)
    frames = pictures(Path(sys.argv[4])) if len(sys.argv) > 4 else []
    state = JointState(name=[f"joint{i}" for i in range(7)], position=[0.5] * 7, velocity=[0.1] * 7)
    types = {"Image": Image, "JointState": JointState, "Odometry": Odometry}
    publishers = {
        topic: rospy.Publisher(topic, types[kind], queue_size=QUEUE[kind])
        for topic, (kind, _) in topics.items()
    }
    while not all(p.get_num_connections() for p in publishers.values()):
        time.sleep(0.01)
    print("subscribed", flush=True)
    sys.stdin.readline()

    sent = dict.fromkeys(topics, 0)
    latest = 0.0
    start = time.monotonic()
    # As free-running sensors do, each starts at a moment of its own.
    queue = [(k / 7 / hz, topic, kind, hz) for k, (topic, (kind, hz)) in enumerate(topics.items())]
    heapq.heapify(queue)
    while queue[0][0] < seconds:
        due, topic, kind, hz = queue[0]
        time.sleep(max(0.0, start + due - time.monotonic()))
        message = {"Image": frames and frames[sent[topic] % len(frames)], "JointState": state}.get(
            kind, Odometry()
        )
        message.header.stamp.secs, message.header.stamp.nsecs = divmod(time.time_ns(), 10**9)
        publishers[topic].publish(message)
        sent[topic] += 1
        latest = max(latest, time.monotonic() - start - due)
        heapq.heapreplace(queue, (due + 1 / hz, topic, kind, hz))
    # rospy numbers what it publishes from 1.
    print(json.dumps({"sent": sent, "latest_ms": 1e3 * latest}), flush=True)
    sys.stdin.readline()
    rospy.signal_shutdown("done")


def pictures(file: Path) -> list[Image]:
    data, size = file.read_bytes(), HEIGHT * WIDTH * 3
    return [
        Image(
            height=HEIGHT, width=WIDTH, encoding="rgb8", step=WIDTH * 3, data=data[at : at + size]
        )
        for at in range(0, len(data), size)
    ]


if __name__ == "__main__":
    main()
