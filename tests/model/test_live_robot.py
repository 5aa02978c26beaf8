"""A robot on live topics: what is seen of it, and what it is told."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from act_data.errors import DataError, InputError
from act_data.observe import Observation
from act_data.robot import load_robot
from act_data.sources import find_recordings, open_recording
from act_data.sources.live import MemoryBackend, open_backend
from act_data.store import jpeg
from act_model.commands import open_sink
from act_model.commands.topics import commanded
from act_model.config import CameraContract, Contract, VectorContract
from act_model.contract import check_contract
from act_model.robot_io import LiveRobot, RobotObservation
from act_model.robot_io.live_robot import seen_by
from tests.follower_process import FollowerProcess
from tests.ros1_graph import Ros1Graph, eventually, need_ros1

ARMS = tuple(f"{side}/joint{i}" for side in ("left", "right") for i in range(7))
BASE = ("base/linear.x", "base/angular.z")
CAMERA = CameraContract(name="cam_high", height=48, width=64, codec="jpeg", quality=95)


def contract(*, cameras: tuple[CameraContract, ...] = (CAMERA,)) -> Contract:
    def arms(prefix: str) -> tuple[str, ...]:
        return tuple(f"{prefix}_{name}" for name in ARMS)

    robot = load_robot("cobot_magic")
    return Contract(
        robot="cobot_magic",
        rate_hz=30.0,
        chunk_size=8,
        state=(
            VectorContract(name="qpos", names=arms("puppet"), unit="rad"),
            VectorContract(name="base_vel", names=BASE, unit="m/s, rad/s"),
        ),
        action=(
            VectorContract(name="action", names=arms("master"), unit="rad"),
            VectorContract(name="base_action", names=BASE, unit="m/s, rad/s"),
        ),
        cameras=cameras,
        action_shift=robot.action_shift,
        clock=robot.clock,
    )


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ros1Graph]:
    need_ros1()
    with Ros1Graph(tmp_path_factory.mktemp("ros1")) as ros:
        yield ros


class TestWhatIsSeen:
    def test_a_live_robot_sees_what_its_recording_shows_to_the_bit(self, shared_bags: Path) -> None:
        bag = shared_bags / "recorded_ros1" / "aloha_none.bag"
        policy = contract()
        robot = load_robot("cobot_magic")
        live = LiveRobot(open_backend(f"replay:{bag}", speed=20.0), robot, policy)
        check_contract(policy, live.contract)
        seen = list(iter(live.observe, None))
        live.close()
        assert len(seen) > 170

        (recording,) = find_recordings([bag])
        with open_recording(recording) as source:
            offline = Observation(source, seen_by(robot, policy))
            usable = list(map(offline.observer.observe, offline.frames()))
            usable = usable[[f.usable for f in usable].index(True) :]
            assert len(usable) == len(seen)
            for step, frame in zip(seen, usable, strict=True):
                assert step is not None
                # The offset between the clocks is known better the longer one has listened.
                assert step.tick_ns == pytest.approx(offline.recv_of(frame.tick_ns), abs=2e6)
                arrays = step.arrays()
                assert set(arrays) == {"qpos", "base_vel", "images/cam_high"}
                for name in ("qpos", "base_vel"):
                    assert np.array_equal(arrays[name], np.asarray(frame.observation[name]))
                image = np.asarray(frame.observation["images/cam_high"])
                assert np.array_equal(
                    arrays["images/cam_high"], jpeg.decode(jpeg.encode(image, 95))
                )

    def test_topics_that_nobody_publishes_are_named(self) -> None:
        before = time.monotonic()
        with pytest.raises(DataError, match="puppet_left: /puppet/joint_left") as caught:
            LiveRobot(MemoryBackend({}), load_robot("cobot_magic"), contract(), wait_s=0.2)
        assert "/master" not in str(caught.value)  # nobody observes the leaders
        assert time.monotonic() - before < 5


class TestWhatItIsTold:
    def test_an_action_without_a_command_is_refused_before_anything_moves(self) -> None:
        policy = contract()
        strange = policy.model_copy(
            update={"action": (VectorContract(name="other", names=("x",), unit=""),)}
        )
        with pytest.raises(InputError, match="no action 'other'"):
            commanded(load_robot("cobot_magic"), strange.action)

    def test_every_element_has_its_place(self) -> None:
        arm_left, arm_right, base = commanded(load_robot("cobot_magic"), contract().action)
        assert arm_left.index.tolist() == list(range(7))
        assert arm_right.index.tolist() == list(range(7, 14))
        assert base.index.tolist() == [14, 15]
        assert base.elements == ("linear.x", "angular.z")

    def test_a_ros1_robot_follows_holds_and_stops(self, graph: Ros1Graph, tmp_path: Path) -> None:
        with FollowerProcess(1, tmp_path, graph.environment) as follower:
            _drive(
                follower,
                lambda: LiveRobot(
                    open_backend(f"ros1:{graph.uri}"), load_robot("cobot_magic"), contract()
                ),
                f"ros1:{graph.uri}",
            )

    def test_a_ros2_robot_follows_holds_and_stops(self, ros2_domain: int, tmp_path: Path) -> None:
        with FollowerProcess(2, tmp_path, os.environ) as follower:
            _drive(
                follower,
                lambda: LiveRobot(
                    open_backend(f"ros2:{ros2_domain}"), load_robot("cobot_magic"), contract()
                ),
                f"ros2:{ros2_domain}",
            )


def _drive(follower: FollowerProcess, open_robot: Callable[[], LiveRobot], sink_name: str) -> None:
    policy = contract()
    robot = open_robot()
    check_contract(policy, robot.contract)
    sink = open_sink(sink_name, policy)  # waits for those who listen
    target = np.concatenate([np.linspace(-0.3, 0.3, 14), [0.2, -0.1]]).astype(np.float32)
    seen: list[RobotObservation] = []
    arrived = 0
    time.sleep(1.5)  # nobody observes: what comes meanwhile must not come first
    first = robot.observe()
    assert first is not None
    assert first.first
    assert time.time_ns() - first.tick_ns < 0.8e9
    seen.append(first)
    # A busy machine lets a tick pass without fresh messages: it is not valid, and not the end.
    while (arrived < 30 or not seen[-1].valid) and len(seen) < 300:
        sink.send(target, time.monotonic_ns())
        observation = robot.observe()
        assert observation is not None
        assert observation.measured is not None
        seen.append(observation)
        arrived += bool(np.abs(observation.measured[:14] - target[:14]).max() < 1e-3)
    assert [o.first for o in seen] == [True] + [False] * (len(seen) - 1)
    periods = np.diff([o.tick_ns for o in seen])
    # On a busy machine what is known of the clocks, and with it the time, may be corrected once.
    assert np.median(periods) == pytest.approx(1e9 / 30, rel=0.02)
    assert (periods <= 0).sum() <= 1
    assert sum(o.valid for o in seen) > len(seen) / 2
    last = seen[-1]
    assert last.valid
    assert last.measured is not None
    assert last.measured[:14] == pytest.approx(target[:14], abs=1e-3)
    assert np.isnan(last.measured[14:]).all()
    arrays = last.arrays()
    assert arrays["qpos"] == pytest.approx(target[:14], abs=1e-3)
    assert arrays["images/cam_high"].shape == (48, 64, 3)
    moving = pytest.approx([0.2, -0.1], abs=1e-6)
    eventually(lambda: follower.state()["base"] == moving, "the base does not move")
    sink.hold()
    eventually(lambda: follower.state()["base"] == [0.0, 0.0], "the base goes on")
    sink.send(target, time.monotonic_ns())
    eventually(lambda: follower.state()["base"] == moving, "it does not go on after a hold")
    sink.stop()
    sink.send(target, time.monotonic_ns())
    eventually(lambda: follower.state()["base"] == [0.0, 0.0], "the base goes on")
    *_, last_base = (c for c in follower.heard() if c["what"] == "base")
    assert last_base["values"] == [0.0, 0.0]
    sink.close()
    robot.close()
    assert len(list(iter(robot.observe, None))) < 100  # what had arrived, and then the end
