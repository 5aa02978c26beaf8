"""One robot's view of a source: streams bound, synchronised, and only what was picked decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import numpy as np
import pytest

from act_data.errors import DataError, InputError
from act_data.observe import Observation
from act_data.records import SourceRecord
from act_data.robot import load_robot
from act_data.sources import find_recordings, open_recording
from act_data.types import (
    NS_PER_MS,
    ArrayPart,
    ArraySpec,
    RawMessage,
    Reason,
    RobotSpec,
    Role,
    StreamKind,
    StreamSpec,
    SyncPolicy,
    TopicInfo,
)

JOINTS = "sensor_msgs/msg/JointState"
TWIST = "geometry_msgs/msg/Twist"


class Memory:
    """A source whose messages are numbers: a joint state of (value, 10 * value)."""

    name = "memory"

    def __init__(self, rates_hz: Mapping[str, float], seconds: float = 1.0) -> None:
        self.topics = {
            topic: TopicInfo(name=topic, type=TWIST if topic == "/cmd" else JOINTS)
            for topic in rates_hz
        }
        self.asked: list[tuple[str, ...]] = []
        self.deserialized: Counter[tuple[str, int]] = Counter()
        self._raws = sorted(
            (
                RawMessage(
                    topic=topic,
                    recv_ns=10**9 + round(i * 1e9 / rate),
                    stamp_ns=None if topic == "/cmd" else 10**9 + round(i * 1e9 / rate),
                    seq=None,
                    type=self.topics[topic].type,
                    encoding="ros1",
                    payload=bytes([i % 256]),
                )
                for topic, rate in rates_hz.items()
                for i in range(round(rate * seconds))
            ),
            key=lambda raw: raw.recv_ns,
        )

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        self.asked.append(tuple(topics))
        return (raw for raw in self._raws if raw.topic in topics)

    notes = ()

    def deserialize(self, raw: RawMessage) -> Any:
        self.deserialized[raw.topic, raw.recv_ns] += 1
        value = float(raw.payload[0])
        if raw.topic == "/cmd":
            vector = SimpleNamespace(x=value, y=0.0, z=-value)
            return SimpleNamespace(linear=vector, angular=vector)
        return SimpleNamespace(
            name=["a"],
            position=np.array([value]),
            velocity=np.array([10 * value]),
            effort=np.array([]),
        )

    def record(self, topics: Collection[str]) -> SourceRecord:
        return SourceRecord(name=self.name, kind="memory", sha256="0", topics=tuple(topics))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return


def robot(*, fps: float = 10, policy: SyncPolicy = SyncPolicy.HOLD) -> RobotSpec:
    arm = StreamSpec(name="arm", topic="/arm", kind=StreamKind.JOINT_STATE, policy=policy)
    same = StreamSpec(name="same", topic="/arm", kind=StreamKind.JOINT_STATE, policy=policy)
    command = StreamSpec(name="cmd", topic="/cmd", kind=StreamKind.TWIST, policy=policy)
    extra = StreamSpec(
        name="extra", topic="/extra", kind=StreamKind.JOINT_STATE, required=False, tolerance_ms=200
    )

    def array(name: str, role: Role, *parts: ArrayPart) -> ArraySpec:
        return ArraySpec(name=name, role=role, parts=parts, dtype="float32")

    return RobotSpec(
        name="r",
        fps=fps,
        streams=(arm, same, command, extra),
        arrays=(
            array("qpos", Role.OBSERVATION, ArrayPart(stream="arm")),
            array("qvel", Role.OBSERVATION, ArrayPart(stream="arm", field=("velocity",))),
            array("copy", Role.OBSERVATION, ArrayPart(stream="same")),
            array("more", Role.OBSERVATION, ArrayPart(stream="extra")),
            array("action", Role.ACTION, ArrayPart(stream="cmd", field=("linear.x", "angular.z"))),
        ),
    )


def test_frames_hold_the_newest_messages_and_the_observer_makes_arrays_of_them() -> None:
    source = Memory({"/arm": 100, "/cmd": 50, "/extra": 10})
    view = Observation(source, robot())
    frames = [frame for frame in view.frames() if frame.valid]
    assert len(frames) >= 9
    for frame in frames:
        seen = view.observer.observation(frame)
        arm = frame.picks["arm"]
        assert 0 <= -arm.skew_ns < 10 * NS_PER_MS
        assert seen["qpos"].tolist() == [arm.index]
        assert seen["qvel"].tolist() == [10 * arm.index]
        assert view.observer.action(frame)["action"].tolist() == [
            frame.picks["cmd"].index,
            -frame.picks["cmd"].index,
        ]


def test_streams_may_share_a_topic_which_is_read_once() -> None:
    source = Memory({"/arm": 100, "/cmd": 50})
    view = Observation(source, robot())
    frames = list(view.frames())
    assert source.asked == [("/arm", "/cmd")]
    assert view.topics == ("/arm", "/cmd")
    assert {name: topic.name for name, topic in view.streams.items()} == {
        "arm": "/arm",
        "same": "/arm",
        "cmd": "/cmd",
    }
    for frame in frames:
        if frame.valid:
            seen = view.observer.observation(frame)
            assert seen["copy"].tolist() == seen["qpos"].tolist()


def test_only_picked_messages_are_deserialised_and_each_once_per_stream() -> None:
    source = Memory({"/arm": 200, "/cmd": 100})
    view = Observation(source, robot(fps=10))
    frames = list(view.frames())
    assert not source.deserialized
    for frame in frames:
        if frame.valid:
            view.observer.observe(frame)
    by_topic = Counter(topic for topic, _ in source.deserialized)
    assert by_topic["/arm"] <= len(frames)
    # Position and velocity come from one deserialised message; the stream `same` reads its own.
    assert max(source.deserialized.values()) <= 2


def test_interpolation_deserialises_no_message_twice() -> None:
    source = Memory({"/arm": 15, "/cmd": 15}, seconds=2)
    view = Observation(source, robot(fps=20, policy=SyncPolicy.LINEAR))
    for frame in view.frames():
        if frame.valid:
            view.observer.observe(frame)
    arm = [count for (topic, _), count in source.deserialized.items() if topic == "/arm"]
    assert max(arm) <= 2  # `arm` and `same`


def test_an_optional_stream_that_the_source_lacks_is_absent_and_so_are_its_arrays() -> None:
    view = Observation(Memory({"/arm": 100, "/cmd": 50}), robot())
    assert view.observer.absent == ("more",)
    frame = next(frame for frame in view.frames() if frame.valid)
    assert frame.picks["extra"].reason is Reason.ABSENT
    assert "more" not in view.observer.observation(frame)


def test_a_required_stream_that_the_source_lacks_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="/cmd"):
        Observation(Memory({"/arm": 100}), robot())


def test_the_account_belongs_to_the_frames_that_were_read() -> None:
    view = Observation(Memory({"/arm": 100, "/cmd": 50}), robot())
    with pytest.raises(InputError, match="no account before the first frame"):
        view.report()
    frames = list(view.frames())
    report = view.report()
    assert report.ticks == len(frames)
    arm = report.streams["arm"]
    assert arm.topic == "/arm"
    assert arm.received == 100 == arm.used + arm.unused + arm.late + arm.duplicate


def test_reading_twice_gives_the_same_frames() -> None:
    view = Observation(Memory({"/arm": 100, "/cmd": 50}), robot())
    assert list(view.frames()) == list(view.frames())


def test_a_real_recording_shows_what_the_robot_did(shared_bags: Path) -> None:
    (recording,) = find_recordings([shared_bags / "recorded_ros1" / "aloha_none.bag"])
    with open_recording(recording) as source:
        view = Observation(source, load_robot("cobot_magic"))
        checked = 0
        for frame in view.frames():
            if not frame.valid:
                continue
            seen = view.observer.observe(frame)
            for stream, arm in (("puppet_left", 0), ("puppet_right", 1)):
                # Message k of 200 Hz shows joint i of arm j at sin(k / 200 + 0.3 i + j).
                k = frame.picks[stream].index
                expected = np.sin(k / 200 + 0.3 * np.arange(7) + arm)
                qpos = seen.observation["qpos"]
                assert isinstance(qpos, np.ndarray)
                np.testing.assert_allclose(qpos[7 * arm : 7 * arm + 7], expected, atol=1e-5)
            checked += 1
    assert checked > 150
    report = view.report()
    assert any("cam_left_wrist: silent" in note for note in report.notes)
