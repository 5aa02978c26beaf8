"""Definitions and classes of ROS 2 types, as the packages installed here have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from act_data.errors import DataError
from act_data.sources.live import ros2_types
from act_data.sources.live.ros2_types import installed_definition, message_class
from tests.ros2_graph import needs_ros2


@pytest.fixture(autouse=True)
def _ros2_is_here() -> None:
    needs_ros2()


@pytest.mark.parametrize(
    "type_",
    [
        "sensor_msgs/msg/Image",
        "sensor_msgs/msg/PointCloud2",
        "sensor_msgs/msg/CameraInfo",
        "nav_msgs/msg/Odometry",
        "std_msgs/msg/Float64MultiArray",
        "trajectory_msgs/msg/JointTrajectory",
    ],
)
def test_a_definition_has_every_type_inside_it_as_ros_has_them(type_: str) -> None:
    definition = installed_definition(type_)
    assert definition is not None
    types = get_types_from_msg(definition.text, type_)
    known = get_typestore(Stores.ROS2_JAZZY).fielddefs
    assert types == {name: known[name] for name in types}
    assert type_ in types
    sections = [line for line in definition.text.splitlines() if line.startswith("MSG: ")]
    assert len(sections) == len(set(sections)) == len(types) - 1


def test_a_package_without_its_files_falls_back_on_what_every_ros_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ros2_types, "_file", lambda type_: None)
    definition = installed_definition("sensor_msgs/msg/JointState")
    assert definition is not None
    assert "float64[] position" in definition.text
    assert installed_definition("my_robot/msg/Gripper") is None


def test_a_file_that_is_no_definition_falls_back_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "JointState.msg").write_bytes(b"\xff\x00 not a [ definition")
    monkeypatch.setattr(ros2_types, "_file", lambda type_: tmp_path / "JointState.msg")
    definition = installed_definition("sensor_msgs/msg/JointState")
    assert definition is not None
    assert "float64[] position" in definition.text


@pytest.mark.parametrize(
    ("type_", "why"),
    [
        pytest.param("my_robot/msg/Gripper", "package 'my_robot' is not installed", id="package"),
        pytest.param("sensor_msgs/msg/Gripper", "no attribute 'Gripper'", id="type"),
        pytest.param("email/msg/Message", "package 'email'", id="not-of-ros"),
        pytest.param("std_srvs/srv/Trigger", "no message type", id="service"),
        pytest.param("os.path/msg/X", "no message type", id="odd-name"),
        pytest.param("", "no message type", id="empty"),
    ],
)
def test_a_type_that_is_not_here_is_told_with_its_topic(type_: str, why: str) -> None:
    with pytest.raises(DataError, match=why) as told:
        message_class("/gripper", type_)
    assert "'/gripper'" in str(told.value)
    assert told.value.hint
