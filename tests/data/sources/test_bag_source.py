"""One recording as a stream: the same in every format, bounded, and indifferent to strangers."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pytest
from mcap.writer import CompressionType, IndexType, Writer
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode
from rosbags.rosbag2 import Writer as Rosbag2Writer

from act_data.errors import DataError, NotFoundError
from act_data.sources import BagSource, find_recordings, open_recording
from tests.bags import (
    JOINT_COMMAND,
    JOINT_COMMAND_DEFINITION,
    KINDS,
    Entry,
    Kind,
    command,
    convert,
    joint_state,
    message,
    patch,
    typestore,
    write,
)

MS = 1_000_000
DEFINITIONS = {JOINT_COMMAND: JOINT_COMMAND_DEFINITION}
JOINT_STATE = "sensor_msgs/msg/JointState"


def opened(path: Path) -> BagSource:
    (recording,) = find_recordings([path])
    return open_recording(recording)


def mixed() -> list[Entry]:
    """Two topics, written out of order, with equal receive times across and within topics."""
    entries: list[Entry] = []
    for i in (4, 2, 3, 1):
        entries.append(joint_state(i * MS, i * MS - 500, [i, 2 * i]))
        entries.append(command(i * MS, [i]))
        entries.append(command(i * MS, [i + 0.5]))
    return entries


def content(path: Path) -> list[tuple[Any, ...]]:
    with opened(path) as source:
        found = []
        for raw in source.messages(source.topics):
            decoded = source.deserialize(raw)
            values = decoded.cmd if raw.topic == "/command" else decoded.position
            found.append((raw.topic, raw.type, raw.recv_ns, raw.stamp_ns, values.tolist()))
        return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_delivers_the_same_messages_in_the_same_order(
    tmp_path: Path, kind: Kind
) -> None:
    found = content(write(tmp_path / "a", kind, mixed(), definitions=DEFINITIONS))
    expected = []
    for i in range(1, 5):
        expected += [
            ("/command", JOINT_COMMAND, i * MS, None, [i]),
            ("/command", JOINT_COMMAND, i * MS, None, [i + 0.5]),
            ("/joints", JOINT_STATE, i * MS, i * MS - 500, [i, 2 * i]),
        ]
    assert found == expected


@pytest.mark.parametrize("kind", ["db3", "mcap"])
def test_a_converted_bag_keeps_times_order_and_its_own_types(tmp_path: Path, kind: Kind) -> None:
    bag = write(tmp_path / "a", "ros1", mixed()[:6], definitions=DEFINITIONS)
    converted = convert(bag, tmp_path / "converted", "db3" if kind == "db3" else "mcap")
    assert content(converted) == content(bag)


def test_a_topic_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with (
        opened(write(tmp_path / "a", "ros1", mixed(), definitions=DEFINITIONS)) as source,
        pytest.raises(NotFoundError, match="'/camera'") as caught,
    ):
        source.messages(["/joints", "/camera"])
    assert "/command, /joints" in caught.value.hint


def test_the_record_has_the_digest_of_all_files_and_the_span(tmp_path: Path) -> None:
    a = write(tmp_path / "long_0", "ros1", [joint_state(MS, 0, [1.0])])
    b = write(tmp_path / "long_1", "ros1", [joint_state(5 * MS, 0, [1.0])])
    with opened(tmp_path) as source:
        record = source.record(["/joints"])
        assert record.sha256 == hashlib.sha256(a.read_bytes() + b.read_bytes()).hexdigest()
        assert (record.name, record.kind, len(record.files)) == ("long", "ros1", 2)
        assert (record.start_ns, record.end_ns) == (MS, 5 * MS)
        assert record.topics == ("/joints",)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_does_not_grow_with_the_recording(tmp_path: Path, kind: Kind) -> None:
    values = {"height": 500, "width": 1000, "encoding": "mono8", "data": bytes(500_000)}
    entries = ((f"/c{i % 2}", "sensor_msgs/msg/Image", i * MS, values) for i in range(60))
    path = write(tmp_path / "a", kind, entries)
    tracemalloc.start()
    with opened(path) as source:
        assert sum(len(m.payload) for m in source.messages(source.topics)) > 30_000_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


def test_messages_compressed_one_by_one_are_inflated(tmp_path: Path) -> None:
    store = typestore("db3")
    writer = Rosbag2Writer(tmp_path / "a", version=9)
    writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/joints", JOINT_STATE, typestore=store)
        joints = message(store, JOINT_STATE, {"header": 7, "position": [1.0] * 50})
        writer.write(connection, MS, store.serialize_cdr(joints, JOINT_STATE))
    with opened(tmp_path / "a") as source:
        (raw,) = source.messages(["/joints"])
        assert source.compressions == ("none", "zstd per message")
        assert raw.stamp_ns == 7
        assert source.deserialize(raw).position.tolist() == [1.0] * 50


@pytest.mark.parametrize("compression", [None, "lz4", "bz2"])
def test_the_compression_is_told_once_something_was_read(
    tmp_path: Path, compression: Literal["lz4", "bz2"] | None
) -> None:
    path = write(tmp_path / "a", "ros1", [joint_state(MS, MS, [1.0])], compression=compression)
    with opened(path) as source:
        assert source.compressions == ()
        assert len(list(source.messages(["/joints"]))) == 1
        assert source.compressions == (compression or "none",)


def test_files_compressed_as_a_whole_say_how_to_inflate_them(tmp_path: Path) -> None:
    writer = Rosbag2Writer(tmp_path / "a", version=9)
    writer.set_compression(CompressionMode.FILE, CompressionFormat.ZSTD)
    with writer:
        writer.add_connection("/joints", JOINT_STATE, typestore=typestore("db3"))
    (recording,) = find_recordings([tmp_path / "a"])
    with pytest.raises(DataError, match="compressed as a whole") as caught:
        open_recording(recording)
    assert "zstd -d a.db3.zstd" in caught.value.hint


def test_a_payload_that_does_not_fit_its_type_is_named_with_its_time(tmp_path: Path) -> None:
    store = typestore("mcap")
    with Rosbag2Writer(tmp_path / "a", version=9) as writer:
        connection = writer.add_connection("/joints", JOINT_STATE, typestore=store)
        writer.write(connection, 5, b"\x00\x01\x00\x00" + bytes(9))
    with opened(tmp_path / "a") as source:
        (raw,) = source.messages(["/joints"])
        with pytest.raises(DataError, match=r"'/joints' received at 5 ns is no valid sensor_msgs"):
            source.deserialize(raw)


def test_a_topic_with_messages_of_two_types_cannot_be_decoded(tmp_path: Path) -> None:
    write(tmp_path / "a_0", "ros1", [joint_state(0, 0, [1.0])])
    write(tmp_path / "a_1", "ros1", [("/joints", JOINT_COMMAND, 1, {})], definitions=DEFINITIONS)
    with opened(tmp_path) as source:
        first, second = source.messages(["/joints"])
        assert (first.recv_ns, second.recv_ns) == (0, 1)
        with pytest.raises(DataError, match="different types: interbotix_xs_msgs"):
            source.deserialize(first)


@pytest.mark.parametrize("kind", KINDS)
def test_a_definition_with_a_comment_in_another_encoding_is_read(
    tmp_path: Path, kind: Kind
) -> None:
    path = tmp_path / f"a.{'bag' if kind == 'ros1' else kind}"
    text = "string name  # <<>>\nfloat32[] cmd\n"  # "<<>>" becomes two characters of GBK
    if kind == "mcap":
        with path.open("wb") as file:
            writer = Writer(file, use_chunking=False, repeat_schemas=False)
            writer.start(profile="ros2")
            schema = writer.register_schema(JOINT_COMMAND, "ros2msg", text.encode())
            channel = writer.register_channel("/command", "cdr", schema)
            writer.add_message(channel, MS, b"\x00\x01\x00\x00\x01" + bytes(11), MS)
            writer.finish()
        patch(path, b"<<>>", "\u5173\u8282".encode("gbk"))
    elif kind == "ros1":
        with Rosbag1Writer(path) as bag:
            connection = bag.add_connection("/command", JOINT_COMMAND, msgdef=text, md5sum="0" * 32)
            bag.write(connection, MS, bytes(8))
        patch(path, b"<<>>", "\u5173\u8282".encode("gbk"), count=2)
    else:
        folder = write(tmp_path / "b", "db3", [command(MS, [])], definitions=DEFINITIONS)
        (folder / "b.db3").rename(path)
        gbk = text.encode().replace(b"<<>>", "\u5173\u8282".encode("gbk"))
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(
                "UPDATE message_definitions SET encoded_message_definition = CAST(? AS TEXT)",
                (gbk,),
            )
    with opened(path) as source:
        (raw,) = source.messages(["/command"])
        assert source.deserialize(raw).cmd.size == 0


# --- MCAP of other tools ---


def mcap_file(path: Path, profile: str = "ros2", **options: Any) -> Path:
    """Two channels of other encodings, one with a broken definition, and two ROS messages."""
    store = typestore("mcap")
    with path.open("wb") as file:
        writer = Writer(file, **options)
        writer.start(profile=profile)
        text = store.generate_msgdef(JOINT_STATE, ros_version=2)[0].encode()
        schemas = [
            writer.register_schema("J", "jsonschema", b"{}"),
            writer.register_schema("a/msg/B", "ros2msg", b"nonsense !!"),
            writer.register_schema(JOINT_STATE, "ros2msg", text),
        ]
        channels = [
            writer.register_channel("/json", "json", schemas[0]),
            writer.register_channel("/broken", "cdr", schemas[1]),
            writer.register_channel("/joints", "cdr", schemas[2]),
        ]
        for recv_ns in (3 * MS, 1 * MS, 2 * MS):
            for channel in channels:
                joints = message(store, JOINT_STATE, {"header": recv_ns, "position": [recv_ns]})
                data = json.dumps({}).encode()
                if channel == channels[2]:
                    data = bytes(store.serialize_cdr(joints, JOINT_STATE))
                writer.add_message(channel, recv_ns, data, recv_ns)
        writer.finish()
    return path


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="zstd"),
        pytest.param({"compression": CompressionType.LZ4}, id="lz4"),
        pytest.param({"compression": CompressionType.NONE}, id="uncompressed"),
        pytest.param({"chunk_size": 1}, id="a-chunk-per-message"),
        pytest.param({"use_chunking": False}, id="no-chunks"),
        pytest.param({"profile": ""}, id="no-profile"),
        pytest.param({"use_statistics": False}, id="no-statistics"),
        pytest.param(
            {"repeat_channels": False, "repeat_schemas": False}, id="no-repeated-channels"
        ),
        pytest.param(
            {
                "use_statistics": False,
                "use_summary_offsets": False,
                "repeat_channels": False,
                "repeat_schemas": False,
                "index_types": IndexType.NONE,
            },
            id="no-summary",
        ),
    ],
)
def test_what_else_is_in_an_mcap_file_and_how_it_is_indexed_does_not_matter(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with opened(mcap_file(tmp_path / "a.mcap", **options)) as source:
        assert {t.name: t.count for t in source.topics.values()} == {
            "/json": 3,
            "/broken": 3,
            "/joints": 3,
        }
        raws = list(source.messages(["/joints"]))
        assert [r.recv_ns for r in raws] == [MS, 2 * MS, 3 * MS]
        assert [r.stamp_ns for r in raws] == [MS, 2 * MS, 3 * MS]
        compression = options.get("compression", CompressionType.ZSTD).name.lower()
        plain = compression == "none" or not options.get("use_chunking", True)
        assert source.compressions == ("none" if plain else compression,)
        assert [source.deserialize(r).position.tolist() for r in raws] == [[MS], [2 * MS], [3 * MS]]


@pytest.mark.parametrize(
    ("topic", "says"),
    [("/json", "encoding that is not ROS's own"), ("/broken", "definition is not readable")],
)
def test_a_topic_that_cannot_be_decoded_says_why(tmp_path: Path, topic: str, says: str) -> None:
    with opened(mcap_file(tmp_path / "a.mcap")) as source:
        raw = next(source.messages([topic]))
        with pytest.raises(DataError, match=f"topic '{topic}' has type .*{says}"):
            source.deserialize(raw)


def test_ros_1_messages_in_an_mcap_file_are_read_as_ros_1(tmp_path: Path) -> None:
    store = typestore("ros1")
    path = tmp_path / "a.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start(profile="ros1")
        text = store.generate_msgdef(JOINT_STATE)[0].encode()
        schema = writer.register_schema("sensor_msgs/JointState", "ros1msg", text)
        channel = writer.register_channel("/joints", "ros1", schema)
        joints = message(store, JOINT_STATE, {"header": {"seq": 4, "stamp": 9}, "position": [1.0]})
        writer.add_message(channel, MS, bytes(store.serialize_ros1(joints, JOINT_STATE)), MS)
        writer.finish()
    with opened(path) as source:
        assert source.topics["/joints"].type == JOINT_STATE
        (raw,) = source.messages(["/joints"])
        assert (raw.encoding, raw.stamp_ns, raw.seq) == ("ros1", 9, 4)
        assert source.deserialize(raw).position.tolist() == [1.0]


def test_a_type_defined_in_idl_is_decoded(tmp_path: Path) -> None:
    line = "=" * 80
    text = (
        f"{line}\nIDL: own_msgs/msg/Grip\n"
        '#include "own_msgs/msg/Finger.idl"\n'
        "module own_msgs { module msg { struct Grip {\n"
        "  own_msgs::msg::Finger finger;\n  sequence<double> force; }; }; };\n"
        f"{line}\nIDL: own_msgs/msg/Finger\n"
        "module own_msgs { module msg { struct Finger { double width; }; }; };\n"
    )
    path = tmp_path / "a.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start(profile="ros2")
        schema = writer.register_schema("own_msgs/msg/Grip", "ros2idl", text.encode())
        payload = b"\x00\x01\x00\x00" + struct.pack("<dI4xd", 0.25, 1, 1.5)
        writer.add_message(writer.register_channel("/grip", "cdr", schema), MS, payload, MS)
        writer.finish()
    with opened(path) as source:
        (raw,) = source.messages(["/grip"])
        grip = source.deserialize(raw)
        assert (grip.finger.width, grip.force.tolist()) == (0.25, [1.5])


@pytest.mark.parametrize("name", ["a/msg/B:\n    import os", "a/msg/B\nint32 x", "../../x", ""])
def test_a_type_name_that_is_no_name_reaches_no_code_generator(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start(profile="ros2")
        schema = writer.register_schema(name, "ros2msg", b"int32 x\n")
        writer.add_message(writer.register_channel("/x", "cdr", schema), MS, bytes(8), MS)
        writer.finish()
    with opened(path) as source:
        (raw,) = source.messages(["/x"])
        with pytest.raises(DataError, match="not readable"):
            source.deserialize(raw)


def test_the_examples_are_eight_recordings_with_every_published_message() -> None:
    found = find_recordings([Path(__file__).parents[3] / "examples" / "bags"])
    assert [r.name for r in found] == [f"reach_{i:02d}" for i in range(8)]
    for recording in found:
        with open_recording(recording) as source:
            counts = {t.name: t.count for t in source.topics.values()}
            assert counts.pop("/odom") == 200
            assert {n for t, n in counts.items() if "joint" in t} == {400}
            assert {n for t, n in counts.items() if "camera" in t} == {120}
            assert len(counts) == 7
            assert sum(1 for _ in source.messages(source.topics)) == 2160
