"""Sinks are opened by name, and a file of commands may have two writers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader

from act_data.commands.messages import store_of
from act_data.errors import ConflictError, DataError, InputError, NotFoundError, StoreError
from act_data.sources import find_recordings, open_recording
from act_model.commands import robot_of
from act_model.config import VectorContract
from act_model.robot_io import JsonSink, NullSink, labels, offered_by, open_sink, velocities
from tests.model.live_faults import driven
from tests.model.memory_dataset import dataset_of

CONTRACT = offered_by(dataset_of(3).schema)


def test_a_file_holds_the_commands_of_the_loop_and_of_the_watchdog(tmp_path: Path) -> None:
    loop, watchdog = (open_sink(f"jsonl:{tmp_path / 'c'}", CONTRACT) for _ in range(2))
    loop.send(np.array([0.5, -1], np.float32), 7)
    watchdog.hold()
    watchdog.stop()
    loop.close()
    loop.close()
    loop.stop()  # closed: nothing to stop
    lines = [json.loads(line) for line in (tmp_path / "c").read_text().splitlines()]
    assert [line["do"] for line in lines] == ["send", "hold", "stop"]
    assert (lines[0]["action"], lines[0]["valid_ns"]) == ([0.5, -1.0], 7)
    assert lines[0]["at_ns"] <= lines[1]["at_ns"] <= lines[2]["at_ns"]


@pytest.mark.parametrize("text", ["motor", "", "jsonl", "jsonl:"])
def test_a_sink_that_is_not_there_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(InputError) as error:
        open_sink(text, CONTRACT)
    assert "jsonl" in error.value.hint


def test_a_file_that_cannot_be_written_is_refused_and_a_full_disk_still_stops(
    tmp_path: Path,
) -> None:
    with pytest.raises(StoreError, match="cannot write commands"):
        open_sink(f"jsonl:{tmp_path / 'no' / 'c'}", CONTRACT)
    full = JsonSink(Path("/dev/full"))
    with pytest.raises(DataError, match="No space left"):
        full.send(np.zeros(2, np.float32), 0)
    full.hold()
    full.stop()
    full.close()


def test_the_null_sink_takes_everything() -> None:
    sink = open_sink("null", CONTRACT)
    assert isinstance(sink, NullSink)
    sink.send(np.zeros(2, np.float32), 0)
    for do in (sink.hold, sink.stop, sink.close):
        do()


def test_velocities_are_known_by_their_units() -> None:
    action = [
        VectorContract(name="action", names=("a", "b"), unit="rad"),
        VectorContract(name="base", names=("x", "yaw"), unit="m/s, rad/s"),
    ]
    assert velocities(action).tolist() == [False, False, True, True]
    assert labels(action)[2:] == [("x", "m/s"), ("yaw", "rad/s")]


def test_a_file_of_messages_is_a_recording_of_what_the_robot_would_have_been_told(
    tmp_path: Path,
) -> None:
    sink = open_sink(f"mcap:{tmp_path / 'out.mcap'}", driven())
    actions = np.arange(3 * 16, dtype=np.float32).reshape(3, 16)
    for action in actions:
        sink.send(action, 0)
    sink.hold()
    sink.stop()
    assert not (tmp_path / "out.mcap").exists(), "it has its name when it is whole"
    sink.close()
    sink.close()
    with open_recording(find_recordings([tmp_path / "out.mcap"])[0]) as source:
        heard = [(m.topic, m.type) for m in source.messages(list(source.topics))]
    assert Counter(heard) == {
        ("/master/joint_left", "sensor_msgs/msg/JointState"): 3 + 1 + 3,
        ("/master/joint_right", "sensor_msgs/msg/JointState"): 3 + 1 + 3,
        ("/cmd_vel", "geometry_msgs/msg/Twist"): 3 + 1 + 3,
    }
    with (tmp_path / "out.mcap").open("rb") as file:  # by the reader of its makers
        read = [
            (channel.topic, store_of("cdr").deserialize_cdr(message.data, schema.name))
            for schema, channel, message in make_reader(file).iter_messages()
        ]
    assert [list(m.position) for t, m in read if t == "/master/joint_left"][:3] == (
        actions[:, :7].tolist()
    )
    driven_base = [(m.linear.x, m.angular.z) for t, m in read if t == "/cmd_vel"]
    assert driven_base == [*map(tuple, actions[:, 14:].tolist()), *[(0.0, 0.0)] * 4]


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        pytest.param("there.mcap", ConflictError, "exists", id="it-is-there"),
        pytest.param("out.bag", InputError, "no name of an MCAP", id="another-ending"),
        pytest.param("gone/out.mcap", StoreError, "gone", id="no-folder"),
    ],
)
def test_a_file_of_messages_that_cannot_be_made_is_refused(
    tmp_path: Path, name: str, error: type[Exception], says: str
) -> None:
    (tmp_path / "there.mcap").write_bytes(b"before")
    with pytest.raises(error, match=says):
        open_sink(f"mcap:{tmp_path / name}", driven())
    assert [p.name for p in tmp_path.iterdir()] == ["there.mcap"]
    assert (tmp_path / "there.mcap").read_bytes() == b"before"


@pytest.mark.parametrize(
    "text", ["ros1#gone.yaml", "ros2:7#gone.yaml", "ros1:http://h:1#gone.yaml"]
)
def test_a_sink_of_topics_may_name_its_robot(text: str) -> None:
    assert robot_of(text) == "gone.yaml"
    with pytest.raises(NotFoundError, match=r"no robot file 'gone\.yaml'"):
        open_sink(text, CONTRACT)


def test_only_topics_have_a_robot_that_is_named() -> None:
    assert [robot_of(text) for text in ("jsonl:a#b", "null#b", "ros1", "ros2:7")] == [None] * 4
