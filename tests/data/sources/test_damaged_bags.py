"""Whatever lies in a file, reading it ends in messages or in a DataError that names it."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from act_data.errors import DataError
from act_data.sources import find_recordings, inflate, open_recording, topic_types
from act_data.sources.inflate import inflate_zstd
from act_data.types import RawMessage
from tests.bags import KINDS, Kind, command, joint_state, patch, write

DEFINITIONS = {"interbotix_xs_msgs/msg/JointGroupCommand": "string name\nfloat32[] cmd\n"}


def small(target: Path, kind: Kind, **options: str) -> Path:
    """40 messages on two topics; the storage file."""
    entries = [joint_state(i * 1000, i * 1000, [i, 2 * i]) for i in range(30)]
    entries += [command(i * 3000 + 1, [i]) for i in range(10)]
    path = write(target, kind, entries, definitions=DEFINITIONS, **options)  # type: ignore[arg-type]
    return path if kind == "ros1" else path / f"{path.name}.{kind}"


def read(path: Path) -> list[RawMessage]:
    """Everything in a recording, decoded on the way."""
    (recording,) = find_recordings([path])
    with open_recording(recording) as source:
        messages = []
        for raw in source.messages(source.topics):
            source.deserialize(raw)
            messages.append(raw)
        return messages


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9, 0.99, 0.9999])
def test_a_cut_recording_is_refused_with_a_way_out(
    tmp_path: Path, kind: Kind, share: float
) -> None:
    path = small(tmp_path / "a", kind)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\x00" * 5000, "starts with"),
        ("ünïcödé".encode("latin-1") * 100, "starts with"),
        (zstandard.compress(b"x" * 100), "Inflate|compressed as a whole"),
    ],
    ids=["empty", "zeros", "garbage", "compressed"],
)
def test_what_is_no_recording_is_refused_by_its_first_bytes(
    tmp_path: Path, kind: Kind, content: bytes, says: str
) -> None:
    path = tmp_path / f"a.{'bag' if kind == 'ros1' else kind}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says):
        read(path)


def test_a_file_that_is_nothing_of_ours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "holiday.mp4"
    path.write_bytes(b"\x00\x00\x00\x20ftypisom")
    with pytest.raises(DataError, match=r"holiday\.mp4 is not a recording"):
        find_recordings([path])


def test_an_older_bag_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "old.bag"
    path.write_bytes(b"#ROSBAG V1.2\n" + bytes(100))
    with pytest.raises(DataError, match=r"version '1\.2'"):
        read(path)


def test_an_unindexed_bag_points_to_recovery(tmp_path: Path) -> None:
    path = small(tmp_path / "a", "ros1")
    data = bytearray(path.read_bytes())
    at = data.index(b"index_pos=") + len(b"index_pos=")
    data[at : at + 8] = bytes(8)
    path.write_bytes(data)
    with pytest.raises(DataError, match="has no index") as caught:
        read(path)
    assert "act-data recover" in caught.value.hint


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_changed_bytes_give_messages_or_a_data_error(
    tmp_path: Path, kind: Kind, data: st.DataObject
) -> None:
    path = tmp_path / f"a.{'bag' if kind == 'ros1' else kind}"
    if not path.exists():
        original = small(tmp_path / "original", kind)
        path.write_bytes(original.read_bytes())
        path.with_suffix(".kept").write_bytes(original.read_bytes())
    changed = bytearray(path.with_suffix(".kept").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, changed[at] ^ 1]))
    path.write_bytes(changed)
    times: list[int] = []
    with suppress(DataError):
        times = [m.recv_ns for m in read(path)]
    assert times == sorted(times)


# --- a silent loss ---


def lose_in_ros1(path: Path) -> None:
    """The chunk info promises 31 messages of the first connection."""
    data = path.read_bytes()
    at = data.rindex(struct.pack("<II", 0, 30))
    path.write_bytes(data[: at + 4] + struct.pack("<I", 31) + data[at + 8 :])


def lose_in_mcap(path: Path) -> None:
    """The statistics promise 31 messages of the first channel."""
    data = path.read_bytes()
    at = data.rindex(struct.pack("<Q", 30)) - 2
    path.write_bytes(data[: at + 2] + struct.pack("<Q", 31) + data[at + 10 :])


def lose_in_db3(path: Path) -> None:
    """metadata.yaml promises 31 messages."""
    metadata = path.parent / "metadata.yaml"
    patch(metadata, b"message_count: 30", b"message_count: 31")


@pytest.mark.parametrize(
    ("kind", "lose"), [("ros1", lose_in_ros1), ("mcap", lose_in_mcap), ("db3", lose_in_db3)]
)
def test_a_silent_loss_is_an_error_that_names_topic_and_counts(
    tmp_path: Path, kind: Kind, lose: Callable[[Path], None]
) -> None:
    path = small(tmp_path / "a", kind)
    lose(path)
    (recording,) = find_recordings([path if kind == "ros1" else path.parent])
    with open_recording(recording) as source:
        assert source.topics["/joints"].count == 31
        messages = source.messages(["/joints", "/command"])
        delivered = [next(messages) for _ in range(40)]
        assert len(delivered) == 40
        with pytest.raises(DataError, match=r"/joints: 30 of 31") as caught:
            next(messages)
        assert "/command" not in str(caught.value)
        assert len(list(source.messages(["/command"]))) == 10


# --- sizes that are claimed ---


def test_a_message_beyond_the_limit_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small(tmp_path / "a", "mcap")
    monkeypatch.setattr(topic_types, "MAX_MESSAGE_BYTES", 40)
    with pytest.raises(DataError, match=r"'/joints' received at 0 ns .* more than 40"):
        read(path)


@pytest.mark.parametrize("compression", ["lz4", "bz2"])
def test_a_chunk_that_inflates_beyond_the_limit_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    path = small(tmp_path / "a", "ros1", compression=compression)
    assert len(read(path)) == 40
    monkeypatch.setattr(inflate, "MAX_CHUNK_BYTES", 500)
    with pytest.raises(DataError, match=r"in the chunk at byte 4109: .* more than 500"):
        read(path)


@pytest.mark.parametrize("compression", ["lz4", "bz2"])
def test_a_chunk_that_inflates_to_more_than_it_declares_is_an_error(
    tmp_path: Path, compression: str
) -> None:
    path = small(tmp_path / "a", "ros1", compression=compression)
    data = path.read_bytes()
    at = data.index(b"size=") + 5
    path.write_bytes(data[:at] + struct.pack("<I", 500) + data[at + 4 :])
    with pytest.raises(DataError, match="inflates to more than the 500 bytes that it declares"):
        read(path)


def test_an_mcap_chunk_that_claims_too_much_is_not_inflated(tmp_path: Path) -> None:
    path = small(tmp_path / "a", "mcap")
    data = bytearray(path.read_bytes())
    header = struct.Struct("<QQQI")
    at = data.index(header.pack(0, 29000, 0, 0)[:16])  # start and end time of the chunk
    data[at + 16 : at + 24] = struct.pack("<Q", 2**31)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"claims to inflate to 2147483648 bytes"):
        read(path)


def test_a_zstd_bomb_is_stopped_at_its_limit() -> None:
    bomb = zstandard.compress(bytes(50_000_000))
    assert len(bomb) < 10_000
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        inflate_zstd(bomb, 1000)
    assert inflate_zstd(zstandard.compress(b"abc"), 3) == b"abc"


@pytest.mark.parametrize("compression", ["lz4", "bz2"])
def test_a_chunk_that_ends_early_is_an_error(tmp_path: Path, compression: str) -> None:
    path = small(tmp_path / "a", "ros1", compression=compression)
    data = path.read_bytes()
    at = data.index(b"size=") + 5
    (size,) = struct.unpack_from("<I", data, at)
    path.write_bytes(data[:at] + struct.pack("<I", size + 1) + data[at + 4 :])
    with pytest.raises(DataError, match=f"ends early: {size} of {size + 1} bytes"):
        read(path)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes.fromhex("28b52ffd81270000000005000008"), id="corrupt"),
        pytest.param(bytes.fromhex("28b52ffd0000000000010000000500"), id="another-frame"),
    ],
)
def test_damaged_zstd_data_are_an_error_as_others_are(data: bytes) -> None:
    with pytest.raises(ValueError, match="zstd"):
        inflate_zstd(data, 1000)


@pytest.mark.parametrize("time", [None, "soon", b"\xff"], ids=["none", "text", "bytes"])
def test_a_time_that_is_no_number_is_a_damage(tmp_path: Path, time: object) -> None:
    path = small(tmp_path / "a", "db3")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA writable_schema=ON")
        database.execute("UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '')")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE messages SET timestamp = ? WHERE id = 3", (time,))
    with pytest.raises(DataError, match=r"message 3 of '/joints' has time") as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("column", ["name", "type"])
def test_a_topic_without_a_name_is_a_damage(tmp_path: Path, column: str) -> None:
    path = small(tmp_path / "a", "db3")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA writable_schema=ON")
        database.execute("UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '')")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"UPDATE topics SET {column} = NULL WHERE id = 2")
    with pytest.raises(DataError, match=r"topic .* has id 2 and type"):
        read(path)
