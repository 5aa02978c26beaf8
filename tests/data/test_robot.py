"""Presets: what they say, what a wrong one is told, and how streams find their topics."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act_data.decode.numeric import steps
from act_data.errors import ActError, DataError, InputError, NotFoundError
from act_data.robot import bind, load_robot, preset_names, preset_text
from act_data.types import ArrayPart, RobotSpec, Role, StreamKind, SyncPolicy, TopicInfo

SMALL = """\
name: small
fps: 10
streams:
  cam: {topic: /cam/image_raw, kind: image}
  arm: {topic: /arm, kind: joint_state, joints: [a, b], unit: rad}
arrays:
  qpos: {role: observation, from: arm}
  images/cam: {role: observation, from: [cam]}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "robot.yaml"
    path.write_text(text)
    return path


def load(folder: Path, text: str) -> RobotSpec:
    return load_robot(write(folder, text))


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        load(folder, text)
    return f"{caught.value}\n{caught.value.hint}".replace(f"{folder}/", "")


# --- the presets that come with the toolkit ---------------------------------------------------


REAL = ("aloha", "aloha2_ros2", "cobot_magic", "mobile_aloha")
SIMULATED = ("aloha_sim", "aloha_sim_state", "aloha_sim_three_cameras")  # moved by their simulator
LEADERS = {"leader_left", "leader_right"}


def test_the_presets_are_these() -> None:
    assert preset_names() == (*REAL[:2], *SIMULATED, *REAL[2:])


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_loads_by_its_own_name_and_its_arms_have_fourteen_joints(name: str) -> None:
    robot = load_robot(name)
    assert robot.name == name
    assert robot.description
    arrays = {a.name: a for a in robot.arrays}
    for array in ("qpos", "qvel", "effort", "action"):
        assert arrays[array].shape == (14,)
        assert len(set(arrays[array].names)) == 14
    used = {part.stream for a in robot.arrays for part in a.parts}
    assert used == {s.name for s in robot.streams}


def test_the_text_of_a_preset_is_a_file_to_start_an_own_robot_from(tmp_path: Path) -> None:
    assert load(tmp_path, preset_text("cobot_magic")) == load_robot("cobot_magic")
    with pytest.raises(NotFoundError, match="no robot preset 'cobot_majic'") as caught:
        preset_text("cobot_majic")
    assert caught.value.hint.startswith("Did you mean 'cobot_magic'?")


def test_cobot_magic_has_a_base_that_is_acted_on_and_observed() -> None:
    robot = load_robot("cobot_magic")
    arrays = {a.name: a for a in robot.arrays}
    assert (robot.fps, robot.action_shift) == (30, 1)
    assert arrays["base_action"].role is Role.ACTION
    assert arrays["base_vel"].role is Role.OBSERVATION
    assert arrays["base_vel"].parts == arrays["base_action"].parts == (ArrayPart(stream="odom"),)
    assert arrays["action"].shape[0] + arrays["base_action"].shape[0] == 16
    assert robot.stream("odom").field == ("twist.twist.linear.x", "twist.twist.angular.z")
    assert robot.stream("puppet_right").joints == tuple(f"joint{i}" for i in range(7))
    assert [s.name for s in robot.streams if not s.required] == [
        "depth_high",
        "depth_left_wrist",
        "depth_right_wrist",
    ]


@pytest.mark.parametrize(
    ("name", "topics"),
    [
        ("aloha", {"/usb_cam_low/image_raw", "/puppet_left/joint_states"}),
        ("mobile_aloha", {"/usb_cam_right_wrist/image_raw", "/master_right/joint_states"}),
        (
            "aloha2_ros2",
            {"/cam_low/camera/color/image_rect_raw", "/leader_left/joint_states"},
        ),
    ],
)
def test_a_preset_reads_the_topics_of_its_robot(name: str, topics: set[str]) -> None:
    robot = load_robot(name)
    assert topics <= {s.topic for s in robot.streams}
    assert (robot.fps, robot.action_shift) == (50, 0)


@pytest.mark.parametrize("name", REAL)
def test_every_joint_of_an_action_is_commanded_once_and_measured(name: str) -> None:
    robot = load_robot(name)
    acted = {p.stream for a in robot.arrays if a.role is Role.ACTION for p in a.parts}
    commanded = Counter(
        (command.stream, joint)
        for command in robot.commands
        for joint in command.joints or robot.stream(command.stream).joints or ("base",)
    )
    assert set(commanded.values()) == {1}
    assert {stream for stream, _ in commanded} == acted
    assert len(commanded) == 14 + len(acted - {"master_left", "master_right"} - LEADERS)
    for command in robot.commands:
        if command.feedback:
            measured = robot.stream(command.feedback).joints
            assert set(command.joints) <= set(measured)


@pytest.mark.parametrize(
    ("name", "leader", "follower"),
    [
        # OPEN and CLOSE of both grippers in the constants of each project.
        ("aloha", (0.3083, -0.6842), (1.4910, -0.6213)),
        ("mobile_aloha", (0.3083, -0.6842), (1.4910, -0.6213)),
        ("aloha2_ros2", (0.8298, -0.0552), (1.6214, 0.6197)),
    ],
)
def test_a_gripper_opens_and_closes_as_far_as_its_leaders(
    name: str, leader: tuple[float, float], follower: tuple[float, float]
) -> None:
    grippers = [c for c in load_robot(name).commands if c.joints == ("gripper",)]
    assert len(grippers) == 2
    for command in grippers:
        sent = [command.scale * position + command.offset for position in leader]
        assert sent == pytest.approx(follower, abs=1e-3)


COMMANDED = """\
commands:
  arm: {topic: /arm/command, kind: joint_state, from: lead, feedback: arm}
"""
LEAD = (
    "  lead: {topic: /lead, kind: joint_state, joints: [a, b], unit: rad}\n"
    "  wheels: {topic: /wheels, kind: twist}\n"
    "arrays:\n"
    "  action: {role: action, from: lead}\n"
    "  base_action: {role: action, from: wheels}"
)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("from: lead,", "from: arm,", "is learned from 'arm', which no action is"),
        ("from: lead,", "from: lead, joints: [c],", "joints ['c'] that stream 'lead' has not"),
        (
            "kind: joint_state, from",
            "kind: twist, from",
            "'twist' is learned from a stream",
        ),
        ("kind: joint_state, from", "kind: joint_group, from", "has group ''"),
        ("from: lead,", "from: lead, group: arm,", "has group 'arm'"),
        ("feedback: arm", "feedback: cam", "feedback 'cam', which is no joint_state stream"),
        ("from: lead,", "from: lead, scale: 0,", "command 'arm' has scale 0"),
        ("kind: joint_state, from", "kind: joint_stat, from", "commands.arm.kind is 'joint_stat'"),
        ("topic: /arm/command", "topic: arm", "commands.arm.topic is 'arm'"),
        ("from: lead,", "from: lead, limits: {c: {low: 0}},", "limits 'c', which it does not send"),
        (
            "from: lead,",
            "from: lead, limits: {a: {low: 1, high: 0}},",
            "limits 'a' to low 1, high 0",
        ),
        (
            "from: lead,",
            "from: lead, limits: {a: {velocity: 0}},",
            "commands.arm.limits.a.velocity is '0'",
        ),
        (
            "from: lead,",
            "from: lead, limits: {a: {low: nan}},",
            "commands.arm.limits.a.low is 'nan'",
        ),
        (
            "from: lead,",
            "from: lead, limits: {a: {lower: 0}},",
            "unknown key 'lower' in commands.arm.limits.a",
        ),
        (
            "kind: joint_state, from: lead, feedback: arm",
            "kind: twist, from: wheels, limits: {linear.x: {low: 0.1}}",
            "limits 'linear.x' to 0.1 to inf",
        ),
    ],
)
def test_a_command_that_cannot_be_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    text = SMALL.replace("arrays:", LEAD) + COMMANDED
    (command,) = load(tmp_path, text).commands
    assert (command.topic, command.stream, command.feedback) == ("/arm/command", "lead", "arm")
    line = text.splitlines().index(COMMANDED.splitlines()[1]) + 1
    what = complaint(tmp_path, text.replace(old, new))
    assert told in what
    assert f"robot.yaml:{line}:" in what


# --- an own file ------------------------------------------------------------------------------


def test_any_further_sensor_is_a_few_lines(tmp_path: Path) -> None:
    robot = load(
        tmp_path,
        SMALL.replace(
            "arrays:",
            """\
  imu: {topic: /imu, kind: imu, field: [orientation, angular_velocity.z], sync: linear}
  hand: {topic: /hand, kind: wrench, unit: N, tolerance_ms: 10, required: no}
  skin: {topic: /skin, kind: multi_array, shape: [3]}
  lidar: {topic: /scan, kind: numeric, field: "ranges[0:2]", shape: [2]}
arrays:
  imu: {role: observation, from: imu}
  force: {role: observation, from: {stream: hand, field: force}, unit: N}
  tactile: {role: observation, from: [skin, lidar]}""",
        ),
    )
    arrays = {a.name: a for a in robot.arrays}
    assert robot.stream("imu").policy is SyncPolicy.LINEAR
    assert robot.stream("imu").field == (
        *(f"orientation.{axis}" for axis in "xyzw"),
        "angular_velocity.z",
    )
    assert arrays["imu"].shape == (5,)
    assert arrays["imu"].names[3] == "imu/orientation.w"
    assert arrays["force"].names == ("hand/force.x", "hand/force.y", "hand/force.z")
    assert robot.stream("hand").required is False
    assert arrays["tactile"].names == (
        *(f"skin/data[{i}]" for i in range(3)),
        *(f"lidar/ranges[0:2][{i}]" for i in range(2)),
    )
    assert arrays["qpos"].unit == "rad"
    assert arrays["qpos"].names == ("arm/a", "arm/b")


def test_what_only_a_recording_can_tell_stays_open(tmp_path: Path) -> None:
    robot = load(tmp_path, SMALL.replace("joints: [a, b], ", ""))
    assert all(a.shape == () and a.names == () for a in robot.arrays)
    assert [a.dtype for a in robot.arrays] == ["float32", "uint8"]


def test_text_stays_text_and_yes_is_not_a_surprise(tmp_path: Path) -> None:
    robot = load(tmp_path, SMALL.replace("[a, b]", "[1, on]"))
    assert robot.stream("arm").joints == ("1", "on")


IMAGEE = (
    "robot.yaml:4: streams.cam.kind is 'imagee'\n"
    "Did you mean 'image'? Use one of: image, depth, joint_state"
)
POSITON = (
    "robot.yaml:5: stream 'arm' has field ['positon']\n"
    "Did you mean 'position'? Use one of: position, velocity, effort."
)
ARN = (
    "robot.yaml:7: array 'qpos' is made from the unknown stream 'arn'\n"
    "Did you mean 'arm'? Use one of: cam, arm."
)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("kind: image", "kind: imagee", IMAGEE),
        ("kind: image", "kidn: image", "robot.yaml:4: unknown key 'kidn' in streams.cam"),
        ("fps: 10", "fps: fast", "robot.yaml:2: fps is 'fast'"),
        ("fps: 10", "fps: .nan", "robot.yaml:2: fps is '.nan'"),
        ("fps: 10", "fps: 0", "robot.yaml:2: fps is '0'"),
        ("fps: 10\n", "", "robot.yaml:1: key 'fps' is missing"),
        ("/arm", "arm", "robot.yaml:5: streams.arm.topic is 'arm'"),
        ("unit: rad", "sync: lastest", "robot.yaml:5: streams.arm.sync is 'lastest'"),
        ("unit: rad", "tolerance_ms: -1", "robot.yaml:5: streams.arm.tolerance_ms is '-1'"),
        ("unit: rad", "field: positon", POSITON),
        ("unit: rad", "shape: [3]", "robot.yaml:5: stream 'arm' has shape [3] and 2 joints"),
        ("[a, b]", "[a, a]", "lists joints twice: ['a']"),
        ("kind: image", "kind: image, sync: linear", "would interpolate pictures"),
        ("kind: image", "kind: image, shape: [480, 640]", "A stream of kind image is [H, W, 3]"),
        ("kind: image", "kind: image, field: data", "names the field 'data' of a picture"),
        ("kind: image", "kind: image, joints: [a]", "of kind 'image' lists joints"),
        ("kind: image", "kind: numeric", "stream 'cam' is numeric and names no field"),
        ("kind: image", "kind: numeric, field: a.__class__", "has field 'a.__class__'"),
        ("from: arm", "from: arn", ARN),
        ("from: arm", "from: []", "robot.yaml:7: arrays.qpos.from is []"),
        ("from: arm", "from: [arm, {stream: arm, feild: effort}]", "'feild' in arrays.qpos.from.1"),
        ("from: arm", "from: arm, names: [a]", "has 1 names and shape [2]"),
        ("role: observation, from: arm", "role: sync, from: arm", "one of: observation, action."),
        ("images/cam", "cam", "Call it 'images/cam'."),
        ("qpos:", "images/qpos:", "Call it 'qpos'."),
        ("qpos:", "timestamp:", "array name 'timestamp'"),
        ("qpos:", "a/b/c:", "array name 'a/b/c'"),
        ("[cam]", "[cam, arm]", "array 'images/cam' has 2 parts"),
        ("  arm:", "  arm-left:", "stream name 'arm-left'"),
        ("name: small", "name: [x]", "robot.yaml:1: name is ['x']"),
        ("name: small", "name: small\nname: two", "robot.yaml:2: key 'name' is there twice"),
        ("name: small", "name: !!python/name:os.system", "robot.yaml:1: tag "),
        ("name: small", "name: *nobody", "alias '*nobody' names no value"),
        ("name: small", "name: &x [*x]", "alias '*x' names no value"),
        ("name: small", "name: {a: b", "not YAML"),
        ("name: small", "name: \x07", "not YAML"),
        ("name: small", "--- x\n--- y", "a second document begins here"),
        ("name: small", "? [a]\n: b", "a key must be a plain word"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_line_value_and_choices(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    assert old in SMALL
    found = complaint(tmp_path, SMALL.replace(old, new, 1))
    assert told in found or told.replace("\n", ". ") in found


def test_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = (
        SMALL.replace("kind: image", "kind: imagee")
        .replace("unit: rad", "field: positon, unti: rad")
        .replace("from: arm", "from: amr, rol: x")
        .replace("fps: 10", "fps: fast")
    )
    found = complaint(tmp_path, text).splitlines()
    assert found[0] == "robot.yaml has 6 problems:"
    places = [line.split(": ")[0].strip() for line in found[1:7]]
    assert places == [f"robot.yaml:{line}" for line in (2, 4, 5, 5, 7, 7)]
    for word in ("fast", "imagee", "positon", "unti", "amr", "rol"):
        assert any(f"'{word}'" in line for line in found)


def test_a_line_is_that_of_the_value_in_a_file_in_block_style(tmp_path: Path) -> None:
    text = SMALL.replace(
        "{topic: /arm, kind: joint_state, joints: [a, b], unit: rad}",
        "\n    topic: /arm\n    # a comment\n    kind: joint\n    joints:\n      - a\n      - []",
    )
    found = complaint(tmp_path, text)
    assert "robot.yaml:8: streams.arm.kind is 'joint'" in found
    assert "robot.yaml:11: streams.arm.joints.1 is []" in found


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{n}: &{n} [{', '.join(['*' + p] * 10)}]\n"
    for p, n in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(BOMB, "more than 10000 values", id="billion-laughs"),
        pytest.param("[" * 900, "nested deeper than 12 levels", id="deep"),
        pytest.param("{a: " * 900, "nested deeper than 12 levels", id="deep-mappings"),
        pytest.param("[" * 60_000, "60000 brackets are more than", id="brackets"),
        pytest.param("x" * 70_000, "larger than 65536 bytes", id="huge"),
        pytest.param("", "the file is empty", id="empty"),
        pytest.param("# only a comment\n", "the file is empty", id="comment"),
        pytest.param("- a\n- b\n", "the file is", id="a-list"),
    ],
)
def test_a_file_that_is_no_preset_is_refused_in_no_time(
    tmp_path: Path, text: str, told: str
) -> None:
    start = time.process_time()
    assert told in complaint(tmp_path, text)
    assert time.process_time() - start < 1.0


def test_bytes_that_are_no_text_are_told_their_line(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_bytes(b"name: x\nfps: \xff\n")
    with pytest.raises(InputError, match=r"robot.yaml:2: not UTF-8: byte 0xff"):
        load_robot(path)


@given(st.text(max_size=60), st.integers(0, len(SMALL)), st.integers(0, 30))
def test_any_text_loads_or_is_an_input_error(text: str, at: int, cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "robot.yaml"
        path.write_text(SMALL[:at] + text + SMALL[at + cut :], encoding="utf-8", errors="ignore")
        told = ""
        try:
            robot = load_robot(path)
        except ActError as e:
            told = str(e)
        if told:
            assert "robot.yaml" in told
        else:
            for stream in robot.streams:
                if stream.kind not in (StreamKind.IMAGE, StreamKind.DEPTH):
                    assert all(steps(f) for f in stream.field)


def test_a_name_that_is_no_preset_is_told_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="no robot preset 'cobot'") as caught:
        load_robot("cobot")
    assert ", ".join(preset_names()) in caught.value.hint


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    for missing in (tmp_path / "x.yaml", "folder/x", "x.yml"):
        with pytest.raises(NotFoundError, match="no robot file"):
            load_robot(missing)


# --- topics -----------------------------------------------------------------------------------

TYPES = {"cam": "sensor_msgs/msg/Image", "arm": "sensor_msgs/msg/JointState"}


def topics(*entries: tuple[str, str] | tuple[str, str, int]) -> dict[str, TopicInfo]:
    return {
        e[0]: TopicInfo(name=e[0], type=e[1], count=e[2] if len(e) > 2 else None) for e in entries
    }


ARM = ("/arm", TYPES["arm"])
CAM = ("/cam/image_raw", TYPES["cam"])
JPEG = ("/cam/image_raw/compressed", "sensor_msgs/msg/CompressedImage")


@pytest.fixture
def small(tmp_path: Path) -> RobotSpec:
    return load(tmp_path, SMALL)


@pytest.mark.parametrize(
    ("there", "read"),
    [
        pytest.param([CAM], "/cam/image_raw", id="raw"),
        pytest.param([JPEG], "/cam/image_raw/compressed", id="compressed"),
        pytest.param([JPEG, CAM], "/cam/image_raw", id="both-the-declared-one"),
        pytest.param([(*CAM, 0), (*JPEG, 9)], "/cam/image_raw/compressed", id="raw-is-empty"),
    ],
)
def test_a_camera_is_found_by_any_transport(
    small: RobotSpec, there: list[tuple[str, str]], read: str
) -> None:
    bound = bind(small, topics(ARM, *there))
    assert {name: t.name for name, t in bound.items()} == {"cam": read, "arm": "/arm"}
    assert list(bound) == ["cam", "arm"]


def test_a_topic_without_its_leading_slash_is_found(tmp_path: Path) -> None:
    there = topics(
        ("arm", *ARM[1:]), ("cam/image_raw/compressed", "sensor_msgs/msg/CompressedImage")
    )
    bound = bind(load(tmp_path, SMALL), there)
    assert bound["arm"].name == "arm"
    assert bound["cam"].name == "cam/image_raw/compressed"


def test_a_preset_that_names_the_transport_also_finds_the_raw_topic(tmp_path: Path) -> None:
    robot = load(tmp_path, SMALL.replace("/cam/image_raw", "/cam/image_raw/compressed"))
    assert bind(robot, topics(ARM, CAM))["cam"].name == "/cam/image_raw"


def test_depth_is_found_by_its_own_transport_and_colour_is_not(tmp_path: Path) -> None:
    text = SMALL.replace("kind: image", "kind: depth").replace("images/cam", "depth/cam")
    packed = ("/cam/image_raw/compressedDepth", JPEG[1])
    assert bind(load(tmp_path, text), topics(ARM, packed))["cam"].name == packed[0]
    with pytest.raises(DataError):
        bind(load(tmp_path, SMALL), topics(ARM, packed))


def test_an_optional_stream_without_a_topic_is_absent(tmp_path: Path) -> None:
    robot = load(tmp_path, SMALL.replace("kind: image", "kind: image, required: false"))
    assert list(bind(robot, topics(ARM))) == ["arm"]
    assert list(bind(robot, topics(ARM, (*CAM, 0)))) == ["arm"]


def test_all_missing_topics_are_named_with_what_is_there(small: RobotSpec) -> None:
    there = topics(("/arm_left", TYPES["arm"]), ("/cam/image_rect", TYPES["cam"]), ("/tf", "tf2/X"))
    with pytest.raises(DataError, match="lacks 2 of 2 required topics") as caught:
        bind(small, there)
    told = str(caught.value)
    assert "cam: /cam/image_raw, nearest: /cam/image_rect" in told
    assert "arm: /arm, nearest: /arm_left" in told
    assert "/tf (X)" in told
    assert "required: false" in caught.value.hint


def test_a_required_topic_without_a_message_is_missing_and_told_so(small: RobotSpec) -> None:
    with pytest.raises(DataError, match="/arm is there, without a single message"):
        bind(small, topics(CAM, (*ARM, 0)))


def test_a_topic_of_another_type_is_named_with_both(small: RobotSpec) -> None:
    with pytest.raises(DataError) as caught:
        bind(small, topics(("/cam/image_raw", "std_msgs/msg/String"), ARM))
    assert "/cam/image_raw is 'std_msgs/msg/String', which 'image' does not decode" in str(
        caught.value
    )


def test_a_bag_of_many_topics_does_not_flood_the_error(small: RobotSpec) -> None:
    many = topics(*((f"/t{i}", "a/b") for i in range(500)))
    with pytest.raises(DataError, match="and 460 more"):
        bind(small, many)
