"""The control tick beside the peers' ways, in one run: pacing, cost, memory, faults.

    python benchmarks/deploy_loop.py                     everything, about two minutes
    python benchmarks/deploy_loop.py --seconds 600 --hog --fifo    D2 on a quiet machine
    python benchmarks/deploy_loop.py --faults 100        D10: kills and hangs, 100 cycles each

- pacing (D1, D2): 50 Hz of the whole rollout (a policy that computes in another thread, filter,
  log, sink) against a loop that sleeps what is left of a period, with the same work.
- join (as the AgileX inference script): a thread per prediction that is joined at once.
- cost (D3): queue, ensemble and filter for 14 joints against the dense table of the original; and
  with a box for the tip of each of two arms.
- memory (D4): bytes that 10^5 ticks leave behind, and 10^5 more.
- ready (D13): from a new interpreter to a prediction of 3 cameras 480x640, published size, with
  the policy in a process of its own, as `deploy --mode live` has it.

--json prints the numbers as one document.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from act_data.interfaces import DatasetReader
from act_data.stats import compute
from act_model.chunking import ActionQueue, Chunker, TemporalEnsemble
from act_model.commands import NullSink
from act_model.config import Contract, ModelConfig, VectorContract
from act_model.deploy import Mode, Rules, SimulatedClock, deploy
from act_model.deploy.feed import Seen
from act_model.deploy.inference import Chunk, Request
from act_model.deploy.loop import Loop, Parts
from act_model.deploy.measures import Measures
from act_model.deploy.operator import Operator
from act_model.deploy.realtime import realtime
from act_model.export.onnx_file import export_onnx
from act_model.policy import Policy
from act_model.policy_process import ProcessPolicy
from act_model.robot_io import RobotObservation
from act_model.runtime import onnx_file_of
from act_model.safety import Limits, SafetyFilter
from act_model.safety.kinematics import Workspace
from act_model.safety.records import Box

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.peers import serving
from tests.model.memory_dataset import dataset_of, schema_of
from tests.model.small_policy import save_checkpoint

HZ, K, A = 50.0, 100, 14
JOINTS = tuple(f"arm/joint{i}" for i in range(A))
VECTOR = VectorContract(name="action", names=JOINTS, unit="rad")
STATE = VectorContract(name="qpos", names=JOINTS, unit="rad")
CONTRACT = Contract(robot="bench", rate_hz=HZ, chunk_size=K, state=(STATE,), action=(VECTOR,))
LIMITS = Limits.of([-3.0] * A, [3.0] * A, velocity=3.0, acceleration=60.0)
PERIOD_NS = round(1e9 / HZ)


class BusyPolicy:
    """Takes `work_ms` of computing for every chunk."""

    def __init__(self, work_ms: float) -> None:
        dataset = dataset_of(4, schema=schema_of(cameras={}))
        self.contract, self.stats = CONTRACT, compute(cast(DatasetReader, dataset), "all")
        self._work_ms = work_ms
        self._matrix = np.random.default_rng(0).standard_normal((192, 192)).astype(np.float32)

    def predict(self, observation: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        until = time.monotonic() + self._work_ms / 1000
        while time.monotonic() < until:
            self._matrix @ self._matrix
        phase = time.monotonic() + np.arange(K) / HZ
        return np.sin(phase).astype(np.float32)[:, None] * np.ones(A, np.float32)


class Robot:
    keeps_time = False
    contract = CONTRACT

    def __init__(self) -> None:
        self._tick = -1

    def observe(self) -> RobotObservation:
        self._tick += 1
        return seen_at(self._tick)

    def close(self) -> None:
        pass


def seen_at(tick: int) -> RobotObservation:
    return RobotObservation(
        tick=tick,
        tick_ns=tick * PERIOD_NS,
        first=tick == 0,
        valid=True,
        arrays=lambda: {"qpos": np.zeros(A, np.float32)},
        demonstrated=None,
    )


def ours(seconds: float, *, fifo: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        report = deploy(
            BusyPolicy(30),
            Robot(),
            mode=Mode.LIVE,
            chunker=ActionQueue(K, A, execute=5),
            sink=NullSink(),
            limits=LIMITS,
            log=Path(folder) / "log",
            max_ticks=round(seconds * HZ),
            fifo=fifo,
        )
    assert report.rate_hz is not None
    drift_ms = ((report.ticks - 1) / report.rate_hz - (report.ticks - 1) / HZ) * 1000
    return {
        "rate_hz": report.rate_hz,
        "jitter_p50_ms": report.jitter_p50_ms,
        "jitter_p99_ms": report.jitter_p99_ms,
        "jitter_max_ms": report.jitter_max_ms,
        "drift_ms": drift_ms,
        "missed_deadlines": report.deadline_misses,
        "scheduling": report.scheduling,
    }


def sleeping(seconds: float, *, join: bool) -> dict[str, object]:
    """A loop that sleeps what is left; it predicts in another thread, which `join` waits for."""
    policy = BusyPolicy(30)
    safety = SafetyFilter(LIMITS, 1 / HZ)
    starts = []
    done = threading.Event()

    def think() -> None:
        while not done.is_set():
            policy.predict({})
            time.sleep(0.07)

    if not join:
        thinker = threading.Thread(target=think)
        thinker.start()
    chunk = policy.predict({})
    for tick in range(round(seconds * HZ)):
        began = time.monotonic()
        starts.append(began)
        if join and tick % 5 == 0:
            worker = threading.Thread(target=policy.predict, args=({},))
            worker.start()
            worker.join()
        safety.apply(chunk[tick % 5])
        time.sleep(max(0.0, 1 / HZ - (time.monotonic() - began)))
    done.set()
    if not join:
        thinker.join()
    periods = np.diff(starts)
    jitter = np.abs(periods - 1 / HZ) * 1000
    return {
        "rate_hz": float(1 / periods.mean()),
        "jitter_p50_ms": float(np.percentile(jitter, 50)),
        "jitter_p99_ms": float(np.percentile(jitter, 99)),
        "jitter_max_ms": float(jitter.max()),
        "drift_ms": float((starts[-1] - starts[0] - (len(starts) - 1) / HZ) * 1000),
        "missed_deadlines": int((periods > 2 / HZ).sum()),
        "scheduling": "normal",
    }


class Answers:
    """An inference that has every chunk ready: what remains is the tick itself."""

    def __init__(self) -> None:
        self._chunk = np.zeros((K, A), np.float32)
        self._request: Request | None = None

    def offer(self, request: Request) -> None:
        self._request = request

    def arrived(self) -> list[Chunk]:
        request, self._request = self._request, None
        if request is None:
            return []
        return [Chunk(request=request, actions=self._chunk, latency_ns=1)]

    def close(self) -> bool:
        return True


class Fresh:
    """A feed with a new observation at every tick."""

    refused: Mapping[str, int] = {}

    def __init__(self) -> None:
        self._seen = [seen_at(0), seen_at(1)]
        self._number = -1

    def newest(self, deadline_ns: int) -> Seen:
        self._number += 1
        return Seen(
            number=self._number,
            taken_ns=deadline_ns,
            observation=self._seen[self._number > 0],
        )

    def close(self) -> None:
        pass


def two_arms(folder: Path) -> Workspace:
    """A box for the tip of each of two arms of seven joints."""
    links = ['<link name="base"/>']
    for i in range(A):
        links.append(
            f'<link name="link{i}"/><joint name="joint{i}" type="revolute">'
            f'<parent link="{"base" if i % 7 == 0 else f"link{i - 1}"}"/><child link="link{i}"/>'
            f'<origin xyz="0.1 0 0"/><axis xyz="{("0 0 1", "0 1 0", "1 0 0")[i % 3]}"/>'
            '<limit lower="-3" upper="3" velocity="3" effort="1"/></joint>'
        )
    urdf = folder / "arms.urdf"
    urdf.write_text(f'<robot name="arms">{"".join(links)}</robot>')
    boxes = [Box(frame=f"link{i}", min=(-1, -1, -1), max=(1, 1, 1)) for i in (6, 13)]
    return Workspace(urdf, boxes, (VECTOR,))


def loop_of(chunker: Chunker, workspace: Workspace | None) -> tuple[Loop, SimulatedClock]:
    clock = SimulatedClock()
    parts = Parts(
        contract=CONTRACT,
        mode=Mode.LIVE,
        rules=Rules(),
        clock=clock,
        feed=Fresh(),
        inference=Answers(),
        chunker=chunker,
        safety=SafetyFilter(LIMITS, 1 / HZ, workspace=workspace),
        sink=NullSink(),
        operator=Operator(),
        measures=Measures(HZ),
    )
    return Loop(parts), clock


def tick_cost(
    make: Callable[[], Chunker], ticks: int, workspace: Workspace | None = None
) -> dict[str, float]:
    loop, clock = loop_of(make(), workspace)
    took = np.zeros(ticks)
    for tick in range(ticks):
        clock.sleep_until(tick * PERIOD_NS)
        began = time.perf_counter_ns()
        loop.tick(tick * PERIOD_NS)
        took[tick] = time.perf_counter_ns() - began
    took = took[ticks // 10 :] / 1000
    return {"p50_us": float(np.percentile(took, 50)), "p99_us": float(np.percentile(took, 99))}


def dense_cost(ticks: int) -> dict[str, float]:
    """Ensembling as the original has it: a table of all chunks, (T, T + K, A), on every tick."""
    length = 1000
    table = np.zeros((length, length + K, A), np.float32)
    took = np.zeros(ticks)
    chunk = np.random.default_rng(0).standard_normal((K, A)).astype(np.float32)
    for tick in range(ticks):
        t = tick % length
        began = time.perf_counter_ns()
        table[t, t : t + K] = chunk
        column = table[:, t]
        column = column[np.all(column != 0, axis=1)]
        weights = np.exp(-0.01 * np.arange(len(column)))
        (column * (weights / weights.sum())[:, None]).sum(axis=0)
        took[tick] = time.perf_counter_ns() - began
    return {
        "p50_us": float(np.percentile(took, 50) / 1000),
        "p99_us": float(np.percentile(took, 99) / 1000),
        "table_mb": table.nbytes / 1e6,
    }


def memory(ticks: int, workspace: Workspace) -> dict[str, int]:
    """Bytes that are there after `ticks` more ticks and were not before."""
    with realtime(fifo=False):
        loop, clock = loop_of(ActionQueue(K, A, execute=5), workspace)

        def go(begin: int, end: int) -> int:
            for tick in range(begin, end):
                clock.sleep_until(tick * PERIOD_NS)
                loop.tick(tick * PERIOD_NS)
            return tracemalloc.get_traced_memory()[0]

        go(0, 5000)
        tracemalloc.start()
        held = [go(5000 + i * ticks, 5000 + (i + 1) * ticks) for i in range(3)]
        tracemalloc.stop()
    # The first round is what Python keeps of its own once it is traced.
    return {"ticks": ticks, "net_bytes": held[1] - held[0], "net_bytes_after": held[2] - held[1]}


READY = """
import sys
from pathlib import Path
import act_model.launch
from act_model.contract import blank_observation
from act_model.policy_process import ProcessPolicy
policy = ProcessPolicy(Path(sys.argv[1]), sys.argv[2], "cpu")
policy.wait()
policy.predict(blank_observation(policy.contract))
policy.close()
"""


def start(folder: Path, *, quick: bool) -> dict[str, float]:
    """Seconds from a new interpreter, which imports what `deploy` imports, to a prediction."""
    small = {"hidden_dim": 32, "heads": 2, "feedforward_dim": 32, "encoder_layers": 1}
    picture = (96, 128) if quick else (480, 640)
    model = ModelConfig.model_validate(
        {"state_dim": A, "action_dim": A, "cameras": ("a", "b", "c"), "image_size": picture}
        | (small if quick else {})
    )
    checkpoint = serving.save_checkpoint(folder / "best", model, picture)
    export_onnx(Policy.load(checkpoint, "cpu"), onnx_file_of(checkpoint))
    found = {}
    for runtime in ("torch", "onnx"):
        took = []
        for _ in range(1 if quick else 3):
            began = time.monotonic()
            subprocess.run([sys.executable, "-c", READY, checkpoint, runtime], check=True)
            took.append(time.monotonic() - began)
        found[f"{runtime}_s"] = min(took)
    return found


class Follower:
    """A robot in real time, and a sink that notes when it was stopped."""

    keeps_time = True

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.commands = 0
        self.stopped_s: float | None = None
        self.last: NDArray[np.float32] | None = None
        self.still = 0
        self._closed = threading.Event()
        self._tick = -1

    def observe(self) -> RobotObservation | None:
        if self._closed.wait(1 / self.contract.rate_hz):
            return None
        self._tick += 1
        return RobotObservation(
            tick=self._tick,
            tick_ns=time.monotonic_ns(),
            first=self._tick == 0,
            valid=True,
            arrays=lambda: {"qpos": np.zeros(3, np.float32)},
            demonstrated=None,
        )

    def send(self, action_A: NDArray[np.float32], valid_ns: int) -> None:
        self.commands += 1
        same = self.last is not None and bool((action_A == self.last).all())
        self.still = self.still + 1 if same else 0
        self.last = action_A.copy()

    def hold(self) -> None:
        pass

    def stop(self) -> None:
        self.stopped_s = self.stopped_s or time.monotonic()

    def close(self) -> None:
        self._closed.set()


def faults(checkpoint: Path, kind: str, cycles: int, hold_s: float = 0.2) -> dict[str, object]:
    """How often a robot whose policy is killed or hangs was held and stopped in time."""
    good, late = 0, []
    process: ProcessPolicy | None = None
    for _ in range(cycles):
        if process is None:
            process = ProcessPolicy(checkpoint, device="cpu")
            process.wait()
        follower = Follower(process.contract)
        at: list[float] = []
        pid = process.pid

        def break_it(follower: Follower = follower, pid: int = pid, at: list[float] = at) -> None:
            while follower.commands < 3 and follower.stopped_s is None:
                time.sleep(0.002)
            os.kill(pid, signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
            at.append(time.monotonic())

        def resume(pid: int = pid) -> None:
            if kind == "hang":
                os.kill(pid, signal.SIGCONT)

        thread = threading.Thread(target=break_it)
        thread.start()
        report = deploy(
            process,
            follower,
            mode=Mode.LIVE,
            chunker=ActionQueue(process.contract.chunk_size, 3),
            sink=follower,
            limits=Limits.of([-9.0] * 3, [9.0] * 3),
            rules=Rules(hold_s=hold_s),
            max_ticks=400,
            abandon=resume,
        )
        thread.join()
        reach = process.contract.chunk_size / process.contract.rate_hz
        took = (follower.stopped_s or 1e9) - at[0]
        late.append(took)
        if report.error and follower.still >= 2 and took <= reach + hold_s + 0.2:
            good += 1
        if kind == "kill":
            process.close()
            process = None
    if process is not None:
        process.close()
    return {"cycles": cycles, "held_and_stopped": good, "slowest_s": max(late)}


def _burn(stop: float) -> None:
    while time.monotonic() < stop:
        sum(range(1000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--ticks", type=int, default=20_000)
    parser.add_argument("--hog", action="store_true", help="burn every core meanwhile")
    parser.add_argument("--fifo", action="store_true")
    parser.add_argument("--faults", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="small, for a look")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    if a.quick:
        a.seconds, a.ticks, a.faults = 1.0, 500, 1
    hogs = []
    if a.hog:
        stop = time.monotonic() + 2 * a.seconds + 30
        hogs = [
            multiprocessing.get_context("fork").Process(target=_burn, args=(stop,))
            for _ in range(os.cpu_count() or 1)
        ]
        for hog in hogs:
            hog.start()
    found: dict[str, object] = {
        "pacing": {
            "ours": ours(a.seconds, fifo=a.fifo),
            "sleep_the_rest": sleeping(a.seconds, join=False),
            "join_at_once": sleeping(min(a.seconds, 10), join=True),
        }
    }
    for hog in hogs:
        hog.kill()
        hog.join()
    with tempfile.TemporaryDirectory() as folder:
        workspace = two_arms(Path(folder))
    found["tick_cost"] = {
        "queue_and_filter": tick_cost(lambda: ActionQueue(K, A, execute=5), a.ticks),
        "ensemble_and_filter": tick_cost(lambda: TemporalEnsemble(K, A), a.ticks),
        "queue_and_workspace": tick_cost(lambda: ActionQueue(K, A, execute=5), a.ticks, workspace),
        "dense_table_alone": dense_cost(min(a.ticks, 3000)),
    }
    found["memory"] = memory(a.ticks * 5, workspace)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = save_checkpoint(
            Path(folder) / "policy",
            cast(DatasetReader, dataset_of(4, schema=schema_of(cameras={}))),
        )
        found["ready"] = start(Path(folder), quick=a.quick)
        if a.faults:
            found["faults"] = {
                kind: faults(checkpoint, kind, a.faults) for kind in ("kill", "hang")
            }
    if a.json:
        json.dump(found, sys.stdout, indent=2)
        print()
        return
    for name, value in found.items():
        print(name)
        rows = value.items() if isinstance(value, dict) else [("", value)]
        for row, numbers in rows:
            shown = (
                ", ".join(
                    f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
                    for k, v in numbers.items()
                )
                if isinstance(numbers, dict)
                else f"{numbers:.4g}"
            )
            print(f"  {row:<20} {shown}")


if __name__ == "__main__":
    main()
