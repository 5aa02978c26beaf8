"""A controller that interpolates is told what is to come: one trajectory per chunk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from act_data.robot import load_robot
from act_data.sources.live import open_backend
from act_model.chunking import ActionQueue
from act_model.commands import Plan, open_sink
from act_model.commands.topics import REST_S, to_rest
from act_model.deploy import Mode, Rules, Stop, deploy
from act_model.robot_io import LiveRobot
from act_model.safety import Limits
from tests.follower_process import FollowerProcess
from tests.model.deploy_parts import CONTRACT, PERIOD_NS, A, Bench, K, Planned, observation
from tests.model.live_faults import LIMITS, Gentle, driven
from tests.ros2_graph import needs_ros2, own_domain

LIVELY = Limits.of([-9.0] * A, [9.0] * A, velocity=3.0, acceleration=30.0)
SHORT = 4  # ticks of the policy from one chunk to the next


def driven_bench(
    chunk_of: Callable[[float], NDArray[np.float32]], ticks: int, **rules: object
) -> tuple[Bench, Planned]:
    """A rollout in which every prediction is there a tick later."""
    sink = Planned()
    bench = Bench(
        LIVELY,
        rules=Rules.model_validate({"first_command": "ramp", **rules}),
        chunker=ActionQueue(K, A, execute=SHORT),
        sink=sink,
    )
    policy_tick = -1
    for _ in range(ticks):
        now = bench.now_ns // PERIOD_NS
        if now > policy_tick:
            policy_tick = now
            bench.feed.put(observation(now), now * PERIOD_NS)
        bench.tick()
        for request in bench.inference.waiting:
            bench.inference.answer(request, chunk_of(request.place))
        bench.inference.waiting.clear()
    return bench, sink


def a_sine(place: float) -> NDArray[np.float32]:
    steps = place + np.arange(K)
    return np.repeat(np.sin(steps / 6)[:, None], A, axis=1).astype(np.float32)


@pytest.mark.parametrize("control_hz", [None, 3 * CONTRACT.rate_hz], ids=["policy", "faster"])
def test_what_is_planned_is_what_is_sent_and_every_chunk_replaces_the_plan(
    control_hz: float | None,
) -> None:
    bench, sink = driven_bench(a_sine, 60, control_hz=control_hz)
    assert len(sink.ahead) == bench.measures.chunks > 4
    begins = [valid_ns for valid_ns, _, _ in sink.ahead]
    for number, (valid_ns, period_ns, path) in enumerate(sink.ahead):
        end_ns = begins[number + 1] if number + 1 < len(begins) else 2**62
        sent = [action for at, action in sink.sent if valid_ns <= at < end_ns]
        assert period_ns == round(bench.control_ns)
        np.testing.assert_allclose(path[: len(sent)], sent, atol=1e-6)
        assert len(path) > len(sent), "it reaches beyond the next chunk"
        assert np.abs(path[-1] - path[-2]).max() < 1e-6, "and ends at rest"
        step = np.abs(np.diff(path, axis=0)).max()
        assert step <= 3.0 * bench.control_ns / 1e9 + 1e-6, "within the limits"


def test_a_plan_counts_no_intervention_that_did_not_happen() -> None:
    bench, sink = driven_bench(lambda place: np.full((K, A), 20.0, np.float32), 1 + SHORT)
    assert len(sink.ahead[-1][2]) > 1
    assert bench.safety.counts["position"] == len(sink.sent)


PRESET = Path(__file__).parents[2] / "schemas" / "presets" / "cobot_magic.yaml"


@pytest.fixture
def robot_file(tmp_path: Path) -> Path:
    """A robot whose arms are driven by controllers that interpolate."""
    needs_ros2()
    text = PRESET.read_text()
    for arm in ("left", "right"):
        text = text.replace(
            f"/master/joint_{arm}, kind: joint_state, from",
            f"/{arm}/joint_trajectory, kind: trajectory_chunk, from",
        )
    file = tmp_path / "robot.yaml"
    file.write_text(text)
    return file


def test_a_real_follower_executes_one_trajectory_per_chunk_and_rests_where_it_is_held(
    tmp_path: Path, robot_file: Path
) -> None:
    file = robot_file
    policy = Gentle(driven(), latency_s=0.02)
    with own_domain() as domain, FollowerProcess(2, tmp_path, dict(os.environ)) as follower:
        robot = LiveRobot(open_backend(f"ros2:{domain}"), load_robot(str(file)), policy.contract)
        sink = open_sink(f"ros2:{domain}#{file}", policy.contract)
        report = deploy(
            policy,
            robot,
            mode=Mode.LIVE,
            chunker=ActionQueue(16, 16, execute=8),
            sink=sink,
            limits=LIMITS,
            rules=Rules(control_hz=50, max_age_ms=1500, hold_s=2, first_command="ramp"),
            max_ticks=150,
        )
        time.sleep(0.5)
        state, heard = follower.state(), follower.heard()
    assert report.stop is Stop.TICKS, report
    paths = [command for command in heard if command["what"] == "path left"]
    assert report.chunks >= 4
    # Each chunk, and a command of one point wherever the robot was held or braked.
    assert len([p for p in paths if p["values"][0] > 1]) <= report.chunks + 1
    assert max(p["values"][0] for p in paths) > 10
    assert all(abs(p["values"][1]) < 1.0 for p in paths), "stamps are of the wall clock"
    moved = state["position"]["left"]
    assert all(position > 0.01 for position in moved), "it followed"
    assert state["base"] == [0.0, 0.0]


@given(
    arrays.arrays(np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=st.floats(-3, 3)),
    st.floats(-2, 45),
    st.integers(1, 200),
)
def test_a_plan_that_is_recalled_is_left_along_itself_and_never_faster(
    path_HA: NDArray[np.float64], periods: float, period_ms: int
) -> None:
    plan = Plan(path_HA, 10**12, period_ms * 10**6)
    now_ns = plan.begin_ns + round(periods * plan.period_ns)
    place = (now_ns - plan.begin_ns) / plan.period_ns - 1
    rest = to_rest(plan, now_ns)
    if place >= len(path_HA) - 1:
        assert rest is None, "it is over"
        return
    assert rest is not None
    assert (rest.begin_ns, rest.period_ns) == (now_ns, plan.period_ns)
    assert len(rest.path) == max(1, -(-round(REST_S * 1000) // period_ms))
    places = np.arange(len(path_HA))
    here = np.array([np.interp(place, places, way) for way in path_HA.T])
    steps = np.diff(np.vstack([here, rest.path]), axis=0)
    fastest = np.abs(np.diff(path_HA, axis=0)).max(axis=0, initial=0)
    assert (np.abs(steps) <= fastest + 1e-9).all()
    ahead = np.arange(1, len(rest.path) + 1)
    slower = 1 - ahead / len(rest.path) + 1 / (2 * len(rest.path))  # of a step each
    assert (np.abs(steps) <= fastest * slower[:, None] + 1e-9).all(), "it brakes all the time"


TOLD = """
import sys, time
import numpy as np
from act_model.commands import open_sink
from act_model.config import Contract
from act_model.watchdog import Watchdog
contract = Contract.model_validate_json(sys.argv[1])
watchdog = Watchdog(sys.argv[2], contract, silence_ms=300)
watchdog.wait()
sink = open_sink(sys.argv[2], contract)
path = np.zeros((150, 16), np.float32)  # three seconds at 50 Hz, 1 rad/s
path[:, :14] = np.linspace(0.02, 3, 150)[:, None]
watchdog.beat()
sink.plan(path, time.monotonic_ns(), 20_000_000)
watchdog.tell(sink.planned)
watchdog.arm()
print("told", flush=True)
while True:
    watchdog.beat()
    time.sleep(0.01)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hangs"])
def test_what_a_real_follower_was_told_is_recalled_where_who_told_it_is_no_more(
    how: signal.Signals, tmp_path: Path, robot_file: Path
) -> None:
    contract = driven().model_dump_json()
    with own_domain() as domain, FollowerProcess(2, tmp_path, dict(os.environ)) as follower:
        sink = f"ros2:{domain}#{robot_file}"
        with subprocess.Popen(
            [sys.executable, "-c", TOLD, contract, sink], stdout=subprocess.PIPE, text=True
        ) as control:
            try:
                assert control.stdout is not None
                assert control.stdout.readline() == "told\n"
                time.sleep(0.2)
                control.send_signal(how)
                time.sleep(1.5)  # on a busy machine the watchdog is late, too
                state = follower.state()
                time.sleep(1.5)  # until after the end of the plan
                later, heard = follower.state(), follower.heard()
            finally:
                control.kill()
    for arm in ("left", "right"):
        paths = [c["values"][0] for c in heard if c["what"] == f"path {arm}"]
        assert paths == [150, REST_S * 50]
        assert state["position"][arm] == later["position"][arm], "it is at rest"
        assert all(0.2 < joint < 2.0 for joint in state["position"][arm]), "long before the end"
