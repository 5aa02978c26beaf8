"""The person's wishes: by signal, by file, and one at a time in step mode."""

from __future__ import annotations

import os
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from act_model.deploy import Mode, Operator, Rules, State, Stop, estop_file, signals
from act_model.safety import Limits
from tests.model.deploy_parts import PERIOD_NS, A, Bench, K, observation

WIDE = Limits.of([-9.0] * A, [9.0] * A)


@pytest.mark.parametrize(
    ("number", "stop"),
    [
        (signal.SIGINT, Stop.INTERRUPTED),
        (signal.SIGTERM, Stop.INTERRUPTED),
        (signal.SIGUSR1, Stop.ESTOP),
    ],
)
def test_a_signal_is_a_wish_and_no_exception(number: signal.Signals, stop: Stop) -> None:
    operator = Operator()
    before = signal.getsignal(number)
    with signals(operator):
        os.kill(os.getpid(), number)
        time.sleep(0.01)
    assert operator.halt is not None
    assert (operator.halt.stop, operator.halt.cause) == (stop, number.name)
    assert signal.getsignal(number) == before
    operator.estop("later")
    assert operator.halt.cause == number.name  # the first cause counts


def test_a_second_ctrl_c_is_for_a_robot_that_does_not_answer() -> None:
    operator = Operator()

    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.02)

    with signals(operator), pytest.raises(KeyboardInterrupt):
        twice()


def test_signals_are_left_alone_outside_the_main_thread() -> None:
    def use() -> None:
        with signals(Operator()):
            pass

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()


def test_a_file_that_appears_pulls_the_emergency_stop(tmp_path: Path) -> None:
    operator = Operator()
    with estop_file(operator, tmp_path / "stop"), estop_file(operator, None):
        time.sleep(0.03)
        assert operator.halt is None
        (tmp_path / "stop").touch()
        until = time.monotonic() + 5
        while operator.halt is None and time.monotonic() < until:
            time.sleep(0.005)
    assert operator.halt is not None
    assert operator.halt.stop is Stop.ESTOP


def test_step_mode_takes_one_prediction_per_go_and_holds_in_between() -> None:
    bench = Bench(WIDE, mode=Mode.STEP)
    bench.operator.armed = False

    def ticks(count: int) -> None:
        for _ in range(count):
            bench.feed.put(observation(bench.number), bench.number * PERIOD_NS)
            assert bench.tick() is None
            for request in bench.inference.waiting:
                chunk = np.full((K, A), request.place + 1, np.float32) / 100
                bench.inference.answer(request, chunk)
            bench.inference.waiting.clear()

    ticks(5)
    assert bench.sink.sent == []
    bench.operator.go()
    ticks(2 * K)
    first = len(bench.sink.sent)
    assert first > K
    values = [float(action[0]) for _, action in bench.sink.sent]
    assert set(values) == {np.float32(0.06)}
    assert bench.loop.state is State.RUN
    assert bench.measures.starved_ticks == 0
    bench.operator.go()
    ticks(K)
    assert float(bench.sink.sent[-1][1][0]) > 0.06


def test_nothing_is_sent_until_a_person_arms_and_far_from_the_robot_not_at_all() -> None:
    bench = Bench(WIDE, rules=Rules(first_command="refuse"))
    bench.operator.armed = False

    def tick(measured: float) -> object:
        bench.feed.put(
            observation(bench.number, measured=np.full(A, measured, np.float32)),
            bench.number * PERIOD_NS,
        )
        stop = bench.tick()
        for request in bench.inference.waiting:
            bench.inference.answer(request, np.zeros((K, A), np.float32))
        bench.inference.waiting.clear()
        return stop

    for _ in range(4):
        assert tick(0.1) is None
    assert bench.loop.state is State.READY
    assert bench.sink.sent == []
    bench.operator.go()
    assert tick(5.0) is Stop.FIRST_COMMAND
    assert "28% of its range away" in bench.loop.cause
    assert bench.sink.sent == []


@pytest.mark.parametrize(
    ("low", "high", "way_out"),
    [
        pytest.param(0.2, 0.2, "training data holds it there: bring it", id="never-moved"),
        pytest.param(0.0, 0.2, "widen them by a larger share", id="moved"),
    ],
)
def test_a_joint_beyond_its_limits_is_refused_and_the_way_out_fits(
    low: float, high: float, way_out: str
) -> None:
    limits = Limits.of([low, *[-9.0] * (A - 1)], [high, *[9.0] * (A - 1)])
    bench = Bench(limits, rules=Rules(first_command="ramp"))
    stop: object = None
    while stop is None:
        bench.feed.put(
            observation(bench.number, measured=np.full(A, 7.0, np.float32)),
            bench.number * PERIOD_NS,
        )
        stop = bench.tick()
        for request in bench.inference.waiting:
            bench.inference.answer(request, np.full((K, A), 0.2, np.float32))
        bench.inference.waiting.clear()
    assert stop is Stop.FIRST_COMMAND
    assert f"whose limits are {low:.3f} to {high:.3f}" in bench.loop.cause
    assert way_out in bench.loop.hint


def test_a_robot_that_does_not_follow_is_stopped() -> None:
    bench = Bench(WIDE, rules=Rules(tracking_tolerance=0.1, tracking_s=0.2, first_command="ramp"))
    stop = None
    for number in range(40):
        stuck = np.zeros(A, np.float32)
        bench.feed.put(observation(number, measured=stuck), number * PERIOD_NS)
        stop = bench.tick()
        if stop is not None:
            break
        for request in bench.inference.waiting:
            bench.inference.answer(request, np.full((K, A), 5.0, np.float32))
        bench.inference.waiting.clear()
    assert stop is Stop.TRACKING
    assert "was sent to 5.000 and is at 0.000" in bench.loop.cause


def test_ticks_leave_nothing_behind_in_memory() -> None:
    import tracemalloc

    bench = Bench(WIDE)
    chunk = np.zeros((K, A), np.float32)
    seen = observation(1)

    def ticks(count: int) -> None:
        for _ in range(count):
            first = bench.number == 0
            bench.feed.put(observation(0) if first else seen, bench.number * PERIOD_NS)
            bench.tick()
            bench.sink.sent.clear()
            while bench.inference.waiting:
                bench.inference.answer(bench.inference.waiting.pop(), chunk)

    ticks(2000)
    tracemalloc.start()
    ticks(1000)
    held = [tracemalloc.get_traced_memory()[0]]
    for _ in range(3):
        ticks(5000)
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    # A few numbers that grew by a digit. What ticks leave behind grows in every round; what another
    # thread of this process keeps does in one.
    assert min(after - before for before, after in pairwise(held)) <= 128
