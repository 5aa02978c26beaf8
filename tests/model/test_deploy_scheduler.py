"""Whatever arrives whenever: every command belongs to its own time, and no seam is a jump."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from act_model.chunking import ActionQueue
from act_model.deploy import Rules, State, Stop
from act_model.deploy.source_clock import Refusal, SourceClock
from act_model.safety import Intervention, Limits
from tests.model.deploy_parts import CONTRACT, PERIOD_NS, A, Bench, K, observation

VMAX = 0.9  # per second; the third element jumps between chunks by up to 2
MS = 1_000_000
PATIENCE_NS = 55_000 * MS  # after a minute without a first chunk a rollout ends


class Scheduler(RuleBasedStateMachine):
    """Observations come late, twice or not at all; predictions too; ticks are missed; clocks jump.

    Element 0 of an action is its own time in ticks of the policy, whichever chunk it is in:
    an index that is replayed or skipped shows. Element 1 is the number of its chunk. Element 2
    differs from chunk to chunk: what the filter makes of it shows seams.
    """

    @initialize(ratio=st.sampled_from([1.0, 50 / 30, 4.0, 2 / 3]), seam=st.booleans())
    def begin(self, ratio: float, seam: bool) -> None:
        limits = Limits.of([-1e4] * A, [1e4] * A, velocity=[1e6, 1e6, VMAX])
        rules = Rules(control_hz=CONTRACT.rate_hz * ratio, max_age_ms=60_000, hold_s=600)
        self.bench = Bench(
            limits,
            rules=rules,
            chunker=ActionQueue(K, A, seam="switch", execute=K if seam else 3),
        )
        self.times = SourceClock(jump_ns=200 * MS, agree=3)
        self.offset_ns = 0  # of the robot's clock
        self.observed = 0
        self.begun = False
        self.origin_ns: int | None = None
        self.chunks = 0
        self.newest_chunk: tuple[float, int] | None = None  # its place, its number
        self.rng = np.random.default_rng(0)
        self.last: np.ndarray | None = None
        self.seen_sent = 0

    @rule(delay_ms=st.integers(0, 120))
    def observe(self, delay_ms: int) -> None:
        taken_ns = self.bench.now_ns - delay_ms * MS
        self._receive(taken_ns + self.offset_ns)

    @rule(jump_s=st.sampled_from([-10, 10, 1]))
    def robots_clock_steps(self, jump_s: int) -> None:
        self.offset_ns += jump_s * 1000 * MS
        self._receive(self.bench.now_ns + self.offset_ns)

    @rule()
    def the_same_observation_again(self) -> None:
        seen = self.bench.feed.seen
        if seen is not None:
            self._receive(seen.observation.tick_ns)

    @precondition(lambda self: self.bench.inference.waiting)
    @rule(which=st.integers(0, 3))
    def a_prediction_arrives(self, which: int) -> None:
        waiting = self.bench.inference.waiting
        request = waiting[min(which, len(waiting) - 1)]
        del waiting[: waiting.index(request) + 1]  # those before it were dropped
        if self.newest_chunk is not None and request.place <= self.newest_chunk[0]:
            return
        self.chunks += 1
        chunk = np.zeros((K, A), np.float32)
        chunk[:, 0] = request.place + np.arange(K)
        chunk[:, 1] = self.chunks
        chunk[:, 2] = self.rng.uniform(-1, 1)
        self.bench.inference.answer(request, chunk)
        self.newest_chunk = (request.place, self.chunks)

    @precondition(lambda self: self.bench.inference.waiting)
    @rule()
    def predictions_are_lost(self) -> None:
        self.bench.inference.waiting.clear()

    @precondition(lambda self: self.bench.now_ns < PATIENCE_NS)
    @rule(ticks=st.integers(1, 12))
    def ticks_pass(self, ticks: int) -> None:
        for _ in range(ticks):
            assert self.bench.tick() is None
            self._look()

    @precondition(lambda self: self.bench.now_ns < PATIENCE_NS)
    @rule(ticks=st.integers(1, 30))
    def the_tick_stalls(self, ticks: int) -> None:
        self.bench.number += ticks  # as if the process had stood still, and skipped them
        assert self.bench.tick() is None
        self.stalled = True
        self._look()

    def _receive(self, stamp_ns: int) -> None:
        placed = self.times.place(stamp_ns, self.bench.now_ns)
        if isinstance(placed, Refusal):
            return
        assert placed <= self.bench.now_ns
        self.bench.feed.put(
            observation(self.observed, tick_ns=stamp_ns, first=self.observed == 0), placed
        )
        if not self.begun:  # of those that came before a tick the newest one is seen first
            self.origin_ns = placed
        self.observed += 1

    def _look(self) -> None:
        """At the command of the tick that was just made."""
        self.begun = self.observed > 0
        sent = self.bench.sink.sent
        if len(sent) == self.seen_sent:
            return
        assert len(sent) == self.seen_sent + 1
        self.seen_sent = len(sent)
        valid_ns, action = sent[-1]
        assert np.isfinite(action).all()
        if self.last is not None:
            step_s = self.bench.control_ns / 1e9
            assert abs(action[2] - self.last[2]) <= VMAX * step_s * (1 + 1e-5) + 1e-6
        self.last = action
        if self.bench.loop.state is not State.RUN:
            return
        assert self.origin_ns is not None
        assert self.newest_chunk is not None
        place = (valid_ns - self.origin_ns) / PERIOD_NS
        place_of_chunk, number = self.newest_chunk
        assert number - action[1] < 1e-3 or action[1] < number  # never a chunk that is not there
        last_of_chunk = place_of_chunk + K - 1
        assert action[0] == pytest.approx(min(place, last_of_chunk), abs=2e-2)

    @invariant()
    def nothing_is_sent_after_the_end_of_a_chunk_but_what_is_held(self) -> None:
        if getattr(self, "bench", None) and self.bench.loop.state is State.RUN:
            assert self.newest_chunk is not None


TestScheduler = Scheduler.TestCase
TestScheduler.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_ten_thousand_switches_with_any_latency_never_jump_and_never_replay() -> None:
    """D8: latency of 0 to 10 ticks and jitter, at every seam that there is."""
    rng = np.random.default_rng(0)
    limits = Limits.of(
        [-1e5] * A, [1e5] * A, velocity=[1e7, 1e7, VMAX], acceleration=[1e9, 1e9, 30]
    )
    for seam in ("switch", "crossfade", "align"):
        chunker = ActionQueue(K + 8, A, seam=seam, execute=2)
        bench = Bench(limits, rules=Rules(hold_s=600), chunker=chunker)
        bench.loop._p.contract = CONTRACT.model_copy(update={"chunk_size": K + 8})
        due: list[tuple[int, object, np.ndarray]] = []
        tick, switches, before = 0, 0, None
        while switches < 3400:
            bench.feed.put(observation(tick), bench.now_ns if tick == 0 else tick * PERIOD_NS)
            while due and due[0][0] <= tick:
                _, request, chunk = due.pop(0)
                bench.inference.answer(request, chunk)  # type: ignore[arg-type]
                switches += 1
            assert bench.tick() is None
            for request in bench.inference.waiting:
                chunk = np.empty((K + 8, A), np.float32)
                chunk[:, 0] = request.place + np.arange(K + 8)
                chunk[:, 1], chunk[:, 2] = 0, rng.uniform(-1, 1)
                due.append((tick + 1 + int(rng.integers(0, 11)), request, chunk))
                due.sort(key=lambda d: d[0])
            bench.inference.waiting.clear()
            if bench.sink.sent:
                valid_ns, action = bench.sink.sent[-1]
                bench.sink.sent.clear()
                if bench.loop.state is State.RUN:
                    assert action[0] == pytest.approx(valid_ns / PERIOD_NS, abs=1e-2)
                if before is not None:
                    assert abs(action[2] - before) <= VMAX / CONTRACT.rate_hz + 1e-6
                before = action[2]
            tick += 1
        assert bench.measures.splice_mismatches == 0


NASTY = [np.nan, np.inf, -np.inf, 1e30, -1e30, 3e38, 1e-45, 0.0, 5.0, -5.0]


def nasty(rng: np.random.Generator) -> object:
    """Something that a policy or a robot should not have said, or now and then should have."""
    kind = int(rng.integers(0, 10))
    shape = ((K, A), (K + 1, A), (K, A + 1), (A,), (0, A), (K, A, 1), (), (1, A), (K, A), (K, A))[
        kind
    ]
    values = rng.uniform(-1, 1, shape)
    if kind >= 7 and values.size:
        flat = values.reshape(-1)
        flat[rng.integers(0, flat.size)] = NASTY[int(rng.integers(0, len(NASTY)))]
    dtype = ("f4", "f8", "f2", "i8", "?", "O", "c8", "U4")[int(rng.integers(0, 8))]
    if rng.integers(0, 8) == 0:
        return [None, [], "chunk", [[1.0], [2.0, 3.0]], 7][int(rng.integers(0, 5))]
    with np.errstate(all="ignore"):
        return values.astype(dtype)


@pytest.mark.filterwarnings("error")
def test_of_a_hundred_thousand_bad_chunks_and_observations_nothing_reaches_the_sink() -> None:
    rng = np.random.default_rng(0)
    low, high = np.full(A, -0.5, np.float32), np.full(A, 0.5, np.float32)
    limits = Limits.of(low, high, velocity=2.0, acceleration=40.0)
    commands = fuzzed = episode = refused = not_finite = misshapen = 0
    seams = ("switch", "crossfade", "align")
    while fuzzed < 100_000:
        bench = Bench(
            limits,
            rules=Rules(hold_s=600, first_command="ramp", tracking_tolerance=0.0),
            chunker=ActionQueue(K, A, seam=seams[episode % 3], execute=1),
        )
        episode += 1
        before: np.ndarray | None = None
        for tick in range(1000):
            good = rng.integers(0, 4) == 0
            bench.feed.put(
                observation(
                    tick,
                    measured=nasty(rng),
                    demonstrated=nasty(rng),
                    taken_over=bool(rng.integers(0, 10) == 0),
                    valid=bool(rng.integers(0, 20)),
                ),
                tick * PERIOD_NS,
            )
            stop = bench.tick()
            if stop is not None:  # a robot that says it is nowhere near its limits is not moved
                assert stop is Stop.FIRST_COMMAND
                assert not bench.sink.sent
                refused += 1
                break
            for request in bench.inference.waiting:
                chunk = rng.uniform(-1, 1, (K, A)).astype(np.float32) if good else nasty(rng)
                bench.inference.answer(request, chunk)
            bench.inference.waiting.clear()
            fuzzed += 2
            for _, action in bench.sink.sent:
                commands += 1
                assert action.shape == (A,)
                assert action.dtype == np.float32
                assert np.isfinite(action).all()
                # A robot that was a little outside at the start comes in, and stays in.
                floor = low - 0.1 if before is None else np.minimum(low, before)
                ceiling = high + 0.1 if before is None else np.maximum(high, before)
                assert (action >= floor - 1e-6).all()
                assert (action <= ceiling + 1e-6).all()
                if before is not None:
                    assert (np.abs(action - before) <= 2.0 / CONTRACT.rate_hz + 1e-6).all()
                before = action
            bench.sink.sent.clear()
        not_finite += bench.safety.counts[Intervention.NOT_FINITE.value]
        misshapen += bench.safety.counts[Intervention.SHAPE.value]
    assert commands > 10_000
    assert refused >= 1
    assert not_finite > 500
    assert misshapen > 1000


@pytest.mark.parametrize("jump_s", [10, -10])
def test_a_clock_that_jumps_is_not_believed_until_it_stays(jump_s: int) -> None:
    times = SourceClock(jump_ns=200 * MS, agree=3)
    assert times.place(0, 5 * MS) == 5 * MS  # nothing is known of delays yet
    assert times.place(20 * MS, 22 * MS) == 22 * MS
    assert times.place(40 * MS, 50 * MS) == 42 * MS  # it was 8 ms longer on its way
    jumped = 60 * MS + jump_s * 1000 * MS
    assert times.place(jumped, 64 * MS) is Refusal.JUMPED
    assert times.place(60 * MS, 66 * MS) == 62 * MS  # it was a single bad stamp
    for i in (1, 2):
        assert times.place(jumped + i * 20 * MS, (64 + i * 20) * MS) is Refusal.JUMPED
    assert times.place(jumped + 60 * MS, 124 * MS) == 124 * MS
    assert times.place(jumped + 60 * MS, 130 * MS) is Refusal.DUPLICATE
    assert times.place(jumped + 50 * MS, 131 * MS) is Refusal.REORDERED
