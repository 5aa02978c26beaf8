"""Idle head and tail: what is left out is what never moved, and nothing in between is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from act_data.errors import StoreError
from act_data.segments import IdleTrim, waiting
from act_data.types import (
    ArrayPart,
    ArraySpec,
    EncodedImage,
    RobotSpec,
    Role,
    StepType,
    StreamKind,
    StreamSpec,
    Timestep,
)

LIMIT = 0.01


def robot(unit: str = "rad") -> RobotSpec:
    stream = StreamSpec(name="lead", topic="/lead", kind=StreamKind.JOINT_STATE)
    array = ArraySpec(
        name="action", role=Role.ACTION, parts=(ArrayPart(stream="lead"),), dtype="float32",
        unit=unit,
    )  # fmt: skip
    return RobotSpec(name="one", fps=10, streams=(stream,), arrays=(array,))


def step(t: int, action: Sequence[float]) -> Timestep:
    return Timestep(
        step_type=StepType.FIRST if t == 0 else StepType.MID,
        tick_ns=t,
        observation={
            "images/cam": np.full((2, 3, 3), t % 256, np.uint8),
            "images/jpeg": EncodedImage(data=bytes([t % 256]) * (t % 5), shape=(2, 3, 3)),
        },
        action={"action": np.array(action, np.float32)},
        skew_ns=np.array([t, -t], np.int64),
        reason=np.array([t % 7], np.uint8),
        index=np.array([t], np.int64),
    )


def trimmed(folder: Path, actions: Sequence[Sequence[float]], unit: str = "rad") -> list[Timestep]:
    trim = IdleTrim(robot(unit), LIMIT, folder)
    kept = [each for t, a in enumerate(actions) for each in trim.add(step(t, a))]
    trim.close()
    return kept


def ticks(steps: Sequence[Timestep]) -> list[int]:
    return [s.tick_ns for s in steps]


@pytest.mark.parametrize(
    ("positions", "kept"),
    [
        pytest.param([0, 0, 0, 0.1, 0.2, 0.2, 0.2], [2, 3, 4], id="head-and-tail"),
        pytest.param([0, 0.1, 0.1, 0.1, 0.2, 0.2], [0, 1, 2, 3, 4], id="a-pause-stays"),
        pytest.param([0, 0.009, 0, -0.009, 0], [], id="noise-is-no-movement"),
        pytest.param([0, 0.004, 0.008, 0.012, 0.016, 0.02, 0.024], [2, 3, 4, 5, 6],
                     id="a-slow-movement-adds-up"),
        pytest.param([np.nan, np.nan, 0, 0, 0.1, np.nan, 0.1], [3, 4], id="nan-does-not-move"),
        pytest.param([0], [], id="one-step"),
    ],
)  # fmt: skip
def test_an_episode_is_what_lies_between_its_first_and_last_movement(
    tmp_path: Path, positions: list[float], kept: list[int]
) -> None:
    steps = trimmed(tmp_path, [[0, p] for p in positions])
    assert ticks(steps) == kept
    assert [s.step_type for s in steps[:1]] == [StepType.FIRST] * len(kept[:1])
    assert all(s.step_type is StepType.MID for s in steps[1:])


def test_a_rate_moves_while_it_is_not_zero(tmp_path: Path) -> None:
    speeds = [0, 0.005, 0.2, 0.2, 0.2, 0.2, 0.005, 0]
    assert ticks(trimmed(tmp_path, [[v] for v in speeds], "m/s, rad/s")) == [1, 2, 3, 4, 5]


@settings(max_examples=60, deadline=None)
@given(
    moves=st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), min_size=1, max_size=60),
    memory=st.sampled_from([0, 500, 10**6]),
)
def test_what_is_kept_is_one_stretch_of_the_steps_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, moves: list[list[int]], memory: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    places = np.cumsum(np.array(moves) * 0.004, axis=0).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "MEMORY_BYTES", memory)  # in memory, in a file, or both
        kept = trimmed(folder, places)
    assert ticks(kept) == list(range(ticks(kept)[0], ticks(kept)[-1] + 1)) if kept else True
    for got in kept:
        want = step(got.tick_ns, places[got.tick_ns])
        assert got.observation["images/jpeg"] == want.observation["images/jpeg"]
        for a, b in [
            (got.observation["images/cam"], want.observation["images/cam"]),
            (got.action["action"], want.action["action"]),
            (got.skew_ns, want.skew_ns), (got.reason, want.reason), (got.index, want.index),
        ]:  # fmt: skip
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype  # type: ignore[union-attr]
    # What was cut off never left the place where things last moved by more than the limit.
    end = places[kept[-1].tick_ns] if kept else places[0]
    tail = places[kept[-1].tick_ns :] if kept else places
    assert np.abs(np.array(tail) - end).max() <= LIMIT + 1e-6


def test_each_episode_is_trimmed_by_itself(tmp_path: Path) -> None:
    trim = IdleTrim(robot(), LIMIT, tmp_path)
    first = [step(t, [p]) for t, p in enumerate([0, 0, 1, 1])]
    second = [replace(s, tick_ns=s.tick_ns + 10) for s in first]
    kept = [each for s in (*first, *second) for each in trim.add(s)]
    trim.close()
    assert ticks(kept) == [1, 2, 11, 12]
    assert [s.step_type for s in kept] == [StepType.FIRST, StepType.MID] * 2


def test_a_disk_without_room_for_what_waits_is_told(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "MEMORY_BYTES", 10)
        trim = IdleTrim(robot(), LIMIT, tmp_path / "gone")
        with pytest.raises(StoreError, match="cannot keep idle steps") as caught:
            list(trim.add(step(0, [0])))
        assert "--trim-idle" in caught.value.hint
        trim.close()
