"""Publishers against real subscribers in processes of their own: rospy and rclpy."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from act_data.commands import Encoder, Publisher, open_publisher
from act_data.commands.ros1 import Ros1Publisher
from act_data.errors import DataError, InputError
from act_data.sources.live import Arrival, Inbox, open_backend
from act_data.sources.live.ros1 import rpc
from act_data.sources.live.ros1.header import decode_header, encode_header
from act_data.sources.live.ros1.sockets import Sockets
from act_data.types import CommandKind
from tests.follower_process import FollowerProcess
from tests.ros1_graph import Ros1Graph, eventually, need_ros1

LEFT, BASE = "/master/joint_left", "/cmd_vel"
TOPICS = {LEFT: "sensor_msgs/msg/JointState", BASE: "geometry_msgs/msg/Twist"}
JOINTS = [f"joint{i}" for i in range(7)]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ros1Graph]:
    need_ros1()
    with Ros1Graph(tmp_path_factory.mktemp("ros1")) as ros:
        yield ros


def send(publisher: Publisher, count: int) -> list[list[float]]:
    """`count` numbered commands to an arm and to the base."""
    arm = Encoder(CommandKind.JOINT_STATE, JOINTS, publisher.encoding)
    base = Encoder(CommandKind.TWIST, ["linear.x", "angular.z"], publisher.encoding)
    sent = []
    for n in range(count):
        values = np.arange(7) / 10 + n
        publisher.publish(LEFT, arm(values, time.time_ns()))
        publisher.publish(BASE, base(np.array([n, -n]) / 10, time.time_ns()))
        sent.append(values.tolist())
        time.sleep(0.005)
    return sent


def arrived(follower: FollowerProcess, what: str) -> list[list[float]]:
    return [command["values"] for command in follower.heard() if command["what"] == what]


def test_a_rospy_node_hears_every_command_in_order(graph: Ros1Graph, tmp_path: Path) -> None:
    with FollowerProcess(1, tmp_path, graph.environment) as follower:
        publisher = open_publisher(f"ros1:{graph.uri}", TOPICS)
        eventually(lambda: all(publisher.listeners(t) for t in TOPICS), "nobody listens")
        sent = send(publisher, 50)
        eventually(lambda: len(arrived(follower, "base")) >= 50, "commands are missing")
        assert arrived(follower, "left") == sent
        assert arrived(follower, "base")[-1] == [4.9, -4.9]
        publisher.close()
        publisher.close()
        eventually(
            lambda: LEFT not in dict(_master(graph, "getPublishedTopics", "")), "it stays known"
        )


def test_a_rclpy_node_hears_every_command_in_order(ros2_domain: int, tmp_path: Path) -> None:
    with FollowerProcess(2, tmp_path, os.environ) as follower:
        publisher = open_publisher(f"ros2:{ros2_domain}", TOPICS)
        eventually(lambda: all(publisher.listeners(t) for t in TOPICS), "nobody listens")
        sent = send(publisher, 50)
        eventually(lambda: len(arrived(follower, "base")) >= 50, "commands are missing")
        assert arrived(follower, "left") == sent
        publisher.close()
        publisher.close()  # does nothing


def test_a_master_that_comes_back_is_told_again(tmp_path: Path) -> None:
    need_ros1()
    with Ros1Graph(tmp_path) as ros, FollowerProcess(1, tmp_path, ros.environment) as follower:
        publisher = open_publisher(f"ros1:{ros.uri}", TOPICS)
        eventually(lambda: publisher.listeners(LEFT), "nobody listens")
        ros.kill_master()
        before = len(arrived(follower, "left"))
        send(publisher, 5)  # who is connected stays so without a master
        eventually(lambda: len(arrived(follower, "left")) == before + 5, "it fell silent")
        ros.start_master()
        eventually(lambda: LEFT in dict(_master(ros, "getPublishedTopics", "")), "not told again")
        publisher.close()


def test_a_subscriber_that_reads_nothing_never_makes_a_command_wait(graph: Ros1Graph) -> None:
    publisher = Ros1Publisher(TOPICS, master_uri=graph.uri)
    arm = Encoder(CommandKind.JOINT_STATE, JOINTS, "ros1")
    with _subscribed(graph, publisher) as deaf:
        eventually(lambda: publisher.listeners(LEFT) == 1, "not taken in")
        longest = 0.0
        for _ in range(20_000):  # more than any socket buffer takes
            began = time.perf_counter()
            publisher.publish(LEFT, arm(np.zeros(7), 0))
            longest = max(longest, time.perf_counter() - began)
        assert longest < 1.0
        assert publisher.listeners(LEFT) == 1
        # What it reads in the end are whole messages.
        whole = 0
        deaf.settimeout(1.0)
        data = b""
        while len(data) < 100_000:
            data += deaf.recv(65536)
        while len(data) >= 4 and len(data) >= 4 + struct.unpack_from("<I", data)[0]:
            (size,) = struct.unpack_from("<I", data)
            assert size == len(arm(np.zeros(7), 0))
            data = data[4 + size :]
            whole += 1
        assert whole > 300
    eventually(lambda: not _still_there(publisher, arm), "a subscriber that is gone stays")
    publisher.close()


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"topic": "/other", "md5sum": "*"}, id="another-topic"),
        pytest.param({"topic": LEFT, "md5sum": "0" * 32}, id="another-type"),
        pytest.param({}, id="nothing"),
    ],
)
def test_a_subscriber_that_asks_for_something_else_is_refused(
    graph: Ros1Graph, header: dict[str, str]
) -> None:
    publisher = Ros1Publisher(TOPICS, master_uri=graph.uri)
    with _connected(graph, publisher) as sock:
        sock.sendall(encode_header({"callerid": "/x", **header}))
        (size,) = struct.unpack("<I", sock.recv(4))
        assert "error" in decode_header(sock.recv(size))
        assert sock.recv(1) == b""
    assert publisher.listeners(LEFT) == 0
    publisher.close()


def test_garbage_does_not_keep_others_out(graph: Ros1Graph) -> None:
    publisher = Ros1Publisher(TOPICS, master_uri=graph.uri)
    for garbage in (b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", b""):
        with _connected(graph, publisher) as sock:
            sock.sendall(garbage)
    with _subscribed(graph, publisher):
        eventually(lambda: publisher.listeners(LEFT) == 1, "not taken in")
    publisher.close()


def test_every_thread_has_ended_when_it_is_closed(graph: Ros1Graph) -> None:
    before = set(threading.enumerate())
    publisher = Ros1Publisher(TOPICS, master_uri=graph.uri)
    publisher.close()
    assert set(threading.enumerate()) == before


def test_a_master_that_is_not_there_is_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    before = set(threading.enumerate())
    with pytest.raises(DataError, match=f"{port} does not answer"):
        open_publisher(f"ros1:http://127.0.0.1:{port}", TOPICS)
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("name", ["ros3", "ros2:x", "", "ros1:nowhere"])
def test_what_is_no_ros_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        open_publisher(name, TOPICS)


def _master(ros: Ros1Graph, method: str, *parameters: object) -> list[list[str]]:
    found: list[list[str]] = rpc.ask(Sockets(), ros.uri, method, "/test", *parameters)
    return found


def _connected(ros: Ros1Graph, publisher: Ros1Publisher) -> socket.socket:
    """A connection to the publisher's port, as a subscriber finds it."""
    (_, _, topics), *_ = [[None, None, _master(ros, "getSystemState")[0]]]
    node = next(nodes[0] for topic, nodes in topics if topic == LEFT)
    uri = rpc.ask(Sockets(), ros.uri, "lookupNode", "/test", node)
    _, host, port = rpc.ask(Sockets(), uri, "requestTopic", "/test", LEFT, [["TCPROS"]])
    return socket.create_connection((host, port), 5.0)


def _subscribed(ros: Ros1Graph, publisher: Ros1Publisher) -> socket.socket:
    sock = _connected(ros, publisher)
    sock.sendall(encode_header({"callerid": "/x", "topic": LEFT, "md5sum": "*", "type": "*"}))
    (size,) = struct.unpack("<I", sock.recv(4))
    assert decode_header(sock.recv(size))["type"] == "sensor_msgs/JointState"
    return sock


def _still_there(publisher: Ros1Publisher, arm: Encoder) -> bool:
    publisher.publish(LEFT, arm(np.zeros(7), 0))
    return publisher.listeners(LEFT) > 0


GOODBYE = """
import sys, time
import numpy as np
from act_data.commands import Encoder, open_publisher
from act_data.types import CommandKind
encode = Encoder(CommandKind.TWIST, ("linear.x", "angular.z"), "cdr")
topics = {f"/last{i}": encode.type for i in range(3)}
publisher = open_publisher(sys.argv[1], topics)
while not all(publisher.listeners(topic) for topic in topics):
    time.sleep(0.01)
for topic in topics:
    publisher.publish(topic, encode(np.zeros(2), time.time_ns()))
publisher.close()
"""


def test_the_last_message_of_a_ros2_process_arrives_although_it_leaves_at_once(
    ros2_domain: int,
) -> None:
    """It is what tells a base to stand still. Without waiting, about one in sixteen was lost."""
    inbox, last = Inbox(), [f"/last{i}" for i in range(3)]
    with closing(open_backend(f"ros2:{ros2_domain}")) as backend:
        backend.subscribe(last, inbox)
        for _ in range(4):
            command = [sys.executable, "-c", GOODBYE, f"ros2:{ros2_domain}"]
            leaving = [subprocess.Popen(command) for _ in range(4)]
            assert [process.wait(60) for process in leaving] == [0] * 4
            heard: list[Arrival] = []
            until = time.monotonic() + 10
            while len(heard) < 12 and time.monotonic() < until:
                heard += inbox.take(0.2)
            assert Counter(arrival.topic for arrival in heard) == dict.fromkeys(last, 4)
