"""Percentiles of more numbers than are kept, and the grid's arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from act_data.sync.account import StreamAccount
from act_data.sync.grid import Grid, lock
from act_data.sync.track import Track
from act_data.sync.values import CAPACITY, Values
from act_data.types import NS_PER_MS, SyncPolicy
from tests.data.sync.sync_oracle import T0, stream


def test_percentiles_are_exact_up_to_the_capacity() -> None:
    values = Values()
    numbers = np.random.default_rng(0).integers(-(10**9), 10**9, CAPACITY - 1)
    for n in numbers.tolist():
        values.add(n)
    assert values.percentiles_ms(1, 50, 99) == [
        pytest.approx(p / NS_PER_MS) for p in np.percentile(numbers, [1, 50, 99])
    ]


def test_beyond_the_capacity_an_even_part_is_kept_and_ranks_stay_true() -> None:
    values = Values()
    numbers = np.random.default_rng(0).normal(0, 1e9, 3 * CAPACITY + 12_345).astype(np.int64)
    for at, n in enumerate(numbers.tolist()):
        values.add(n, at)
    kept = values.times()
    assert CAPACITY // 2 <= len(kept) <= CAPACITY
    assert set(np.diff(kept).tolist()) == {4}
    assert (values.kept() == numbers[kept]).all()
    assert values.count == len(numbers)
    assert values.maximum == numbers.max()
    for rank in (1, 50, 99):
        (at_ms,) = values.percentiles_ms(rank)
        assert at_ms is not None
        assert (numbers < at_ms * NS_PER_MS).mean() * 100 == pytest.approx(rank, abs=0.9)


@pytest.mark.parametrize("capacity", [CAPACITY, 2048])
def test_drops_are_counted_beyond_the_capacity(capacity: int) -> None:
    account = StreamAccount(stream("s"), capacity)
    at = T0
    missing = 0
    for k in range(capacity + 10_000):
        gap = 3 if k % 1000 == 0 and k else 1
        missing += gap - 1
        at += gap * 5 * NS_PER_MS
        account.placed(at)
    account.placed(at - 1)  # sorted in: belongs to a period that was counted
    report = account.report(Track[None](stream("s")), "header")
    assert report.estimated_drops == missing - 1


@given(st.integers(0, 10**7), st.sampled_from([10.0, 29.97, 30.0, 50.0, 60.0]), st.integers(-9, 9))
def test_the_first_tick_at_or_after_a_time_is_found(tick: int, fps: float, off: int) -> None:
    grid = Grid(start_ns=T0, fps=fps)
    assert grid.time(tick) == T0 + round(tick * 1e9 / fps)
    time = grid.time(tick) + off
    found = grid.at_or_after(time)
    assert grid.time(found) >= time or found == 0
    assert found == 0 or grid.time(found - 1) < time


def even(rate: float, phase_ms: float = 0, n: int = 30, jitter_ms: float = 0) -> list[int]:
    noise = np.random.default_rng(1).normal(0, jitter_ms, n) if jitter_ms else np.zeros(n)
    return [T0 + round(k * 1e9 / rate + (phase_ms + noise[k]) * NS_PER_MS) for k in range(n)]


@pytest.mark.parametrize(
    ("policy", "jitter_ms", "guard_ms"),
    [
        pytest.param(SyncPolicy.HOLD, 0, (1, 1), id="hold-still"),
        pytest.param(SyncPolicy.HOLD, 1, (1.5, 4.5), id="hold-jitter"),
        pytest.param(SyncPolicy.HOLD, 9, (1000 / 120 - 1, 1000 / 120 + 1), id="hold-quarter"),
        pytest.param(SyncPolicy.NEXT, 0, (-1, -1), id="next"),
        pytest.param(SyncPolicy.NEAREST, 1, (0, 0), id="nearest"),
        pytest.param(SyncPolicy.LINEAR, 1, (0, 0), id="linear"),
    ],
)
def test_the_guard_fits_the_policy_and_the_scatter(
    policy: SyncPolicy, jitter_ms: float, guard_ms: tuple[float, float]
) -> None:
    grid = lock([(stream("c", policy, camera=True), even(30, 40, jitter_ms=jitter_ms))], 30)
    assert abs(guard_ms[0]) - 0.01 <= grid.guard_ns / NS_PER_MS <= abs(guard_ms[1]) + 0.01
    phase_ms = (grid.start_ns - T0) / NS_PER_MS - 40
    away = (phase_ms + 1000 / 60) % (1000 / 30) - 1000 / 60
    slack = 0.01 + jitter_ms
    assert guard_ms[0] - slack <= away <= guard_ms[1] + slack


def test_the_phase_is_that_of_the_line_and_not_of_one_stamp() -> None:
    starts = []
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(0, 3, 30)
        stamps = [s + round(n * NS_PER_MS) for s, n in zip(even(30), noise, strict=True)]
        grid = lock([(stream("c", SyncPolicy.NEAREST, camera=True), sorted(stamps))], 30)
        starts.append(((grid.start_ns - T0) / NS_PER_MS + 16) % (1000 / 30) - 16)
    assert np.std(starts) < 1.5


def test_the_grid_starts_when_all_have_appeared() -> None:
    late = stream("arm")
    camera = stream("c", camera=True)
    arm = [T0 + 500 * NS_PER_MS + k * 5 * NS_PER_MS for k in range(50)]
    grid = lock([(camera, even(30)), (late, arm)], 30)
    assert 0 <= grid.start_ns - arm[0] < 1e9 / 30
    assert grid.locked == "c"


def test_without_a_camera_the_slowest_stream_gives_the_phase() -> None:
    grid = lock([(stream("a"), even(100)), (stream("b"), even(20, 7)), (stream("d"), [T0])], 20)
    assert grid.locked == "d"
    grid = lock([(stream("a"), even(100)), (stream("b"), even(20, 7))], 20)
    assert (grid.locked, grid.start_ns) == ("b", T0 + 8 * NS_PER_MS)
