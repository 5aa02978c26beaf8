"""The ROS 2 backend against real publishers in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import enumerate as threads

import pytest
from rosbags.highlevel import AnyReader

from act_data.errors import DataError, InputError
from act_data.sources.live import Arrival, Inbox, Spool
from act_data.sources.live import ros2 as ros2_module
from act_data.sources.live.ros2 import Ros2Backend
from act_data.sources.message_types import message_type
from tests.ros2_graph import Ros2Robot, Ros2Topic, number_of

pytestmark = pytest.mark.usefixtures("ros2_domain")

JOINTS = Ros2Topic("sensor_msgs/msg/JointState", 200, size=7)
ROBOT = {
    "/camera": Ros2Topic("sensor_msgs/msg/Image", 30),
    "/wrist/compressed": Ros2Topic("sensor_msgs/msg/CompressedImage", 30),
    "/joints": JOINTS,
    "/odom": Ros2Topic("nav_msgs/msg/Odometry", 50),
    "/words": Ros2Topic("std_msgs/msg/String", 10),
    "/touch": Ros2Topic("std_msgs/msg/Float64MultiArray", 20),
}


@contextmanager
def listening(*topics: str, inbox: Inbox) -> Iterator[Ros2Backend]:
    """A backend that has subscribed, closed at the end."""
    backend = Ros2Backend()
    try:
        backend.subscribe(topics, inbox)
        yield backend
    finally:
        backend.close()


def taken(inbox: Inbox, number: int, within_s: float = 30.0) -> list[Arrival]:
    """The next `number` arrivals, or what came in time."""
    found: list[Arrival] = []
    end = time.monotonic() + within_s
    while len(found) < number and time.monotonic() < end:
        found += inbox.take(0.05)
    return found


def payloads(arrivals: list[Arrival], topic: str) -> list[bytes]:
    return [bytes(a.payload) for a in arrivals if a.topic == topic]


def eventually(true: Callable[[], object], within_s: float = 30.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_every_message_arrives_as_it_was_published(tmp_path: Path) -> None:
    inbox = Inbox()
    with Ros2Robot(tmp_path, ROBOT) as robot, listening(*ROBOT, inbox=inbox) as backend:
        robot.publish(1.0)
        heard = taken(inbox, 340)
        topics = backend.topics()
        assert {t: topics[t].type for t in ROBOT} == {t: ROBOT[t].type for t in ROBOT}
        for name, topic in ROBOT.items():
            assert payloads(heard, name) == robot.sent(name)
            assert len(payloads(heard, name)) == topic.rate_hz
    assert all(a.recv_ns < b.recv_ns for a, b in pairwise(heard))
    assert backend.missing == {}


def test_the_definitions_travel_with_the_recording_and_it_opens_elsewhere(tmp_path: Path) -> None:
    inbox = Inbox()
    with Ros2Robot(tmp_path, ROBOT) as robot, listening(*ROBOT, inbox=inbox) as backend:
        robot.publish(0.1)
        heard = taken(inbox, 34)
        channels = [channel for t in ROBOT if (channel := backend.channel(t))]
        sent = {t: robot.sent(t) for t in ROBOT}
    spool = Spool(tmp_path / "live.mcap", channels, {})
    for arrival in heard:
        spool.write(arrival)
    with AnyReader([spool.finish({})]) as reader:
        read = [
            (c.topic, raw, reader.deserialize(raw, c.msgtype)) for c, _, raw in reader.messages()
        ]
    assert {t: [raw for topic, raw, _ in read if topic == t] for t in ROBOT} == sent
    assert [m.header.frame_id for t, _, m in read if t == "/camera"] == ["0", "1", "2"]
    assert [m.position[6] for t, _, m in read if t == "/joints"][:2] == [6.0, 6.01]
    assert [m.pose.pose.position.x for t, _, m in read if t == "/odom"][:2] == [0.0, 0.01]
    joints = next(c for c in channels if c.topic == "/joints")
    assert joints.definition is not None
    assert "# The state of each joint" in joints.definition.text  # the package's own file
    assert message_type(joints).deserialize(sent["/joints"][1]).position[0] == 0.01


@pytest.mark.parametrize(
    ("offers", "asked"),
    [
        pytest.param({"reliable": True}, "reliable", id="reliable"),
        pytest.param({"reliable": False}, "best effort", id="best-effort"),
        pytest.param({"latched": True}, "reliable, latched", id="latched"),
        pytest.param({"reliable": False, "latched": True}, "best effort, latched", id="both"),
    ],
)
def test_it_asks_for_what_is_offered(tmp_path: Path, offers: dict[str, bool], asked: str) -> None:
    topic = Ros2Topic("sensor_msgs/msg/JointState", 50, **offers)  # type: ignore[arg-type]
    inbox = Inbox()
    with Ros2Robot(tmp_path, {"/j": topic}) as robot, listening("/j", inbox=inbox) as backend:
        robot.publish(0.4)
        assert payloads(taken(inbox, 20), "/j") == robot.sent("/j")
        assert f"/j: subscribed, {asked}" in backend.notes()


def test_what_was_latched_before_is_heard(tmp_path: Path) -> None:
    latched = Ros2Topic("std_msgs/msg/String", 100, latched=True, depth=3)
    inbox = Inbox()
    with Ros2Robot(tmp_path, {"/map": latched}) as robot:
        robot.publish(0.1, listeners=0)
        with listening("/map", inbox=inbox) as backend:
            assert payloads(taken(inbox, 3), "/map") == robot.sent("/map")[-3:]
            assert backend.missing == {}


def test_a_topic_may_appear_later(tmp_path: Path) -> None:
    inbox = Inbox()
    with listening("/joints", "/never", inbox=inbox) as backend:
        assert backend.channel("/joints") is None
        assert inbox.take(0.1) == []
        with Ros2Robot(tmp_path, {"/joints": JOINTS}) as robot:
            robot.publish(0.2)
            assert payloads(taken(inbox, 40), "/joints") == robot.sent("/joints")
        channel = backend.channel("/joints")
        assert channel is not None
        assert (channel.type, channel.encoding) == (JOINTS.type, "cdr")
        assert backend.channel("/never") is None
        assert backend.channel("/not/asked/for") is None


@pytest.mark.parametrize("end", ["close", "kill"])
def test_a_publisher_that_comes_back_is_heard_again(tmp_path: Path, end: str) -> None:
    inbox = Inbox()
    with listening("/joints", inbox=inbox) as backend:
        for life in ("first", "second"):
            robot = Ros2Robot(tmp_path, {"/joints": JOINTS}, node=life)
            robot.publish(0.2, listeners=1)
            assert payloads(taken(inbox, 40), "/joints") == robot.sent("/joints")
            getattr(robot, end)()
        assert backend.missing == {}
        assert sum("/joints: published by" in note for note in backend.notes()) >= 2
        if end == "close":  # a killed one is missed by the graph 20 seconds later
            eventually(lambda: any("publishes no more" in note for note in backend.notes()))


def test_two_publishers_of_one_topic_are_both_heard_and_nothing_is_called_missing(
    tmp_path: Path,
) -> None:
    inbox = Inbox()
    with (
        Ros2Robot(tmp_path, {"/joints": JOINTS}, "left") as left,
        listening("/joints", inbox=inbox) as backend,
    ):
        left.publish(0.5)
        with Ros2Robot(tmp_path, {"/joints": JOINTS}, "right") as right:
            left.start(0.5)
            right.publish(0.5)
            left.wait()
            heard = payloads(taken(inbox, 300), "/joints")
            both = left.sent("/joints") + right.sent("/joints")
        assert sorted(heard) == sorted(both)
        assert len(both) == 300
        assert backend.missing == {}


def test_a_publisher_that_offers_less_makes_it_subscribe_anew(tmp_path: Path) -> None:
    less = Ros2Topic(JOINTS.type, JOINTS.rate_hz, reliable=False)
    inbox = Inbox()
    with (
        Ros2Robot(tmp_path, {"/joints": JOINTS}, "more") as more,
        listening("/joints", inbox=inbox) as backend,
    ):
        more.publish(0.1)
        assert len(taken(inbox, 20)) == 20
        with Ros2Robot(tmp_path, {"/joints": less}, "less") as robot:
            robot.publish(0.5)  # to a subscription that it fits: the first one gets nothing of it
            assert payloads(taken(inbox, 100), "/joints") == robot.sent("/joints")
            more.publish(0.1)
            assert payloads(taken(inbox, 20), "/joints") == more.sent("/joints")[20:]
        (note,) = (n for n in backend.notes() if "subscribed anew" in n)
        assert note.startswith("/joints: subscribed anew, best effort")


def test_what_is_lost_on_the_way_is_counted_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader's history is small and its thread slow: a reliable topic loses messages, too."""

    class SlowInbox(Inbox):
        def put(self, topic: str, payload: bytes | memoryview, recv_ns: int | None = None) -> None:
            time.sleep(0.05)
            super().put(topic, payload, recv_ns)

    monkeypatch.setattr(ros2_module, "_DEPTH", 5)
    inbox = SlowInbox()
    with (
        Ros2Robot(tmp_path, {"/joints": JOINTS}) as robot,
        listening("/joints", inbox=inbox) as backend,
    ):
        robot.publish(1.0)
        sent = robot.sent("/joints")
        heard = []
        eventually(lambda: heard.extend(taken(inbox, 1, 0.1)) or heard[-1].payload == sent[-1])
        eventually(lambda: sum(backend.missing.values()) + len(heard) == len(sent))
        channel = backend.channel("/joints")
        assert channel is not None
        numbers = [number_of(channel, a.payload) for a in heard]
        lost = 200 - len(numbers)
        assert 100 < lost < 200
        assert numbers == sorted(set(numbers))
        assert f"/joints: at least {lost} messages were lost on the way" in backend.notes()


def test_a_type_that_is_not_installed_is_told_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nav_msgs.msg", None)  # as if it could not be imported
    said = "topic '/odom' has type 'nav_msgs/msg/Odometry', but the Python package 'nav_msgs' is"
    topics = {"/odom": ROBOT["/odom"], "/joints": JOINTS}
    inbox = Inbox()
    with listening("/odom", "/joints", inbox=inbox) as early, Ros2Robot(tmp_path, topics) as robot:
        eventually(lambda: early.channel("/joints"))
        with pytest.raises(DataError, match=said) as told:
            early.channel("/odom")
        assert "ros-jazzy-nav-msgs" in told.value.hint
        assert any(said in note for note in early.notes())
        late = Ros2Backend()
        eventually(lambda: "/odom" in late.topics())
        with pytest.raises(DataError, match=said):
            late.subscribe(["/odom"], Inbox())
        late.close()
        robot.publish(0.1, listeners=0)  # the others are heard
        assert payloads(taken(inbox, 20), "/joints") == robot.sent("/joints")


def test_publishers_that_disagree_about_the_type_are_named(tmp_path: Path) -> None:
    said = r"different types: nav_msgs/msg/Odometry \(.+\), sensor_msgs/msg/JointState \(/arm\)"
    inbox = Inbox()
    with (
        Ros2Robot(tmp_path, {"/state": JOINTS}, "arm"),
        listening("/state", inbox=inbox) as early,
    ):
        eventually(lambda: early.channel("/state"))
        with Ros2Robot(tmp_path, {"/state": ROBOT["/odom"]}, "base"):
            eventually(lambda: any("different types" in n for n in early.notes()))
            with pytest.raises(DataError, match=said):
                early.channel("/state")


def test_names_that_no_topic_can_have_are_all_told() -> None:
    backend = Ros2Backend()
    with pytest.raises(InputError, match="called '/1st', '/a b', '/cam/', 'joints'"):
        backend.subscribe(["joints", "/ok", "/a b", "/1st", "/cam/"], Inbox())
    backend.close()


def tasks() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_close_ends_everything_and_many_may_live_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_HOME", str(tmp_path / "mine"))
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    with Ros2Robot(tmp_path, {"/joints": JOINTS}) as robot:
        for life in range(4):
            inbox = Inbox()
            with listening("/joints", inbox=inbox) as backend:
                robot.publish(0.1)
                assert payloads(taken(inbox, 20), "/joints") == robot.sent("/joints")[20 * life :]
                assert {s: signal.getsignal(s) for s in handlers} == handlers
                busy = tasks()
            backend.close()
            assert "ros2" not in {t.name for t in threads()}
            if life == 0:  # what Fast DDS keeps for the whole process is there from now on
                rest = tasks()
        assert tasks() <= rest < busy
    assert not (tmp_path / "mine").exists()


def test_two_backends_at_once_hear_the_same(tmp_path: Path) -> None:
    one, two = Inbox(), Inbox()
    with (
        Ros2Robot(tmp_path, {"/joints": JOINTS}) as robot,
        listening("/joints", inbox=one),
        listening("/joints", inbox=two),
    ):
        robot.publish(0.2, listeners=2)
        assert payloads(taken(one, 40), "/joints") == robot.sent("/joints")
        assert payloads(taken(two, 40), "/joints") == robot.sent("/joints")


def test_another_domain_is_another_world(tmp_path: Path, ros2_domain: int) -> None:
    here, there = Ros2Backend(), Ros2Backend(domain_id=ros2_domain + 100)
    with Ros2Robot(tmp_path, {"/joints": JOINTS}):
        eventually(lambda: "/joints" in here.topics())
        assert "/joints" not in there.topics()
    assert here.name == f"ros2 domain {ros2_domain}"
    here.close()
    there.close()


@pytest.mark.parametrize("domain", ["233", "-1", "one", "1.5"])
def test_a_domain_that_does_not_exist_is_a_mistake_and_not_the_end_of_the_process(
    domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    with pytest.raises(InputError, match=f"no ROS 2 domain '{domain}'") as told:
        Ros2Backend()
    assert "0 to 232" in told.value.hint


def test_without_rclpy_the_error_says_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['rclpy'] = None\n"
        "from act_data.errors import NotFoundError\n"
        "from act_data.sources.live.ros2 import Ros2Backend\n"
        "try: Ros2Backend()\n"
        "except NotFoundError as e: print(e, '|', e.hint)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ROS 2 topics need rclpy" in said.stdout
    assert "pip install 'act-toolkit[ros2]'" in said.stdout
