"""`act-model deploy --mode live` on real ROS 1 and ROS 2: it drives, and it stops as promised."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from act_data.ingest import IngestSettings, ingest
from act_data.store import open_dataset
from act_model.deploy import Stop
from tests.cli.commands import BIN
from tests.follower_process import FollowerProcess
from tests.model.live_faults import ENDS, RULES, Robot, robot_on
from tests.model.small_policy import save_checkpoint
from tests.ros1_graph import Ros1Graph, eventually, need_ros1
from tests.ros2_graph import needs_ros2

ROOT = Path(__file__).parents[2]
TRIED = {  # `python -m tests.model.live_faults` tries all of them, a hundred times
    1: ("policy raises", "policy hangs", "sensors freeze", "master is killed"),
    2: ("policy gives NaN", "policy is slow", "stamps jump ahead"),
}


# For a machine that runs other tests as well: sensors and predictions may be late without anybody's
# fault, and a robot that is held for that long is stopped, whatever else happens to it.
BUSY = RULES.model_copy(update={"max_age_ms": 1500.0})
LATE = {Stop.STALE, Stop.STARVED}


@pytest.fixture(scope="module", params=[1, 2], ids=["ros1", "ros2"])
def robot(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Robot]:
    (need_ros1 if request.param == 1 else needs_ros2)()
    with robot_on(request.param, tmp_path_factory.mktemp("robot")) as found:
        yield found


@pytest.mark.parametrize("ros", [1, 2])
def test_it_drives_at_50_hz_while_a_prediction_takes_60_ms(ros: int) -> None:
    (need_ros1 if ros == 1 else needs_ros2)()
    command = [sys.executable, "-m", "tests.model.live_faults", "--ros", str(ros), "--drive", "4"]
    command += ["--patient"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert (report["stop"], report["ticks"]) == ("ticks", 200)
    assert report["starved_ticks"] <= 50
    assert report["commands"] > 120
    # Three topics; a listener that is busy gets the newest command only.
    assert report["heard"] > report["commands"]


def test_whatever_happens_it_ends_held_or_stopped(robot: Robot) -> None:
    for fault in TRIED[1 if robot.graph is not None else 2]:
        outcome = robot.cycle(fault, seconds=7.0, rules=BUSY)
        assert outcome.stop in ENDS[fault] | LATE, outcome
        assert outcome.calm, outcome
        if "ticks" not in {stop.value for stop in ENDS[fault]}:
            assert not outcome.rest_s > 5.0, outcome


def test_a_deployment_that_is_killed_leaves_the_robot_at_rest(
    shared_bags: Path, tmp_path: Path
) -> None:
    need_ros1()
    ingest(
        [shared_bags / "recorded_ros1" / "aloha_none.bag"],
        tmp_path / "ds.zarr",
        IngestSettings(robot="cobot_magic"),
    )
    checkpoint = save_checkpoint(
        tmp_path / "best",
        open_dataset(tmp_path / "ds.zarr"),
        state=("qpos", "base_vel"),
        action=("action", "base_action"),
    )
    with (
        Ros1Graph(tmp_path) as graph,
        FollowerProcess(1, tmp_path, graph.environment) as follower,
    ):
        command = [str(BIN / "act-model"), "deploy", str(checkpoint)]
        command += ["--source", f"ros1:{graph.uri}", "--mode", "live", "--armed", "--json"]
        command += ["--first-command", "ramp", "--tracking-tolerance", "0"]
        deployment = subprocess.Popen(
            command, env=os.environ, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        eventually(lambda: follower.state()["commands"] > 100, "it does not move")
        deployment.send_signal(signal.SIGKILL)
        deployment.communicate()
        killed_ns = time.monotonic_ns()
        eventually(lambda: follower.state()["base"] == [0.0, 0.0], "the base goes on")
        time.sleep(1.5)
        late = [c for c in follower.heard() if c["at"] > killed_ns + 500_000_000]
        assert all(not any(c["values"]) for c in late if c["what"] == "base")
        assert not [c for c in late if c["what"] != "base"], json.dumps(late)
        before = follower.state()["commands"]
        time.sleep(0.5)
        assert follower.state()["commands"] == before
