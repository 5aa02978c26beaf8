"""Nothing that is not finite, or outside the limits, ever leaves the filter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from act_data.errors import InputError, NotFoundError
from act_data.records import FeatureStats, StatsRecord
from act_data.robot import load_robot, parse_robot
from act_model.config import VectorContract
from act_model.safety import Intervention, Limits, SafetyFilter, read_urdf
from act_model.safety.preset import preset_limits, sent_by

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
@given(
    st.lists(ANY_ACTION, max_size=12),
    st.sampled_from([np.inf, 1e-2, 30.0]),
    st.sampled_from([np.inf, 1e-1, 500.0]),
    st.sampled_from([None, [0.5, np.nan], [-2.0, 0.05]]),
)
def test_nothing_unsafe_ever_leaves(
    actions: list[np.ndarray | None],
    velocity: float,
    acceleration: float,
    measured: list[float] | None,
) -> None:
    limits = Limits.of(LOW, HIGH, velocity=velocity, acceleration=acceleration)
    safety = SafetyFilter(limits, 0.02)
    last: np.ndarray | None = None
    if measured is not None:
        safety.start(np.array(measured, np.float32))
        last = np.array(measured, np.float32)
    for raw in actions:
        filtered = safety.apply(raw)
        assert filtered.raw is raw
        if filtered.action is None:
            assert last is None or np.isnan(last).any()
            continue
        out = filtered.action
        assert out.dtype == np.float32
        assert out.shape == (2,)
        assert np.isfinite(out).all()
        floor, ceiling = LOW, HIGH
        if last is not None:  # who begins outside comes in, and goes no further out
            floor, ceiling = np.fmin(LOW, last), np.fmax(HIGH, last)
        assert (out >= floor).all()
        assert (out <= ceiling).all()
        if last is not None and np.isfinite(velocity):
            moved = np.nan_to_num(np.abs(out - last))
            assert (moved <= 0.02 * velocity * (1 + 1e-6) + 1e-6).all()
        last = out.copy()
        filtered.action[:] = np.nan  # the caller's own: spoiling it spoils nothing


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-0.75, 0.75, width=32), min_size=2, max_size=20),
    st.integers(0, 3),
)
def test_commands_are_as_smooth_as_the_limits_and_reach_what_was_wanted(
    targets: list[float], gaps: int
) -> None:
    limits = Limits.of([-1.0], [1.0], velocity=1.0, acceleration=5.0)
    safety = SafetyFilter(limits, 0.02)
    safety.start(np.array([targets[0]]))
    out = []
    for target in [*targets, *[targets[-1]] * 250]:
        for _ in range(gaps):
            safety.apply(None)
        action = safety.apply(np.array([target], np.float32)).action
        assert action is not None
        out.append(float(action[0]))
    if not gaps:
        steps = np.diff([out[0], *out])
        assert np.abs(steps).max() <= 1.0 * 0.02 + 1e-6
        assert np.abs(np.diff([0.0, *steps])).max() <= 5.0 * 0.02**2 + 1e-6
        assert out[-1] == np.float32(targets[-1])


def test_a_safe_action_passes_untouched() -> None:
    safety = SafetyFilter(Limits.of(LOW, HIGH), 0.02)
    raw = np.array([0.25, 0.05], np.float32)
    filtered = safety.apply(raw)
    assert filtered.action is not None
    assert np.array_equal(filtered.action, raw)
    assert filtered.interventions == ()
    assert set(safety.counts.values()) == {0}


def test_a_nan_is_refused_and_the_last_command_held() -> None:
    safety = SafetyFilter(Limits.of(LOW, HIGH), 0.02)
    safety.apply(np.array([0.5, 0.02]))
    filtered = safety.apply(np.array([np.nan, 0.0]))
    assert filtered.action is not None
    assert filtered.action.tolist() == np.array([0.5, 0.02], np.float32).tolist()
    assert filtered.interventions == (Intervention.NOT_FINITE,)
    assert safety.counts["not_finite"] == 1


def test_without_a_last_command_there_is_nothing_to_hold() -> None:
    safety = SafetyFilter(Limits.of(LOW, HIGH), 0.02)
    assert safety.apply(np.array([np.inf, 0.0])).action is None
    assert safety.apply(None).action is None


def test_a_command_beyond_the_limits_is_clamped_and_counted() -> None:
    safety = SafetyFilter(Limits.of(LOW, HIGH), 0.02)
    filtered = safety.apply(np.array([3.0, 0.05]))
    assert filtered.action is not None
    assert filtered.action.tolist() == np.array([1.0, 0.05], np.float32).tolist()
    assert filtered.interventions == (Intervention.POSITION,)
    assert filtered.raw is not None
    assert filtered.raw[0] == 3.0


def test_a_jump_becomes_a_ramp_that_begins_and_ends_gently() -> None:
    limits = Limits.of([-1.0], [1.0], velocity=1.0, acceleration=5.0)
    safety = SafetyFilter(limits, 0.02)
    safety.start(np.array([0.0]))
    safety.apply(np.array([0.0]))
    out = []
    for _ in range(60):
        filtered = safety.apply(np.array([0.5]))
        assert filtered.action is not None
        out.append(float(filtered.action[0]))
    assert out[0] == pytest.approx(5.0 * 0.02**2)
    assert max(out) == 0.5
    assert out[-1] == 0.5
    assert safety.counts["velocity"] > 0
    assert safety.hits[Intervention.VELOCITY].tolist() == [safety.counts["velocity"]]
    assert safety.at_rest


def test_a_smooth_demonstration_passes_untouched_to_the_bit() -> None:
    track = np.sin(np.linspace(0, 12, 600, dtype=np.float32))[:, None] * np.float32(0.9)
    limits = Limits.of([-1.0], [1.0]).with_motion([track], 50.0)
    safety = SafetyFilter(limits, 0.02)
    out = [safety.apply(row).action for row in track]
    assert np.array_equal(np.stack([a for a in out if a is not None]), track)
    assert set(safety.counts.values()) == {0}


def test_holding_brakes_and_brings_a_base_to_zero() -> None:
    limits = Limits.of([-1.0, -1.0], [1.0, 1.0], velocity=[1.0, 2.0], acceleration=[5.0, np.inf])
    safety = SafetyFilter(limits, 0.02, velocities=np.array([False, True]))
    for i in range(30):
        safety.apply(np.array([0.01 * i, 0.4]))
    assert not safety.at_rest
    held = [safety.apply(None).action for _ in range(40)]
    joint = [float(a[0]) for a in held if a is not None]
    base = [float(a[1]) for a in held if a is not None]
    assert joint == sorted(joint)
    assert joint[-1] < 0.29 + 0.5**2 / (2 * 5.0) + 0.01  # what braking from 0.5 rad/s takes
    assert base[:3] == pytest.approx([0.36, 0.32, 0.28])
    assert base[-1] == 0
    assert safety.at_rest


def test_a_first_command_is_approached_from_where_the_robot_is_at_a_fifth_of_its_speed() -> None:
    safety = SafetyFilter(Limits.of([-1.0, -1.0], [1.0, 1.0], velocity=1.0), 0.02)
    safety.start(np.array([0.5, np.nan]))
    filtered = safety.apply(np.array([0.0, 0.7]))
    assert filtered.action is not None
    assert filtered.action.tolist() == pytest.approx([0.5 - 0.2 * 0.02, 0.7])
    assert filtered.interventions[0] is Intervention.APPROACH
    for _ in range(200):
        safety.apply(np.array([0.0, 0.7]))
    assert safety.apply(np.array([0.0, 0.7])).interventions == ()


def test_a_robot_outside_its_limits_is_brought_back_in_and_not_thrown() -> None:
    safety = SafetyFilter(Limits.of([0.0], [1.0], velocity=1.0), 0.02)
    safety.start(np.array([-0.5]))
    first = safety.apply(np.array([0.2])).action
    assert first is not None
    assert first[0] == pytest.approx(-0.5 + 0.2 * 0.02)


def test_a_new_episode_may_begin_anywhere() -> None:
    safety = SafetyFilter(Limits.of(LOW, HIGH, velocity=0.1), 0.02)
    safety.apply(np.array([0.0, 0.0]))
    safety.reset()
    filtered = safety.apply(np.array([1.0, 0.0]))
    assert filtered.interventions == ()


@pytest.mark.parametrize(
    ("chunk", "counted", "said"),
    [
        pytest.param(np.zeros((3, 2)), None, None, id="sound"),
        pytest.param(np.zeros((3, 5)), "shape", r"(3, 5), (3, 2) was announced", id="too-wide"),
        pytest.param(np.zeros((2, 2)), "shape", r"(2, 2), (3, 2) was announced", id="too-short"),
        pytest.param(np.zeros((3, 2), np.int64), "shape", "it is int64", id="integers"),
        pytest.param(np.zeros((3, 2), object), "shape", "it is object", id="objects"),
        pytest.param([[0.0, 0.0]], "shape", "it is list", id="no-array"),
        pytest.param(np.zeros(2), "shape", "(2,), (3, 2) was announced", id="one-action"),
        pytest.param(
            np.array([[0, 0], [np.nan, 0], [0, 0]]), "not_finite", "action 1", id="one-nan"
        ),
    ],
)
def test_a_chunk_is_taken_whole_or_not_at_all_and_it_is_said_why(
    chunk: np.ndarray, counted: str | None, said: str | None
) -> None:
    safety = SafetyFilter(Limits.of(LOW, HIGH), 0.02)
    found = safety.admit(chunk, 3)
    assert found == said if said is None else said in str(found)
    assert [name for name, n in safety.counts.items() if n] == ([counted] if counted else [])


def test_a_first_command_that_is_held_on_its_way_is_approached_no_faster() -> None:
    safety = SafetyFilter(Limits.of([-9.0], [9.0], velocity=1.0), 0.02)
    safety.start(np.array([0.0], np.float32))
    sent = [safety.apply(raw).action for raw in (np.array([1.0]), None, None, np.array([1.0]))]
    np.testing.assert_allclose(sent, [[0.004], [0.004], [0.004], [0.008]], atol=1e-7)
    assert safety.counts["approach"] == 2


def test_limits_lie_a_margin_around_what_was_demonstrated() -> None:
    action = (
        VectorContract(name="action", names=("a", "b"), unit="rad"),
        VectorContract(name="base_action", names=("v",), unit="m/s"),
    )
    known = stats(action=([-1.0, 0.0], [1.0, 0.5]), base_action=([2.0], [2.0]))
    limits = Limits.from_stats(action, known, margin=0.1)
    np.testing.assert_allclose(limits.low, [-1.2, -0.05, 0.0], rtol=1e-6)
    np.testing.assert_allclose(limits.high, [1.2, 0.55, 2.0], rtol=1e-6)
    np.testing.assert_allclose(limits.velocity, [20.0, 5.0, 0.1], rtol=1e-6)  # the range in 0.1 s


def test_a_dataset_at_hand_says_how_fast_and_how_suddenly() -> None:
    track = np.array([[0.0, 1.0], [0.1, 1.0], [0.3, 1.0], [0.3, 1.0]])
    broken = np.array([[0.0, 1.0], [np.nan, 1.0], [5.0, 1.0]])
    limits = Limits.of([0.0, 1.0], [1.0, 1.0], velocity=7.0).with_motion([track, broken], 10.0)
    np.testing.assert_allclose(limits.velocity, [1.5 * 2.0, 7.0])
    np.testing.assert_allclose(limits.acceleration, [1.5 * 20.0, np.inf])


def test_a_joint_without_a_range_is_named() -> None:
    action = (VectorContract(name="action", names=("a", "b"), unit="rad"),)
    with pytest.raises(InputError, match="b of 'action' has no finite value"):
        Limits.from_stats(action, stats(action=([0.0, None], [1.0, None])))
    with pytest.raises(InputError, match="lack 'action'") as missing:
        Limits.from_stats(action, stats(qpos=([0.0], [1.0])))
    assert missing.value.hint == "They have: qpos."
    with pytest.raises(InputError, match="the margin is -1"):
        Limits.from_stats(action, stats(action=([0.0, 0.0], [1.0, 1.0])), margin=-1)


@pytest.mark.parametrize(
    ("low", "high", "velocity"),
    [
        pytest.param([0.0, 0.0], [np.nan, 1.0], 1.0, id="nan"),
        pytest.param([0.0, 2.0], [1.0, 1.0], 1.0, id="crossed"),
        pytest.param([0.0], [1.0, 1.0], 1.0, id="shapes"),
        pytest.param([0.0], [1.0], 0.0, id="no-motion"),
        pytest.param([0.0], [1.0], np.nan, id="nan-motion"),
        pytest.param([0.0], [1.0], [1.0, 1.0], id="motion-shapes"),
    ],
)
def test_limits_that_nothing_can_satisfy_are_refused(
    low: list[float], high: list[float], velocity: float
) -> None:
    with pytest.raises(InputError):
        Limits.of(low, high, velocity=velocity)


URDF = """<?xml version="1.0"?>
<robot name="r">
  <joint name="waist" type="revolute"><limit lower="-0.5" upper="3" velocity="2"/></joint>
  <joint name="wheel" type="continuous"><limit effort="1" velocity="4"/></joint>
  <joint name="finger" type="prismatic"><limit upper="0.04"/></joint>
  <joint name="base" type="fixed"/>
</robot>
"""


def test_a_urdf_narrows_the_limits_and_never_widens_them(tmp_path: Path) -> None:
    (tmp_path / "r.urdf").write_text(URDF)
    joints = read_urdf(tmp_path / "r.urdf")
    assert set(joints) == {"waist", "wheel", "finger"}
    assert joints["wheel"].low is None
    assert (joints["finger"].low, joints["finger"].high) == (0.0, 0.04)
    action = (VectorContract(name="action", names=("left/waist", "left/other"), unit="rad"),)
    limits = Limits.of([-1.0, -1.0], [1.0, 1.0], velocity=3.0).within(joints, action, "r.urdf")
    assert limits.low.tolist() == [-0.5, -1.0]
    assert limits.high.tolist() == [1.0, 1.0]
    assert limits.velocity.tolist() == [2.0, 3.0]
    assert "1 of 2 joints of r.urdf" in limits.source
    with pytest.raises(InputError, match=r"may be -0\.5 to 3, and was 4 to 5"):
        Limits.of([4.0, 0.0], [5.0, 1.0]).within(joints, action, "r.urdf")
    other = (VectorContract(name="action", names=("x",), unit="rad"),)
    with pytest.raises(InputError, match="describes none of the joints x"):
        Limits.of([0.0], [1.0]).within(joints, other, "r.urdf")


LEADER = """
name: own
fps: 50
streams:
  lead: {topic: /lead, kind: joint_state, joints: [a, b, c], unit: rad}
  base: {topic: /odom, kind: odometry, field: [twist.twist.linear.x], unit: m/s}
arrays:
  action: {role: action, from: [lead, base]}
commands:
  arm:
    topic: /arm
    kind: joint_state
    from: lead
    joints: [b, a]
    limits: {a: {low: -0.5}, b: {high: 0.25, acceleration: 9}}
  gripper:
    topic: /gripper
    kind: joint_state
    from: lead
    joints: [c]
    scale: -2
    offset: 1
    limits: {c: {low: 0, high: 0.5, velocity: 4, acceleration: 8}}
  base: {topic: /cmd_vel, kind: twist, from: base, limits: {linear.x: {low: -0.1, velocity: 2}}}
"""


def test_a_preset_limits_what_is_sent_and_the_strictest_of_all_counts() -> None:
    action = (
        VectorContract(
            name="action",
            names=("lead/a", "lead/b", "lead/c", "base/twist.twist.linear.x"),
            unit="rad, rad, rad, m/s",
        ),
    )
    robot = parse_robot("own.yaml", LEADER.encode())
    known, sent = preset_limits(robot, action), sent_by(robot, action)
    before = Limits.of([-1.0] * 4, [1.0] * 4, velocity=3.0, acceleration=[8, 20, 8, 8])
    limits = before.within(known, action, "robot own", sent)
    np.testing.assert_allclose(limits.low, [-0.5, -1.0, 0.25, -0.1])  # c sends 1 - 2 c: 0 to 0.5
    np.testing.assert_allclose(limits.high, [1.0, 0.25, 0.5, 1.0])
    np.testing.assert_allclose(limits.velocity, [3.0, 3.0, 2.0, 2.0])
    np.testing.assert_allclose(limits.acceleration, [8.0, 9.0, 4.0, 8.0])
    assert limits.source == "given, and 4 of 4 joints of robot own"
    with pytest.raises(
        InputError, match=r"'lead/a' may be -0\.5 to anything, and was -1 to -0\.75"
    ):
        Limits.of([-1.0] * 4, [-0.75] * 4).within(known, action, "robot own")
    with pytest.raises(InputError, match="has no action 'other'"):
        preset_limits(robot, (VectorContract(name="other", names=("x",), unit=""),))


@pytest.mark.parametrize("name", ["aloha", "mobile_aloha", "aloha2_ros2"])
def test_the_arms_of_aloha_have_the_limits_of_their_maker(name: str) -> None:
    robot = load_robot(name)
    (array,) = (a for a in robot.arrays if a.name == "action")
    action = (VectorContract(name="action", names=array.names, unit="rad"),)
    known = preset_limits(robot, action)
    assert len(known) == 12
    degrees = [(-180, 180), (-106, 72), (-101, 92), (-180, 180), (-107, 128), (-180, 180)]
    for element, (low, high) in zip(known, 2 * degrees, strict=True):
        limit = known[element]
        assert limit.low == pytest.approx(np.radians(low), abs=2e-5)
        assert limit.high == pytest.approx(np.radians(high), abs=2e-5)
        assert limit.velocity == pytest.approx(np.pi, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            '<!DOCTYPE r [<!ENTITY a "b">]><robot/>', "document type or entities", id="entities"
        ),
        pytest.param('<!DOCTYPE r SYSTEM "file:///x"><robot/>', "document type", id="outside"),
        pytest.param("<robot>", "is no XML", id="cut"),
        pytest.param("\x00", "is no XML", id="binary"),
        pytest.param("<robot name='r'/>", "no robot with joints", id="empty"),
        pytest.param("<a>" * 50_000, "is no XML", id="deep"),
        pytest.param(
            URDF.replace('"3"', '"nan"'), "joint 'waist' has upper 'nan'", id="not-a-number"
        ),
        pytest.param(
            URDF.replace('"3"', '"${pi}"'), r"joint 'waist' has upper '\$\{pi\}'", id="xacro"
        ),
    ],
)
def test_a_file_that_is_no_urdf_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.urdf").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_urdf(tmp_path / "r.urdf")
    assert error.value.hint


def test_a_urdf_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_urdf(tmp_path / "no.urdf")
    with pytest.raises(InputError, match="cannot be read"):
        read_urdf(tmp_path)
