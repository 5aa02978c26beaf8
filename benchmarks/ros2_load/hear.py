"""One subscriber of the benchmark, in a process of its own.

    python hear.py ours|rclpy|events|ws://HOST:PORT reliable|best_effort '{"/arm": ["Image", 30]}'

rclpy is told the reliability that the publishers offer; ours finds it out. Says "ready", hears
until stdin is closed, and prints one JSON object: seconds of CPU of the process since then, what
it counted as missing itself, and of each message number and latency in us.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from act_data.sources.live import Inbox, LiveBackend

HEAD = struct.Struct("<iII8s")  # stamp, length of frame_id, frame_id; behind the encapsulation
SAMPLES: dict[str, list[tuple[int, int]]] = {}
RCLPY_DEPTH = 10  # what people write, and what ROS's own tutorials do


def main() -> None:
    how, reliability, topics = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    SAMPLES.update({topic: [] for topic in topics})
    over = Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        over.set()

    Thread(target=wait_for_the_end, daemon=True).start()
    backend = None
    if how in ("rclpy", "events"):
        spin = rclpy_node(how, reliability, topics)
    else:
        backend = listening(how, topics)
        spin = over.wait
    print("ready", flush=True)
    cpu_s = time.process_time()
    while not over.is_set():
        spin(0.1)
    cpu_s = time.process_time() - cpu_s
    missing = dict(getattr(backend, "missing", {}))
    if backend is not None:
        backend.close()
    print(json.dumps({"cpu_s": cpu_s, "missing": missing, "samples": SAMPLES}), flush=True)
    os._exit(0)


def listening(how: str, topics: dict[str, Any]) -> LiveBackend:
    """The product's backend, and a thread that takes the messages out as a recording does."""
    backend: LiveBackend
    if how == "ours":
        from act_data.sources.live.ros2 import Ros2Backend

        backend = Ros2Backend()
    else:
        from act_data.sources.live.foxglove import FoxgloveBackend

        backend = FoxgloveBackend(how)
    inbox = Inbox()
    backend.subscribe(topics, inbox)
    Thread(target=take, args=(inbox,), daemon=True).start()
    return backend


def take(inbox: Inbox) -> None:
    while True:
        for arrival in inbox.take(1.0):
            note(arrival.topic, arrival.recv_ns, arrival.payload)


def note(topic: str, recv_ns: int, payload: bytes | memoryview) -> None:
    sec, nsec, _, number = HEAD.unpack_from(payload, 4)
    SAMPLES[topic].append((int(number), (recv_ns - sec * 10**9 - nsec) // 1000))


def rclpy_node(how: str, reliability: str, topics: dict[str, Any]) -> Callable[[float], object]:
    """rclpy as people use it; `events`: raw messages on its EventsExecutor, our QoS."""
    import rclpy
    from nav_msgs.msg import Odometry
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.experimental import EventsExecutor
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image, JointState

    types = {"Image": Image, "JointState": JointState, "Odometry": Odometry}

    def decoded(topic: str) -> Callable[[Any], None]:
        def heard(message: Any) -> None:
            stamp = message.header.stamp
            late_ns = time.time_ns() - stamp.sec * 10**9 - stamp.nanosec
            SAMPLES[topic].append((int(message.header.frame_id), late_ns // 1000))

        return heard

    def raw(topic: str) -> Callable[[bytes], None]:
        return lambda payload: note(topic, time.time_ns(), payload)

    rclpy.init(args=[])
    node = rclpy.create_node("hear")
    for topic, (kind, _) in topics.items():
        depth = (150 if kind == "Image" else 2000) if how == "events" else RCLPY_DEPTH
        qos = QoSProfile(depth=depth, reliability=ReliabilityPolicy[reliability.upper()])
        callback = raw(topic) if how == "events" else decoded(topic)
        node.create_subscription(types[kind], topic, callback, qos, raw=how == "events")
    executor = EventsExecutor() if how == "events" else SingleThreadedExecutor()
    executor.add_node(node)
    return lambda seconds: executor.spin_once(seconds)


if __name__ == "__main__":
    main()
