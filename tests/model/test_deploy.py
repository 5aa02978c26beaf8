"""The control loop: deterministic in replay, on time in shadow, and one way out."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from act_data.errors import DataError, InputError, StoreError
from act_data.records import SYNC_REASON, StatsRecord
from act_data.stats import compute
from act_data.types import NS_PER_MS, Reason
from act_model.chunking import ActionQueue, Chunker, TemporalEnsemble
from act_model.config import Contract
from act_model.deploy import Mode, Rules, SimulatedClock, State, Stop, deploy
from act_model.deploy.feed import Seen
from act_model.deploy.inference import Request, WorkerInference
from act_model.deploy.tape import Tape
from act_model.robot_io import DatasetRobot, RobotObservation, offered_by
from act_model.safety import Filtered, Intervention, Limits
from tests.model.deploy_parts import PERIOD_NS, Bench, observation
from tests.model.deploy_parts import A as BENCH_A
from tests.model.deploy_parts import K as BENCH_K
from tests.model.memory_dataset import MemoryDataset, dataset_of, episode_of, schema_of

K = 8


class Oracle:
    """A policy that knows the demonstration: it reads the tick from the first joint's angle."""

    def __init__(self, dataset: MemoryDataset, episode: int = 0, chunk_size: int = K) -> None:
        offered = offered_by(dataset.schema)
        self.contract: Contract = offered.model_copy(update={"chunk_size": chunk_size})
        self.stats: StatsRecord = compute(dataset, "all")
        self._qpos = dataset.read("qpos", episode)
        self._action = dataset.read("action", episode).astype(np.float32)
        self.calls = 0
        self.threads: set[str] = set()

    def predict(self, observation: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        self.calls += 1
        self.threads.add(threading.current_thread().name)
        assert observation["images/top"].shape == (32, 48, 3)
        tick = int(np.abs(self._qpos - observation["qpos"]).sum(axis=1).argmin())
        rows = np.minimum(tick + np.arange(self.contract.chunk_size), len(self._action) - 1)
        return self._action[rows]


class Recording:
    """A scripted robot: one observation per tick, whatever a test wants to happen in between."""

    keeps_time = False

    def __init__(
        self, contract: Contract, ticks: int, at: Mapping[int, Callable[[], None]] | None = None
    ) -> None:
        self.contract = contract
        self.closed = 0
        self._ticks, self._at, self._tick = ticks, at or {}, 0

    def observe(self) -> RobotObservation | None:
        tick = self._tick
        self._tick += 1
        self._at.get(tick, lambda: None)()
        if tick >= self._ticks:
            return None
        return RobotObservation(
            tick=tick,
            tick_ns=tick,
            first=tick == 0,
            valid=True,
            arrays=lambda: {"qpos": np.zeros(3, np.float32)},
            demonstrated=None,
        )

    def close(self) -> None:
        self.closed += 1


class Commands:
    """A sink that remembers what it was told."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, list[float]]] = []
        self.told: list[str] = []

    def send(self, action_A: NDArray[np.float32], valid_ns: int) -> None:
        assert not self.told, "a command after hold, stop or close"
        self.sent.append((valid_ns, action_A.tolist()))

    def hold(self) -> None:
        self.told.append("hold")

    def stop(self) -> None:
        self.told.append("stop")

    def close(self) -> None:
        self.told.append("close")


class Constant:
    """A policy that always predicts the same chunk, and may take its time or fail."""

    def __init__(
        self, chunk: NDArray[np.float32] | None = None, before: Callable[[], None] | None = None
    ) -> None:
        dataset = dataset_of(30, schema=schema_of(cameras={}))
        offered = offered_by(dataset.schema)
        self.contract = offered.model_copy(update={"chunk_size": K})
        self.stats = compute(dataset, "all")
        self._chunk = np.zeros((K, 3), np.float32) if chunk is None else chunk
        self._before = before or (lambda: None)
        self.calls = 0

    def predict(self, observation: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        self.calls += 1
        self._before()
        return self._chunk


def chunkers() -> list[Chunker]:
    return [ActionQueue(K, 3, execute=5), TemporalEnsemble(K, 3)]


@pytest.mark.parametrize("chunker", chunkers(), ids=["queue", "ensemble"])
def test_a_perfect_policy_does_what_the_demonstrator_did(chunker: Chunker, tmp_path: Path) -> None:
    dataset = dataset_of(40)
    policy = Oracle(dataset)
    report = deploy(
        policy, DatasetRobot(dataset, 0, policy.contract), mode=Mode.REPLAY, chunker=chunker
    )
    assert (report.stop, report.ticks, report.episodes) == (Stop.END, 40, 1)
    assert report.compared_ticks == 40
    assert [joint.name for joint in report.joints] == [f"command/joint{i}" for i in range(3)]
    assert max(joint.max for joint in report.joints) < 1e-5
    assert report.mean_percent == pytest.approx(0, abs=1e-3)
    assert report.starved_ticks == report.waiting_ticks == report.discarded_actions == 0
    assert report.rate_hz is None
    assert report.inference_p50_ms is not None


def test_a_queue_predicts_every_execute_ticks_and_an_ensemble_every_tick() -> None:
    dataset = dataset_of(40)
    calls = []
    for chunker in chunkers():
        policy = Oracle(dataset)
        deploy(policy, DatasetRobot(dataset, 0, policy.contract), mode=Mode.REPLAY, chunker=chunker)
        calls.append(policy.calls)
    assert calls == [8, 40]


def test_two_replays_write_the_same_log_to_the_byte(tmp_path: Path) -> None:
    dataset = dataset_of(25)
    policy = Oracle(dataset)
    for name in ("a", "b"):
        deploy(
            policy,
            DatasetRobot(dataset, 0, policy.contract),
            mode=Mode.REPLAY,
            chunker=TemporalEnsemble(K, 3),
            log=tmp_path / name,
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "a").read_text().splitlines()]
    assert [line["tick"] for line in lines] == list(range(25))
    demonstrated = dataset.read("action", 0)
    assert np.array_equal([line["demonstrated"] for line in lines], demonstrated)


def test_the_error_of_a_constant_offset_is_reported_in_units_and_in_percent(
    tmp_path: Path,
) -> None:
    dataset = dataset_of(30)
    policy = Oracle(dataset)
    policy._action = policy._action + np.array([0.1, 0.0, -0.2], np.float32)
    wide = Limits.of([-9.0] * 3, [9.0] * 3)
    report = deploy(
        policy,
        DatasetRobot(dataset, 0, policy.contract),
        mode=Mode.REPLAY,
        chunker=ActionQueue(K, 3),
        limits=wide,
    )
    spans = np.ptp(dataset.read("action", 0), axis=0)
    for joint, offset, span in zip(report.joints, (0.1, 0.0, 0.2), spans, strict=True):
        assert joint.mean == pytest.approx(offset, abs=1e-5)
        assert joint.p95 == pytest.approx(offset, abs=1e-5)
        assert joint.mean_percent == pytest.approx(100 * offset / span, abs=1e-2)
        assert joint.unit == "rad"


def test_a_policy_beyond_the_demonstrated_range_is_held_back_and_both_are_logged(
    tmp_path: Path,
) -> None:
    policy = Constant(np.full((K, 3), 50, np.float32))
    report = deploy(
        policy,
        Recording(policy.contract, 5),
        mode=Mode.REPLAY,
        chunker=ActionQueue(K, 3),
        log=tmp_path / "log",
    )
    assert report.safety["position"] == 5
    line = json.loads((tmp_path / "log").read_text().splitlines()[0])
    assert line["raw"] == [50.0, 50.0, 50.0]
    assert max(line["filtered"]) < 1.0
    assert line["interventions"] == ["position"]


def test_a_chunk_with_a_nan_never_reaches_the_robot() -> None:
    chunk = np.zeros((K, 3), np.float32)
    chunk[3, 1] = np.nan
    policy = Constant(chunk)
    report = deploy(
        policy, Recording(policy.contract, 6), mode=Mode.REPLAY, chunker=ActionQueue(K, 3)
    )
    assert report.rejected_chunks == 6
    assert report.safety["not_finite"] == 6
    assert report.rejection == "action 3 of it is not finite"
    assert report.waiting_ticks == 6
    assert report.compared_ticks == 0


def test_a_rollout_that_starves_on_refused_chunks_says_what_was_wrong_with_them() -> None:
    bench = Bench(Limits.of([-9.0] * BENCH_A, [9.0] * BENCH_A), rules=Rules(hold_s=0.1))
    stop: object = None
    while stop is None:
        bench.feed.put(observation(bench.number), bench.number * PERIOD_NS)
        stop = bench.tick()
        for request in bench.inference.waiting:
            length = BENCH_K if request.place < 2 else 1
            bench.inference.answer(request, np.zeros((length, BENCH_A), np.float32))
        bench.inference.waiting.clear()
    assert stop is Stop.STARVED
    assert bench.measures.rejected_chunks > 0
    assert f"its shape is (1, {BENCH_A}), ({BENCH_K}, {BENCH_A}) was announced" in bench.loop.cause


def test_nothing_is_predicted_from_an_observation_that_is_not_valid() -> None:
    schema = schema_of()
    arrays = episode_of(schema, 20, seed=0)
    arrays[SYNC_REASON][4:12, 2] = Reason.GAP  # the camera's column
    arrays[SYNC_REASON][15, 1] = Reason.LATE  # the command's column
    dataset = MemoryDataset(schema, [arrays])
    policy = Oracle(dataset)
    report = deploy(
        policy,
        DatasetRobot(dataset, 0, policy.contract),
        mode=Mode.REPLAY,
        chunker=ActionQueue(K, 3, execute=2),
    )
    assert report.invalid_observations == 8
    assert policy.calls == 2 + 4  # ticks 0 and 2, then 12, 14, 16, 18
    assert report.starved_ticks == 2  # the chunk of tick 2 ends at 9; ticks 10 and 11
    assert report.compared_ticks == 19


def test_a_rollout_stops_after_the_ticks_that_were_asked_for() -> None:
    policy = Constant()
    robot = Recording(policy.contract, 100)
    report = deploy(policy, robot, mode=Mode.REPLAY, chunker=ActionQueue(K, 3), max_ticks=7)
    assert (report.stop, report.ticks) == (Stop.TICKS, 7)
    with pytest.raises(InputError, match="max_ticks is 0"):
        deploy(policy, robot, mode=Mode.REPLAY, chunker=ActionQueue(K, 3), max_ticks=0)


def interrupt() -> None:
    raise KeyboardInterrupt


def damaged() -> None:
    raise DataError("the bag is cut at byte 5", hint="Record again.")


def test_a_simulated_robot_gets_every_filtered_action_at_its_deadline_and_then_rests() -> None:
    policy = Constant(np.full((K, 3), 50, np.float32))
    sink = Commands()
    report = deploy(
        policy,
        Recording(policy.contract, 5),
        mode=Mode.SIM,
        chunker=ActionQueue(K, 3),
        sink=sink,
    )
    assert [at for at, _ in sink.sent] == [i * 50 * NS_PER_MS for i in range(5)]
    assert max(max(action) for _, action in sink.sent) < 1.0
    assert sink.told == ["stop", "close"]
    assert report.safety["position"] == 5


def test_in_replay_a_sink_hears_nothing_and_without_one_nothing_can_be_moved() -> None:
    policy = Constant()
    sink = Commands()
    robot = Recording(policy.contract, 5)
    with pytest.raises(InputError, match="no sink"):
        deploy(policy, robot, mode=Mode.LIVE, chunker=ActionQueue(K, 3))
    deploy(policy, robot, mode=Mode.REPLAY, chunker=ActionQueue(K, 3), sink=sink)
    assert (sink.sent, sink.told) == ([], ["close"])


@pytest.mark.parametrize("mode", list(Mode))
def test_an_interrupt_still_closes_everything_and_gives_a_report(
    mode: Mode, tmp_path: Path
) -> None:
    policy = Constant()
    robot = Recording(policy.contract, 9, {4: interrupt})
    sink = Commands()
    report = deploy(
        policy, robot, mode=mode, chunker=ActionQueue(K, 3), sink=sink, log=tmp_path / "log"
    )
    assert sink.told == (["stop", "close"] if mode.moves else ["close"])
    assert (report.stop, report.ticks, robot.closed) == (Stop.INTERRUPTED, 4, 1)
    assert len((tmp_path / "log").read_text().splitlines()) == 4
    assert not [t for t in threading.enumerate() if t.name == "act-policy"]


@pytest.mark.parametrize("mode", list(Mode))
def test_an_error_still_closes_everything_and_gives_a_report(mode: Mode) -> None:
    policy = Constant()
    robot = Recording(policy.contract, 9, {4: damaged})
    sink = Commands()
    report = deploy(policy, robot, mode=mode, chunker=ActionQueue(K, 3), sink=sink)
    assert sink.told == (["stop", "close"] if mode.moves else ["close"])
    assert (report.stop, report.ticks, robot.closed) == (Stop.ERROR, 4, 1)
    assert (report.error, report.hint) == ("the bag is cut at byte 5", "Record again.")


def test_a_bug_in_the_policy_is_not_hidden_by_its_thread() -> None:
    def bug() -> None:
        if policy.calls > 1:  # after the warm-up
            raise ZeroDivisionError("a bug")

    policy = Constant(before=bug)
    robot = Recording(policy.contract, 10_000)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        deploy(policy, robot, mode=Mode.SHADOW, chunker=ActionQueue(K, 3))
    assert robot.closed == 1


def test_a_log_that_cannot_be_written_is_an_error_before_the_first_tick(tmp_path: Path) -> None:
    policy = Constant()
    robot = Recording(policy.contract, 3)
    with pytest.raises(StoreError, match="cannot write the action log"):
        deploy(
            policy,
            robot,
            mode=Mode.REPLAY,
            chunker=ActionQueue(K, 3),
            log=tmp_path / "no" / "log",
        )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to be out of space on")
def test_a_full_disk_ends_the_rollout_with_a_report() -> None:
    policy = Constant()
    robot = Recording(policy.contract, 9)
    report = deploy(
        policy, robot, mode=Mode.REPLAY, chunker=ActionQueue(K, 3), log=Path("/dev/full")
    )
    assert report.stop is Stop.ERROR
    assert "cannot write the action log: No space left" in report.error
    assert robot.closed == 1


def test_a_log_is_json_whatever_a_policy_says(tmp_path: Path) -> None:
    with contextlib.closing(Tape(tmp_path / "log", 3, threaded=False)) as log:
        raw = np.array([np.nan, -np.inf, 0.1])
        log.put(
            episode=0,
            tick=3,
            at_ns=60 * NS_PER_MS,
            state=State.RUN,
            human=False,
            filtered=Filtered(raw, None, (Intervention.NOT_FINITE,)),
            sent=False,
            demonstrated=None,
        )
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail) == {
        "episode": 0,
        "tick": 3,
        "at_ms": 60.0,
        "state": "run",
        "human": False,
        "raw": ["nan", "-inf", 0.1],
        "filtered": None,
        "sent": None,
        "demonstrated": None,
        "interventions": ["not_finite"],
    }


def request_of(tick: int) -> Request:
    observation = RobotObservation(
        tick=tick,
        tick_ns=tick,
        first=False,
        valid=True,
        arrays=lambda: {"tick": np.array([tick])},
        demonstrated=None,
    )
    seen = Seen(number=tick, taken_ns=0, observation=observation)
    return Request(seen=seen, episode=0, place=float(tick), offered_ns=0)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_busy_worker_takes_the_newest_observation_next() -> None:
    go, begun = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert go.wait(10)

    policy = Constant(before=wait)
    worker = WorkerInference(policy)
    worker.offer(request_of(0))
    assert begun.wait(10)
    for tick in (1, 2, 3):
        worker.offer(request_of(tick))
    assert worker.arrived() == []
    go.set()
    wait_for(lambda: policy.calls == 2)
    assert worker.close()
    assert [chunk.request.seen.observation.tick for chunk in worker.arrived()] == [0, 3]


def test_a_policy_that_hangs_does_not_keep_the_rollout_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(WorkerInference, "_LEAVE_S", 0.05)
    go = threading.Event()

    def hang() -> None:
        if policy.calls > 1:  # after the warm-up
            assert go.wait(10)

    policy = Constant(before=hang)
    report = deploy(
        policy,
        Recording(policy.contract, 4, {1: lambda: wait_for(lambda: policy.calls > 1)}),
        mode=Mode.SHADOW,
        chunker=ActionQueue(K, 3),
        clock=SimulatedClock(),
    )
    go.set()
    assert (report.stop, report.ticks, report.waiting_ticks) == (Stop.END, 4, 4)
    assert report.policy_hangs
    wait_for(lambda: not [t for t in threading.enumerate() if t.name == "act-policy"])


class TwoEpisodes(Recording):
    """Restarts its ticks half way."""

    def observe(self) -> RobotObservation | None:
        seen = super().observe()
        if seen is None or seen.tick < 5:
            return seen
        return replace(seen, tick=seen.tick - 5, first=seen.tick == 5)


def test_a_new_episode_begins_with_nothing_of_the_old_one(tmp_path: Path) -> None:
    policy = Constant()
    report = deploy(
        policy,
        TwoEpisodes(policy.contract, 10),
        mode=Mode.REPLAY,
        chunker=ActionQueue(K, 3),
        log=tmp_path / "log",
    )
    assert (report.episodes, policy.calls) == (2, 2)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(x["episode"], x["tick"]) for x in lines] == [(e, t) for e in (0, 1) for t in range(5)]


def test_a_chunk_of_the_last_episode_is_not_played_in_the_next() -> None:
    policy = SlowPolicy(ticks=3)
    report = deploy(
        policy,
        TwoEpisodes(policy.contract, 7),  # the first chunk, of tick 0, is there at tick 3 or later
        mode=Mode.SHADOW,
        chunker=ActionQueue(K, 3, execute=2),
        clock=SteppedClock(policy),
    )
    assert report.episodes == 2
    assert report.waiting_ticks >= 3 + 1  # the second episode waits for a chunk of its own


def test_a_robot_that_does_not_fit_is_refused_before_the_first_tick() -> None:
    policy = Constant()
    other = policy.contract.model_copy(update={"rate_hz": 50.0})
    with pytest.raises(InputError, match=r"rate \[Hz\]\s+20.0\s+50.0"):
        deploy(policy, Recording(other, 3), mode=Mode.REPLAY, chunker=ActionQueue(K, 3))
    assert policy.calls == 0


class SteppedClock(SimulatedClock):
    """Simulated time in which a tick of the rollout may take long, and the worker gets its turn."""

    def __init__(self, policy: SlowPolicy) -> None:
        super().__init__()
        self._policy = policy
        self.stall_ns: dict[int, int] = {}
        self._sleeps = -1

    def sleep_until(self, deadline_ns: int) -> None:
        self._sleeps += 1
        super().sleep_until(deadline_ns)
        self._policy.tick(self._sleeps)
        self._now_ns += self.stall_ns.get(self._sleeps, 0)


class SlowPolicy(Constant):
    """Takes `ticks` ticks of the rollout for every prediction; the chunk holds its own number."""

    def __init__(self, ticks: int) -> None:
        super().__init__()
        self._ticks = ticks
        self._now = 0
        self._changed = threading.Condition()
        self._busy_until: int | None = None

    def predict(self, observation: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        self.calls += 1
        if self.calls > 1:  # after the warm-up
            with self._changed:
                due = self._busy_until = self._now + self._ticks
                self._changed.notify_all()
                assert self._changed.wait_for(lambda: self._now >= due, timeout=10)
        return np.full((K, 3), self.calls / 100, np.float32)

    def tick(self, number: int) -> None:
        with self._changed:
            self._now = number
            due = self._busy_until
            self._changed.notify_all()
        if due is None or number >= due:
            time.sleep(0.02)  # real time for the worker to take its request, or to deliver


def test_the_control_loop_goes_on_while_the_policy_thinks() -> None:
    policy = SlowPolicy(ticks=3)
    robot = Recording(policy.contract, 30)
    report = deploy(
        policy,
        robot,
        mode=Mode.SHADOW,
        chunker=ActionQueue(K, 3, execute=2),
        clock=SteppedClock(policy),
    )
    assert (report.stop, report.ticks) == (Stop.END, 30)
    assert report.waiting_ticks >= 3
    assert report.starved_ticks == 0
    # A chunk that took 3 ticks has lost its first actions: they are dropped, not played late.
    assert report.discarded_actions >= 3 * (report.chunks - 1)
    assert report.observation_age_max_ms is not None
    assert report.observation_age_max_ms >= 3 * 50


def test_a_policy_slower_than_its_chunk_starves_the_robot_which_holds(tmp_path: Path) -> None:
    policy = SlowPolicy(ticks=K + 2)
    report = deploy(
        policy,
        Recording(policy.contract, 40),
        mode=Mode.SHADOW,
        chunker=ActionQueue(K, 3),
        clock=SteppedClock(policy),
        log=tmp_path / "log",
    )
    assert report.ticks == 40
    assert report.discarded_actions >= K
    assert report.waiting_ticks + report.starved_ticks > 20


def test_a_late_tick_is_counted_and_those_after_it_are_on_time_again() -> None:
    policy = SlowPolicy(ticks=0)
    clock = SteppedClock(policy)
    clock.stall_ns[5] = 120 * NS_PER_MS  # at 20 Hz: ticks 5 and 6 end after the next is due
    report = deploy(
        policy,
        Recording(policy.contract, 21),
        mode=Mode.SHADOW,
        chunker=TemporalEnsemble(K, 3),
        clock=clock,
    )
    assert report.deadline_misses == 2
    assert report.rate_hz == pytest.approx(20.0)  # the last tick is where it belongs
    assert report.jitter_max_ms == pytest.approx(120, abs=1)


def test_one_second_of_shadow_keeps_the_rate_in_real_time() -> None:
    dataset = dataset_of(25)
    policy = Oracle(dataset)
    began = time.monotonic()
    report = deploy(
        policy,
        DatasetRobot(dataset, 0, policy.contract),
        mode=Mode.SHADOW,
        chunker=TemporalEnsemble(K, 3),
    )
    took = time.monotonic() - began
    assert (report.stop, report.ticks) == (Stop.END, 25)
    assert 1.2 <= took < 5  # 24 periods of 50 ms
    assert report.rate_hz == pytest.approx(20, rel=0.1)
    assert "act-policy" in policy.threads
    assert report.jitter_p50_ms is not None
    assert report.jitter_p50_ms < 25
    assert report.compared_ticks + report.waiting_ticks >= 25
