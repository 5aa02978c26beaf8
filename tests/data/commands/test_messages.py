from __future__ import annotations

import numpy as np
import pytest

from act_data.commands import ENCODINGS, Encoder, Encoding
from act_data.commands.messages import store_of
from act_data.types import CommandKind

STAMP_NS = 1_700_000_000_123_456_789
VALUES = np.array([0.1, -0.2, 0.3])
JOINTS = ["a", "b", "c"]


def decoded(encoder: Encoder, payload: bytes, encoding: Encoding) -> object:
    store = store_of(encoding)
    read = store.deserialize_ros1 if encoding == "ros1" else store.deserialize_cdr
    return read(payload, encoder.type)


@pytest.mark.parametrize("encoding", ENCODINGS)
class TestEveryKindSaysWhatWasCommanded:
    def test_joint_state(self, encoding: Encoding) -> None:
        encoder = Encoder(CommandKind.JOINT_STATE, JOINTS, encoding)
        message = decoded(encoder, encoder(VALUES, STAMP_NS), encoding)
        assert message.name == JOINTS
        assert message.position.tolist() == VALUES.tolist()
        stamp = message.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == STAMP_NS

    def test_a_trajectory_of_one_point(self, encoding: Encoding) -> None:
        encoder = Encoder(CommandKind.JOINT_TRAJECTORY, JOINTS, encoding, period_ns=20_000_000)
        message = decoded(encoder, encoder(VALUES, STAMP_NS), encoding)
        (point,) = message.points
        assert message.joint_names == JOINTS
        assert point.positions.tolist() == VALUES.tolist()
        assert (point.time_from_start.sec, point.time_from_start.nanosec) == (0, 20_000_000)

    def test_a_trajectory_of_all_that_is_planned(self, encoding: Encoding) -> None:
        encoder = Encoder(CommandKind.TRAJECTORY_CHUNK, JOINTS, encoding)
        path = np.stack([VALUES, 2 * VALUES])
        message = decoded(encoder, encoder.along(path, STAMP_NS, 600_000_000), encoding)
        assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == STAMP_NS
        assert [p.positions.tolist() for p in message.points] == path.tolist()
        after = [(p.time_from_start.sec, p.time_from_start.nanosec) for p in message.points]
        assert after == [(0, 600_000_000), (1, 200_000_000)]

    def test_a_list_of_numbers(self, encoding: Encoding) -> None:
        encoder = Encoder(CommandKind.MULTI_ARRAY, JOINTS, encoding)
        message = decoded(encoder, encoder(VALUES, STAMP_NS), encoding)
        assert message.data.tolist() == VALUES.tolist()

    @pytest.mark.parametrize("kind", [CommandKind.TWIST, CommandKind.TWIST_STAMPED])
    def test_a_twist(self, encoding: Encoding, kind: CommandKind) -> None:
        encoder = Encoder(kind, ["linear.x", "angular.z"], encoding)
        message = decoded(encoder, encoder(VALUES[:2], STAMP_NS), encoding)
        twist = message.twist if kind is CommandKind.TWIST_STAMPED else message
        assert (twist.linear.x, twist.linear.y, twist.angular.z) == (0.1, 0.0, -0.2)

    def test_interbotix_groups_and_single_joints(self, encoding: Encoding) -> None:
        group = Encoder(CommandKind.JOINT_GROUP, JOINTS, encoding, group="arm")
        message = decoded(group, group(VALUES, STAMP_NS), encoding)
        assert message.name == "arm"
        assert message.cmd == pytest.approx(VALUES, abs=1e-7)
        single = Encoder(CommandKind.JOINT_SINGLE, ["gripper"], encoding, group="gripper")
        message = decoded(single, single(VALUES[:1], STAMP_NS), encoding)
        assert (message.name, message.cmd) == ("gripper", pytest.approx(0.1))
