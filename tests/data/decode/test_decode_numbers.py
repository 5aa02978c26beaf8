"""Joints by name and numbers by field path, from real messages of both ROS versions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from act_data.decode import Decoder, decoder, joint_names
from act_data.decode.numeric import steps
from act_data.errors import DataError
from act_data.types import DEFAULT_FIELD, FIELD_PATH, StreamKind, StreamSpec
from tests.bags import JOINT_COMMAND, JOINT_COMMAND_DEFINITION, Kind, message, typestore

JOINT_STATE = "sensor_msgs/msg/JointState"
KINDS: tuple[Kind, ...] = ("ros1", "mcap")
STORES = {kind: typestore(kind, {JOINT_COMMAND: JOINT_COMMAND_DEFINITION}) for kind in KINDS}
ROS1 = STORES["ros1"]


def joints(*names: str, field: str = "position", shape: tuple[int, ...] = ()) -> Decoder:
    spec = StreamSpec(
        name="arm", topic="/arm", kind=StreamKind.JOINT_STATE, joints=names, shape=shape
    )
    return decoder(spec, (field,))


def state(names: list[str], *values: list[float], store: Any = ROS1) -> Any:
    fields = dict(zip(("position", "velocity", "effort"), values, strict=False))
    return message(store, JOINT_STATE, {"name": names, **fields})


@pytest.mark.parametrize("kind", KINDS)
def test_joints_are_taken_by_name_whatever_their_order(kind: Kind) -> None:
    decode = joints("a", "b", "c")
    store = STORES[kind]
    forward = decode(JOINT_STATE, state(["a", "b", "c"], [1, 2, 3], store=store))
    backward = decode(JOINT_STATE, state(["c", "b", "a"], [3, 2, 1], store=store))
    np.testing.assert_array_equal(forward, np.float32([1, 2, 3]))
    np.testing.assert_array_equal(backward, np.float32([1, 2, 3]))
    assert forward.dtype == np.float32


def test_joints_that_nobody_asked_for_are_left_out() -> None:
    value = joints("b")(JOINT_STATE, state(["a", "b", "finger"], [1, 2, 3]))
    np.testing.assert_array_equal(value, [2])


def test_without_declared_joints_the_first_message_fixes_the_order() -> None:
    decode = joints()
    assert joint_names(decode) == ()
    np.testing.assert_array_equal(decode(JOINT_STATE, state(["b", "a"], [2, 1])), [2, 1])
    np.testing.assert_array_equal(decode(JOINT_STATE, state(["a", "b"], [3, 4])), [4, 3])
    assert joint_names(decode) == ("b", "a")
    with pytest.raises(DataError, match="no joint 'a'; the message lists 'b', 'c'"):
        decode(JOINT_STATE, state(["b", "c"], [1, 2]))


def test_an_empty_velocity_still_fixes_the_order() -> None:
    decode = joints(field="velocity")
    assert decode(JOINT_STATE, state(["b", "a"], [2, 1])) is None
    np.testing.assert_array_equal(decode(JOINT_STATE, state(["a", "b"], [0, 0], [5, 6])), [6, 5])


def test_a_message_without_names_is_taken_in_its_own_order() -> None:
    np.testing.assert_array_equal(joints("a", "b")(JOINT_STATE, state([], [1, 2])), [1, 2])
    learning = joints()
    np.testing.assert_array_equal(learning(JOINT_STATE, state([], [1, 2])), [1, 2])
    with pytest.raises(DataError, match="3 values of position without names, 2 joints"):
        learning(JOINT_STATE, state([], [1, 2, 3]))


@pytest.mark.parametrize("field", ["velocity", "effort"])
def test_an_empty_velocity_or_effort_is_no_value(field: str) -> None:
    assert joints("a", "b", field=field)(JOINT_STATE, state(["a", "b"], [1, 2])) is None


@pytest.mark.parametrize(
    ("msg", "told"),
    [
        pytest.param(state(["a"], [1]), "no joint 'b'; the message lists 'a'", id="missing"),
        pytest.param(state(["a", "b", "a"], [1, 2, 3]), "listed twice: 'a'", id="twice"),
        pytest.param(state(["a", "b"], [1]), "2 names, 1 of position", id="fewer-positions"),
        pytest.param(state(["a", "b"], [1, 2], [1]), "1 of velocity", id="ragged-velocity"),
        pytest.param(state(["a", "b"], [], [1, 2]), "0 of position", id="no-position"),
        pytest.param(state([], [1, 2, 3]), "3 values of position", id="nameless-and-longer"),
        pytest.param(state([], []), "0 names, 0 of position", id="nothing-at-all"),
    ],
)
def test_joints_that_do_not_fit_are_named(msg: Any, told: str) -> None:
    with pytest.raises(DataError, match=r"/arm \(sensor_msgs/msg/JointState\)") as caught:
        joints("a", "b")(JOINT_STATE, msg)
    assert told in str(caught.value)


def test_a_declared_shape_is_held_against_the_joints() -> None:
    with pytest.raises(DataError, match=r"shape \(2,\), declared is \(7,\)"):
        joints(shape=(7,))(JOINT_STATE, state(["a", "b"], [1, 2]))


@given(st.permutations(range(6)), st.integers(1, 6))
def test_any_order_of_any_joints_gives_the_same_vector(order: list[int], wanted: int) -> None:
    decode = joints(*(f"j{i}" for i in range(wanted)))
    value = decode(JOINT_STATE, state([f"j{i}" for i in order], [float(i) for i in order]))
    np.testing.assert_array_equal(value, np.arange(wanted, dtype=np.float32))


# --- field paths ------------------------------------------------------------------------------


def numbers(kind: StreamKind, *field: str, shape: tuple[int, ...] = ()) -> Decoder:
    return decoder(StreamSpec(name="s", topic="/s", kind=kind, field=field, shape=shape))


def xyz(*values: float) -> dict[str, float]:
    return dict(zip("xyzw", values, strict=False))


TWIST = {"linear": xyz(1, 2, 3), "angular": xyz(4, 5, 6)}
WRENCH = {"force": xyz(1, 2, 3), "torque": xyz(4, 5, 6)}
IMU = {
    "orientation": xyz(0, 0, 0, 1),
    "angular_velocity": xyz(1, 2, 3),
    "linear_acceleration": xyz(4, 5, 6),
}
ODOMETRY = {"pose": {"pose": {"position": xyz(7, 8, 9)}}, "twist": {"twist": TWIST}}


POSES = {"poses": [{}, {"position": xyz(1, 2, 3)}]}
POSE = {"pose": {"orientation": xyz(0, 0, 1, 0)}}
VW = ("twist.twist.linear.x", "twist.twist.angular.z")
COMMAND = {"name": "arm", "cmd": [1, 2, 3]}
OFFSET = {"layout": {"data_offset": 2}, "data": [9, 9, 1]}
SIX = [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("ros", KINDS)
@pytest.mark.parametrize(
    ("kind", "name", "values", "field", "expected"),
    [
        ("twist", "geometry_msgs/Twist", TWIST, (), SIX),
        ("twist", "geometry_msgs/Twist", TWIST, ("linear.x", "angular.z"), [1, 6]),
        ("twist", "geometry_msgs/TwistStamped", {"twist": TWIST}, (), SIX),
        ("twist", "geometry_msgs/TwistStamped", {"twist": TWIST}, ("linear.x",), [1]),
        ("twist", "geometry_msgs/TwistStamped", {"twist": TWIST}, ("twist.linear.y",), [2]),
        ("wrench", "geometry_msgs/Wrench", WRENCH, (), SIX),
        ("wrench", "geometry_msgs/WrenchStamped", {"wrench": WRENCH}, ("torque",), [4, 5, 6]),
        ("imu", "sensor_msgs/Imu", IMU, (), [0, 0, 0, 1, *SIX]),
        ("odometry", "nav_msgs/Odometry", ODOMETRY, (), SIX),
        ("odometry", "nav_msgs/Odometry", ODOMETRY, VW, [1, 6]),
        ("odometry", "nav_msgs/Odometry", ODOMETRY, ("pose.pose.position",), [7, 8, 9]),
        ("multi_array", "std_msgs/Float32MultiArray", {"data": [1, 2, 3]}, (), [1, 2, 3]),
        ("multi_array", "std_msgs/Int16MultiArray", {"data": [-1, 2]}, (), [-1, 2]),
        ("multi_array", "std_msgs/Float64MultiArray", OFFSET, (), [1]),
        ("numeric", "interbotix_xs_msgs/JointGroupCommand", COMMAND, ("cmd",), [1, 2, 3]),
        ("numeric", "interbotix_xs_msgs/JointGroupCommand", COMMAND, ("cmd[2]", "cmd[:1]"), [3, 1]),
        ("numeric", "std_msgs/Bool", {"data": True}, ("data",), [1]),
        ("numeric", "geometry_msgs/PoseArray", POSES, ("poses[1].position.y",), [2]),
        ("numeric", "geometry_msgs/PoseStamped", POSE, ("pose.orientation",), [0, 0, 1, 0]),
    ],
)
def test_numbers_are_found_by_kind_and_path(
    ros: Kind,
    kind: str,
    name: str,
    values: dict[str, Any],
    field: tuple[str, ...],
    expected: list[float],
) -> None:
    type_ = name.replace("/", "/msg/")
    value = numbers(StreamKind(kind), *field)(type_, message(STORES[ros], type_, values))
    np.testing.assert_array_equal(value, np.float32(expected))
    assert value.dtype == np.float32


def test_another_field_of_a_stream_is_read_without_its_shape() -> None:
    spec = StreamSpec(name="s", topic="/s", kind=StreamKind.TWIST, field=("linear.x",), shape=(1,))
    msg = message(ROS1, "geometry_msgs/msg/Twist", TWIST)
    np.testing.assert_array_equal(
        decoder(spec, ("angular",))("geometry_msgs/msg/Twist", msg), [4, 5, 6]
    )


def test_an_empty_array_is_no_value() -> None:
    msg = message(ROS1, "std_msgs/msg/Float32MultiArray", {})
    assert numbers(StreamKind.MULTI_ARRAY)("std_msgs/msg/Float32MultiArray", msg) is None


SCAN = "sensor_msgs/msg/LaserScan"


def test_what_a_laser_cannot_reach_lies_at_the_end_of_its_range() -> None:
    values = {"ranges": [1.0, np.inf, -np.inf, np.nan], "range_min": 0.25, "range_max": 8.0}
    value = numbers(StreamKind.NUMERIC, "ranges")(SCAN, message(ROS1, SCAN, values))
    np.testing.assert_array_equal(value, np.float32([1.0, 8.0, 0.25, np.nan]))


def test_a_number_that_float32_cannot_hold_becomes_infinite_without_a_warning() -> None:
    msg = message(ROS1, "std_msgs/msg/Float64", {"data": 1e300})
    value = numbers(StreamKind.NUMERIC, "data")("std_msgs/msg/Float64", msg)
    np.testing.assert_array_equal(value, [np.inf])


def test_a_signalling_nan_is_a_nan_without_a_warning() -> None:
    data = np.array([0x7FA00000, 0x3F800000], "<u4").view("<f4")
    msg = message(ROS1, "std_msgs/msg/Float32MultiArray", {})
    msg.data = data
    value = numbers(StreamKind.MULTI_ARRAY)("std_msgs/msg/Float32MultiArray", msg)
    assert np.isnan(value).tolist() == [True, False]


def test_an_imu_without_orientation_says_so() -> None:
    covariance = np.array([-1.0, *[0.0] * 8])
    msg = message(ROS1, "sensor_msgs/msg/Imu", {**IMU, "orientation_covariance": covariance})
    with pytest.raises(DataError, match="no orientation") as caught:
        numbers(StreamKind.IMU)("sensor_msgs/msg/Imu", msg)
    assert "angular_velocity" in caught.value.hint
    value = numbers(StreamKind.IMU, "angular_velocity")("sensor_msgs/msg/Imu", msg)
    np.testing.assert_array_equal(value, [1, 2, 3])


@pytest.mark.parametrize(
    ("path", "told", "hint"),
    [
        pytest.param("rangs", "no 'rangs'", "Did you mean 'ranges'?", id="misspelt"),
        pytest.param("ranges.size", "no 'size'", "no fields", id="attribute-of-an-array"),
        pytest.param("ranges[3]", "past the end, there are 3", "", id="index"),
        pytest.param("ranges[0:4]", "past the end, there are 3", "", id="slice"),
        pytest.param("range_max[0]", "indexes a int", "", id="index-of-a-number"),
        pytest.param("header", "a message with", "Extend the path", id="message"),
        pytest.param("header.frame_id", "is str", "Extend the path", id="text"),
        pytest.param("header.stamp", "sec, nanosec", "Extend the path", id="time"),
    ],
)
def test_a_path_that_leads_nowhere_says_where_it_ends(path: str, told: str, hint: str) -> None:
    values = {"ranges": [1.0, 2.0, 3.0], "header": {"frame_id": "laser"}}
    with pytest.raises(DataError, match=r"/s \(sensor_msgs/msg/LaserScan\)") as caught:
        numbers(StreamKind.NUMERIC, path)(SCAN, message(ROS1, SCAN, values))
    assert told in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "path",
    ["", "a..b", ".a", "a.", "__class__", "a.__dict__", "a.b__c", "_x", "a[-1]", "a[1:2].b", "a[x]",
     "a()", "a b", "ä", "a[1", "a[1:2:3]", "a\n"],
)  # fmt: skip
def test_nothing_but_field_paths_is_followed(path: str) -> None:
    assert not FIELD_PATH.fullmatch(path)
    with pytest.raises(ValueError, match="no field path"):
        steps(path)


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,5}(_[a-z0-9]{1,3})?", fullmatch=True)


@given(st.lists(st.tuples(NAMES, st.lists(st.integers(0, 99), max_size=2)), min_size=1, max_size=4))
def test_a_path_means_its_names_and_indices(parts: list[tuple[str, list[int]]]) -> None:
    path = ".".join(name + "".join(f"[{i}]" for i in indices) for name, indices in parts)
    expected = [step for name, indices in parts for step in (name, *indices)]
    assert list(steps(path)) == expected
    assert list(steps(path + "[2:]")) == [*expected, slice(2, None)]


def test_every_default_is_a_field_path() -> None:
    for kind in StreamKind:
        if kind not in (StreamKind.IMAGE, StreamKind.DEPTH, StreamKind.NUMERIC):
            assert all(steps(path) for path in DEFAULT_FIELD[kind])
