"""The ROS 2 backend against real publishers in processes of their own."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from time import monotonic

import pytest

from act_data.sources.live import Arrival, Inbox
from act_data.sources.live.ros2 import Ros2Backend
from tests.ros2_graph import Ros2Robot, Ros2Topic

pytestmark = pytest.mark.usefixtures("ros2_domain")

ROBOT = {
    "/camera": Ros2Topic("sensor_msgs/msg/Image", 30),
    "/wrist/compressed": Ros2Topic("sensor_msgs/msg/CompressedImage", 30),
    "/joints": Ros2Topic("sensor_msgs/msg/JointState", 200, size=7),
    "/odom": Ros2Topic("nav_msgs/msg/Odometry", 50),
    "/words": Ros2Topic("std_msgs/msg/String", 10),
    "/touch": Ros2Topic("std_msgs/msg/Float64MultiArray", 20),
}


def taken(inbox: Inbox, number: int, within_s: float = 10.0) -> list[Arrival]:
    """The next `number` arrivals, or what came in time."""
    found: list[Arrival] = []
    end = monotonic() + within_s
    while len(found) < number and monotonic() < end:
        found += inbox.take(0.1)
    return found


def test_every_message_arrives_as_it_was_published(tmp_path: Path) -> None:
    inbox = Inbox()
    with Ros2Robot(tmp_path, ROBOT) as robot:
        backend = Ros2Backend()
        topics = backend.topics()
        backend.subscribe(ROBOT, inbox)
        robot.publish(1.0)
        heard = taken(inbox, 340)
        backend.close()
        assert {t: topics[t].type for t in ROBOT} == {t: ROBOT[t].type for t in ROBOT}
        for name, topic in ROBOT.items():
            payloads = [bytes(a.payload) for a in heard if a.topic == name]
            assert payloads == robot.sent(name)
            assert len(payloads) == topic.rate_hz
    assert all(a.recv_ns < b.recv_ns for a, b in pairwise(heard))
    assert not backend.missing
