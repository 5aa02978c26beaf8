"""No file, however hostile, makes its reader take more than 512 MiB, or more time than its size."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import lz4.frame
import pytest
import zstandard

from act_data.errors import DataError
from act_data.sources.message_types import message_type
from act_data.sources.storage import Channel, Definition
from tests import bag_bytes as b

LIMIT_MIB = 512
MIB = 2**20

# In a process of its own: what other tests have used would count, too.
READ = """
import json, sys
from pathlib import Path
from act_data.errors import DataError
from act_data.sources import Reading, find_recordings, open_recording
count, error = 0, ""
try:
    reading = Reading(recover=sys.argv[3] == "recover")
    (recording,) = find_recordings([Path(sys.argv[1])], reading)
    with open_recording(recording) as source:
        topics = [t for t in source.topics if not t.startswith("/other")]
        for message in source.messages(topics):
            count += 1
            if count == int(sys.argv[2]):
                break
except DataError as e:
    error = str(e)
status = Path("/proc/self/status").read_text()
peak = int(status.split("VmHWM:")[1].split()[0]) // 1024
print(json.dumps([count, error, peak]))
"""


@dataclass
class Ended:
    count: int
    error: str
    peak_mib: int


def read(path: Path, at_most: int = 10**9, how: str = "strict") -> Ended:
    """Read a recording in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path), str(at_most), how],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    ended = Ended(*json.loads(done.stdout))
    assert ended.peak_mib < LIMIT_MIB
    return ended


def zeros(file: BinaryIO, count: int) -> None:
    """So many zeros, which take no room on the disk."""
    file.truncate(file.seek(0, 2) + count)
    file.seek(0, 2)


def compressed(compression: str, head: bytes, zeros: int) -> bytes:
    """`head` and so many zeros, without ever holding them."""
    if compression == "zstd":
        zstd = zstandard.ZstdCompressor().compressobj()
        pieces = [zstd.compress(head), *(zstd.compress(bytes(MIB)) for _ in range(zeros // MIB))]
        return b"".join((*pieces, zstd.flush()))
    with lz4.frame.LZ4FrameCompressor() as lz4_:
        pieces = [lz4_.begin(), lz4_.compress(head)]
        pieces += [lz4_.compress(bytes(MIB)) for _ in range(zeros // MIB)]
        return b"".join((*pieces, lz4_.flush()))


# --- the files ---


class Ros1:
    """Writes a ROS 1 bag with connection 0 on /a."""

    def __init__(self, path: Path) -> None:
        self.file = path.with_suffix(".bag").open("w+b")
        self.file.write(b.ros1_start(0, 0, 0))
        self.infos: list[bytes] = []
        self.connections = [b.ros1_connection(0, "/a")]

    def chunk(self, compression: str, stored: bytes, size: int, ns: int, count: int = 1) -> None:
        self.infos.append(b.ros1_chunk_info(self.file.tell(), (ns, ns + 10**6), {0: count}))
        self.file.write(b.ros1_chunk_head(compression, size, len(stored)) + stored)

    def finish(self) -> Path:
        index = self.file.tell()
        self.file.write(b"".join((*self.connections, *self.infos)))
        self.file.seek(0)
        self.file.write(b.ros1_start(index, len(self.connections), len(self.infos)))
        self.file.close()
        return Path(self.file.name)


class Mcap:
    """Writes an MCAP file without a summary, with channel 1 on /a."""

    def __init__(self, path: Path) -> None:
        self.file = path.with_suffix(".mcap").open("w+b")
        self.file.write(b.mcap_start() + b.mcap_text_type(1, ["/a"]))

    def chunk(self, compression: str, stored: bytes, size: int, ns: int) -> None:
        self.file.write(b.mcap_chunk_head(compression, (ns, ns), size, len(stored)) + stored)

    def finish(self) -> Path:
        self.file.write(b.mcap_end())
        self.file.close()
        return Path(self.file.name)


BIG = 120 * MIB


def ros1_large_messages(path: Path) -> Path:
    bag = Ros1(path)
    for ns in range(3):
        head = b.ros1_message_head(0, ns, BIG)
        bag.infos.append(b.ros1_chunk_info(bag.file.tell(), (ns, ns), {0: 1}))
        bag.file.write(b.ros1_chunk_head("none", len(head) + BIG, len(head) + BIG) + head)
        zeros(bag.file, BIG)
    return bag.finish()


def mcap_large_messages(path: Path) -> Path:
    bag = Mcap(path)
    for ns in range(3):
        bag.file.write(b.mcap_message_head(1, ns, BIG))
        zeros(bag.file, BIG)
    return bag.finish()


def ros1_compressed_large_messages(path: Path) -> Path:
    bag = Ros1(path)
    for ns in range(3):
        head = b.ros1_message_head(0, ns, BIG)
        bag.chunk("lz4", compressed("lz4", head, BIG), len(head) + BIG, ns)
    return bag.finish()


def mcap_compressed_large_messages(path: Path) -> Path:
    bag = Mcap(path)
    for ns in range(3):
        head = b.mcap_message_head(1, ns, BIG)
        bag.chunk("zstd", compressed("zstd", head, BIG), len(head) + BIG, ns)
    return bag.finish()


def ros1_overlapping(path: Path) -> Path:
    """300 chunks of 1 MiB, each of which begins at once and ends after all others began."""
    bag = Ros1(path)
    for i in range(300):
        first, last = b.ros1_message_head(0, i, MIB), b.ros1_message_head(0, 10**6 + i, 8)
        data = first + bytes(MIB) + last + bytes(8)
        bag.chunk("lz4", lz4.frame.compress(data), len(data), i, 2)
    return bag.finish()


def mcap_overlapping(path: Path) -> Path:
    bag = Mcap(path)
    for i in range(300):
        first, last = b.mcap_message_head(1, i, MIB), b.mcap_message_head(1, 10**6 + i, 8)
        data = first + bytes(MIB) + last + bytes(8)
        bag.chunk("zstd", zstandard.compress(data), len(data), i)
    return bag.finish()


def db3(path: Path, rows: str) -> Path:
    path = path.with_suffix(".db3")
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL);"
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp "
            "INTEGER NOT NULL, data BLOB NOT NULL);"
            "INSERT INTO topics VALUES(1, '/a', 'std_msgs/msg/String');"
            f"INSERT INTO messages(topic_id, timestamp, data) {rows}"
        )
    return path


def numbers(count: int) -> str:
    return (
        f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count - 1}) "
        "SELECT 1, {}, {} FROM n"
    )


def db3_large_messages(path: Path) -> Path:
    return db3(path, numbers(3).format("i", f"zeroblob({BIG})"))


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (ros1_large_messages, 3),
        (ros1_compressed_large_messages, 3),
        (mcap_large_messages, 3),
        (mcap_compressed_large_messages, 3),
        (db3_large_messages, 3),
        (ros1_overlapping, 600),
        (mcap_overlapping, 600),
    ],
)
def test_large_messages_and_overlapping_chunks_are_read_in_bounded_memory(
    tmp_path: Path, make: Callable[[Path], Path], count: int
) -> None:
    assert read(make(tmp_path / "a")) == Ended(count, "", pytest.approx(0, abs=LIMIT_MIB))


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (ros1_large_messages, 3),
        (mcap_compressed_large_messages, 3),
        (db3_large_messages, 3),
        (ros1_overlapping, 600),
    ],
)
def test_recovery_reads_them_in_bounded_memory_too(
    tmp_path: Path, make: Callable[[Path], Path], count: int
) -> None:
    ended = read(make(tmp_path / "a"), how="recover")
    assert (ended.count, ended.error) == (count, "")


# --- bombs and claims ---


def ros1_bomb(path: Path) -> Path:
    """One chunk of under 1 MiB that inflates to a message of 250 MiB."""
    bag = Ros1(path)
    head = b.ros1_message_head(0, 1, 250 * MIB)
    bag.chunk("lz4", compressed("lz4", head, 250 * MIB), len(head) + 250 * MIB, 1)
    return bag.finish()


def ros1_understated_bomb(path: Path) -> Path:
    bag = Ros1(path)
    bag.chunk("lz4", compressed("lz4", b"", 1024 * MIB), MIB, 1)
    return bag.finish()


def ros1_large_chunk(path: Path) -> Path:
    bag = Ros1(path)
    bag.chunk("lz4", b"", 2**32 - 1, 1)
    return bag.finish()


def ros1_large_claim(path: Path) -> Path:
    bag = Ros1(path)
    bag.infos.append(b.ros1_chunk_info(bag.file.tell(), (1, 1), {0: 1}))
    bag.file.write(b.ros1_chunk_head("none", 2**32 - 1, 2**32 - 1))
    return bag.finish()


def ros1_large_header(path: Path) -> Path:
    path = path.with_suffix(".bag")
    with path.open("w+b") as file:
        file.write(b.ROS1_MAGIC + b.u32(2**31))
        zeros(file, 2**31)
    return path


def ros1_many_connections(path: Path) -> Path:
    bag = Ros1(path)
    text = "# {}\nuint8 x\n" + "#" * 3000
    bag.connections = [b.ros1_connection(i, f"/{i}", "a/B", text.format(i)) for i in range(6000)]
    return bag.finish()


def mcap_bomb(path: Path) -> Path:
    bag = Mcap(path)
    head = b.mcap_message_head(1, 1, 250 * MIB)
    bag.chunk("zstd", compressed("zstd", head, 250 * MIB), len(head) + 250 * MIB, 1)
    return bag.finish()


def mcap_understated_bomb(path: Path) -> Path:
    bag = Mcap(path)
    bag.chunk("zstd", compressed("zstd", b"", 3072 * MIB), MIB, 1)
    return bag.finish()


def mcap_large_chunk(path: Path) -> Path:
    bag = Mcap(path)
    bag.chunk("zstd", b"", 2**63, 1)
    return bag.finish()


def mcap_large_claim(path: Path) -> Path:
    bag = Mcap(path)
    bag.file.write(b.mcap_head(5, 2**63))
    return bag.finish()


def mcap_large_schema(path: Path) -> Path:
    bag = Mcap(path)
    bag.file.write(b.mcap_head(3, 2**30))
    zeros(bag.file, 2**30)
    return bag.finish()


def mcap_wide_window(path: Path) -> Path:
    """A stream whose decoder would have to keep 2 GiB."""
    parameters = zstandard.ZstdCompressionParameters(window_log=31, write_content_size=False)
    stored = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    bag = Mcap(path)
    data = stored.compress(b.mcap_message_head(1, 1, 8) + bytes(8)) + stored.flush()
    bag.chunk("zstd", data, 39, 1)
    return bag.finish()


def mcap_many_definitions(path: Path) -> Path:
    bag = Mcap(path)
    for i in range(2, 200):
        text = f"# {i}\n".encode() + b"#" * 100_000
        bag.file.write(b.mcap_schema(i, "a/B", "ros2msg", text) + b.mcap_channel(i, f"/{i}", i))
    return bag.finish()


def db3_large_message(path: Path) -> Path:
    return db3(path, numbers(1).format("i", f"zeroblob({250 * MIB})"))


def db3_view(path: Path) -> Path:
    """Counting its messages would never end."""
    path = path.with_suffix(".db3")
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT);"
            "INSERT INTO topics VALUES(1, '/a', 'std_msgs/msg/String');"
            "CREATE VIEW messages AS WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM "
            "n) SELECT i AS id, 1 AS topic_id, i AS timestamp, x'00' AS data FROM n"
        )
    return path


def db3_many_columns(path: Path) -> Path:
    """SQLite reads what every table declares before it answers anything."""
    path = db3(path, numbers(1).format("i", "x'00'"))
    columns = ", ".join(f"c{i}" for i in range(2000))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA writable_schema = ON")
        database.executemany(
            "INSERT INTO sqlite_master VALUES('table', ?1, ?1, 2, ?2)",
            ((f"t{i}", f"CREATE TABLE t{i}({columns})") for i in range(3000)),
        )
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (ros1_bomb, "in the chunk at byte 4109: a message of '/a' has 262144000 bytes"),
        (ros1_understated_bomb, "in the chunk at byte 4109: it inflates to more than the 1048576"),
        (ros1_large_chunk, "at byte 4109: it claims to inflate to 4294967295 bytes"),
        (ros1_large_claim, "at byte 4109: it claims to inflate to 4294967295 bytes"),
        (ros1_large_header, "a record header of 2147483648 bytes"),
        (ros1_many_connections, "names and definitions have more than 16777216 bytes"),
        (mcap_bomb, "in the chunk at byte .*: a message of '/a' has 262144000 bytes"),
        (mcap_understated_bomb, "in the chunk at byte .*: it inflates to more than the 1048576"),
        (mcap_large_chunk, "it claims to inflate to 9223372036854775808 bytes"),
        (mcap_large_claim, "a record of 9223372036854775808 bytes"),
        (mcap_large_schema, "the record at byte .* claims 1073741824 bytes"),
        (mcap_wide_window, "in the chunk at byte"),
        (mcap_many_definitions, "names and definitions have more than 16777216 bytes"),
        (db3_large_message, "message 1 of '/a' has 262144000 bytes"),
        (db3_view, "without the tables of a recording"),
        (db3_many_columns, "damaged or was cut"),
    ],
)
def test_what_claims_too_much_or_inflates_too_far_is_refused_before_it_takes_the_memory(
    tmp_path: Path, make: Callable[[Path], Path], says: str
) -> None:
    path = make(tmp_path / "a")
    ended = read(path)
    assert re.search(says, ended.error), ended
    assert path.name in ended.error
    assert ended.count == 0


@pytest.mark.parametrize("make", [ros1_bomb, mcap_bomb, mcap_understated_bomb, mcap_large_claim])
def test_recovery_leaves_them_out_in_bounded_memory(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    ended = read(make(tmp_path / "a"), how="recover")
    assert (ended.count, ended.error) == (0, "")


# --- many small things ---

MILLION = 10**6


def ros1_tiny_messages(path: Path) -> Path:
    bag = Ros1(path)
    data = b.ros1_message_head(0, 1, 0) * MILLION
    bag.chunk("lz4", lz4.frame.compress(data), len(data), 1, MILLION)
    return bag.finish()


def mcap_tiny_messages(path: Path) -> Path:
    bag = Mcap(path)
    data = b.mcap_message_head(1, 1, 0) * MILLION
    bag.chunk("zstd", zstandard.compress(data), len(data), 1)
    return bag.finish()


def mcap_tiny_messages_outside_of_chunks(path: Path) -> Path:
    bag = Mcap(path)
    bag.file.write(b.mcap_message_head(1, 1, 0) * MILLION)
    return bag.finish()


def db3_tiny_messages(path: Path) -> Path:
    return db3(path, numbers(MILLION).format("1", "x'00'"))


@pytest.mark.parametrize(
    "make",
    [
        ros1_tiny_messages,
        mcap_tiny_messages,
        mcap_tiny_messages_outside_of_chunks,
        db3_tiny_messages,
    ],
)
def test_a_million_messages_of_one_time_are_put_in_order_in_bounded_memory(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    ended = read(make(tmp_path / "a"), at_most=1000)
    assert (ended.count, ended.error) == (1000, "")


def ros1_two_million_messages(path: Path) -> Path:
    bag = Ros1(path)
    data = b.ros1_message_head(0, 1, 0) * (2 * MILLION)
    bag.chunk("lz4", lz4.frame.compress(data), len(data), 1, 2 * MILLION)
    return bag.finish()


def test_a_chunk_of_more_messages_than_any_recorder_writes_is_refused(tmp_path: Path) -> None:
    ended = read(ros1_two_million_messages(tmp_path / "a"))
    assert "in the chunk at byte 4109: it holds more than 1048576 messages" in ended.error


def test_thousands_of_topics_with_types_of_their_own_are_read_in_bounded_memory(
    tmp_path: Path,
) -> None:
    bag = Ros1(tmp_path / "a")
    counts = dict.fromkeys(range(1, 3000), 1)
    text = (
        "std_msgs/Header header\nuint8 x{}\n"
        + "=" * 80
        + ("\nMSG: std_msgs/Header\nuint32 seq\ntime stamp\nstring frame_id\n")
    )
    bag.connections = [b.ros1_connection(i, f"/{i}", "a/B", text.format(i)) for i in counts]
    data = b"".join(b.ros1_message_head(i, 1, 17) + bytes(17) for i in counts)
    bag.infos.append(b.ros1_chunk_info(bag.file.tell(), (1, 1), counts))
    bag.file.write(b.ros1_chunk_head("none", len(data), len(data)) + data)
    ended = read(bag.finish())
    assert (ended.count, ended.error) == (len(counts), "")


# --- definitions ---


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("string[100000000] x", "100000009 fields and elements, more than 2048"),
        ("\n".join(f"uint8 x{i}" for i in range(5000)), "5008 fields and elements"),
        ("#" * 2**19, "more than 262144 bytes"),
        ("B x", "maximum recursion|recursion depth"),
        ("uint8[" + "9" * 5000 + "] x", "Could not parse|too large|digits"),
    ],
    ids=["large-array", "many-fields", "long", "contains-itself", "large-number"],
)
def test_a_definition_that_would_take_minutes_to_compile_is_refused_at_once(
    text: str, says: str
) -> None:
    channel = Channel(
        id=0,
        topic="/a",
        type="a/msg/B",
        encoding="cdr",
        definition=Definition(format="msg", text=text),
        count=0,
    )
    began = time.process_time()
    with pytest.raises(DataError, match=r"topic '/a' has type 'a/msg/B'") as caught:
        message_type(channel)
    assert re.search(says, str(caught.value)), caught.value
    assert time.process_time() - began < 2
