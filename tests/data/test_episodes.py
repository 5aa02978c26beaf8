"""Episodes: what a frame shows, and which frames become rows under every policy and shift."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from act_data.episodes import WRAPPED_ANGLE, Assembler, GapPolicy, Observer, assembler, schema_of
from act_data.errors import DataError
from act_data.robot import load_robot
from act_data.types import (
    ArrayPart,
    ArraySpec,
    EncodedImage,
    Frame,
    Pick,
    Reason,
    RobotSpec,
    Role,
    StepType,
    StreamKind,
    StreamSpec,
    Timestep,
)

FPS = 10
MS = 1_000_000
Sample = Any  # in these tests a sample is the decoded value itself


def stream(name: str, kind: StreamKind = StreamKind.JOINT_STATE, **more: Any) -> StreamSpec:
    return StreamSpec(name=name, topic=f"/{name}", kind=kind, **more)


def array(name: str, role: Role, *parts: str | ArrayPart, **more: Any) -> ArraySpec:
    found = tuple(ArrayPart(stream=p) if isinstance(p, str) else p for p in parts)
    return ArraySpec(name=name, role=role, parts=found, **{"dtype": "float32", **more})


OBS, ACT = Role.OBSERVATION, Role.ACTION
ARM = stream("arm", joints=("a", "b"), unit="rad")
ODOM = stream("odom", StreamKind.ODOMETRY, field=("twist.twist.linear.x",), shape=(1,))
CAM = stream("cam", StreamKind.IMAGE)
ROBOT = RobotSpec(
    name="small",
    fps=FPS,
    streams=(ARM, ODOM),
    arrays=(
        array("qpos", OBS, "arm", names=("arm/a", "arm/b")),
        array("base_vel", OBS, "odom"),
        array("base_action", ACT, "odom"),
    ),
)


def with_camera(camera: StreamSpec = CAM) -> RobotSpec:
    return replace(
        ROBOT,
        streams=(*ROBOT.streams, camera),
        arrays=(*ROBOT.arrays, array("images/cam", OBS, camera.name, dtype="uint8")),
    )


def observer(robot: RobotSpec = ROBOT, decode: Callable[[Any], Any] | None = None) -> Observer[Any]:
    parts = {part for a in robot.arrays for part in a.parts}
    return Observer(robot, dict.fromkeys(parts, decode or np.asarray))


def pick(sample: Any, index: int = 0, reason: Reason = Reason.OK, **more: Any) -> Pick[Any]:
    return Pick(
        **{
            "index": index if sample is not None else -1,
            "stamp_ns": 0,
            "skew_ns": -index,
            "age_ns": 0,
            "reason": reason,
            "reused": False,
            "sample": sample,
            **more,
        }
    )


def vector(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def frame(tick: int = 0, valid: bool = True, **picks: Pick[Any]) -> Frame[Any]:
    defaults = {
        "arm": pick(vector(tick, -tick), tick),
        "odom": pick(vector(100 + tick), tick, Reason.OK if valid else Reason.GAP),
    }
    return Frame(tick=tick, tick_ns=tick * 100 * MS, picks={**defaults, **picks}, valid=valid)


# --- the observer -----------------------------------------------------------------------------


def test_a_stream_in_both_roles_has_a_column_for_each() -> None:
    columns = [(c.name, c.stream, c.role) for c in observer().columns]
    assert columns == [("arm", "arm", OBS), ("odom", "odom", OBS), ("odom:action", "odom", ACT)]


def test_the_columns_of_a_preset_are_those_of_its_streams_in_use() -> None:
    robot = load_robot("cobot_magic")
    parts = {p for a in robot.arrays for p in a.parts if not p.stream.startswith("depth")}
    looking: Observer[Any] = Observer(robot, dict.fromkeys(parts, np.asarray))
    assert [c.name for c in looking.columns] == [
        "cam_high", "cam_left_wrist", "cam_right_wrist", "puppet_left", "puppet_right", "odom",
        "master_left", "master_right", "odom:action",
    ]  # fmt: skip
    assert looking.absent == ("depth/cam_high", "depth/cam_left_wrist", "depth/cam_right_wrist")


def test_parts_are_joined_in_order_as_float32() -> None:
    both = replace(ROBOT, arrays=(array("state", OBS, "odom", "arm"),))
    value = observer(both).observation(frame(3))["state"]
    np.testing.assert_array_equal(value, np.float32([103, 3, -3]))
    assert value.dtype == np.float32


def test_the_base_is_an_action_and_an_observation() -> None:
    looking = observer()
    np.testing.assert_array_equal(looking.observation(frame(2))["base_vel"], [102])
    np.testing.assert_array_equal(looking.action(frame(2))["base_action"], [102])
    assert set(looking.action(frame(2))) == {"base_action"}


def test_a_sample_that_serves_twice_is_decoded_once() -> None:
    calls: list[int] = []

    def decode(sample: list[float]) -> np.ndarray:
        calls.append(id(sample))
        return vector(*sample)

    looking = observer(decode=decode)
    arm, odom = [1.0, 2.0], [3.0]
    for tick in range(3):
        looking.observe(frame(tick, arm=pick(arm), odom=pick(odom)))
    assert len(calls) == 2
    looking.observe(frame(3, arm=pick([1.0, 2.0], 1), odom=pick(odom)))
    assert len(calls) == 3


def test_an_interpolated_stream_decodes_each_sample_once() -> None:
    calls: list[int] = []

    def decode(sample: list[float]) -> np.ndarray:
        calls.append(id(sample))
        return vector(*sample)

    looking = observer(replace(ROBOT, arrays=ROBOT.arrays[:1]), decode)
    samples = [[float(i), 0.0] for i in range(5)]
    for i in range(4):
        value = looking.observation(
            frame(i, arm=pick(samples[i], i, other=samples[i + 1], weight=0.25))
        )
        np.testing.assert_array_equal(value["qpos"], [i + 0.25, 0])
    assert len(calls) == 5


def test_a_part_that_its_messages_leave_empty_is_nan_and_no_fault() -> None:
    effort = ArrayPart(stream="arm", field=("effort",))
    robot = replace(ROBOT, arrays=(*ROBOT.arrays, array("effort", OBS, effort)))
    looking: Observer[Any] = Observer(
        robot,
        {
            ArrayPart(stream="arm"): np.asarray,
            ArrayPart(stream="odom"): np.asarray,
            effort: lambda sample: None,
        },
    )
    seen = looking.observe(frame())
    assert np.isnan(seen.observation["effort"]).tolist() == [True, True]
    assert seen.usable
    assert not seen.reason.any()


def test_an_empty_part_is_as_wide_as_the_stream_s_positions() -> None:
    effort = ArrayPart(stream="arm", field=("effort",))
    robot = replace(
        ROBOT,
        streams=(stream("arm"), ODOM),
        arrays=(array("effort", OBS, effort), array("qpos", OBS, "arm")),
    )
    looking: Observer[Any] = Observer(
        robot, {ArrayPart(stream="arm"): np.asarray, effort: lambda sample: None}
    )
    assert looking.observation(frame())["effort"].shape == (2,)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_makes_its_columns_not_finite(bad: float) -> None:
    seen = observer().observe(frame(odom=pick(vector(bad), 5)))
    assert seen.reason.tolist() == [Reason.OK, Reason.NOT_FINITE, Reason.NOT_FINITE]
    assert not seen.usable
    assert seen.index.tolist() == [0, 5, 5]


def test_an_optional_stream_with_nan_does_not_make_a_frame_unusable() -> None:
    robot = replace(ROBOT, streams=(ARM, replace(ODOM, required=False)))
    seen = observer(robot).observe(frame(odom=pick(vector(math.nan))))
    assert seen.reason[1] == Reason.NOT_FINITE
    assert seen.usable


def test_an_invalid_pick_shows_its_sample_or_else_the_last_value() -> None:
    looking = observer()
    looking.observe(frame(0))
    stale = looking.observe(frame(1, valid=False, odom=pick(vector(7), 0, Reason.DEAD)))
    np.testing.assert_array_equal(stale.observation["base_vel"], [7])
    gone = looking.observe(frame(2, valid=False, odom=pick(None, reason=Reason.START)))
    np.testing.assert_array_equal(gone.observation["base_vel"], [7])
    assert gone.reason.tolist() == [0, Reason.START, Reason.START]
    assert gone.index.tolist() == [2, -1, -1]


def test_before_the_first_sample_a_vector_is_nan_and_a_picture_black() -> None:
    robot = with_camera(replace(CAM, shape=(2, 4, 3), required=False))
    looking = observer(robot)
    absent = {name: pick(None, reason=Reason.START) for name in ("arm", "odom", "cam")}
    seen = looking.observation(frame(**absent))
    assert np.isnan(seen["qpos"]).tolist() == [True, True]
    assert np.isnan(seen["base_vel"]).tolist() == [True]
    np.testing.assert_array_equal(seen["images/cam"], np.zeros((2, 4, 3), np.uint8))


def test_a_picture_of_unknown_size_cannot_be_shown_yet() -> None:
    looking = observer(with_camera())
    silent = frame(valid=False, cam=pick(None, reason=Reason.START))
    assert not looking.observe(silent).usable
    with pytest.raises(DataError, match="'images/cam' has no shape yet: cam have not delivered"):
        looking.observation(silent)


def test_an_optional_stream_is_waited_for_and_then_done_without() -> None:
    optional = with_camera(replace(CAM, required=False))
    never = {"cam": pick(None, reason=Reason.ABSENT)}
    looking = observer(optional)
    assert "images/cam" not in looking.observation(frame(**never))
    usable = [looking.observe(frame(i, **never)).usable for i in range(FPS + 2)]
    assert usable == [False] * FPS + [True] * 2
    assert looking.absent == ("images/cam",)
    late = looking.observe(frame(0, cam=pick(np.zeros((2, 2, 3), np.uint8))))
    assert "images/cam" not in late.observation, "an episode's arrays do not change"

    in_time = observer(optional)
    assert not in_time.observe(frame(0, **never)).usable
    seen = in_time.observe(frame(1, cam=pick(np.zeros((2, 2, 3), np.uint8))))
    assert seen.usable
    assert "images/cam" in seen.observation


def test_a_required_stream_without_a_decoder_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"no decoder for .*'odom'"):
        Observer(ROBOT, {ArrayPart(stream="arm"): np.asarray})


def test_a_picture_and_a_jpeg_of_one_size_may_follow_each_other_another_size_may_not() -> None:
    looking = observer(with_camera(), lambda sample: sample)
    picture = np.ones((2, 4, 3), np.uint8)
    jpeg = EncodedImage(data=b"x", shape=(2, 4, 3))
    assert looking.observation(frame(cam=pick(picture)))["images/cam"] is picture
    assert (
        looking.observation(frame(cam=pick(jpeg, other=picture, weight=0.5)))["images/cam"] is jpeg
    )
    with pytest.raises(DataError, match=r"'images/cam' \(/cam\) has shape \(4, 2, 3\) at tick 9"):
        looking.observation(frame(9, cam=pick(np.ones((4, 2, 3), np.uint8))))


def test_a_vector_that_changes_its_length_is_named() -> None:
    looking = observer()
    with pytest.raises(DataError, match=r"'base_vel' \(/odom\) has shape \(2,\) .* expected is"):
        [looking.observe(frame(i, odom=pick(vector(*[1.0] * (i + 1))))) for i in range(2)]
    linear = pick(vector(1.0), other=vector(1.0, 2.0), weight=0.5)
    with pytest.raises(DataError, match=r"'odom' \(/odom\) changes its shape"):
        observer().observe(frame(odom=linear))


def interpolated(spec: StreamSpec, first: np.ndarray, second: np.ndarray, w: float) -> np.ndarray:
    robot = RobotSpec(name="x", fps=1, streams=(spec,), arrays=(array("x", OBS, spec.name),))
    picks = {spec.name: pick(first, other=second, weight=w)}
    return observer(robot).observation(Frame(tick=0, tick_ns=0, picks=picks, valid=True))["x"]


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 1))
def test_a_linear_pick_lies_on_the_line(a: float, b: float, w: float) -> None:
    value = interpolated(stream("s"), vector(a), vector(b), w)
    np.testing.assert_allclose(value, [(1 - w) * np.float32(a) + w * np.float32(b)], atol=1e-6)


@given(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(0, 1))
def test_a_wrapped_angle_goes_the_short_way_and_a_joint_does_not(
    a: float, turn: float, w: float
) -> None:
    b = math.remainder(a + turn, 2 * math.pi)
    heading = interpolated(stream("s", unit=WRAPPED_ANGLE), vector(a), vector(b), w)
    assert abs(math.remainder(float(heading[0]) - (a + w * turn), 2 * math.pi)) < 1e-5
    assert abs(heading[0]) <= np.float32(math.pi)
    joint = interpolated(stream("s", unit="rad"), vector(a), vector(b), w)
    np.testing.assert_allclose(joint, [(1 - w) * a + w * b], atol=1e-5)


def turned(angle: float) -> np.ndarray:
    return vector(0, 0, math.sin(angle / 2), math.cos(angle / 2))


ORIENTATION = tuple(f"orientation.{axis}" for axis in "xyzw")
POSE = tuple(f"pose.pose.orientation.{axis}" for axis in "xyzw")


@pytest.mark.parametrize("sign", [1, -1], ids=["same-sign", "antipodal"])
@pytest.mark.parametrize(
    ("kind", "field", "before"),
    [
        pytest.param(StreamKind.IMU, ORIENTATION, 0, id="imu"),
        pytest.param(StreamKind.IMU, ("angular_velocity.x", *ORIENTATION), 1, id="imu-second"),
        pytest.param(StreamKind.ODOMETRY, POSE, 0, id="odometry"),
    ],
)
def test_an_orientation_turns_at_constant_speed(
    kind: StreamKind, field: tuple[str, ...], before: int, sign: int
) -> None:
    spec = stream("s", kind, field=field)
    first = np.concatenate([np.float32([2.0] * before), turned(0.2)])
    second = np.concatenate([np.float32([4.0] * before), sign * turned(2.2)])
    value = interpolated(spec, first, second, 0.25)
    np.testing.assert_allclose(value[:before], [2.5] * before)
    np.testing.assert_allclose(value[before:], turned(0.7), atol=1e-6)


@given(st.lists(st.floats(-1, 1), min_size=8, max_size=8), st.floats(0, 1))
def test_an_interpolated_orientation_is_always_a_unit_or_never_was_one(
    numbers: list[float], w: float
) -> None:
    first, second = vector(*numbers[:4]), vector(*numbers[4:])
    value = interpolated(stream("s", StreamKind.IMU, field=ORIENTATION), first, second, w)
    if np.linalg.norm(first) > 1e-3 and np.linalg.norm(second) > 1e-3:
        assert abs(np.linalg.norm(value) - 1) < 1e-5
    assert np.isfinite(value).all()


def test_a_driver_that_never_fills_its_orientation_gives_zeros() -> None:
    spec = stream("s", StreamKind.ODOMETRY, field=POSE)
    np.testing.assert_array_equal(interpolated(spec, vector(0, 0, 0, 0), turned(0), 0.0), [0] * 4)


# --- the assembler ----------------------------------------------------------------------------


def assemble(
    valid: Sequence[bool], gap: GapPolicy, shift: int, max_gap: int
) -> tuple[list[Timestep], Assembler[Any]]:
    robot = replace(ROBOT, action_shift=shift)
    building: Assembler[Any] = Assembler(robot, observer(robot), gap, max_gap)
    rows = [row for i, v in enumerate(valid) for row in building.add(frame(i, v))]
    return rows + building.finish(), building


@dataclass(frozen=True)
class Row:
    first: bool
    observed: int
    acted: int


def oracle(valid: Sequence[bool], gap: GapPolicy, shift: int, max_gap: int) -> list[Row] | None:
    """Rows by looking at everything at once; None where FAIL has to fail."""
    usable = [i for i, v in enumerate(valid) if v]
    segments: list[list[int]] = []
    for i in usable:
        hole = i - segments[-1][-1] - 1 if segments else 0
        if not segments or (gap is GapPolicy.CUT and hole > max_gap):
            segments.append([i])
        elif gap is GapPolicy.FAIL and hole > max_gap:
            return None
        else:
            segments[-1] += range(segments[-1][-1] + 1, i + 1)
    return [
        Row(t == 0, segment[t], segment[t + shift])
        for segment in segments
        for t in range(len(segment) - max(1, shift))
    ]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 5)), max_size=10),
    st.sampled_from(GapPolicy),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_rows_are_those_of_a_naive_reading(
    runs: list[tuple[bool, int]], gap: GapPolicy, shift: int, max_gap: int
) -> None:
    valid = [v for v, length in runs for _ in range(length)]
    expected = oracle(valid, gap, shift, max_gap)
    if expected is None:
        with pytest.raises(DataError, match="gap of"):
            assemble(valid, gap, shift, max_gap)
        return
    rows, building = assemble(valid, gap, shift, max_gap)
    assert [
        Row(
            row.step_type is StepType.FIRST,
            int(row.observation["qpos"][0]),
            int(row.action["base_action"][0]) - 100,
        )
        for row in rows
    ] == expected
    for row, told in zip(rows, expected, strict=True):
        assert row.tick_ns == told.observed * 100 * MS
        assert row.index.tolist() == [told.observed, told.observed, told.acted]
        assert row.skew_ns.tolist() == [-told.observed, -told.observed, -told.acted]
        bad = [not valid[told.observed], not valid[told.acted]]
        assert (row.reason != 0).tolist() == [False, *bad]
    account = building.account
    assert (account.frames, account.usable) == (len(valid), sum(valid))
    assert (account.rows, account.episodes) == (len(rows), sum(row.first for row in expected))
    lost = len(valid) - sum(valid)
    assert account.invalid == ({c: {"gap": lost} for c in ("odom", "odom:action")} if lost else {})


@pytest.mark.parametrize("shift", [0, 1])
def test_of_t_plus_one_observations_t_are_kept(shift: int) -> None:
    rows, _ = assemble([True] * 6, GapPolicy.MASK, shift, 0)
    assert len(rows) == 5
    assert [row.step_type for row in rows] == [StepType.FIRST] + [StepType.MID] * 4


def test_a_gap_that_fails_is_named_with_stream_time_and_length() -> None:
    with pytest.raises(DataError) as caught:
        assemble([True] * 5 + [False] * 4 + [True], GapPolicy.FAIL, 0, 3)
    told = str(caught.value)
    assert "gap of 4 ticks (0.40 s) from 0.500 s to tick 9, longer than 3" in told
    assert "odom gap x4" in told


def test_no_usable_frame_gives_no_row_and_an_account_of_why() -> None:
    rows, building = assemble([False] * 5, GapPolicy.MASK, 0, 3)
    assert rows == []
    assert building.account.usable == 0
    assert building.account.invalid == {"odom": {"gap": 5}, "odom:action": {"gap": 5}}


def test_a_row_leaves_as_soon_as_it_is_complete() -> None:
    robot = replace(ROBOT, action_shift=2)
    building: Assembler[Any] = Assembler(robot, observer(robot))
    assert [len(building.add(frame(i))) for i in range(5)] == [0, 0, 1, 1, 1]


def test_after_finish_a_new_episode_begins() -> None:
    building: Assembler[Any] = Assembler(ROBOT, observer())
    for start in (0, 10):
        rows = [row for i in range(start, start + 3) for row in building.add(frame(i))]
        assert building.finish() == []
        assert [row.step_type for row in rows] == [StepType.FIRST, StepType.MID]
    assert building.account.episodes == 2


def test_a_dead_stream_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame is 16 bytes here; what exceeds the limit is kept as masked rows instead."""
    monkeypatch.setattr(assembler, "MAX_HELD_BYTES", 16 * 10)
    rows, _ = assemble([True] * 3 + [False] * 25, GapPolicy.MASK, 0, 0)
    assert len(rows) == 2 + 22
    assert [int(row.observation["qpos"][0]) for row in rows] == list(range(24))
    kept, _ = assemble([True] * 3 + [False] * 25 + [True] * 2, GapPolicy.MASK, 0, 0)
    assert len(kept) == 29


# --- the schema -------------------------------------------------------------------------------


def test_a_schema_says_what_the_first_timestep_holds() -> None:
    depth = stream("depth", StreamKind.DEPTH)
    robot = with_camera()
    robot = replace(
        robot,
        action_shift=1,
        streams=(*robot.streams, depth, stream("gone", required=False)),
        arrays=(
            *robot.arrays,
            array("depth/cam", OBS, "depth", dtype="uint16", unit="mm"),
            array("absent", OBS, "gone"),
        ),
    )
    parts = {p for a in robot.arrays for p in a.parts if p.stream != "gone"}
    looking: Observer[Any] = Observer(robot, dict.fromkeys(parts, np.asarray))
    building: Assembler[Any] = Assembler(robot, looking)
    pictures = {
        "cam": pick(np.zeros((4, 6, 3), np.uint8)),
        "depth": pick(np.zeros((4, 6), np.uint16)),
    }
    (first,) = [row for i in range(2) for row in building.add(frame(i, **pictures))]
    schema = schema_of(
        robot,
        first,
        looking.columns,
        codec="jpeg",
        depth_codec="blosc",
        quality=90,
        names={"base_vel": ("v",), "qpos": ("ignored", "ignored")},
    )
    told = {f.name: (f.dtype, f.shape, f.codec, f.names, f.columns) for f in schema.features}
    every = ("arm", "odom", "cam", "depth", "odom:action")
    assert told == {
        "qpos": ("float32", (2,), "none", ("arm/a", "arm/b"), ("arm",)),
        "base_vel": ("float32", (1,), "none", ("v",), ("odom",)),
        "base_action": ("float32", (1,), "none", (), ("odom:action",)),
        "images/cam": ("uint8", (4, 6, 3), "jpeg", (), ("cam",)),
        "depth/cam": ("uint16", (4, 6), "blosc", (), ("depth",)),
        "timestamp": ("int64", (), "none", (), ()),
        "sync_skew": ("int64", (5,), "none", every, ()),
        "sync_reason": ("uint8", (5,), "none", every, ()),
        "sync_index": ("int64", (5,), "none", every, ()),
    }
    assert schema.feature("images/cam").quality == 90
    assert schema.feature("depth/cam").unit == "mm"
    assert (schema.robot, schema.fps, schema.action_shift) == ("small", FPS, 1)
    assert set(schema.streams) == {"arm", "odom", "cam", "depth"}
    assert schema.columns == looking.columns
