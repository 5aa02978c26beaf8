"""Every recording of the shared collection gives what its manifest states, or says why not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from act_data.errors import DataError
from act_data.sources import BagSource, Reading, find_recordings, open_recording
from act_data.types import RawMessage


def opened(path: Path) -> BagSource:
    (recording,) = find_recordings([path])
    return open_recording(recording)


def everything(path: Path) -> list[RawMessage]:
    with opened(path) as source:
        return list(source.messages(source.topics))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("foxglove_example.bag", 8647),
        ("foxglove_example-lz4.bag", 8647),
        ("foxglove_example-bz2.bag", 8647),
        ("foxglove_no-messages.bag", 0),
        ("cruise_example-unsorted-chunks.bag", 3),
        ("embag_test.bag", 15),
        ("embag_array_test.bag", 20),
        ("robot_localization_test1.bag", 11865 + 3952 + 989),
        ("rosbag2_db3_talker", 20),
        ("rosbag2_mcap_talker", 20),
        ("rosbag2_db3_talker/talker.db3", 20),
        ("rosbag2_db3_wbag", 6074),
        ("rosbag2_mcap_wbag", 6074),
        ("rosbag2_db3_reindex_test_bags_multiple_files", 3177),
        ("rosbag2_mcap_reindex_test_bags_multiple_files", 3177),
        ("rosbag2_db3_convert_b", 75),
        ("rosbag2_mcap_convert_b", 75),
        ("rosbag2_mcap_wrong_rmw", 7),
        ("rosbag2_topics_and_services.mcap", 13),
        ("rosbag2_topics_and_services.db3", 13),
        ("recorded_ros1/aloha_none.bag", 6266),
        ("recorded_ros1/aloha_lz4.bag", 6275),
    ],
)
def test_a_recording_delivers_every_message_in_log_order(
    shared_bags: Path, name: str, count: int
) -> None:
    messages = everything(shared_bags / name)
    assert len(messages) == count
    keys = [(m.recv_ns, m.topic) for m in messages]
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("foxglove_empty-file.bag", "is empty"),
        ("recorded_ros1/aloha_killed.bag.active", "has no index"),
    ],
)
def test_a_recording_that_cannot_be_read_is_named_with_a_way_out(
    shared_bags: Path, name: str, says: str
) -> None:
    with pytest.raises(DataError, match=says) as caught:
        opened(shared_bags / name)
    assert name in str(caught.value)
    assert caught.value.hint


def test_what_a_killed_recorder_left_is_recovered_message_by_message(shared_bags: Path) -> None:
    path = shared_bags / "recorded_ros1" / "aloha_killed.bag.active"
    (recording,) = find_recordings([path], Reading(recover=True))
    with open_recording(recording) as source:
        (account,) = source.recoveries
        found = list(source.messages(source.topics))
        assert not account.whole
        assert account.messages == len(found) == 2569
        assert (account.lost, account.gaps) == (0, ())
        assert source.topics["/camera_f/color/image_raw"].count == 74
        for raw in found:
            if raw.topic == "/puppet/joint_left":
                position = source.deserialize(raw).position
                phase = np.arcsin(position[0])
                assert np.abs(position).max() <= 1
                assert np.isfinite(phase)


@pytest.mark.parametrize(
    "name",
    [
        *("foxglove_example.bag", "foxglove_example-lz4.bag", "foxglove_no-messages.bag"),
        *("cruise_example-unsorted-chunks.bag", "embag_test.bag", "embag_array_test.bag"),
        *("rosbag2_db3_wbag", "rosbag2_mcap_wbag", "rosbag2_db3_talker", "rosbag2_mcap_talker"),
        *("rosbag2_db3_convert_b", "rosbag2_mcap_convert_b", "rosbag2_mcap_wrong_rmw"),
        *("rosbag2_topics_and_services.mcap", "rosbag2_topics_and_services.db3"),
    ],
)
def test_recovery_of_a_whole_recording_gives_exactly_its_messages(
    shared_bags: Path, name: str
) -> None:
    (recording,) = find_recordings([shared_bags / name], Reading(recover=True))
    with open_recording(recording) as source:
        assert all(account.whole for account in source.recoveries)
        found = [(m.topic, m.recv_ns, bytes(m.payload)) for m in source.messages(source.topics)]
    assert found == [(m.topic, m.recv_ns, bytes(m.payload)) for m in everything(shared_bags / name)]


def test_the_compressions_of_one_recording_give_identical_messages(shared_bags: Path) -> None:
    plain, lz4, bz2 = (
        everything(shared_bags / f"foxglove_example{suffix}.bag") for suffix in ("", "-lz4", "-bz2")
    )

    def content(messages: list[RawMessage]) -> list[tuple[str, int, bytes]]:
        return [(m.topic, m.recv_ns, bytes(m.payload)) for m in messages]

    assert content(lz4) == content(plain)
    assert content(bz2) == content(plain)


@pytest.mark.parametrize("form", ["db3", "mcap"])
def test_metadata_that_differs_from_the_storage_loses_nothing(shared_bags: Path, form: str) -> None:
    messages = everything(shared_bags / f"rosbag2_{form}_talker")
    assert Counter(m.topic for m in messages) == {"/topic": 10, "/rosout": 10}


def test_the_topics_carry_ros_2_types_and_counts(shared_bags: Path) -> None:
    with opened(shared_bags / "recorded_ros1" / "aloha_none.bag") as source:
        camera = source.topics["/camera_l/color/image_raw"]
        assert (camera.type, camera.count) == ("sensor_msgs/msg/Image", 165)
        assert source.topics["/puppet_left/commands/joint_group"].type == (
            "interbotix_xs_msgs/msg/JointGroupCommand"
        )


def test_a_type_that_only_the_bag_defines_is_decoded_by_that_definition(shared_bags: Path) -> None:
    topic = "/puppet_left/commands/joint_group"
    with opened(shared_bags / "recorded_ros1" / "aloha_lz4.bag") as source:
        messages = [source.deserialize(m) for m in source.messages([topic])]
    assert len(messages) == 151
    assert {m.name for m in messages} == {"arm"}
    assert {m.cmd.shape for m in messages} == {(6,)}


def test_stamps_and_sequence_numbers_agree_with_full_decoding(shared_bags: Path) -> None:
    with opened(shared_bags / "recorded_ros1" / "aloha_none.bag") as source:
        topics = ["/camera_f/color/image_raw", "/odom", "/cmd_vel"]
        for raw in source.messages(topics):
            assert raw.encoding == "ros1"
            if raw.topic == "/cmd_vel":
                assert (raw.stamp_ns, raw.seq) == (None, None)
                continue
            header = source.deserialize(raw).header
            assert raw.seq == header.seq
            assert raw.stamp_ns == header.stamp.sec * 10**9 + header.stamp.nanosec


def test_splits_are_one_recording_in_one_order(shared_bags: Path) -> None:
    splits = sorted((shared_bags / "recorded_ros1").glob("aloha_split_*.bag"), reverse=True)
    (recording,) = find_recordings(splits)
    assert (recording.name, len(recording.files)) == ("aloha_split", 6)
    with open_recording(recording) as source:
        times = [m.recv_ns for m in source.messages(source.topics)]
    assert len(times) == 6283
    assert times == sorted(times)


def test_the_folder_of_recordings_holds_each_one_once(shared_bags: Path) -> None:
    found = find_recordings([shared_bags / "recorded_ros1"])
    assert [r.name for r in found] == ["aloha_killed", "aloha_lz4", "aloha_none", "aloha_split"]


def test_a_definition_nobody_asked_for_does_not_matter(shared_bags: Path) -> None:
    with opened(shared_bags / "rosbag2_topics_and_services.mcap") as source:
        raw = list(source.messages(["/parameter_events"]))
        assert [source.deserialize(m).node for m in raw][:1] != [""]
        assert len(raw) == 7


def test_a_type_that_nobody_defines_is_named_when_it_is_decoded(shared_bags: Path) -> None:
    with opened(shared_bags / "rosbag2_db3_convert_b") as source:
        first = next(source.messages(["c_strings"]))
        with pytest.raises(DataError, match=r"'c_strings' has type 'test_msgs/msg/Strings'"):
            source.deserialize(first)


def test_a_lie_about_the_serialization_does_not_stop_decoding(shared_bags: Path) -> None:
    with opened(shared_bags / "rosbag2_mcap_wrong_rmw") as source:
        decoded = [source.deserialize(m) for m in source.messages(["/test_topic"])]
    assert len(decoded) == 3
    assert hasattr(decoded[0], "float64_value")
