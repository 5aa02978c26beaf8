"""Bags that were cut anywhere: every complete message is recovered, and nothing else."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as Rosbag1Writer

from act_data.errors import DataError
from act_data.sources.chunk_room import ChunkRoom
from act_data.sources.salvage import salvaged
from act_data.sources.storage import Storage
from tests.bag_offsets import Lying, in_order, lying
from tests.bags import Kind

TYPE = "std_msgs/msg/UInt8MultiArray"
DEFINITION = "uint8[] data\n"
ROOT = Path(__file__).parents[3]
Message = tuple[int, str, bytes]


def messages(count: int, least: int, most: int) -> list[Message]:
    """Messages of random bytes on two topics; at some times there are several."""
    rng = np.random.default_rng(0)
    return [
        (10**9 + i // 3 * 1000, f"/t{i % 2}", rng.bytes(int(rng.integers(least, most))))
        for i in range(count)
    ]


def ros1(path: Path, what: list[Message], compression: str = "", chunk: int = 2**20) -> Path:
    path = path.with_suffix(".bag")
    writer = Rosbag1Writer(path)
    writer.chunk_threshold = chunk
    if compression:
        writer.set_compression(Rosbag1Writer.CompressionFormat[compression.upper()])
    with writer:
        known = {}
        for recv_ns, topic, payload in what:
            if topic not in known:
                known[topic] = writer.add_connection(
                    topic, TYPE, msgdef=DEFINITION, md5sum="0" * 32
                )
            writer.write(known[topic], recv_ns, payload)
    return path


def mcap(path: Path, what: list[Message], compression: str = "", chunk: int = 2**20) -> Path:
    """Args: chunk: 0 for messages outside of chunks."""
    path = path.with_suffix(".mcap")
    with path.open("wb") as file:
        writer = McapWriter(
            file,
            chunk_size=chunk,
            use_chunking=chunk > 0,
            compression=CompressionType[compression.upper() or "NONE"],
        )
        writer.start(profile="ros2")
        schema = writer.register_schema(TYPE, "ros2msg", DEFINITION.encode())
        known: dict[str, int] = {}
        for recv_ns, topic, payload in what:
            if topic not in known:
                known[topic] = writer.register_channel(topic, "cdr", schema)
            writer.add_message(known[topic], recv_ns, payload, recv_ns)
        writer.finish()
    return path


def db3(path: Path, what: list[Message], page: int = 512) -> Path:
    path = path.with_suffix(".db3")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"PRAGMA page_size = {page}")
        database.executescript(SCHEMA)
        topics = {topic: i + 1 for i, topic in enumerate(dict.fromkeys(t for _, t, _ in what))}
        database.executemany(
            "INSERT INTO topics VALUES(?, ?, ?, 'cdr', '', '')",
            [(i, topic, TYPE) for topic, i in topics.items()],
        )
        database.execute(
            "INSERT INTO message_definitions VALUES(1, ?, 'ros2msg', ?, '')", (TYPE, DEFINITION)
        )
        database.executemany(
            "INSERT INTO messages(topic_id, timestamp, data) VALUES(?, ?, ?)",
            [(topics[topic], recv_ns, payload) for recv_ns, topic, payload in what],
        )
    return path


SCHEMA = """
CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);
CREATE TABLE metadata(id INTEGER PRIMARY KEY, metadata_version INTEGER NOT NULL, metadata TEXT);
CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,
    serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL,
    type_description_hash TEXT NOT NULL);
CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT NOT NULL, encoding TEXT
    NOT NULL, encoded_message_definition TEXT NOT NULL, type_description_hash TEXT NOT NULL);
CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL,
    data BLOB NOT NULL);
CREATE INDEX timestamp_idx ON messages (timestamp ASC);
INSERT INTO schema VALUES(4, 'jazzy');
"""


def kind_of(path: Path) -> Kind:
    return {".bag": "ros1", ".mcap": "mcap", ".db3": "db3"}[path.suffix]  # type: ignore[return-value]


def recovered(path: Path) -> tuple[Storage, list[Message]]:
    """What is recovered of a file, in the order in which it is delivered."""
    room = ChunkRoom()
    storage = salvaged(path, kind_of(path), room)
    topics = {channel.topic for channel in storage.channels}
    found = [(ns, topic, bytes(load())) for ns, topic, _, load in storage.messages(topics)]
    storage.close()
    room.close()
    return storage, found


def check_cut(path: Path, whole: list[Lying], size: int) -> None:
    """See that a file that was cut after `size` bytes gives what is complete in it."""
    storage, found = recovered(path)
    complete = [m for m in whole if m.stop <= size]
    lost = [m for m in whole if m.stop > size]
    assert storage.recovery is not None
    assert storage.recovery.messages == len(found)
    if not lost or lost[0].chunk < 0:
        # The names of topics may be cut off, but no message is recovered without its own.
        named = {channel.topic for channel in storage.channels}
        assert found == in_order([m for m in complete if m.topic in named]), size
        nameless = sum(m.topic not in named for m in complete)
        assert storage.nameless == nameless, size
        return
    # Of the chunk that was cut its beginning, however much of it can be inflated.
    begun = [m for m in lost if m.chunk == lost[0].chunk]
    more = len(found) - len(complete)
    assert 0 <= more <= len(begun), size
    assert found == in_order(complete + begun[:more]), size


SMALL = messages(24, 40, 60)
LONG = messages(14, 300, 1500)  # in pages of 512 bytes: most of them overflow
MAKERS = {
    "bag": lambda path: ros1(path, SMALL, chunk=600),
    "bag-lz4": lambda path: ros1(path, SMALL, "lz4", 600),
    "bag-bz2": lambda path: ros1(path, SMALL, "bz2", 600),
    "mcap": lambda path: mcap(path, SMALL, chunk=600),
    "mcap-zstd": lambda path: mcap(path, SMALL, "zstd", 600),
    "mcap-lz4": lambda path: mcap(path, SMALL, "lz4", 600),
    "mcap-no-chunks": lambda path: mcap(path, SMALL, chunk=0),
    "db3": lambda path: db3(path, SMALL),
    "db3-overflow": lambda path: db3(path, LONG),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_file_cut_at_any_byte_gives_every_complete_message(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / "a")
    whole = lying(path)
    assert [(m.recv_ns, m.topic, m.payload) for m in whole] == (
        LONG if "overflow" in str(tmp_path) or len(whole) == len(LONG) else SMALL
    )
    magic = {"ros1": 13, "mcap": 8, "db3": 16}[kind_of(path)]
    for size in range(path.stat().st_size - 1, -1, -1):
        os.truncate(path, size)
        if size >= magic:
            check_cut(path, whole, size)
        else:
            with pytest.raises(DataError, match=r"is empty|was cut after"):
                recovered(path)


# --- larger ones, at random places ---

MANY = messages(600, 50, 400)
LARGER = {
    "bag": lambda path: ros1(path, MANY, chunk=20_000),
    "bag-lz4": lambda path: ros1(path, MANY, "lz4", 20_000),
    "bag-bz2": lambda path: ros1(path, MANY, "bz2", 20_000),
    "mcap": lambda path: mcap(path, MANY, chunk=20_000),
    "mcap-zstd": lambda path: mcap(path, MANY, "zstd", 20_000),
    "mcap-lz4": lambda path: mcap(path, MANY, "lz4", 20_000),
    "mcap-no-chunks": lambda path: mcap(path, MANY, chunk=0),
    "db3": lambda path: db3(path, MANY, 4096),
}


@pytest.mark.parametrize("make", LARGER.values(), ids=LARGER)
def test_a_larger_file_cut_at_random_places_gives_every_complete_message(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / "a")
    whole = lying(path)
    size = path.stat().st_size
    places = np.random.default_rng(1).integers(100, size, 125)
    for place in sorted(places.tolist(), reverse=True):
        os.truncate(path, place)
        check_cut(path, whole, place)


@pytest.mark.parametrize("make", [*MAKERS.values(), *LARGER.values()])
def test_a_whole_file_gives_exactly_its_messages_and_is_called_whole(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / "a")
    storage, found = recovered(path)
    assert found == in_order(lying(path))
    assert storage.recovery is not None
    assert storage.recovery.whole
    assert (storage.recovery.gaps, storage.recovery.notes, storage.recovery.lost) == ((), (), 0)


# --- what recorders leave, and what disks do ---


@pytest.mark.parametrize("compression", ["none", "lz4", "bz2"])
def test_the_chunk_that_a_killed_recorder_had_begun_is_read(
    tmp_path: Path, compression: str
) -> None:
    """Its head says that it has no bytes; the file has no index."""
    what = messages(1300, 1000, 2000)  # bz2 gives nothing before 900 kB are there
    path = ros1(tmp_path / "a", what, "" if compression == "none" else compression, 2**22)
    data = path.read_bytes()
    at = data.index(b"index_pos=") + 10
    data = data[:at] + bytes(8) + data[at + 8 :]
    at = data.index(b"size=") + 5
    data = data[:at] + bytes(8) + data[at + 8 :]  # size, then the length of the data
    active = tmp_path / "x.bag"
    active.write_bytes(data[: len(data) * 9 // 10])
    storage, found = recovered(active)
    assert storage.recovery is not None
    assert not storage.recovery.whole
    assert len(found) > 0
    assert found == in_order(lying(path)[: len(found)])
    if compression == "none":
        assert len(found) > 1150


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_of_a_large_chunk_that_was_cut_its_beginning_is_read(
    tmp_path: Path, compression: str
) -> None:
    path = mcap(tmp_path / "a", messages(900, 1000, 2000), compression)
    whole = lying(path)
    assert len({m.chunk for m in whole}) == 2
    os.truncate(path, whole[0].stop // 2)
    _, found = recovered(path)
    assert len(found) > 200
    assert found == in_order(whole[: len(found)])


def test_a_chunk_that_is_not_what_its_checksum_says_is_left_out_and_told(tmp_path: Path) -> None:
    path = mcap(tmp_path / "a", MANY, chunk=20_000)
    whole = lying(path)
    data = bytearray(path.read_bytes())
    data[whole[200].stop - 5] ^= 1
    path.write_bytes(data)
    storage, found = recovered(path)
    assert storage.recovery is not None
    (gap,) = storage.recovery.gaps
    assert "checksum" in gap.what
    assert gap.offset < whole[200].stop < gap.offset + gap.bytes
    kept = [m for m in whole if not gap.offset < m.stop <= gap.offset + gap.bytes]
    assert found == in_order(kept)
    assert storage.recovery.lost == len(whole) - len(kept) > 10


@pytest.mark.parametrize("make", [LARGER["bag"], LARGER["mcap-no-chunks"], LARGER["db3"]])
def test_beyond_a_sector_of_zeros_everything_is_read_again(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / "a")
    whole = lying(path)
    data = bytearray(path.read_bytes())
    at = len(data) // 2 // 4096 * 4096
    data[at : at + 4096] = bytes(4096)
    path.write_bytes(data)
    storage, found = recovered(path)
    assert storage.recovery is not None
    assert not storage.recovery.whole
    others = set(found) - set(in_order(whole))  # their heads lie before the zeros: no checksum
    assert len(others) <= 1
    assert all(bytes(20) in payload for _, _, payload in others)
    assert len(found) > len(whole) - 60
    assert storage.recovery.lost >= len(whole) - len(found) - 5


def test_what_a_killed_writer_left_in_the_log_beside_a_database_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.db3"
    code = (
        "import os, sqlite3, sys\n"
        "from tests.data.sources.test_recovery import SCHEMA, TYPE, messages\n"
        "database = sqlite3.connect(sys.argv[1])\n"
        "database.executescript('PRAGMA journal_mode = ' + sys.argv[2] + ';'\n"
        "    'PRAGMA cache_size = 10;' + SCHEMA)\n"
        "for i in (0, 1):\n"
        "    database.execute('INSERT INTO topics VALUES(?, ?, ?, ?, ?, ?)',\n"
        "        (i + 1, f'/t{i}', TYPE, 'cdr', '', ''))\n"
        "database.commit()\n"
        "for n, (ns, topic, data) in enumerate(messages(600, 50, 400)):\n"
        "    database.execute('INSERT INTO messages(topic_id, timestamp, data) VALUES(?, ?, ?)',\n"
        "        (int(topic[2:]) + 1, ns, data))\n"
        "    if n == 300: database.commit()\n"
        "os._exit(0)\n"
    )
    for mode, least in (("WAL", 301), ("DELETE", 301), ("MEMORY", 301)):
        for file in tmp_path.iterdir():
            file.unlink()
        subprocess.run([sys.executable, "-c", code, str(path), mode], check=True, cwd=ROOT)
        storage, found = recovered(path)
        assert storage.recovery is not None
        assert not storage.recovery.whole, mode
        assert set(found) <= set(MANY), mode
        assert len(found) >= least, mode


@pytest.mark.parametrize("make", LARGER.values(), ids=LARGER)
def test_flipped_bytes_never_stop_a_recovery(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "a")
    original = path.read_bytes()
    rng = np.random.default_rng(2)
    for _ in range(20):
        data = bytearray(original)
        for at in rng.integers(20, len(data), 2).tolist():
            data[at] = int(rng.integers(256))
        path.write_bytes(data)
        storage, found = recovered(path)
        assert storage.recovery is not None
        times = [ns for ns, _, _ in found]
        assert times == sorted(times)
        assert len(set(found) & set(MANY)) > 200
