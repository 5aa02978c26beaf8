"""Bytes as recordings: whatever lies in a file, reading it ends in messages or in an ActError."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from pathlib import Path

from mcap.writer import CompressionType, IndexType, Writer

from act_data.errors import DataError
from act_data.inspect import inspect
from act_data.sources import Reading, find_recordings, open_recording
from act_data.sources.rosbag_metadata import read_promise
from act_data.types import NS_PER_MS
from tests.bags import (
    JOINT_COMMAND,
    JOINT_COMMAND_DEFINITION,
    Kind,
    command,
    joint_state,
    message,
    typestore,
    write,
)
from tests.fuzz.edits import Place, db3_places, edited, mcap_places, ros1_places

_MESSAGES = 2000  # of a changed file that are read


@cache
def folder() -> Path:
    """A place of this process's own for the files, in memory where the system has that."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="act-fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def _read(path: Path) -> None:
    """Open, read and decode a recording, as an ingest of all its topics would."""
    for recording in find_recordings([path]):
        with open_recording(recording) as source:
            for raw in islice(source.messages(source.topics), _MESSAGES):
                try:
                    source.deserialize(raw)
                except DataError:
                    continue  # another topic may be sound
            assert all(isinstance(note, str) for note in source.notes)


def _file(suffix: str) -> Path:
    return folder() / f"a.{suffix}"


def ros1_bag(data: bytes) -> None:
    """The bytes of a ROS 1 bag."""
    path = _file("bag")
    path.write_bytes(data)
    _read(path)


def mcap_file(data: bytes) -> None:
    """The bytes of an MCAP file."""
    path = _file("mcap")
    path.write_bytes(data)
    _read(path)


def db3_file(data: bytes) -> None:
    """The bytes of a rosbag2 SQLite file."""
    path = _file("db3")
    path.write_bytes(data)
    _read(path)


def ros1_records(data: bytes) -> None:
    """A program of changes to the records of a ROS 1 bag; its first byte chooses the bag."""
    ros1_bag(_programmed(ros1_bags(), ros1_places, data))


def mcap_records(data: bytes) -> None:
    """A program of changes to the records of an MCAP file; its first byte chooses the file."""
    mcap_file(_programmed(mcap_files(), mcap_places, data))


def db3_pages(data: bytes) -> None:
    """A program of changes to the pages of a rosbag2 SQLite file."""
    db3_file(_programmed(db3_files(), db3_places, data))


def look(data: bytes) -> None:
    """`act-data inspect` of a changed file: a damage is on its card, not an error."""
    if not data:
        return
    suffix, seeds, places = _kinds()[data[0] % len(_kinds())]
    path = _file(suffix)
    path.write_bytes(_programmed(seeds, places, data[1:]))
    found = inspect([path])
    assert type(found).model_validate_json(found.model_dump_json()) == found


def recover(data: bytes) -> None:
    """A changed file, read for what is left of it: an account, whatever its state."""
    if not data:
        return
    suffix, seeds, places = _kinds()[data[0] % len(_kinds())]
    path = _file(suffix)
    path.write_bytes(_programmed(seeds, places, data[1:]))
    for recording in find_recordings([path], Reading(recover=True)):
        with open_recording(recording) as source:
            read = sum(1 for _ in islice(source.messages(source.topics), _MESSAGES))
            (account,) = source.recoveries
            assert read == _MESSAGES or read == account.messages


def metadata(data: bytes) -> None:
    """The bytes of a `metadata.yaml`."""
    path = folder() / "metadata.yaml"
    path.write_bytes(data)
    read_promise(path)


def _kinds() -> Sequence[tuple[str, Sequence[bytes], Callable[[bytes], list[Place]]]]:
    return (
        ("bag", ros1_bags(), ros1_places),
        ("mcap", mcap_files(), mcap_places),
        ("db3", db3_files(), db3_places),
    )


def _programmed(
    seeds: Sequence[bytes], places: Callable[[bytes], list[Place]], data: bytes
) -> bytes:
    seed = seeds[data[0] % len(seeds)] if data else seeds[0]
    return edited(seed, data[1:], _places(places, seed))


@cache
def _places(find: Callable[[bytes], list[Place]], seed: bytes) -> list[Place]:
    return find(seed)


# --- seeds ------------------------------------------------------------------------------------


def _entries() -> list[object]:
    entries = [joint_state(i * NS_PER_MS, i * NS_PER_MS, [i, 2 * i]) for i in range(6)]
    return [*entries, *(command(i * 3 * NS_PER_MS + 1, [i]) for i in range(3))]


def _written(kind: Kind, **options: str) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        path = write(
            Path(scratch, "seed"),
            kind,
            _entries(),  # type: ignore[arg-type]
            definitions={JOINT_COMMAND: JOINT_COMMAND_DEFINITION},
            **options,  # type: ignore[arg-type]
        )
        return (path if path.is_file() else next(path.glob(f"*.{kind}"))).read_bytes()


@cache
def ros1_bags() -> tuple[bytes, ...]:
    """Small bags: plain, lz4, bz2."""
    return tuple(
        _written("ros1", **options)
        for options in ({}, {"compression": "lz4"}, {"compression": "bz2"})
    )


@cache
def db3_files() -> tuple[bytes, ...]:
    """A small rosbag2 SQLite file."""
    return (_written("db3"),)


@cache
def mcap_files() -> tuple[bytes, ...]:
    """Small MCAP files without checksums, which would hide what lies behind them."""
    options: Sequence[dict[str, object]] = (
        {"compression": CompressionType.NONE},
        {"compression": CompressionType.ZSTD},
        {"compression": CompressionType.LZ4, "chunk_size": 100},
        {"use_chunking": False},
        {"compression": CompressionType.NONE, "use_statistics": False,
         "use_summary_offsets": False, "repeat_channels": False, "repeat_schemas": False,
         "index_types": IndexType.NONE},
    )  # fmt: skip
    return (*(_mcap(option) for option in options), _written("mcap"))


def _mcap(options: dict[str, object]) -> bytes:
    store = typestore("mcap", {JOINT_COMMAND: JOINT_COMMAND_DEFINITION})
    with tempfile.TemporaryFile() as file:
        writer = Writer(file, enable_crcs=False, **options)  # type: ignore[arg-type]
        writer.start("ros2")
        known: dict[str, int] = {}
        for topic, type_, recv_ns, values in _entries():  # type: ignore[misc]
            if topic not in known:
                text = store.generate_msgdef(type_, ros_version=2)[0].encode()
                schema = writer.register_schema(type_, "ros2msg", text)
                known[topic] = writer.register_channel(topic, "cdr", schema)
            payload = bytes(store.serialize_cdr(message(store, type_, values), type_))
            writer.add_message(known[topic], recv_ns, payload, recv_ns)
        writer.finish()
        file.seek(0)
        return file.read()


def programs(count: int) -> list[bytes]:
    """Programs that change one place of each of `count` seeds, and one that changes nothing."""
    return [
        bytes([n, what, 7 * n + what, what, 3 * what]) for n in range(count) for what in range(8)
    ] + [b"\0"]


def metadata_files() -> list[bytes]:
    """A `metadata.yaml` as rosbag2 writes it, and what else YAML can say."""
    with tempfile.TemporaryDirectory() as scratch:
        entries = [joint_state(n, n, [1.0]) for n in range(3)]
        path = write(Path(scratch, "seed"), "mcap", entries)
        whole = (path / "metadata.yaml").read_bytes()
    return [whole, b"!!omap [a: 1, a: 2]", b"a: &b [*b, !!set {c}]", b"<<: {d: 0x1F}"]
