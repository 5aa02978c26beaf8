"""A table of a thousand faults: each is found, and named by array, episode and rows."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from act_data.errors import StoreError
from act_data.records import FileDigest, Problem
from act_data.store import Remaining, frames, layout, open_dataset, open_writer
from act_data.store.zarr_reader import ZarrReader
from tests.data.store.contract import (
    assert_reads_back,
    make_schema,
    make_steps,
    record,
)

LENGTHS = (9, 5, 6)
SHARD = 4
FAULTS = 1000


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corruption") / "ds.zarr"
    with open_writer(path, make_schema("jpeg"), shard_frames=SHARD) as writer:
        for n, length in enumerate(LENGTHS):
            record(writer, f"e{n}", make_steps(length, seed=n), seed=n)
        writer.commit([f"e{n}" for n in range(len(LENGTHS))])
    return path


def place_of(reader: ZarrReader, key: str) -> tuple[str, int, tuple[int, int]]:
    """Array, episode and rows of a chunk file, computed from the layout and nothing else."""
    array, _, chunk = key.removeprefix("data/").partition("/c/")
    first = int(chunk.split("/")[0]) * SHARD
    for number, entry in enumerate(reader.episodes):
        if entry.start <= first < entry.start + entry.length:
            row = first - entry.start
            return array, number, (row, min(row + SHARD, entry.length))
    raise AssertionError(key)


def frame_at(data: bytes, offset: int, rows: int) -> int | None:
    """The frame of a shard that the byte at `offset` belongs to; None: the index."""
    index = np.frombuffer(data[-(SHARD * 16 + 4) : -4], "<u8").reshape(SHARD, 2)[:rows]
    for slot, (start, size) in enumerate(index.tolist()):
        if start <= offset < start + size:
            return slot
    return None


def found(path: Path, depth: str = "hash") -> list[Problem]:
    return open_dataset(path).verify(depth)  # type: ignore[arg-type]


def test_a_thousand_flips_cuts_deletions_and_swaps_are_all_found_and_named(dataset: Path) -> None:
    rng = np.random.default_rng(0)
    reader = open_dataset(dataset)
    assert isinstance(reader, ZarrReader)
    files: dict[str, FileDigest] = {}
    for entry in reader.episodes:
        files |= reader.episode(entry.uid).files
    keys = sorted(files)
    told: Counter[str] = Counter()
    for n in range(FAULTS):
        fault = ("flip", "cut", "delete", "swap")[n % 4]
        key = keys[int(rng.integers(len(keys)))]
        file = dataset / key
        data = file.read_bytes()
        array, episode, rows = place_of(reader, key)
        other = keys[int(rng.integers(len(keys)))]
        frame = None
        if fault == "flip":
            at = int(rng.integers(len(data)))
            file.write_bytes(
                data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :]
            )
            if array.startswith("images/"):
                frame = frame_at(data, at, rows[1] - rows[0])
        elif fault == "cut":
            file.write_bytes(data[: int(rng.integers(len(data)))])
        elif fault == "delete":
            file.unlink()
        else:
            while files[other] == files[key]:
                other = keys[int(rng.integers(len(keys)))]
            file.write_bytes((dataset / other).read_bytes())
        (problem,) = found(dataset)
        assert problem.array == array
        assert problem.episode == f"e{episode}"
        assert f"array {array!r}, episode {episode} (e{episode}), row " in problem.what
        assert key in problem.what
        want = rows if frame is None else (rows[0] + frame, rows[0] + frame + 1)
        assert problem.rows == want
        if fault == "swap" and files[key].bytes == files[other].bytes:
            assert "holds what belongs to" in problem.what
        if fault in ("cut", "delete"):
            assert [p.rows for p in found(dataset, "quick")] == [rows]
        file.write_bytes(data)
        told[fault] += 1
    assert found(dataset, "deep") == []
    sys.stdout.write(f"{dict(told)} of {FAULTS} faults found and named, none missed\n")
    assert told.total() == FAULTS


def test_only_deep_notices_a_frame_that_was_never_a_picture(tmp_path: Path) -> None:
    """Written damaged, with every checksum right: what a bad passed-through JPEG would be."""
    path = tmp_path / "ds.zarr"
    encoder = frames.encoder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            frames, "encoder",
            lambda feature: (lambda _: b"\xff\xd8 no picture")
            if feature.codec == "jpeg" else encoder(feature),
        )  # fmt: skip
        with open_writer(path, make_schema("jpeg"), shard_frames=SHARD) as writer:
            record(writer, "e0", make_steps(3))
            writer.commit(["e0"])
    assert found(path, "quick") == found(path, "hash") == []
    (problem,) = found(path, "deep")
    assert (problem.array, problem.episode, problem.rows) == ("images/cam_high", "e0", (0, 1))


def test_what_is_left_without_a_damaged_episode_is_read_as_before(
    dataset: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(dataset, tmp_path / "ds.zarr"))
    shard = next(k for k in open_dataset(path).episode("e1").files if "qpos" in k)
    (path / shard).unlink()
    reader = open_dataset(path)
    left = Remaining(reader, {p.episode for p in reader.verify()})
    assert [e.uid for e in left.episodes] == ["e0", "e2"]
    assert left.verify() == []
    assert left.version == reader.version
    for place, n in enumerate((0, 2)):
        assert_reads_back(left, place, make_steps(LENGTHS[n], seed=n))
    for uid in ("e1", "e9"):
        with pytest.raises(LookupError, match=uid):
            left.episode(uid)
    with pytest.raises(LookupError, match="no episode 2"):
        left.read("qpos", 2)
    with pytest.raises(StoreError, match="all 3 episodes"):
        Remaining(reader, {"e0", "e1", "e2"})


def test_a_damaged_episode_record_is_the_episodes_problem(dataset: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(dataset, tmp_path / "ds.zarr"))
    file = path / layout.episode_key("e1")
    file.write_bytes(file.read_bytes().replace(b"pick", b"pack"))
    assert {p.episode for p in found(path)} == {"e1"}
