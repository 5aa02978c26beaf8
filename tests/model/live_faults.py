"""A policy drives a real ROS robot in another process, and things go wrong.

    python -m tests.model.live_faults --ros 1 --cycles 100     # minutes
    python -m tests.model.live_faults --ros 1 --drive 60       # 50 Hz, 60 ms of inference

Every cycle: the follower publishes joints, odometry and cameras, the policy drives arms and base,
the fault comes after a second, and the robot must end held or stopped: the rollout is over, its
base stands still, and no command follows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from act_data.records import FeatureStats, StatsRecord
from act_data.robot import load_robot
from act_data.sources.live import open_backend
from act_model.chunking import ActionQueue
from act_model.commands import open_sink
from act_model.config import Contract
from act_model.deploy import RolloutReport, Rules, Stop, deploy
from act_model.robot_io import LiveRobot, Mode
from act_model.safety import Limits
from tests.follower_process import FollowerProcess
from tests.model.test_live_robot import contract
from tests.ros1_graph import Ros1Graph
from tests.ros2_graph import own_domain

K = 16
_QUANTILES = ("q01", "q10", "q50", "q90", "q99")
CONTROL_HZ = 50.0
FAULT_S = 0.4
RULES = Rules(control_hz=CONTROL_HZ, max_age_ms=400, hold_s=0.3, first_command="ramp")
LIMITS = Limits.of([-2.0] * 16, [2.0] * 16)


@dataclass
class Gentle:
    """A policy that moves every joint a little and drives the base; a fault may be put into it."""

    contract: Contract
    latency_s: float = 0.0
    fault: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
    at: float = field(default_factory=time.monotonic)

    @property
    def stats(self) -> StatsRecord:
        features = {
            vector.name: FeatureStats.model_validate(
                {
                    "count": (2,) * len(vector.names),
                    "nan": (0,) * len(vector.names),
                    "min": (-2.0,) * len(vector.names),
                    "max": (2.0,) * len(vector.names),
                }
                | {k: (0.0,) * len(vector.names) for k in ("mean", "std", *_QUANTILES)}
            )
            for vector in self.contract.action
        }
        return StatsRecord(
            dataset="none",
            version=1,
            content_hash="",
            split="all",
            episodes=1,
            steps=2,
            features=features,
        )

    def predict(self, observation: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        time.sleep(self.latency_s)
        steps = np.arange(1, K + 1, dtype=np.float32)[:, None]
        arms = np.asarray(observation["qpos"], np.float32) + 0.002 * steps
        chunk = np.concatenate([arms, np.full((K, 2), 0.1, np.float32)], axis=1)
        fault = self.fault
        return chunk if fault is None else fault(chunk)


@dataclass(frozen=True)
class Outcome:
    """One cycle. Attributes: calm: Base still and silent afterwards. rest_s: From the fault on."""

    fault: str
    stop: Stop
    calm: bool
    rest_s: float
    report: RolloutReport


class Robot:
    """A follower on one ROS, and how to reach it."""

    def __init__(self, name: str, follower: FollowerProcess, graph: Ros1Graph | None) -> None:
        self.name = name
        self.follower = follower
        self.graph = graph

    def drive(
        self, policy: Gentle, *, seconds: float, rules: Rules = RULES, wait_s: float = 10.0
    ) -> RolloutReport:
        """A rollout of so many seconds."""
        robot = LiveRobot(
            open_backend(self.name), load_robot("cobot_magic"), policy.contract, wait_s=wait_s
        )
        sink = open_sink(self.name, policy.contract)
        return deploy(
            policy,
            robot,
            mode=Mode.LIVE,
            chunker=ActionQueue(K, 16, seam="crossfade"),
            sink=sink,
            limits=LIMITS,
            rules=rules,
            max_ticks=round(seconds * CONTROL_HZ),
        )

    def _wait_until_it_moves(self) -> bool:
        """Whether it does, for `FAULT_S`."""
        before = int(self.follower.state()["commands"])
        for _ in range(1000):
            time.sleep(0.02)
            if int(self.follower.state()["commands"]) > before + 3 * CONTROL_HZ * FAULT_S:
                return True
        return False

    def cycle(self, fault: str, *, seconds: float = 2.5, rules: Rules = RULES) -> Outcome:
        """One rollout with a fault in it."""
        policy = Gentle(driven(), latency_s=0.01)
        release = threading.Event()
        happened: list[int] = []

        def happen() -> None:
            happened.append(time.monotonic_ns())
            FAULTS[fault](self, policy, release)

        timer = threading.Thread(target=lambda: self._wait_until_it_moves() and happen())
        timer.start()
        try:
            report = self.drive(policy, seconds=seconds, rules=rules)
        finally:
            timer.join()
            release.set()
            self.follower.tell("thaw")
            self.follower.tell("shift", seconds=0)
            if self.graph is not None:
                self.graph.restore_master()
        before = _settled(self.follower)
        time.sleep(0.3)
        state = self.follower.state()
        calm = state["base"] == [0.0, 0.0] and state["commands"] == before["commands"]
        moving = [
            command["at"]
            for command in self.follower.heard()
            if command["what"] == "base" and any(command["values"])
        ]
        rest_s = (moving[-1] - happened[0]) / 1e9 if happened and moving else float("nan")
        return Outcome(fault, report.stop, calm, rest_s, report)


def driven() -> Contract:
    return contract().model_copy(update={"chunk_size": K})


def _settled(follower: FollowerProcess) -> dict[str, object]:
    """Its state when what is on the way has arrived."""
    time.sleep(0.2)
    return follower.state()


def _put(fault: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Fault:
    def put(robot: Robot, policy: Gentle, release: threading.Event) -> None:
        policy.fault = fault

    return put


def _raise(chunk: NDArray[np.float32]) -> NDArray[np.float32]:
    raise RuntimeError("the policy is broken")


def _nan(chunk: NDArray[np.float32]) -> NDArray[np.float32]:
    chunk[3, 5] = np.nan
    return chunk


def _slow(robot: Robot, policy: Gentle, release: threading.Event) -> None:
    policy.latency_s = 2.0


def _hang(robot: Robot, policy: Gentle, release: threading.Event) -> None:
    def hang(chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        release.wait(60)
        return chunk

    policy.fault = hang


def _freeze(robot: Robot, policy: Gentle, release: threading.Event) -> None:
    robot.follower.tell("freeze")


def _jump(robot: Robot, policy: Gentle, release: threading.Event) -> None:
    robot.follower.tell("shift", seconds=10)


def _jump_back(robot: Robot, policy: Gentle, release: threading.Event) -> None:
    robot.follower.tell("shift", seconds=-10)


def _kill_master(robot: Robot, policy: Gentle, release: threading.Event) -> None:
    assert robot.graph is not None
    robot.graph.kill_master()


Fault = Callable[[Robot, Gentle, threading.Event], None]
FAULTS: dict[str, Fault] = {
    "policy raises": _put(_raise),
    "policy gives NaN": _put(_nan),
    "policy is slow": _slow,
    "policy hangs": _hang,
    "sensors freeze": _freeze,
    "stamps jump ahead": _jump,
    "stamps jump back": _jump_back,
    "master is killed": _kill_master,
}
# How each of them ends. A robot whose stamps jump may be trusted again; who is connected does not
# need a master. On a machine that is busy the sensors may be late, too, while the policy is.
ENDS: dict[str, set[Stop]] = {
    "policy raises": {Stop.POLICY, Stop.ERROR, Stop.STARVED},
    "policy gives NaN": {Stop.STARVED, Stop.STALE},
    "policy is slow": {Stop.STARVED, Stop.STALE},
    "policy hangs": {Stop.STARVED, Stop.STALE},
    "sensors freeze": {Stop.STALE, Stop.STARVED},
    "stamps jump ahead": {Stop.TICKS, Stop.STALE},
    "stamps jump back": {Stop.TICKS, Stop.STALE},
    "master is killed": {Stop.TICKS},
}


@contextmanager
def robot_on(ros: int, folder: Path) -> Iterator[Robot]:
    """A follower that runs, on a graph of its own."""
    if ros == 1:
        with Ros1Graph(folder) as graph, FollowerProcess(1, folder, graph.environment) as follower:
            yield Robot(f"ros1:{graph.uri}", follower, graph)
    else:
        with own_domain() as domain, FollowerProcess(2, folder, os.environ) as follower:
            yield Robot(f"ros2:{domain}", follower, None)


def faults_of(ros: int) -> list[str]:
    """Those that can happen there."""
    return [name for name in FAULTS if ros == 1 or name != "master is killed"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ros", type=int, choices=(1, 2), default=1)
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--drive", type=float, metavar="SECONDS", help="without a fault")
    parser.add_argument("--patient", action="store_true", help="for a machine with other work")
    options = parser.parse_args()
    if options.drive:
        patience = {"max_age_ms": 3000.0, "hold_s": 10.0} if options.patient else {}
        rules = RULES.model_copy(update=patience)
        with _robot(options.ros) as robot:
            policy = Gentle(driven(), latency_s=0.06)
            report = robot.drive(policy, seconds=options.drive, rules=rules)
            heard = robot.follower.state()["commands"]
        sys.stdout.write(
            json.dumps({**report.model_dump(mode="json", include=_SHOWN), "heard": heard})
        )
        return
    names = faults_of(options.ros)
    outcomes: list[Outcome] = []
    began = time.monotonic()
    while len(outcomes) < options.cycles:
        with _robot(options.ros) as robot:
            while len(outcomes) < options.cycles:
                name = names[len(outcomes) % len(names)]
                outcomes.append(robot.cycle(name))
                good = _as_promised(outcomes[-1])
                sys.stderr.write(
                    f"{time.monotonic() - began:.0f} s: {len(outcomes)} {name}: "
                    f"{outcomes[-1].stop.value} {good}\n"
                )
                if name == "master is killed":
                    break  # rospy tells a new master nothing: begin anew
    for name in names:
        of = [o for o in outcomes if o.fault == name]
        stops = dict(Counter(o.stop.value for o in of))
        longest = max((o.rest_s for o in of), default=float("nan"))
        sys.stdout.write(
            f"{name:20} {sum(map(_as_promised, of))} of {len(of)} as promised, {stops}, the base "
            f"moved for at most {longest:.2f} s after it\n"
        )


_SHOWN = {
    "stop", "ticks", "commands", "deadline_misses", "starved_ticks", "held_ticks", "rate_hz",
    "jitter_p50_ms", "jitter_p99_ms", "jitter_max_ms", "inference_p50_ms",
    "observation_age_p50_ms", "observation_age_max_ms",
}  # fmt: skip


def _as_promised(outcome: Outcome) -> bool:
    return outcome.calm and outcome.stop in ENDS[outcome.fault]


@contextmanager
def _robot(ros: int) -> Iterator[Robot]:
    with tempfile.TemporaryDirectory() as folder, robot_on(ros, Path(folder)) as robot:
        yield robot


if __name__ == "__main__":
    main()
