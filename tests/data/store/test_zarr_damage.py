"""Whatever happens to a file of a dataset is found, and nothing outside is ever read."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from act_data.errors import ActError, StoreError
from act_data.store import layout, open_dataset, open_writer, zarr_reader
from act_data.store.zarr_records import dump, read_root
from tests.data.store.contract import (
    assert_reads_back,
    make_schema,
    make_stats,
    make_steps,
    record,
)


def crc(data: bytes) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(4, "little")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes in two versions, the newest with statistics."""
    path = tmp_path_factory.mktemp("store") / "ds.zarr"
    with open_writer(path, make_schema("jpeg"), shard_frames=4) as writer:
        for n, uid in enumerate(["ep-a", "ep-b"]):
            record(writer, uid, make_steps(5 - n, seed=n), seed=n)
            writer.commit([uid])
    reader = open_dataset(path)
    reader.save_stats(make_stats(reader))
    assert reader.verify() == []
    return path


@pytest.fixture
def dataset(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "ds.zarr"))


def problems(path: Path) -> list[str]:
    try:
        return [str(p) for p in open_dataset(path).verify()]
    except ActError as e:
        return [str(e)]


def checked_files(path: Path) -> list[Path]:
    """All files but the record of the version before: it belongs to another version."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return [f for f in files if f != path / layout.version_key(1)]


def test_every_flipped_byte_is_found(dataset: Path) -> None:
    rng = random.Random(0)
    files = checked_files(dataset)
    for place in range(110):
        file = files[place % len(files)]
        data = file.read_bytes()
        at = rng.randrange(len(data))
        flipped = data[at] ^ rng.choice([1, 2, 4, 8, 16, 32, 64, 128, 255])
        file.write_bytes(data[:at] + bytes([flipped]) + data[at + 1 :])
        assert problems(dataset), f"byte {at} of {file.relative_to(dataset)}"
        file.write_bytes(data)
    assert problems(dataset) == []


def test_every_cut_deleted_or_swapped_file_is_found_and_named(dataset: Path) -> None:
    rng = random.Random(1)
    files = checked_files(dataset)
    for n, file in enumerate(files):
        data = file.read_bytes()
        other = files[(n + 1 + rng.randrange(len(files) - 1)) % len(files)]
        key = str(file.relative_to(dataset))
        file.write_bytes(data[: rng.randrange(len(data))])
        assert any(key in p for p in problems(dataset)), f"cut {key}"
        file.write_bytes(data + b"\0")
        assert problems(dataset), f"longer {key}"
        file.unlink()
        assert any(key in p for p in problems(dataset)), f"deleted {key}"
        if other.read_bytes() != data:
            file.write_bytes(other.read_bytes())
            other_data = other.read_bytes()
            other.write_bytes(data)
            assert problems(dataset), f"swapped {key} with {other.relative_to(dataset)}"
            other.write_bytes(other_data)
        file.write_bytes(data)
    assert problems(dataset) == []


@pytest.mark.parametrize("stray", ["notes.txt", "data/qpos/c/0/1", "meta/x/c/0", "data/.DS_Store"])
def test_a_stray_file_is_named(dataset: Path, stray: str) -> None:
    (dataset / stray).parent.mkdir(parents=True, exist_ok=True)
    (dataset / stray).write_text("x")
    assert any(stray in p for p in problems(dataset))


def image_key(number: int) -> str:
    return f"data/images/cam_high/c/{number}/0/0/0"


@pytest.mark.parametrize("key", ["data/qpos/c/1/0", image_key(1)])
def test_reading_a_missing_or_cut_file_names_array_episode_and_row(dataset: Path, key: str) -> None:
    feature = key.split("/c/")[0].removeprefix("data/")
    data = (dataset / key).read_bytes()
    want = open_dataset(dataset).read(feature, 0)
    for change in (None, b"", data[:-1], data + b"\0"):
        (dataset / key).unlink(missing_ok=True)
        if change is not None:
            (dataset / key).write_bytes(change)
        reader = open_dataset(dataset)
        np.testing.assert_array_equal(reader.read(feature, 0, 0, 4), want[:4])
        with pytest.raises(StoreError, match=rf"'{feature}', episode 0 \(ep-a\), row 4.*{key}"):
            reader.read(feature, 0)


def test_a_damaged_frame_is_found_when_it_is_read(dataset: Path) -> None:
    file = dataset / image_key(0)
    data = bytearray(file.read_bytes())
    reader = open_dataset(dataset)
    sizes = np.frombuffer(bytes(data[-68:-4]), "<u8").reshape(4, 2)
    data[int(sizes[2, 0]) + int(sizes[2, 1]) // 2] ^= 1
    file.write_bytes(data)
    reader.read("images/cam_high", 0, 0, 2)
    with pytest.raises(StoreError, match=r"row 2: frame .*checksum"):
        reader.read("images/cam_high", 0, 0, 3)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param((2**64 - 1, 2**64 - 1), id="missing-frame"),
        pytest.param((0, 2**63), id="size-beyond-the-file"),
        pytest.param((2**63, 2**63 + 8), id="sum-wraps-around"),
        pytest.param((10**6, 10), id="offset-beyond-the-file"),
        pytest.param((0, 3), id="smaller-than-its-checksum"),
    ],
)
def test_a_forged_index_is_refused(dataset: Path, entry: tuple[int, int]) -> None:
    file = dataset / image_key(0)
    data = file.read_bytes()
    index = np.frombuffer(data[-68:-4], "<u8").reshape(4, 2).copy()
    index[1] = entry
    file.write_bytes(data[:-68] + index.tobytes() + crc(index.tobytes()))
    with pytest.raises(StoreError, match=r"images/cam_high.*(missing|index)"):
        open_dataset(dataset).read("images/cam_high", 0)


def test_a_frame_that_claims_another_size_is_refused_before_memory_is_taken(
    tmp_path: Path,
) -> None:
    from numcodecs import Blosc, Zstd

    from act_data.store import jpeg

    huge = np.zeros(1 << 20, np.uint8)
    small = np.zeros((8, 8, 3), np.uint8)
    bad: list[tuple[str, Callable[[bytes], bytes]]] = [
        ("zstd", lambda _: bytes(Zstd().encode(huge))),
        ("zstd", lambda frame: frame[: len(frame) // 2]),
        ("zstd", lambda _: b"no zstd at all"),
        ("blosc", lambda _: bytes(Blosc().encode(huge))),
        ("blosc", lambda frame: frame[:-8]),
        ("blosc", lambda _: b"x"),
        ("jpeg", lambda _: jpeg.encode(small, 90)),
        ("jpeg", lambda frame: frame[:100]),
        ("jpeg", lambda frame: frame.replace(b"\x00\x10\x00\x18\x03", b"\xff\xff\xff\xff\x03")),
        ("raw", lambda frame: frame[:-1]),
    ]
    for codec, frame in bad:
        path = tmp_path / f"{codec}.zarr"
        file = path / image_key(0)
        if not path.exists():
            with open_writer(path, make_schema(codec), shard_frames=1) as writer:
                record(writer, "e", make_steps(1))
                writer.commit(["e"])
            shutil.copy(file, tmp_path / codec)
        forged = frame((tmp_path / codec).read_bytes()[:-24])
        index = np.array([0, len(forged) + 4], "<u8").tobytes()
        file.write_bytes(forged + crc(forged) + index + crc(index))
        with pytest.raises(StoreError, match="'images/cam_high', episode 0"):
            open_dataset(path).read("images/cam_high", 0)


def test_a_link_cannot_lead_out_of_the_dataset(dataset: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 32)
    chunk = dataset / "data/qpos/c/0/0"
    copy = tmp_path / "copy"
    shutil.copytree(chunk.parent, copy)
    for make in (
        lambda: (chunk.unlink(), chunk.symlink_to(secret)),
        lambda: (shutil.rmtree(chunk.parent), chunk.parent.symlink_to(copy)),
    ):
        make()
        reader = open_dataset(dataset)
        with pytest.raises(StoreError, match=r"qpos.*link"):
            reader.read("qpos", 0)
        assert any("link" in str(p) for p in reader.verify())
    chunk.parent.unlink()
    chunk.parent.mkdir()
    os.mkfifo(chunk)
    with pytest.raises(StoreError, match=r"qpos.*plain file"):
        open_dataset(dataset).read("qpos", 0)


def test_a_dataset_behind_a_link_is_read(dataset: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.zarr"
    link.symlink_to(dataset)
    assert_reads_back(open_dataset(link), 0, make_steps(5))
    assert open_dataset(link).verify() == []


@pytest.mark.parametrize("change", [{"shape": [10**12]}, {"shape": [-1]}, {"name": "../../x"}])
def test_a_forged_schema_is_refused(dataset: Path, change: dict[str, object]) -> None:
    root = dump(read_root(str(dataset)))
    root["schema"]["features"][0] |= change
    (dataset / "zarr.json").write_bytes(layout.render(layout.group(act=root)))
    with pytest.raises(StoreError, match="damaged"):
        open_dataset(dataset)


@pytest.mark.parametrize("change", [{"length": 0}, {"length": 1 << 60}, {"start": 3}])
def test_a_forged_version_is_refused(dataset: Path, change: dict[str, int]) -> None:
    version = dump(open_dataset(dataset).version)
    version["episodes"][0] |= change
    key = layout.version_key(2)
    (dataset / key).write_bytes(layout.render(layout.group(act_version=version)))
    with pytest.raises(StoreError, match="damaged"):
        open_dataset(dataset)


def test_a_claim_of_many_rows_takes_no_memory_for_them(dataset: Path) -> None:
    version = dump(open_dataset(dataset).version)
    version["episodes"][1]["length"] = 10**9
    key = layout.version_key(2)
    (dataset / key).write_bytes(layout.render(layout.group(act_version=version)))
    reader = open_dataset(dataset)
    for feature in ("qpos", "images/cam_high"):
        with pytest.raises(StoreError, match=feature):
            reader.read(feature, 1)


def test_tampering_with_consistent_manifests_still_changes_the_content_hash(dataset: Path) -> None:
    reader = open_dataset(dataset)
    file = dataset / "data/qpos/c/0/0"
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)
    forged = dump(reader.episode("ep-a"))
    forged["files"]["data/qpos/c/0/0"]["sha256"] = hashlib.sha256(data).hexdigest()
    key = layout.episode_key("ep-a")
    (dataset / key).write_bytes(layout.render(layout.group(act_episode=forged)))
    assert any("content of episode 0 (ep-a)" in p for p in problems(dataset))


def test_descriptors_stay_bounded_however_many_shards_are_read(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_reader, "OPEN_SHARDS", 3)
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    reader = open_dataset(dataset)
    for _ in range(2):
        for n in range(2):
            assert_reads_back(reader, n, make_steps(5 - n, seed=n))
            assert len(list(descriptors.iterdir())) - before <= 3
    del reader
    assert len(list(descriptors.iterdir())) <= before
