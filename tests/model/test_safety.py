"""Nothing that is not finite, or outside the limits, ever leaves the filter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from act_data.errors import InputError
from act_data.records import FeatureStats, StatsRecord
from act_model.config import VectorContract
from act_model.safety import Intervention, SafetyFilter

LOW, HIGH = np.array([-1.0, 0.0], np.float32), np.array([1.0, 0.1], np.float32)
NASTY = st.sampled_from(
    [0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, 1e38, 1e300, -1e300, 5e-324, 0.1, 0.05]
)
ANY_ACTION = st.one_of(
    st.lists(st.one_of(NASTY, st.floats(width=64)), min_size=0, max_size=4).map(np.array),
    st.lists(NASTY, min_size=2, max_size=2).map(lambda v: np.array(v)),
    st.lists(NASTY, min_size=2, max_size=2).map(lambda v: np.array([v])),
    st.none(),
)


def stats(**ranges: tuple[list[float | None], list[float | None]]) -> StatsRecord:
    def feature(low: list[float | None], high: list[float | None]) -> FeatureStats:
        empty = {key: tuple(low) for key in ("mean", "std", "q01", "q10", "q50", "q90", "q99")}
        zeros = (0,) * len(low)
        return FeatureStats(count=zeros, nan=zeros, min=tuple(low), max=tuple(high), **empty)

    return StatsRecord(
        dataset="d",
        version=1,
        content_hash="0",
        split="train",
        episodes=1,
        steps=1,
        features={name: feature(*r) for name, r in ranges.items()},
    )


@settings(max_examples=400, deadline=None)
@given(st.lists(ANY_ACTION, max_size=12), st.sampled_from([None, 1e-3, 0.5]))
def test_nothing_unsafe_ever_leaves(
    actions: list[np.ndarray | None], max_step: float | None
) -> None:
    step = None if max_step is None else np.full(2, max_step, np.float32)
    safety = SafetyFilter(LOW, HIGH, max_step=step)
    last: np.ndarray | None = None
    for raw in actions:
        filtered = safety.apply(raw)
        assert filtered.raw is raw
        if filtered.action is None:
            assert last is None
            continue
        out = filtered.action
        assert out.dtype == np.float32
        assert out.shape == (2,)
        assert np.isfinite(out).all()
        assert (out >= LOW).all()
        assert (out <= HIGH).all()
        if last is not None and max_step is not None:
            assert (np.abs(out - last) <= max_step * (1 + 1e-6) + 1e-7).all()
        last = out.copy()
        filtered.action[:] = np.nan  # the caller's own: spoiling it spoils nothing


def test_a_safe_action_passes_untouched() -> None:
    safety = SafetyFilter(LOW, HIGH)
    raw = np.array([0.25, 0.05], np.float32)
    filtered = safety.apply(raw)
    assert filtered.action is not None
    assert np.array_equal(filtered.action, raw)
    assert filtered.interventions == ()
    assert set(safety.counts.values()) == {0}


def test_a_nan_is_refused_and_the_last_command_held() -> None:
    safety = SafetyFilter(LOW, HIGH)
    safety.apply(np.array([0.5, 0.02]))
    filtered = safety.apply(np.array([np.nan, 0.0]))
    assert filtered.action is not None
    assert filtered.action.tolist() == np.array([0.5, 0.02], np.float32).tolist()
    assert filtered.interventions == (Intervention.NOT_FINITE,)
    assert safety.counts["not_finite"] == 1


def test_without_a_last_command_there_is_nothing_to_hold() -> None:
    safety = SafetyFilter(LOW, HIGH)
    assert safety.apply(np.array([np.inf, 0.0])).action is None
    assert safety.apply(None).action is None


def test_a_command_beyond_the_limits_is_clamped_and_counted() -> None:
    safety = SafetyFilter(LOW, HIGH)
    filtered = safety.apply(np.array([3.0, 0.05]))
    assert filtered.action is not None
    assert filtered.action.tolist() == np.array([1.0, 0.05], np.float32).tolist()
    assert filtered.interventions == (Intervention.POSITION,)
    assert filtered.raw is not None
    assert filtered.raw[0] == 3.0


def test_a_jump_becomes_a_step() -> None:
    safety = SafetyFilter(LOW, HIGH, max_step=np.array([0.1, 0.1], np.float32))
    safety.apply(np.array([0.0, 0.0]))
    filtered = safety.apply(np.array([5.0, 0.0]))
    assert filtered.action is not None
    assert filtered.action[0] == np.float32(0.1)
    assert filtered.interventions == (Intervention.POSITION, Intervention.STEP)


def test_a_new_episode_may_begin_anywhere() -> None:
    safety = SafetyFilter(LOW, HIGH, max_step=np.array([0.1, 0.1], np.float32))
    safety.apply(np.array([0.0, 0.0]))
    safety.reset()
    filtered = safety.apply(np.array([1.0, 0.0]))
    assert filtered.interventions == ()


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        pytest.param(np.zeros((3, 2)), None, id="sound"),
        pytest.param(np.zeros((3, 5)), Intervention.SHAPE, id="too-wide"),
        pytest.param(np.zeros(2), Intervention.SHAPE, id="one-action"),
        pytest.param(np.array([[0, 0], [np.nan, 0]]), Intervention.NOT_FINITE, id="one-nan"),
    ],
)
def test_a_chunk_is_taken_whole_or_not_at_all(
    chunk: np.ndarray, expected: Intervention | None
) -> None:
    assert SafetyFilter(LOW, HIGH).admit(chunk) is expected


def test_limits_lie_a_margin_around_what_was_demonstrated() -> None:
    action = (
        VectorContract(name="action", names=("a", "b"), unit="rad"),
        VectorContract(name="base_action", names=("v",), unit="m/s"),
    )
    known = stats(action=([-1.0, 0.0], [1.0, 0.5]), base_action=([2.0], [2.0]))
    safety = SafetyFilter.from_stats(action, known, margin=0.1)
    np.testing.assert_allclose(safety.low, [-1.2, -0.05, 2.0], rtol=1e-6)
    np.testing.assert_allclose(safety.high, [1.2, 0.55, 2.0], rtol=1e-6)


def test_a_joint_without_a_range_is_named() -> None:
    action = (VectorContract(name="action", names=("a", "b"), unit="rad"),)
    with pytest.raises(InputError, match="b of 'action' has no finite value"):
        SafetyFilter.from_stats(action, stats(action=([0.0, None], [1.0, None])))
    with pytest.raises(InputError, match="lack 'action'") as missing:
        SafetyFilter.from_stats(action, stats(qpos=([0.0], [1.0])))
    assert missing.value.hint == "They have: qpos."


@pytest.mark.parametrize(
    ("low", "high"),
    [
        pytest.param([0.0, 0.0], [np.nan, 1.0], id="nan"),
        pytest.param([0.0, 2.0], [1.0, 1.0], id="crossed"),
        pytest.param([0.0], [1.0, 1.0], id="shapes"),
    ],
)
def test_limits_that_nothing_can_satisfy_are_refused(low: list[float], high: list[float]) -> None:
    with pytest.raises(InputError):
        SafetyFilter(np.array(low), np.array(high))


@pytest.mark.parametrize("step", [[0.0, 1.0], [np.nan, 1.0], [1.0]])
def test_a_step_limit_is_positive(step: list[float]) -> None:
    with pytest.raises(InputError, match="the largest step"):
        SafetyFilter(LOW, HIGH, max_step=np.array(step))
