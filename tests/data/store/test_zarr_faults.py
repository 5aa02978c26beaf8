"""Every file operation of one small ingest fails, is cut short, or is the last before a power cut.

Complete enumeration and no sample; the counts are in the report (`pytest -rP`).
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from act_data.errors import NotFoundError, StoreError
from act_data.store import layout, open_dataset, open_writer
from tests.data.store.contract import make_info, make_schema, make_steps, record
from tests.data.store.faulty_disk import Disk, Tree, crashes, lay_out

LENGTHS = (5, 3)
SCHEMA = make_schema("raw")
# Joints, a camera and the action: every kind of file there is, and no more states than needed.
SCHEMA = SCHEMA.model_copy(
    update={"features": tuple(SCHEMA.feature(n) for n in ("qpos", "images/cam_high", "action"))}
)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory: thousands of states are laid out in it."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


def ingest(root: Path, *, aside: bool = False) -> Iterator[str]:
    """Two episodes, each committed, as far as an earlier attempt has not done it. Yields hashes.

    Args:
        aside: Only the first one, made on the bench and adopted.
    """
    with open_writer(root / "ds.zarr", SCHEMA, shard_frames=4) as writer:
        for n, length in enumerate(LENGTHS[:1] if aside else LENGTHS):
            if f"e{n}" not in writer.durable and aside:
                episode = writer.bench.episode(f"e{n}")
                for step in make_steps(length, seed=n):
                    episode.record(step)
                episode.finish(make_info(n))
                writer.adopt(f"e{n}")
            elif f"e{n}" not in writer.durable:
                record(writer, f"e{n}", make_steps(length, seed=n), seed=n)
            yield writer.commit([f"e{m}" for m in range(n + 1)]).content_hash


def committed(root: Path) -> list[str]:
    """Content hash of every version that a reader sees; the newest must be sound."""
    try:
        reader = open_dataset(root / "ds.zarr")
    except NotFoundError:
        return []
    assert reader.verify() == []
    numbers = range(1, reader.version.number + 1)
    return [open_dataset(root / "ds.zarr", n).version.content_hash for n in numbers]


def files_of_versions(root: Path, count: int) -> Tree:
    """The bytes of every file that the first `count` versions consist of."""
    path = root / "ds.zarr"
    keys: set[str] = set()
    for number in range(1, count + 1):
        reader = open_dataset(path, number)
        keys.add(layout.version_key(number))
        for entry in reader.episodes:
            keys |= {layout.episode_key(entry.uid), *reader.episode(entry.uid).files}
    return {key: (path / key).read_bytes() for key in keys}


@pytest.fixture(autouse=True)
def _one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of several attempts differ in nothing but when they were made."""
    monkeypatch.setattr("act_data.store.zarr_writer.now", lambda: "2026-01-01T00:00:00+00:00")


@pytest.fixture
def whole(place: Path) -> tuple[list[str], list[Tree]]:
    """What an ingest without a fault commits: the hashes, and the files of each version."""
    root = place / "whole"
    root.mkdir()
    hashes = list(ingest(root))
    return hashes, [files_of_versions(root, n) for n in range(len(hashes) + 1)]


def assert_sound_and_finished_by_a_second_try(
    root: Path, promised: int, whole: tuple[list[str], list[Tree]]
) -> None:
    hashes, files = whole
    found = committed(root)
    assert found == hashes[: len(found)], "something was committed that was not to be"
    assert len(found) >= promised, "a commit that had returned is gone"
    assert files_of_versions(root, len(found)) == files[len(found)]
    assert list(ingest(root))[-1] == hashes[-1]
    assert committed(root) == hashes
    assert files_of_versions(root, len(hashes)).items() >= files[len(found)].items()
    assert [p.name for p in root.iterdir()] == ["ds.zarr"], "a leftover beside the dataset"
    qpos = {p.name for p in (root / "ds.zarr/data/qpos/c").iterdir()}
    assert qpos == {"0", "1", "2"}, "a leftover among the shards"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("aside", [False, True], ids=["in-place", "adopted"])
def test_after_a_power_failure_at_any_moment_committed_episodes_are_byte_identical(
    place: Path, whole: tuple[list[str], list[Tree]], aside: bool
) -> None:
    root = place / "watched"
    root.mkdir()
    disk = Disk(root)
    returned = []  # the number of changes made when each commit returned
    with disk.watched():
        for _ in ingest(root, aside=aside):
            returned.append(len(disk.journal))
    states = crashes(disk.journal)
    for made, tree in states:
        lay_out(tree, place / "after")
        promised = sum(made >= n for n in returned)
        assert_sound_and_finished_by_a_second_try(place / "after", promised, whole)
    told = f"{len(disk.journal)} file operations, {len(states)} states after a power failure\n"
    sys.stdout.write(told)
    assert len(disk.journal) > (60 if aside else 100)
    assert len(states) > 2 * len(disk.journal)


@pytest.mark.parametrize(
    ("error", "lasting", "short", "aside"),
    [
        pytest.param(errno.EIO, False, False, False, id="one-input-output-error"),
        pytest.param(errno.EIO, True, False, False, id="a-dead-disk"),
        pytest.param(errno.ENOSPC, True, False, False, id="a-full-disk"),
        pytest.param(errno.ENOSPC, True, True, False, id="a-disk-that-fills-within-a-write"),
        pytest.param(errno.EDQUOT, False, False, False, id="a-quota-met-once"),
        pytest.param(errno.EIO, False, False, True, id="one-error-where-episodes-are-adopted"),
    ],
)
def test_any_failing_file_operation_is_told_and_loses_nothing(
    place: Path,
    whole: tuple[list[str], list[Tree]],
    error: int,
    lasting: bool,
    short: bool,
    aside: bool,
) -> None:
    told = 0
    for number in itertools.count():
        root = place / str(number)
        root.mkdir()
        disk = Disk(root, fail_at=number, error=error, lasting=lasting, short=short)
        committed_before: list[str] = []
        failure = None
        try:
            with disk.watched():
                committed_before.extend(ingest(root, aside=aside))
        except StoreError as e:
            failure = e
        if not disk.failed:
            break
        if failure is not None:
            assert os.strerror(error) in str(failure)
            assert failure.hint
            told += 1
        assert_sound_and_finished_by_a_second_try(root, len(committed_before), whole)
        shutil.rmtree(root)
    sys.stdout.write(f"{number} operations failed with {errno.errorcode[error]}, {told} told\n")
    assert number > (60 if aside else 100)
    assert told > number / 2
