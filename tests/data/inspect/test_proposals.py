"""A proposed robot ingests the recording that it was proposed for, as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from act_data.errors import ConflictError, DataError, NotFoundError
from act_data.ingest import IngestSettings, ingest
from act_data.inspect import Proposal, inspect, write_robot
from act_data.interfaces import DatasetReader
from act_data.records import SYNC_REASON
from act_data.robot import load_robot
from act_data.store import open_dataset
from act_data.types import RobotSpec, Role
from tests.bags import KINDS, Entry, Kind, write
from tests.data.inspect.robots import (
    ARM_BY_COMMANDS,
    LEADER_AND_FOLLOWER,
    MOBILE_BASE,
    SINGLE_ARM,
    arm,
    camera,
    every,
    odometry,
    twist,
)
from tests.small_robot import IMAGE, JOINTS, S, bag, picture


def proposed(sources: list[Path]) -> Proposal:
    proposal = inspect(sources).proposal
    assert proposal is not None
    return proposal


def ingested(sources: list[Path], folder: Path) -> DatasetReader:
    """The dataset that the proposed robot makes."""
    robot = folder / "proposed.yaml"
    write_robot(inspect(sources), robot)
    ingest(sources, folder / "ds.zarr", IngestSettings(robot=str(robot)))
    return open_dataset(folder / "ds.zarr")


def arrays(reader: DatasetReader, role: Role) -> dict[str, tuple[int, ...]]:
    return {f.name: f.shape for f in reader.schema.named(role)}


# --- recordings of real robots ---


@pytest.mark.parametrize(
    ("name", "fps", "steps", "seen", "done"),
    [
        pytest.param(
            "foxglove_example.bag", 50, 885,
            {"turtle1_color_sensor": (3,), "turtle1_pose": (5,),
             "turtle2_color_sensor": (3,), "turtle2_pose": (5,)},
            {"base_action": (4,)}, id="turtlesim",
        ),
        pytest.param(
            "foxglove_example-bz2.bag", 50, 885,
            {"turtle1_color_sensor": (3,), "turtle1_pose": (5,),
             "turtle2_color_sensor": (3,), "turtle2_pose": (5,)},
            {"base_action": (4,)}, id="turtlesim-bz2",
        ),
        pytest.param(
            "robot_localization_test1.bag", 10, 3952, {"base_vel": (2,), "imu": (10,)},
            {"base_action": (2,)}, id="robot-localization",
        ),
        pytest.param(
            "embag_test.bag", 10, 4, {"base_vel": (2,), "base_scan": (90,)},
            {"base_action": (2,)}, id="embag",
        ),
        pytest.param("embag_array_test.bag", 1, 19, {"array_test": (81,)}, {}, id="embag-arrays"),
        pytest.param(
            "rosbag2_mcap_wrong_rmw", 23, 3, {"array_topic": (79,), "test_topic": (13,)}, {},
            id="wrong-rmw",
        ),
        pytest.param(
            "recorded_ros1/aloha_none.bag", 30, 179,
            {"qpos": (14,), "qvel": (14,), "effort": (14,), "base_vel": (2,),
             "images/camera_f": (48, 64, 3), "images/camera_l": (48, 64, 3),
             "images/camera_r": (48, 64, 3), "depth/camera_f": (48, 64)},
            {"action": (14,), "base_action": (2,)}, id="aloha",
        ),
        pytest.param(
            "recorded_ros1/aloha_lz4.bag", 30, 179,
            {"qpos": (14,), "qvel": (14,), "effort": (14,), "base_vel": (2,),
             "images/camera_f": (48, 64, 3), "images/camera_l": (48, 64, 3),
             "images/camera_r": (48, 64, 3), "depth/camera_f": (48, 64)},
            {"action": (14,), "base_action": (2,)}, id="aloha-lz4",
        ),
    ],
)  # fmt: skip
def test_a_real_recording_is_ingested_by_the_robot_proposed_for_it(
    shared_bags: Path,
    tmp_path: Path,
    name: str,
    fps: float,
    steps: int,
    seen: dict[str, tuple[int, ...]],
    done: dict[str, tuple[int, ...]],
) -> None:
    reader = ingested([shared_bags / name], tmp_path)
    assert reader.schema.fps == fps
    assert arrays(reader, Role.OBSERVATION) == seen
    assert arrays(reader, Role.ACTION) == done
    assert [e.length for e in reader.episodes] == [steps]


def test_the_splits_of_a_recording_are_looked_at_as_one(shared_bags: Path, tmp_path: Path) -> None:
    splits = sorted((shared_bags / "recorded_ros1").glob("aloha_split_*.bag"))
    assert [e.length for e in ingested(splits, tmp_path).episodes] == [179]


def test_a_killed_recording_is_ingested_with_recover_by_the_robot_proposed_for_it(
    shared_bags: Path, tmp_path: Path
) -> None:
    killed = shared_bags / "recorded_ros1" / "aloha_killed.bag.active"
    robot = tmp_path / "robot.yaml"
    found = write_robot(inspect([killed]), robot)
    assert "ingest it with --recover" in robot.read_text()
    (card,) = found.recordings
    assert "has no index" in card.damage
    assert sum(topic.messages for topic in card.topics) == card.recovery[0].messages == 2569
    report = ingest([killed], tmp_path / "ds.zarr", IngestSettings(robot=str(robot), recover=True))
    assert [e.steps for e in report.episodes] == [60]


@pytest.mark.parametrize("form", ["db3", "mcap"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("wbag", ("AAA: text", "HHH: text")),
        ("talker", ("/parameter_events: not one message", "/topic: text")),
        ("reindex_test_bags_multiple_files", ("/chatter: text",)),
        ("convert_b", ("a_empty: ", "c_strings: ")),
    ],
)
def test_a_recording_without_numbers_or_pictures_says_so_topic_by_topic(
    shared_bags: Path, tmp_path: Path, form: str, name: str, why: tuple[str, ...]
) -> None:
    found = inspect([shared_bags / f"rosbag2_{form}_{name}"])
    with pytest.raises(DataError, match="nothing that a robot could be made of") as caught:
        write_robot(found, tmp_path / "robot.yaml")
    for line in why:
        assert line in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# --- robots that no preset knows ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("entries", "fps", "shift", "seen", "done"),
    [
        pytest.param(
            SINGLE_ARM, 30, 1,
            {"qpos": (3,), "qvel": (3,), "images/camera": (16, 24, 3)}, {"action": (3,)},
            id="single-arm",
        ),
        pytest.param(
            LEADER_AND_FOLLOWER, 15, 0,
            {"qpos": (6,), "qvel": (6,), "images/cam_high": (16, 24, 3),
             "images/cam_wrist": (16, 24, 3), "depth/cam_high": (16, 24)},
            {"action": (6,)}, id="leader-and-follower",
        ),
        pytest.param(
            MOBILE_BASE, 10, 0, {"base_vel": (3,), "images/front": (16, 24, 3)},
            {"base_action": (2,)}, id="mobile-base",
        ),
        pytest.param(
            ARM_BY_COMMANDS, 30, 0,
            {"qpos": (3,), "qvel": (3,), "images/wrist_camera": (16, 24, 3)}, {"action": (3,)},
            id="arm-by-commands",
        ),
    ],
)  # fmt: skip
def test_a_robot_that_no_preset_knows_is_ingested_by_the_one_proposed_for_it(
    tmp_path: Path,
    kind: Kind,
    entries: list[Entry],
    fps: float,
    shift: int,
    seen: dict[str, tuple[int, ...]],
    done: dict[str, tuple[int, ...]],
) -> None:
    reader = ingested([bag(tmp_path, "some", entries, kind)], tmp_path)
    assert (reader.schema.fps, reader.schema.action_shift) == (fps, shift)
    assert arrays(reader, Role.OBSERVATION) == seen
    assert arrays(reader, Role.ACTION) == done
    (episode,) = reader.episodes
    assert 2.8 * fps <= episode.length <= 3 * fps
    assert not np.asarray(reader.read(SYNC_REASON, 0)).any()


def test_without_a_command_the_action_is_the_state_of_the_next_tick(tmp_path: Path) -> None:
    reader = ingested([bag(tmp_path, "arm", SINGLE_ARM)], tmp_path)
    qpos, action = np.asarray(reader.read("qpos", 0)), np.asarray(reader.read("action", 0))
    np.testing.assert_array_equal(action[:-1], qpos[1:])
    text = (tmp_path / "proposed.yaml").read_text()
    assert "No leader and no command: the same joints one tick later stand for it." in text
    assert "action_shift: nothing commands /joint_states, so action[t]" in text


def test_left_comes_before_right_and_joints_in_one_order(tmp_path: Path) -> None:
    turned = tuple(reversed(("shoulder", "elbow", "wrist")))
    entries = [*arm("/arm_right/joint_states", names=turned), *arm("/arm_left/joint_states")]
    reader = ingested([bag(tmp_path, "two", entries)], tmp_path)
    names = reader.schema.feature("qpos").names
    assert names == (
        "arm_left/shoulder", "arm_left/elbow", "arm_left/wrist",
        "arm_right/shoulder", "arm_right/elbow", "arm_right/wrist",
    )  # fmt: skip


def test_a_leader_outweighs_command_messages_which_are_named_with_the_reason(
    tmp_path: Path,
) -> None:
    entries = [*ARM_BY_COMMANDS, *arm("/leader/joint_states")]
    text = proposed([bag(tmp_path, "both", entries)]).yaml
    robot = load_robot_text(text, tmp_path)
    (action,) = [a for a in robot.arrays if a.role is Role.ACTION]
    assert [part.stream for part in action.parts] == ["leader"]
    assert (
        "# - /position_controller/commands: a command, but joint states of leaders are the action"
        in text
    )


def load_robot_text(text: str, folder: Path) -> RobotSpec:
    file = folder / "text.yaml"
    file.write_text(text)
    return load_robot(file)


def test_every_topic_is_in_the_file_used_or_with_the_reason_why_not(tmp_path: Path) -> None:
    log = [("/rosout", "rosgraph_msgs/msg/Log", S, {"msg": "hello"})]
    once = [("/battery", "std_msgs/msg/Float32", S, {"data": 1.0})]
    entries = [*LEADER_AND_FOLLOWER, *twist("/cmd_vel"), *odometry("/odom"), *log, *once]
    text = proposed([bag(tmp_path, "all", entries)]).yaml
    for topic in {e[0] for e in entries}:
        assert f"topic: {topic}\n" in text or f"# - {topic}: " in text, topic
    assert "# - /battery: 1 message, or several of one time: nothing to synchronise" in text
    assert "# - /rosout: text" in text


def test_a_command_that_comes_when_it_likes_holds_until_the_next_one(tmp_path: Path) -> None:
    now_and_then = [e for i, e in enumerate(twist("/cmd_vel")) if i < 20 or i in (35, 58)]
    entries = [*camera("/front/image_raw", 10), *odometry("/odom"), *now_and_then]
    reader = ingested([bag(tmp_path, "seldom", entries)], tmp_path)
    assert reader.episodes[0].length >= 27
    assert not np.asarray(reader.read(SYNC_REASON, 0)).any()
    assert (
        "a command holds until the next one, up to 1150 ms"
        in (tmp_path / "proposed.yaml").read_text()
    )


def test_a_stream_that_is_there_for_a_part_is_not_required(tmp_path: Path) -> None:
    late = [e for e in camera("/late/image_raw") if e[2] > 2.5 * S]
    entries = [*camera("/front/image_raw"), *arm("/joint_states"), *late]
    reader = ingested([bag(tmp_path, "late", entries)], tmp_path)
    assert reader.schema.streams["late"].required is False
    assert reader.episodes[0].length >= 85
    text = (tmp_path / "proposed.yaml").read_text()
    assert re.search("There for (49|50) % of the recording: not required", text)


def test_messages_that_arrive_long_after_their_stamp_get_a_tolerance_for_it(
    tmp_path: Path,
) -> None:
    slow = [(t, k, recv + round(0.6 * S), v) for t, k, recv, v in camera("/front/image_raw")]
    entries = [*slow, *arm("/joint_states")]
    reader = ingested([bag(tmp_path, "slow", entries)], tmp_path)
    assert reader.schema.streams["front"].tolerance_ms > 350
    assert reader.episodes[0].length >= 80


def test_joints_that_not_every_message_lists_are_left_out(tmp_path: Path) -> None:
    entries = [
        (topic, JOINTS, t, {**values, "name": names, "position": [0.1] * len(names)})
        for i, (topic, _, t, values) in enumerate(arm("/joint_states"))
        for names in [["a", "b", "gripper"] if i % 2 else ["a", "b"]]
    ]
    for entry in entries:
        entry[3]["velocity"] = []
    reader = ingested([bag(tmp_path, "some", entries)], tmp_path)
    assert reader.schema.feature("qpos").names == ("joints/a", "joints/b")
    assert "left out: gripper" in (tmp_path / "proposed.yaml").read_text()


def test_joint_states_of_two_nodes_that_share_nothing_are_refused_with_the_reason(
    tmp_path: Path,
) -> None:
    entries = [
        (topic, JOINTS, t, {"header": t, "name": [f"j{i % 2}"], "position": [0.0]})
        for i, (topic, _, t, _) in enumerate(arm("/joint_states"))
    ]
    found = inspect([bag(tmp_path, "two", entries)])
    with pytest.raises(DataError, match="no joint in common, as when several nodes publish"):
        write_robot(found, tmp_path / "robot.yaml")


def test_numbers_that_are_never_finite_are_left_out(tmp_path: Path) -> None:
    entries = [
        (topic, JOINTS, t, {**values, "effort": [float("nan")] * 3})
        for topic, _, t, values in arm("/joint_states")
    ]
    reader = ingested([bag(tmp_path, "nan", entries)], tmp_path)
    assert list(arrays(reader, Role.OBSERVATION)) == ["qpos", "qvel"]
    assert not np.asarray(reader.read(SYNC_REASON, 0)).any()


def test_wheels_are_turned_by_the_commands_of_the_base(tmp_path: Path) -> None:
    wheels = arm("/joint_states", names=("wheel_left_joint", "wheel_right_joint"))
    reader = ingested([bag(tmp_path, "base", [*MOBILE_BASE, *wheels])], tmp_path)
    assert arrays(reader, Role.ACTION) == {"base_action": (2,)}
    assert reader.schema.action_shift == 0
    assert arrays(reader, Role.OBSERVATION)["qpos"] == (2,)


def test_what_was_said_once_at_the_start_is_left_out(tmp_path: Path) -> None:
    latched = [("/map/image", IMAGE, t + S, {"header": t + S, **picture(0)}) for t in (0, 10_000)]
    text = proposed([bag(tmp_path, "map", [*SINGLE_ARM, *latched])]).yaml
    assert "# - /map/image: there for 0 % of the recording only" in text


def test_of_thousands_of_topics_as_many_are_named_as_a_robot_file_may_hold(tmp_path: Path) -> None:
    once = [(f"/{'x' * 60}{i}", "std_msgs/msg/Float32", S, {"data": 1.0}) for i in range(2000)]
    source = bag(tmp_path, "many", [*SINGLE_ARM, *once])
    assert load_robot_text(proposed([source]).yaml, tmp_path).fps == 30
    assert re.search(r"# - and 1\d\d\d more topics\n$", proposed([source]).yaml)


def test_more_joint_states_than_a_robot_file_can_hold_are_refused(tmp_path: Path) -> None:
    every_arm = [e for i in range(400) for e in arm(f"/arm{i}/joint_states", 2)]
    found = inspect([bag(tmp_path, "swarm", every_arm)])
    with pytest.raises(DataError, match="larger than 65536 bytes"):
        write_robot(found, tmp_path / "robot.yaml")


def test_an_imu_without_orientation_is_read_without_it(tmp_path: Path) -> None:
    covariance = [-1.0, *[0.0] * 8]
    imu = [
        ("/imu/data", "sensor_msgs/msg/Imu", t, {"header": t, "orientation_covariance": covariance})
        for t, _ in every(100)
    ]
    reader = ingested([bag(tmp_path, "imu", [*arm("/joint_states"), *imu])], tmp_path)
    assert arrays(reader, Role.OBSERVATION)["imu"] == (6,)


@pytest.mark.parametrize("kind", KINDS)
def test_topics_without_a_leading_slash_are_proposed_with_one(kind: Kind, tmp_path: Path) -> None:
    source = bag(tmp_path, "bare", arm("joint_states"), kind)
    assert arrays(ingested([source], tmp_path), Role.OBSERVATION) == {"qpos": (3,), "qvel": (3,)}


def test_of_several_recordings_what_all_have_is_used(tmp_path: Path) -> None:
    (tmp_path / "bags").mkdir()
    bag(tmp_path / "bags", "a", [*SINGLE_ARM, *camera("/extra/image_raw")])
    bag(tmp_path / "bags", "b", SINGLE_ARM)
    robot = tmp_path / "robot.yaml"
    found = write_robot(inspect([tmp_path / "bags"]), robot)
    assert found.proposal is not None
    assert found.proposal.recording == "a"
    assert found.proposal.others == {}
    assert [s.name for s in load_robot(robot).streams] == ["joints", "camera"]
    assert "# - /extra/image_raw: not in every recording" in robot.read_text()
    settings = IngestSettings(robot=str(robot))
    report = ingest([tmp_path / "bags"], tmp_path / "ds.zarr", settings)
    assert len(report.episodes) == 2


# --- writing ---


def test_a_robot_file_is_never_overwritten(tmp_path: Path) -> None:
    found = inspect([bag(tmp_path, "arm", SINGLE_ARM)])
    robot = tmp_path / "robot.yaml"
    robot.write_text("mine")
    with pytest.raises(ConflictError, match="exists"):
        write_robot(found, robot)
    assert robot.read_text() == "mine"
    with pytest.raises(NotFoundError, match="no folder"):
        write_robot(found, tmp_path / "nowhere" / "robot.yaml")


def test_the_same_recording_gives_the_same_file(tmp_path: Path) -> None:
    source = write(tmp_path / "arm", "ros1", sorted(MOBILE_BASE, key=lambda e: e[2]))
    assert proposed([source]) == proposed([source])
