"""Types that a recording does not define, from packages or from a ROS version that is named."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from act_data.errors import DataError, InputError, NotFoundError
from act_data.ingest import IngestSettings, ingest
from act_data.sources import BagSource, Reading, find_recordings, given_types, open_recording
from act_data.store import open_dataset
from tests import small_robot
from tests.bags import JOINT_COMMAND, JOINT_COMMAND_DEFINITION, command, joint_state, write
from tests.cli.commands import done, refused, run

JOINT_STATE = "sensor_msgs/msg/JointState"


def without_definitions(target: Path) -> Path:
    """A recording as Humble writes it: a `.db3` that only names its types."""
    entries = [joint_state(0, 5, [1.0]), command(1, [0.5, 0.25])]
    folder = write(target, "db3", entries, definitions={JOINT_COMMAND: JOINT_COMMAND_DEFINITION})
    with closing(sqlite3.connect(folder / f"{target.name}.db3")) as database, database:
        database.execute("DROP TABLE message_definitions")
    return folder


def package(folder: Path, name: str, **definitions: str) -> Path:
    """A package's folder with its `msg` files."""
    (folder / name / "msg").mkdir(parents=True)
    for type_, text in definitions.items():
        (folder / name / "msg" / f"{type_}.msg").write_text(text)
    return folder / name


def opened(path: Path, *paths: Path, typestore: str | None = None) -> BagSource:
    (recording,) = find_recordings([path], Reading(types=given_types(paths, typestore)))
    return open_recording(recording)


def decoded(source: BagSource, topic: str) -> list[object]:
    return [source.deserialize(raw) for raw in source.messages([topic])]


@pytest.mark.parametrize("which", ["package", "msg", "msg/JointGroupCommand.msg", "workspace"])
def test_a_package_its_folder_a_file_or_a_workspace_defines_what_the_bag_does_not(
    tmp_path: Path, which: str
) -> None:
    folder = package(
        tmp_path / "ws" / "src", "interbotix_xs_msgs", JointGroupCommand=JOINT_COMMAND_DEFINITION
    )
    bag = without_definitions(tmp_path / "a")
    with opened(bag) as source, pytest.raises(DataError, match=r"'/command' has type .*Command"):
        decoded(source, "/command")
    given = {"package": folder, "workspace": tmp_path / "ws"}.get(which, folder / which)
    with opened(bag, given) as source:
        (message,) = decoded(source, "/command")
        assert message.cmd.tolist() == [0.5, 0.25]  # type: ignore[attr-defined]
        assert source.record(["/joints"]).types == ""
        assert len(source.record(["/command"]).types) == 64


def test_what_a_definition_refers_to_is_taken_from_packages_and_standard_types(
    tmp_path: Path,
) -> None:
    one = package(tmp_path, "own_msgs", Grip="std_msgs/Header header\nfinger_msgs/Finger[] fingers")
    two = package(tmp_path, "finger_msgs", Finger="Width width\nstring<=8 name", Width="float64 m")
    bag = tmp_path / "a"
    names = {"Grip": "own_msgs", "Finger": "finger_msgs", "Width": "finger_msgs"}
    definitions = {
        f"{pkg}/msg/{name}": (tmp_path / pkg / "msg" / f"{name}.msg").read_text()
        for name, pkg in names.items()
    }
    values = {"header": 7, "fingers": [{"width": {"m": 0.5}, "name": "left"}]}
    write(bag, "db3", [("/grip", "own_msgs/msg/Grip", 3, values)], definitions=definitions)
    with closing(sqlite3.connect(bag / "a.db3")) as database, database:
        database.execute("DROP TABLE message_definitions")
    with opened(bag, one, two) as source:
        (raw,) = source.messages(["/grip"])
        assert raw.stamp_ns == 7
        (grip,) = decoded(source, "/grip")
        assert [(f.width.m, f.name) for f in grip.fingers] == [(0.5, "left")]  # type: ignore[attr-defined]
    with (
        opened(bag, one) as source,
        pytest.raises(DataError, match=r"refers to finger_msgs/msg/Finger, which nobody"),
    ):
        decoded(source, "/grip")


def test_what_the_recording_says_itself_is_not_replaced(tmp_path: Path) -> None:
    folder = package(tmp_path, "interbotix_xs_msgs", JointGroupCommand="float64 other")
    entries = [command(1, [0.5])]
    bag = write(
        tmp_path / "a", "mcap", entries, definitions={JOINT_COMMAND: "string name\nfloat32[] cmd"}
    )
    with opened(bag, folder, typestore="ros2_jazzy") as source:
        (message,) = decoded(source, "/command")
        assert message.cmd.tolist() == [0.5]  # type: ignore[attr-defined]
        assert source.record(["/command"]).types == ""


def test_a_definition_that_cannot_be_read_is_replaced_by_the_given_one(tmp_path: Path) -> None:
    folder = package(tmp_path, "interbotix_xs_msgs", JointGroupCommand=JOINT_COMMAND_DEFINITION)
    bag = write(
        tmp_path / "a",
        "db3",
        [command(1, [0.5])],
        definitions={JOINT_COMMAND: JOINT_COMMAND_DEFINITION},
    )
    with closing(sqlite3.connect(bag / "a.db3")) as database, database:
        database.execute("UPDATE message_definitions SET encoded_message_definition = 'broken !!'")
    with opened(bag) as source, pytest.raises(DataError, match="is not readable"):
        decoded(source, "/command")
    with opened(bag, folder) as source:
        (message,) = decoded(source, "/command")
        assert message.cmd.tolist() == [0.5]  # type: ignore[attr-defined]


def test_a_typestore_decodes_what_another_version_lays_out_differently(tmp_path: Path) -> None:
    """Humble added a field to shape_msgs/msg/SolidPrimitive."""
    type_ = "shape_msgs/msg/SolidPrimitive"
    store = get_typestore(Stores.ROS2_FOXY)
    assert [name for name, _ in store.fielddefs[type_][1]] == ["type", "dimensions"]
    shape = store.types[type_](type=1, dimensions=np.array([0.5, 0.25, 2.0]))
    payload = store.serialize_cdr(shape, type_)
    bag = without_definitions(tmp_path / "a")
    with closing(sqlite3.connect(bag / "a.db3")) as database, database:
        database.execute("UPDATE topics SET type = ? WHERE name = '/command'", (type_,))
        database.execute("UPDATE messages SET data = ? WHERE timestamp = 1", (bytes(payload),))
    with opened(bag) as source, pytest.raises(DataError, match="is no valid") as caught:
        decoded(source, "/command")
    assert "--typestore" in caught.value.hint
    with opened(bag, typestore="ros2_foxy") as source:
        (message,) = decoded(source, "/command")
        assert message.dimensions.tolist() == [0.5, 0.25, 2.0]  # type: ignore[attr-defined]
        assert source.record(["/command"]).types
        assert source.record(["/joints"]).types == "", "JointState is the same in both versions"


def test_a_definition_given_as_idl_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "own_msgs" / "msg"
    folder.mkdir(parents=True)
    (folder / "Grip.idl").write_text(
        "module own_msgs { module msg { struct Grip { double width; }; }; };\n"
    )
    bag = write(tmp_path / "a", "db3", [("/g", "own_msgs/msg/Grip", 3, {"width": 0.5})],
                definitions={"own_msgs/msg/Grip": "float64 width"})  # fmt: skip
    with closing(sqlite3.connect(bag / "a.db3")) as database, database:
        database.execute("DROP TABLE message_definitions")
    with opened(bag, tmp_path / "own_msgs") as source:
        (grip,) = decoded(source, "/g")
        assert grip.width == 0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        pytest.param(lambda t: (t / "gone",), NotFoundError, "no such file", id="missing"),
        pytest.param(lambda t: (t,), NotFoundError, "holds no .msg or .idl", id="empty"),
        pytest.param(
            lambda t: (t / "x.txt",), InputError, "is no message definition", id="other-file"
        ),
        pytest.param(
            lambda t: (package(t / "a", "p", A="int32 x"), package(t / "b", "p", A="int64 x")),
            InputError, "p/msg/A is defined differently in", id="contradiction",
        ),
        pytest.param(
            lambda t: (package(t, "p", A="#" * 300_000),), InputError, "more than", id="long"
        ),
    ],
)  # fmt: skip
def test_paths_that_define_nothing_or_two_things_are_refused(
    tmp_path: Path, make: object, error: type[Exception], says: str
) -> None:
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(error, match=says) as caught:
        given_types(make(tmp_path))  # type: ignore[operator]
    assert caught.value.hint  # type: ignore[attr-defined]


def test_copies_of_one_package_are_one_definition(tmp_path: Path) -> None:
    for copy in ("src", "install/share", "build"):
        package(tmp_path / copy, "p", A="int32 x")
    assert [name for name, _ in given_types([tmp_path]).definitions] == ["p/msg/A"]


def test_an_unknown_ros_version_is_refused_with_those_there_are(tmp_path: Path) -> None:
    bag = without_definitions(tmp_path / "a")
    for words in (("ingest", bag, "--out", tmp_path / "ds.zarr"), ("inspect", bag)):
        ended = run("act-data", *words, "--typestore", "ros3_zebra")
        refused(ended, "ros3_zebra", "ros1_noetic, ros2_dashing", code=2)


def test_inspect_decodes_what_it_is_given_the_definition_of(tmp_path: Path) -> None:
    folder = package(tmp_path, "interbotix_xs_msgs", JointGroupCommand=JOINT_COMMAND_DEFINITION)
    bag = without_definitions(tmp_path / "a")
    for words, fields in ((), []), (("--msg-path", folder), ["cmd"]):
        found = json.loads(done(run("act-data", "inspect", bag, *words, "--json")))
        (topic,) = [t for t in found["recordings"][0]["topics"] if t["topic"] == "/command"]
        assert [f["path"] for f in topic["numbers"]["fields"]] == fields
        assert bool(topic["problem"]) == (not fields)


def test_given_types_make_another_episode_only_where_they_decode_otherwise(tmp_path: Path) -> None:
    bag = small_robot.bag(tmp_path, "a", small_robot.entries(12), "db3")
    with closing(sqlite3.connect(bag / "a.db3")) as database, database:
        database.execute("DROP TABLE message_definitions")
    robot = str(small_robot.robot_file(tmp_path))
    folder = package(tmp_path, "sensor_msgs", JointState=(
        "std_msgs/Header header\nstring[] name\nfloat64[] position\nfloat64[] effort\n"
        "float64[] velocity\n"
    ))  # fmt: skip
    uids = []
    for given in ({}, {"typestore": "ros2_iron"}, {"msg_path": (folder,)}):
        settings = IngestSettings.model_validate({"robot": robot, **given})
        report = ingest([bag], tmp_path / f"ds{len(uids)}.zarr", settings)
        uids.append(report.episodes[0].uid)
        (entry,) = open_dataset(Path(report.dataset)).episodes
        source = open_dataset(Path(report.dataset)).episode(entry.uid).info.source
        assert bool(source.types) == ("msg_path" in given)
    assert uids[0] == uids[1] != uids[2]
