"""A robot of ROS 2 for tests: real rclpy publishers in a process of their own, on loopback.

    with Ros2Robot(tmp_path, {"/joints": Ros2Topic("sensor_msgs/msg/JointState", 200)}) as robot:
        robot.publish(2.0)              # two seconds at the topics' rates, once somebody listens
        sent = robot.sent("/joints")    # the payloads, in order

The fixture `ros2_domain` gives tests a domain that nobody else on this machine uses.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from act_data.sources.storage import Channel
from tests.bags import u32

ROOT = Path(__file__).parent.parent
FIRST_DOMAIN, LAST_DOMAIN = 40, 100
START_S = 20.0


@dataclass(frozen=True)
class Ros2Topic:
    """What a publisher offers.

    Attributes:
        type: Image, CompressedImage and JointState of sensor_msgs, Odometry of nav_msgs, String
            and Float64MultiArray of std_msgs.
        size: Width of pictures (4:3), or number of joints.
        depth: Messages that the publisher keeps for those who have not got them.
    """

    type: str
    rate_hz: float = 30.0
    size: int = 32
    reliable: bool = True
    latched: bool = False
    depth: int = 1000


def needs_ros2() -> None:
    """Skip the test where rclpy cannot be imported, and say why."""
    pytest.importorskip(
        "rclpy", reason="no rclpy (the extra `ros2` has it for x86-64 Linux)", exc_type=ImportError
    )


@contextmanager
def own_domain() -> Iterator[int]:
    """A domain for this process and its children, on loopback only."""
    for domain in range(FIRST_DOMAIN, LAST_DOMAIN + 1):
        with Path(tempfile.gettempdir(), f"act-ros2-domain-{domain}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("ROS_DOMAIN_ID", str(domain))
                environment.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
                yield domain
            return
    raise RuntimeError(f"every domain from {FIRST_DOMAIN} to {LAST_DOMAIN} is in use")


class Ros2Robot:
    """A process with one node and the publishers of `topics`. Use it in a `with` statement."""

    def __init__(self, folder: Path, topics: Mapping[str, Ros2Topic], node: str = "robot") -> None:
        self._sent = folder / f"{node}.sent"
        spec = {"node": node, "topics": {t: asdict(topic) for t, topic in topics.items()}}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.ros2_graph", json.dumps(spec), str(self._sent)],
            cwd=ROOT,
            env={**os.environ, "ROS_HOME": str(folder / "ros_home")},  # for its log files
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer("ready")

    def publish(self, seconds: float, *, listeners: int = 1) -> None:
        """Send every topic at its rate, and come back when it is done.

        Args:
            listeners: Wait for so many subscriptions of each topic first, 20 s at most.
        """
        self.start(seconds, listeners=listeners)
        self.wait()

    def start(self, seconds: float, *, listeners: int = 1) -> None:
        """Begin to send; `wait` for the end."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"seconds": seconds, "listeners": listeners}) + "\n")
        self._process.stdin.flush()

    def wait(self) -> None:
        """Until everything that was started has been sent."""
        self._answer("sent")

    def sent(self, topic: str) -> list[bytes]:
        """The serialised messages of `topic` so far, in order."""
        found = []
        data = self._sent.read_bytes()
        while data:
            name_size, size = (int.from_bytes(data[i : i + 4], "little") for i in (0, 4))
            name, payload = data[8 : 8 + name_size], data[8 + name_size : 8 + name_size + size]
            data = data[8 + name_size + size :]
            if name.decode() == topic:
                found.append(payload)
        return found

    def kill(self) -> None:
        """As a power cut would: nobody says goodbye."""
        segments = _shared_memory(self._process.pid)
        self._process.kill()
        self._process.communicate()
        for segment in segments:
            segment.unlink(missing_ok=True)

    def close(self) -> None:
        """Let the process leave the graph and end."""
        self._process.communicate(timeout=START_S)

    def _answer(self, word: str) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if line != word:
            self.kill()
            raise RuntimeError(f"the publisher says {line!r} instead of {word!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def number_of(channel: Channel, payload: bytes | memoryview) -> int:
    """The running number that a message of a `Ros2Robot` carries in its frame_id."""
    from act_data.sources.message_types import message_type

    return int(message_type(channel).deserialize(payload).header.frame_id)


def _shared_memory(pid: int) -> set[Path]:
    """What Fast DDS keeps in shared memory for a process; a killed one leaves it behind."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    names = {line.split()[-1] for line in lines if "/dev/shm/fast" in line and "_port" not in line}
    return {Path(name + end) for name in names for end in ("", "_el")}


# --- the publisher's process --------------------------------------------------------------------


def _message(topic: Ros2Topic) -> Any:
    from importlib import import_module

    import numpy as np

    package, _, name = topic.type.split("/")
    message = getattr(import_module(f"{package}.msg"), name)()
    noise = np.random.default_rng(0)
    width, height = topic.size, topic.size * 3 // 4
    picture = noise.integers(0, 256, (height, width, 3), np.uint8)
    if name == "Image":
        message.width, message.height, message.step = width, height, 3 * width
        message.encoding, message.data = "rgb8", picture.tobytes()
    elif name == "CompressedImage":
        from simplejpeg import encode_jpeg

        message.format, message.data = "rgb8; jpeg compressed bgr8", encode_jpeg(picture)
    elif name == "JointState":
        message.name = [f"joint{i}" for i in range(topic.size)]
        message.position = message.velocity = message.effort = [0.0] * topic.size
    return message


def _fill(message: Any, number: int, stamp_ns: int) -> None:
    """What differs from message to message: stamp, running number, and values that move."""
    if hasattr(message, "header"):
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        message.header.frame_id = str(number)
    if hasattr(message, "position"):
        message.position = [0.01 * number + i for i in range(len(message.position))]
    elif hasattr(message, "pose"):
        message.pose.pose.position.x = 0.01 * number
    elif not hasattr(message, "header"):
        message.data = str(number) if isinstance(message.data, str) else [float(number)]


def _publisher(spec: dict[str, Any], sent: Path) -> None:
    import time

    import rclpy
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
    from rclpy.serialization import serialize_message

    rclpy.init(args=[])
    node = rclpy.create_node(spec["node"])
    topics = {name: Ros2Topic(**topic) for name, topic in spec["topics"].items()}
    messages = {name: _message(topic) for name, topic in topics.items()}
    publishers = {
        name: node.create_publisher(
            type(messages[name]),
            name,
            QoSProfile(
                depth=topic.depth,
                reliability=ReliabilityPolicy.RELIABLE
                if topic.reliable
                else ReliabilityPolicy.BEST_EFFORT,
                durability=DurabilityPolicy.TRANSIENT_LOCAL
                if topic.latched
                else DurabilityPolicy.VOLATILE,
            ),
        )
        for name, topic in topics.items()
    }
    numbers = dict.fromkeys(topics, 0)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    with sent.open("wb", buffering=0) as log:
        for line in sys.stdin:
            order = json.loads(line)
            give_up = time.monotonic() + START_S
            while any(p.get_subscription_count() < order["listeners"] for p in publishers.values()):
                if time.monotonic() > give_up:
                    raise SystemExit("nobody listens")
                time.sleep(0.02)
            if order["listeners"]:
                time.sleep(0.3)  # the other side needs to have heard of this one, too
            due = sorted(
                (i / topic.rate_hz, name)
                for name, topic in topics.items()
                for i in range(round(order["seconds"] * topic.rate_hz))
            )
            began = time.monotonic()
            for at_s, name in due:
                time.sleep(max(0.0, began + at_s - time.monotonic()))
                _fill(messages[name], numbers[name], time.time_ns())
                numbers[name] += 1
                payload = serialize_message(messages[name])
                payload += bytes(-len(payload) % 4)  # as the middleware would fill it up
                log.write(u32(len(name)) + u32(len(payload)) + name.encode() + payload)
                publishers[name].publish(payload)
            sys.stdout.write("sent\n")
            sys.stdout.flush()
    rclpy.shutdown()


if __name__ == "__main__":
    _publisher(json.loads(sys.argv[1]), Path(sys.argv[2]))
