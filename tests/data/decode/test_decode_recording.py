"""A real recording whose content is known: what was published is what is decoded."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rosbags.highlevel import AnyReader

from act_data.decode import decoder
from act_data.errors import DataError
from act_data.robot import bind, load_robot
from act_data.types import EncodedImage, RobotSpec, StreamKind, StreamSpec, TopicInfo

Messages = Mapping[str, list[tuple[str, Any]]]
ARMS = ("puppet_left", "puppet_right", "master_left", "master_right")


@pytest.fixture(scope="module")
def messages(shared_bags: Path) -> Messages:
    found: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    with AnyReader([shared_bags / "recorded_ros1" / "aloha_none.bag"]) as reader:
        for connection, _, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            found[connection.topic].append((connection.msgtype, message))
    return found


@pytest.fixture(scope="module")
def robot() -> RobotSpec:
    return load_robot("cobot_magic")


@pytest.fixture(scope="module")
def bound(messages: Messages, robot: RobotSpec) -> dict[str, TopicInfo]:
    return bind(
        robot,
        {t: TopicInfo(name=t, type=m[0][0], count=len(m)) for t, m in messages.items()},
    )


def bits(row: np.ndarray) -> int:
    """The frame index in the first 24 pixels, least significant first."""
    return sum(1 << i for i, pixel in enumerate(row[:24]) if pixel >= 128)


def test_the_preset_finds_its_topics_by_transport_and_does_without_two_depths(
    bound: dict[str, TopicInfo], robot: RobotSpec
) -> None:
    assert bound["cam_right_wrist"].name == "/camera_r/color/image_raw/compressed"
    missing = {s.name for s in robot.streams} - bound.keys()
    assert missing == {"depth_left_wrist", "depth_right_wrist"}


@pytest.mark.parametrize("arm", ARMS)
def test_joints_have_the_phase_they_were_published_with(
    messages: Messages, robot: RobotSpec, bound: dict[str, TopicInfo], arm: str
) -> None:
    decode = decoder(robot.stream(arm))
    offset = 0.3 * np.arange(7) + ARMS.index(arm)
    for k, (type_, message) in enumerate(messages[bound[arm].name]):
        value = decode(type_, message)
        np.testing.assert_allclose(value, np.sin(k / 200 + offset), atol=1e-6)
    if arm == "puppet_right":
        assert message.name == [f"joint{i}" for i in range(6, -1, -1)], "reversed, put right"


def test_velocity_is_its_own_field_and_may_be_empty(
    messages: Messages, robot: RobotSpec, bound: dict[str, TopicInfo]
) -> None:
    velocity = decoder(robot.stream("puppet_right"), ("velocity",))
    type_, message = messages[bound["puppet_right"].name][400]
    np.testing.assert_allclose(
        velocity(type_, message), np.cos(2.0 + 0.3 * np.arange(7) + 1), atol=1e-6
    )
    for field in ("velocity", "effort"):
        type_, message = messages["/master/joint_right"][0]
        assert decoder(robot.stream("master_right"), (field,))(type_, message) is None


def test_a_joint_that_the_arm_does_not_have_is_named(messages: Messages) -> None:
    stream = StreamSpec(
        name="arm", topic="/puppet/joint_right", kind=StreamKind.JOINT_STATE, joints=("waist",)
    )
    with pytest.raises(DataError, match="no joint 'waist'; the message lists 'joint6', 'joint5'"):
        decoder(stream)(*messages["/puppet/joint_right"][0])


# Channel 0 of the frame as it was published: blue in a bgr8 picture.
@pytest.mark.parametrize(("camera", "channel"), [("cam_high", 0), ("cam_left_wrist", 2)])
def test_every_picture_holds_the_number_of_its_frame(
    messages: Messages, robot: RobotSpec, bound: dict[str, TopicInfo], camera: str, channel: int
) -> None:
    decode = decoder(robot.stream(camera))
    pictures = [decode(*m) for m in messages[bound[camera].name]]
    assert {p.shape for p in pictures} == {(48, 64, 3)}
    silent = range(60, 75) if camera == "cam_left_wrist" else ()
    expected = [i for i in range(180) if i not in silent]
    assert [bits(p[0, :, channel]) for p in pictures] == expected


def test_a_jpeg_passes_through_and_shows_the_mark_of_its_frame(
    messages: Messages, robot: RobotSpec, bound: dict[str, TopicInfo]
) -> None:
    """The bits of one blue pixel each do not survive 4:2:0; the white mark does, two pixels on
    with every frame."""
    decode = decoder(robot.stream("cam_right_wrist"))
    for i, (type_, message) in enumerate(messages[bound["cam_right_wrist"].name]):
        value = decode(type_, message)
        assert isinstance(value, EncodedImage)
        assert value.data == message.data.tobytes()
        assert value.shape == (48, 64, 3)
        with Image.open(io.BytesIO(value.data)) as picture:
            assert np.asarray(picture)[1, :, 1].argmax() // 2 == i % 32


def test_padded_rows_are_put_right(messages: Messages, robot: RobotSpec) -> None:
    type_, message = messages["/camera_l/color/image_raw"][3]
    assert message.step == 3 * 64 + 64
    value = decoder(robot.stream("cam_left_wrist"))(type_, message)
    for v in range(48):
        row = bytes(message.data[v * message.step : v * message.step + 192])
        np.testing.assert_array_equal(value[v].reshape(-1, 3)[:, ::-1].tobytes(), row)


def test_depth_is_the_formula_it_was_made_by(
    messages: Messages, robot: RobotSpec, bound: dict[str, TopicInfo]
) -> None:
    decode = decoder(robot.stream("depth_high"))
    v, u = np.mgrid[:48, :64]
    for i, (type_, message) in enumerate(messages[bound["depth_high"].name]):
        np.testing.assert_array_equal(decode(type_, message), v * 64 + u + i)


def test_the_base_is_its_forward_and_turning_velocity(
    messages: Messages, robot: RobotSpec, bound: dict[str, TopicInfo]
) -> None:
    decode = decoder(robot.stream("odom"))
    values = np.array([decode(*m) for m in messages[bound["odom"].name]])
    expected = [[0.1, 0.02 * np.sin(k / 50)] for k in range(len(values))]
    np.testing.assert_allclose(values, expected, atol=1e-6)


def test_a_message_type_that_only_the_bag_knows_is_read_by_field_path(messages: Messages) -> None:
    topic = "/puppet_left/commands/joint_group"
    stream = StreamSpec(name="command", topic=topic, kind=StreamKind.NUMERIC, field=("cmd",))
    for type_, message in messages[topic]:
        value = decoder(stream)(type_, message)
        np.testing.assert_array_equal(value, message.cmd)
    assert value.shape == (6,)
