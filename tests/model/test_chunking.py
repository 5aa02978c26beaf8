"""The chunkers against the dense table of the original, with an explicit mask."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from act_data.errors import InputError
from act_model.chunking import ActionQueue, Chunker, TemporalEnsemble


class DenseTable:
    """`all_time_actions` of imitate_episodes.py, but with a mask instead of `!= 0`."""

    def __init__(self, ticks: int, size: int, dim: int, m: float) -> None:
        self.table = np.zeros((ticks, ticks + size, dim))
        self.mask = np.zeros((ticks, ticks + size), bool)
        self.size, self.m = size, m

    def add(self, tick: int, chunk: NDArray[np.float32]) -> None:
        self.table[tick, tick : tick + self.size] = chunk
        self.mask[tick, tick : tick + self.size] = True

    def next(self, tick: int) -> NDArray[np.float32] | None:
        predictions = self.table[self.mask[:, tick], tick]
        if not len(predictions):
            return None
        exponent = -self.m * np.arange(len(predictions))
        weights = np.exp(exponent - exponent.max())
        return (predictions * weights[:, None]).sum(0) / weights.sum()


@st.composite
def schedules(draw: st.DrawFn) -> tuple[int, int, list[bool], int]:
    size = draw(st.integers(1, 9))
    dim = draw(st.integers(1, 3))
    return (
        size,
        dim,
        draw(st.lists(st.booleans(), min_size=1, max_size=40)),
        draw(st.integers(0, 2**32 - 1)),
    )


@settings(max_examples=150, deadline=None)
@given(schedules(), st.sampled_from([0.01, 0.0, 0.5, 3.0, 900.0, -0.01, -2.0, -900.0]))
def test_the_ensemble_equals_the_dense_table_for_any_schedule(
    schedule: tuple[int, int, list[bool], int], m: float
) -> None:
    size, dim, inferences, seed = schedule
    rng = np.random.default_rng(seed)
    ours = TemporalEnsemble(size, dim, m=m)
    dense = DenseTable(len(inferences), size, dim, m)
    for tick, inference in enumerate(inferences):
        if inference:
            # Every third value is an exact zero: a value like any other.
            chunk = rng.normal(size=(size, dim)) * rng.integers(0, 3, (size, dim)).clip(0, 1)
            ours.add(tick, chunk.astype(np.float32))
            dense.add(tick, chunk.astype(np.float32))
        expected, got = dense.next(tick), ours.next(tick)
        if expected is None:
            assert got is None
        else:
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(schedules(), st.integers(0, 4))
def test_a_chunk_that_arrives_late_changes_only_the_ticks_that_are_not_over(
    schedule: tuple[int, int, list[bool], int], delay: int
) -> None:
    size, dim, inferences, seed = schedule
    rng = np.random.default_rng(seed)
    ours = TemporalEnsemble(size, dim, m=0.1)
    dense = DenseTable(len(inferences) + delay, size, dim, 0.1)
    for now in range(len(inferences) + delay):
        observed = now - delay
        if observed >= 0 and inferences[observed]:
            chunk = rng.normal(size=(size, dim)).astype(np.float32)
            ours.add(observed, chunk)
            dense.add(observed, chunk)
        expected, got = dense.next(now), ours.next(now)
        assert (expected is None) == (got is None)
        if expected is not None:
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(schedules(), st.integers(1, 9), st.integers(0, 3))
def test_the_queue_gives_the_action_of_the_tick_from_the_newest_chunk(
    schedule: tuple[int, int, list[bool], int], execute: int, delay: int
) -> None:
    size, dim, inferences, _ = schedule
    queue = ActionQueue(size, dim, execute=min(execute, size))
    newest: int | None = None
    for now in range(len(inferences)):
        observed = now - delay
        if observed >= 0 and queue.wants(observed):
            chunk = observed * 1000 + np.arange(size, dtype=np.float32)
            queue.add(observed, np.repeat(chunk[:, None], dim, axis=1))
            newest = observed
        action = queue.next(now)
        if newest is None or now - newest >= size:
            assert action is None
        else:
            assert action is not None
            assert action.tolist() == [newest * 1000 + (now - newest)] * dim


def test_the_queue_wants_a_chunk_every_execute_ticks() -> None:
    queue = ActionQueue(5, 1, execute=3)
    wanted = []
    for tick in range(10):
        if queue.wants(tick):
            wanted.append(tick)
            queue.add(tick, np.zeros((5, 1)))
    assert wanted == [0, 3, 6, 9]


def test_an_exact_zero_is_a_value_and_not_a_missing_row() -> None:
    ensemble = TemporalEnsemble(2, 2, m=0.0)
    ensemble.add(0, np.array([[9.0, 9.0], [0.0, 4.0]]))
    ensemble.add(1, np.array([[2.0, 2.0], [9.0, 9.0]]))
    action = ensemble.next(1)
    assert action is not None
    assert action.tolist() == [1.0, 3.0]


def test_the_oldest_prediction_weighs_most_with_a_positive_m() -> None:
    ensemble = TemporalEnsemble(3, 1, m=5.0)
    for tick, value in enumerate((1.0, 2.0, 3.0)):
        ensemble.add(tick, np.full((3, 1), value))
    action = ensemble.next(2)
    assert action is not None
    assert 1.0 < action[0] < 1.01


@pytest.mark.parametrize("make", [ActionQueue, TemporalEnsemble])
class TestBoth:
    def test_nothing_is_known_before_the_first_chunk(self, make: type[ActionQueue]) -> None:
        chunker: Chunker = make(4, 2)
        assert chunker.next(0) is None
        assert chunker.wants(0)

    def test_the_end_of_a_chunk_is_the_end_of_the_actions(self, make: type[ActionQueue]) -> None:
        chunker: Chunker = make(4, 2)
        chunker.add(10, np.ones((4, 2)))
        assert chunker.next(13) is not None
        assert chunker.next(14) is None
        assert chunker.next(9) is None

    def test_a_reset_forgets_the_old_episode(self, make: type[ActionQueue]) -> None:
        chunker: Chunker = make(3, 1)
        chunker.add(5, np.full((3, 1), 7.0))
        chunker.reset()
        assert chunker.next(6) is None
        chunker.add(0, np.full((3, 1), 2.0))
        assert [chunker.next(tick) for tick in range(3)] == [2.0, 2.0, 2.0]

    def test_an_action_belongs_to_the_caller(self, make: type[ActionQueue]) -> None:
        chunker: Chunker = make(2, 1)
        chunker.add(0, np.ones((2, 1)))
        first = chunker.next(0)
        assert first is not None
        first[:] = 99
        assert chunker.next(0) == 1.0

    def test_a_chunk_of_the_past_is_refused(self, make: type[ActionQueue]) -> None:
        chunker: Chunker = make(2, 1)
        chunker.add(3, np.ones((2, 1)))
        with pytest.raises(InputError, match="tick 3 came after that of tick 3"):
            chunker.add(3, np.ones((2, 1)))

    def test_another_shape_is_refused(self, make: type[ActionQueue]) -> None:
        chunker: Chunker = make(2, 1)
        with pytest.raises(InputError, match=r"shape \(2, 3\), \(2, 1\) was announced"):
            chunker.add(0, np.ones((2, 3)))

    def test_ten_thousand_ticks_leave_no_memory_behind(self, make: type[ActionQueue]) -> None:
        chunker: Chunker = make(32, 14)
        chunk = np.random.default_rng(0).normal(size=(32, 14)).astype(np.float32)

        def rollout(start: int, stop: int) -> None:
            for tick in range(start, stop):
                if chunker.wants(tick):
                    chunker.add(tick, chunk)
                chunker.next(tick)

        rollout(1000, 1100)
        gc.collect()
        tracemalloc.start()
        try:
            rollout(1100, 1200)
            before = tracemalloc.get_traced_memory()[0]
            rollout(1200, 11_200)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        # One int of the newest tick may have changed size; a leak would be at least a byte a tick.
        assert grown < 256


@pytest.mark.parametrize("bad", [0, 5, -1])
def test_an_interval_outside_the_chunk_is_refused_with_the_choices(bad: int) -> None:
    with pytest.raises(InputError) as queue:
        ActionQueue(4, 1, execute=bad)
    assert queue.value.hint == "Use a number from 1 to 4."
    with pytest.raises(InputError, match="every is"):
        TemporalEnsemble(4, 1, every=bad)


def test_a_weight_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="m is nan"):
        TemporalEnsemble(4, 1, m=float("nan"))


@pytest.mark.parametrize("seam", ["crossfade", "align"])
def test_a_seam_begins_at_the_old_chunk_and_ends_at_the_new_one(seam: str) -> None:
    queue = ActionQueue(20, 1, seam=seam, fade=8)  # type: ignore[arg-type]
    queue.add(0, np.zeros((20, 1), np.float32))
    queue.add(4, np.ones((20, 1), np.float32), now=6)
    out = [float(action[0]) for t in range(6, 20) if (action := queue.next(t)) is not None]
    assert out[0] == 0
    assert out == sorted(out)
    assert out[8:] == [1.0] * 6
    assert max(np.diff(out)) < 0.25  # of a jump of 1: minimum jerk over 8 ticks


def test_between_ticks_actions_are_interpolated_in_time() -> None:
    ramp = np.arange(4, dtype=np.float32)[:, None]
    queue, ensemble = ActionQueue(4, 1), TemporalEnsemble(4, 1)
    for chunker in (queue, ensemble):
        chunker.add(0, ramp)
        at = [chunker.next(place) for place in (0.0, 0.25, 2.5, 3.0, 3.5)]
        assert [float(a[0]) for a in at if a is not None] == [0.0, 0.25, 2.5, 3.0, 3.0]
        assert chunker.next(4.0) is None
    ensemble.reset()
    ensemble.add(0.4, ramp)  # an observation between two ticks: action 0 is of place 0.4
    assert ensemble.next(0.5) is None
    first = ensemble.next(1.0)
    assert first is not None
    assert first[0] == pytest.approx(0.6)


def test_a_prediction_is_wanted_early_enough_for_its_duration() -> None:
    queue = ActionQueue(10, 1)
    queue.add(0, np.zeros((10, 1), np.float32))
    assert [queue.wants(t, 3.0) for t in (6, 7)] == [False, True]
    assert [queue.wants(t) for t in (9, 10)] == [False, True]


def test_a_fade_takes_at_least_a_tick() -> None:
    with pytest.raises(InputError, match="fade is 0"):
        ActionQueue(4, 1, seam="align", fade=0)
