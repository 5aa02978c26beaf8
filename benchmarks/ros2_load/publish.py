"""An rclpy node that publishes at fixed rates, as a driver does: objects, and its own QoS.

    python publish.py NODE SECONDS DEPTH reliable|best_effort '{"/arm": ["JointState", 200]}'

Waits until everything is subscribed, then for a line on stdin; says how many messages of each topic
it has sent, and how late the latest one left, in ms. A message carries its number from 0 in its
frame_id, in eight digits.
"""

from __future__ import annotations

import array
import heapq
import json
import os
import sys
import time
from typing import Any

import rclpy
from nav_msgs.msg import Odometry
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState

WIDTH, HEIGHT = 640, 480
PATIENCE_S = 30.0
LINGER_S = 2.0  # for what a reliable subscriber still asks for


def main() -> None:
    node_name, seconds, depth, reliability = sys.argv[1:5]
    topics: dict[str, tuple[str, float]] = json.loads(sys.argv[5])
    rclpy.init(args=[])
    node = rclpy.create_node(node_name)
    qos = QoSProfile(depth=int(depth), reliability=ReliabilityPolicy[reliability.upper()])
    messages = {topic: message(kind) for topic, (kind, _) in topics.items()}
    publishers = {t: node.create_publisher(type(m), t, qos) for t, m in messages.items()}
    give_up = time.monotonic() + PATIENCE_S
    while not all(p.get_subscription_count() for p in publishers.values()):
        if time.monotonic() > give_up:
            sys.exit(f"{node_name}: nobody listens to all topics")
        time.sleep(0.05)
    time.sleep(0.5)  # the other side needs to have heard of this one, too
    print("subscribed", flush=True)
    sys.stdin.readline()

    sent = dict.fromkeys(topics, 0)
    latest = 0.0
    start = time.monotonic()
    # As free-running sensors do, each starts at a moment of its own.
    queue = [(k / 7 / hz, topic, hz) for k, (topic, (_, hz)) in enumerate(topics.items())]
    heapq.heapify(queue)
    while queue[0][0] < float(seconds):
        due, topic, hz = queue[0]
        time.sleep(max(0.0, start + due - time.monotonic()))
        latest = max(latest, time.monotonic() - start - due)
        header = messages[topic].header
        header.frame_id = f"{sent[topic]:08d}"
        header.stamp.sec, header.stamp.nanosec = divmod(time.time_ns(), 10**9)
        publishers[topic].publish(messages[topic])
        sent[topic] += 1
        heapq.heapreplace(queue, (due + 1 / hz, topic, hz))
    print(json.dumps({"sent": sent, "latest_ms": 1e3 * latest}), flush=True)
    time.sleep(LINGER_S)
    sys.stdin.read()
    os._exit(0)


def message(kind: str) -> Any:
    if kind == "Image":
        noise = array.array("B", os.urandom(3 * WIDTH * HEIGHT))
        return Image(width=WIDTH, height=HEIGHT, step=3 * WIDTH, encoding="rgb8", data=noise)
    if kind == "JointState":
        names = [f"joint{i}" for i in range(7)]
        return JointState(name=names, position=[0.5] * 7, velocity=[0.1] * 7, effort=[0.0] * 7)
    return Odometry()


if __name__ == "__main__":
    main()
