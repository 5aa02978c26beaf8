"""Real ROS robots: the frames of their live topics are those of the recording, bit for bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep

import pytest

from act_data.robot import load_robot
from act_data.sources import find_recordings, open_recording
from act_data.sources.live import Inbox, LiveBackend, LiveSource, Spool, open_backend
from act_data.sources.storage import Channel
from tests.live_topics import seen
from tests.ros1_graph import Ros1Graph, need_ros1
from tests.ros2_graph import Ros2Robot, Ros2Topic
from tests.small_robot import robot_file

ROBOT = """\
name: real
fps: 30
streams:
  cam: {topic: /camera, kind: image}
  wrist: {topic: /wrist/compressed, kind: image}
  arm: {topic: /arm, kind: joint_state, unit: rad}
  lead: {topic: /lead, kind: joint_state, unit: rad, sync: linear}
  base: {topic: /odom, kind: odometry, sync: nearest}
arrays:
  qpos: {role: observation, from: arm}
  images/cam: {role: observation, from: cam}
  images/wrist: {role: observation, from: wrist}
  base: {role: observation, from: base}
  action: {role: action, from: lead}
"""


def told(backend: LiveBackend, topics: list[str]) -> dict[str, Channel]:
    """The channels of `topics`, as soon as their publishers have told them."""
    deadline = monotonic() + 20
    while monotonic() < deadline:
        found = {t: c for t in topics if (c := backend.channel(t)) is not None}
        if len(found) == len(topics):
            return found
        sleep(0.02)
    raise AssertionError(f"only {sorted(found)} have told their type")


def test_ros1(tmp_path: Path) -> None:
    need_ros1()
    robot = load_robot(robot_file(tmp_path, ROBOT))
    topics = {
        "/camera": {"type": "sensor_msgs/Image", "size": [48, 64]},
        "/wrist/compressed": {"type": "sensor_msgs/CompressedImage"},
        "/arm": {"type": "sensor_msgs/JointState"},
        "/lead": {"type": "sensor_msgs/JointState"},
        "/odom": {"type": "nav_msgs/Odometry"},
    }
    inbox = Inbox()
    with (
        Ros1Graph(tmp_path) as graph,
        graph.publisher("robot", topics) as publisher,
        closing(open_backend(f"ros1:{graph.uri}")) as backend,
        ThreadPoolExecutor(1) as threads,
    ):
        backend.subscribe(topics, inbox)
        channels = told(backend, list(topics))
        publisher.wait_for_subscribers()
        spool = Spool(tmp_path / "live.mcap", channels.values(), {})
        source = LiveSource(backend, inbox, channels, spool)
        live = threads.submit(lambda: list(seen(source, robot)))
        publisher.begin(300, hz=100)
        sent = publisher.published()
        sleep(0.3)
        source.stop()
        frames = live.result(30)
        path = spool.finish({})
    with open_recording(find_recordings([path])[0]) as recorded:
        for topic in topics:
            assert [m.stamp_ns for m in recorded.messages([topic])] == sent[topic]
        assert frames == list(seen(recorded, robot))
    assert len(frames) >= 85
    assert sum(bool(usable) for _, usable, *_ in frames) > 60


@pytest.mark.usefixtures("ros2_domain")
def test_ros2(tmp_path: Path) -> None:
    robot = load_robot(robot_file(tmp_path, ROBOT))
    topics = {
        "/camera": Ros2Topic("sensor_msgs/msg/Image", 30, size=64),
        "/wrist/compressed": Ros2Topic("sensor_msgs/msg/CompressedImage", 30, size=64),
        "/arm": Ros2Topic("sensor_msgs/msg/JointState", 200, size=7),
        "/lead": Ros2Topic("sensor_msgs/msg/JointState", 200, size=7),
        "/odom": Ros2Topic("nav_msgs/msg/Odometry", 50),
    }
    inbox = Inbox()
    with (
        Ros2Robot(tmp_path, topics) as publisher,
        closing(open_backend("ros2")) as backend,
        ThreadPoolExecutor(1) as threads,
    ):
        backend.subscribe(topics, inbox)
        channels = told(backend, list(topics))
        spool = Spool(tmp_path / "live.mcap", channels.values(), {})
        source = LiveSource(backend, inbox, channels, spool)
        live = threads.submit(lambda: list(seen(source, robot)))
        publisher.publish(3.0)
        sleep(0.3)
        source.stop()
        frames = live.result(30)
        path = spool.finish({})
        sent = {topic: publisher.sent(topic) for topic in topics}
    with open_recording(find_recordings([path])[0]) as recorded:
        spooled = {t: [bytes(m.payload) for m in recorded.messages([t])] for t in topics}
        assert spooled == sent
        assert frames == list(seen(recorded, robot))
    assert len(frames) >= 85
    assert sum(bool(usable) for _, usable, *_ in frames) > 60
