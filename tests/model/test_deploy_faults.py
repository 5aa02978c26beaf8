"""A policy dies or hangs, a source lies, a control tick falls silent: the robot is held."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from act_data.errors import DataError, InputError
from act_data.interfaces import DatasetReader
from act_model.chunking import ActionQueue
from act_model.commands import open_sink
from act_model.config import Contract
from act_model.deploy import Mode, Operator, RolloutReport, Rules, Stop, deploy
from act_model.policy_process import ProcessPolicy
from act_model.robot_io import RobotObservation, offered_by
from act_model.safety import Limits
from act_model.watchdog import Watchdog
from tests.model.memory_dataset import dataset_of, schema_of
from tests.model.small_policy import K, save_checkpoint

HZ = 20.0
HOLD_S = 0.3
WIDE = Limits.of([-100.0] * 3, [100.0] * 3)
RULES = Rules(hold_s=HOLD_S, max_age_ms=200, first_command="ramp", tracking_tolerance=0)


@pytest.fixture(scope="module")
def reader() -> DatasetReader:
    return dataset_of(30, schema=schema_of(cameras={}))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, reader: DatasetReader) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("faults") / "policy", reader)


class LiveRobot:
    """Keeps its own time: an observation every 50 ms, unless a test breaks it."""

    keeps_time = True

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.frozen = False
        self.again = False
        self.jump_ns = 0
        self.back = False
        self.closed = threading.Event()
        self._tick = 0

    def observe(self) -> RobotObservation | None:
        while True:
            if self.closed.wait(1 / HZ):
                return None
            if not self.frozen:
                break
        stamp = time.monotonic_ns() - 5_000_000 + self.jump_ns
        if self.again:
            stamp = self._stamp
        if self.back:
            stamp = self._stamp - 10_000_000
        self._stamp = stamp
        self._tick += 1
        return RobotObservation(
            tick=self._tick - 1,
            tick_ns=stamp,
            first=self._tick == 1,
            valid=True,
            arrays=lambda: {"qpos": np.zeros(3, np.float32)},
            demonstrated=None,
        )

    def close(self) -> None:
        self.closed.set()


class Commands:
    """When was what told."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, NDArray[np.float32]]] = []
        self.stopped_s: float | None = None

    def send(self, action_A: NDArray[np.float32], valid_ns: int) -> None:
        self.sent.append((time.monotonic(), action_A.copy()))

    def hold(self) -> None:
        pass

    def stop(self) -> None:
        if self.stopped_s is None:
            self.stopped_s = time.monotonic()

    def close(self) -> None:
        pass


class Quick:
    """A policy that answers at once, with a motion that goes on."""

    def __init__(self, reader: DatasetReader) -> None:
        self.contract = offered_by(reader.schema).model_copy(update={"chunk_size": 40})
        from act_data.stats import compute

        self.stats = compute(reader, "all")
        self._began = time.monotonic()

    def predict(self, observation: object) -> NDArray[np.float32]:
        now = time.monotonic() - self._began
        return np.float32(now + np.arange(40) / HZ)[:, None] * np.ones(3, np.float32)


def rollout(
    policy: object,
    robot: LiveRobot,
    fault: object,
    *,
    chunk_size: int,
    abandon: object = None,
    operator: Operator | None = None,
    hold_s: float = HOLD_S,
) -> tuple[RolloutReport, Commands]:
    """A live rollout to which `fault()` happens after the first commands, in another thread."""
    sink = Commands()

    def later() -> None:
        while len(sink.sent) < 3 and sink.stopped_s is None:
            time.sleep(0.005)
        fault()  # type: ignore[operator]

    thread = threading.Thread(target=later)
    thread.start()
    report = deploy(
        policy,  # type: ignore[arg-type]
        robot,
        mode=Mode.LIVE,
        chunker=ActionQueue(chunk_size, 3),
        sink=sink,
        limits=WIDE,
        rules=RULES.model_copy(update={"hold_s": hold_s}),
        abandon=abandon,  # type: ignore[arg-type]
        operator=operator,
        max_ticks=400,
    )
    thread.join()
    return report, sink


@pytest.fixture
def process(checkpoint: Path) -> Iterator[ProcessPolicy]:
    policy = ProcessPolicy(checkpoint, device="cpu")
    policy.wait()
    yield policy
    policy.close()


def test_a_policy_in_its_own_process_predicts_to_the_bit_what_it_would_here(
    process: ProcessPolicy, checkpoint: Path
) -> None:
    from act_model.policy import Policy

    here = Policy.load(checkpoint, "cpu")
    for value in (0.0, 0.3):
        observation = {"qpos": np.full(3, value, np.float32)}
        assert np.array_equal(process.predict(observation), here.predict(observation))
    with pytest.raises(InputError, match="does not fit the policy"):
        process.predict({"qpos": np.zeros(4, np.float32)})
    assert process.predict(observation).shape == (K, 3)  # and it goes on
    process.close()
    with pytest.raises(DataError, match="killed by SIGKILL"):
        process.predict(observation)


def test_a_policy_that_cannot_be_loaded_says_why_through_its_process(
    checkpoint: Path, tmp_path: Path
) -> None:
    policy = ProcessPolicy(checkpoint, device="tpu")
    with pytest.raises(InputError, match="there is no device 'tpu'"):
        policy.wait()
    policy.close()


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hangs"])
def test_a_policy_that_dies_or_hangs_leaves_the_robot_held_then_stopped(
    process: ProcessPolicy, fault: signal.Signals
) -> None:
    at: list[float] = []

    def break_it() -> None:
        os.kill(process.pid, fault)
        at.append(time.monotonic())

    robot = LiveRobot(process.contract)
    report, sink = rollout(process, robot, break_it, chunk_size=K, abandon=process.close)
    assert report.stop is (Stop.POLICY if fault == signal.SIGKILL else Stop.STARVED)
    assert report.error
    assert ("SIGKILL" if fault == signal.SIGKILL else "has not answered") in report.error
    assert sink.stopped_s is not None
    reach = K / HZ  # of the last chunk, which a robot may use up before it is held
    assert sink.stopped_s - at[0] <= reach + HOLD_S + 0.2 + 1.0  # a second for a busy machine
    held = [action for _, action in sink.sent][-3:]  # on a busy machine there are few
    assert all(np.array_equal(action, held[0]) for action in held)
    assert report.policy_hangs is (fault == signal.SIGSTOP)


SOURCES = ["freezes", "clock-jumps-ahead", "clock-jumps-back", "repeats", "runs-backwards"]


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_that_breaks_is_noticed_in_time_and_trusted_again_when_it_is_well(
    kind: str, reader: DatasetReader
) -> None:
    policy = Quick(reader)
    robot = LiveRobot(policy.contract)
    operator = Operator()

    def break_it() -> None:
        robot.frozen = kind == "freezes"
        robot.again = kind == "repeats"
        robot.back = kind == "runs-backwards"
        if kind.startswith("clock"):
            robot.jump_ns = 10_000_000_000 * (1 if kind.endswith("ahead") else -1)
            time.sleep(0.4)  # it stays: the new clock is believed
        else:
            time.sleep(0.38)
        robot.frozen = robot.again = robot.back = False
        time.sleep(0.5)
        operator.stop(Stop.INTERRUPTED, "the test is over")

    report, sink = rollout(policy, robot, break_it, chunk_size=40, operator=operator, hold_s=2.0)
    assert report.stop is Stop.INTERRUPTED
    assert sink.stopped_s is not None
    if kind.startswith("clock"):
        assert report.refused_observations["jumped"] == RULES.fresh - 1
        assert report.degradations <= 1  # two observations are missing: 150 ms, 200 are allowed
    else:
        assert report.degradations == 1
        assert report.held_ticks >= 1
    last = [float(action[0]) for when, action in sink.sent if when > sink.stopped_s - 0.35]
    assert last[0] < last[-1]  # it moves again


def test_a_source_that_stays_broken_stops_the_robot(reader: DatasetReader) -> None:
    policy = Quick(reader)
    robot = LiveRobot(policy.contract)
    at: list[float] = []

    def freeze() -> None:
        robot.frozen = True
        at.append(time.monotonic())

    report, sink = rollout(policy, robot, freeze, chunk_size=40)
    assert report.stop is Stop.STALE
    assert "200 ms are allowed" in report.error
    assert sink.stopped_s is not None
    assert sink.stopped_s - at[0] <= 0.2 + HOLD_S + 0.2 + 1.0


@pytest.mark.parametrize("how", ["estop", "interrupt"])
def test_whoever_pulls_the_emergency_stop_stops_at_once_and_ctrl_c_after_braking(
    how: str, reader: DatasetReader
) -> None:
    operator = Operator()
    policy = Quick(reader)

    def halt() -> None:
        if how == "estop":
            operator.estop("the key 'x'")
        else:
            operator.stop(Stop.INTERRUPTED, "SIGINT")

    robot = LiveRobot(policy.contract)
    report, sink = rollout(policy, robot, halt, chunk_size=40, operator=operator)
    assert report.stop is (Stop.ESTOP if how == "estop" else Stop.INTERRUPTED)
    assert report.cause in ("the key 'x'", "SIGINT")
    assert bool(report.error) is (how == "estop")
    assert sink.stopped_s is not None
    assert robot.closed.is_set()


def told(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def wait_for(condition: object, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.005)


def test_the_watchdog_holds_then_stops_a_robot_whose_control_tick_falls_silent(
    tmp_path: Path, reader: DatasetReader
) -> None:
    file = tmp_path / "commands"
    watchdog = Watchdog(f"jsonl:{file}", offered_by(reader.schema), silence_ms=150, hold_s=0.2)
    watchdog.wait()
    time.sleep(0.3)
    assert not watchdog.tripped  # nothing moves yet: silence is no harm
    watchdog.beat()
    watchdog.arm()
    began = time.monotonic_ns()
    wait_for(lambda: watchdog.tripped)
    wait_for(lambda: len(told(file)) == 2)
    hold, stop = told(file)
    assert (hold["do"], stop["do"]) == ("hold", "stop")
    assert 140e6 <= int(str(hold["at_ns"])) - began <= 3e9
    assert int(str(stop["at_ns"])) - int(str(hold["at_ns"])) >= 0.2e9
    watchdog.close()
    watchdog.close()


def test_the_watchdog_of_a_rollout_that_ended_properly_does_nothing(
    tmp_path: Path, reader: DatasetReader
) -> None:
    file = tmp_path / "commands"
    watchdog = Watchdog(f"jsonl:{file}", offered_by(reader.schema), silence_ms=500)
    watchdog.wait()
    watchdog.arm()
    watchdog.beat()
    watchdog.close()
    assert told(file) == []


def test_a_watchdog_that_cannot_open_the_sink_keeps_the_robot_from_moving(
    reader: DatasetReader,
) -> None:
    watchdog = Watchdog("motor:left", offered_by(reader.schema))
    with pytest.raises(DataError, match="there is no sink 'motor'"):
        watchdog.wait()


KILLED = """
import sys, time
from pathlib import Path
from act_model.commands import open_sink
from act_model.config import Contract
from act_model.watchdog import Watchdog
contract = Contract.model_validate_json(sys.argv[1])
sink = open_sink("jsonl:" + sys.argv[2], contract)
watchdog = Watchdog("jsonl:" + sys.argv[2], contract, silence_ms=60_000)
watchdog.wait()
import numpy as np
while True:
    watchdog.beat()
    sink.send(np.zeros(3, np.float32), 0)
    watchdog.arm()
    time.sleep(0.01)
"""


def test_when_the_control_process_is_killed_the_watchdog_stops_the_robot_at_once(
    tmp_path: Path, reader: DatasetReader
) -> None:
    file = tmp_path / "commands"
    contract = offered_by(reader.schema)
    control = subprocess.Popen([sys.executable, "-c", KILLED, contract.model_dump_json(), file])
    wait_for(lambda: file.exists() and len(told(file)) > 3, 60)
    control.kill()
    control.wait()
    killed_ns = time.monotonic_ns()
    wait_for(lambda: told(file)[-1]["do"] == "stop")
    assert [line["do"] for line in told(file)[-2:]] == ["hold", "stop"]
    assert int(str(told(file)[-1]["at_ns"])) - killed_ns < 2e9


def test_a_rollout_ends_when_the_watchdog_has_stepped_in(
    tmp_path: Path, reader: DatasetReader
) -> None:
    policy = Quick(reader)
    file = tmp_path / "commands"
    sink = open_sink(f"jsonl:{file}", policy.contract)
    watchdog = Watchdog(f"jsonl:{file}", policy.contract, silence_ms=400, hold_s=0.1)
    watchdog.wait()
    robot = LiveRobot(policy.contract)
    stalled = []

    class Stalling:
        """Blocks the control tick once, as a swapping machine might."""

        def send(self, action_A: NDArray[np.float32], valid_ns: int) -> None:
            sink.send(action_A, valid_ns)
            if len(told(file)) > 5 and not stalled:
                stalled.append(True)
                wait_for(lambda: watchdog.tripped)

        def hold(self) -> None:
            sink.hold()

        def stop(self) -> None:
            sink.stop()

        def close(self) -> None:
            sink.close()

    report = deploy(
        policy,
        robot,
        mode=Mode.LIVE,
        chunker=ActionQueue(40, 3),
        sink=Stalling(),
        limits=WIDE,
        rules=RULES,
        watchdog=watchdog,
        max_ticks=400,
    )
    assert report.stop is Stop.WATCHDOG
    assert "silent" in report.error
    after = [line["do"] for line in told(file)]
    assert "send" not in after[after.index("hold") :]
