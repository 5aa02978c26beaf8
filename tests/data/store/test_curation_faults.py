"""Every file operation of a new version, a compact copy and a collection of garbage fails.

As `test_zarr_faults` does it for an ingest: complete enumeration, counts in the report (`-rP`).
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from act_data.errors import NotFoundError, StoreError
from act_data.store import open_dataset, open_writer
from act_data.store.zarr_curator import Curator
from act_data.store.zarr_garbage import collect
from act_data.store.zarr_reader import ZarrReader
from act_data.store.zarr_writer import ZarrWriter
from tests.data.store.contract import make_info, make_schema, make_steps
from tests.data.store.faulty_disk import Disk, crashes, lay_out

SCHEMA = make_schema("raw")
SCHEMA = SCHEMA.model_copy(
    update={"features": tuple(SCHEMA.feature(n) for n in ("qpos", "images/cam_high", "action"))}
)

Versions = dict[tuple[str, int], str]
"""Content hash by dataset and number."""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory: thousands of states are laid out in it."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of several attempts differ in nothing but when they were made."""
    for module in ("zarr_writer", "zarr_curator"):
        monkeypatch.setattr(f"act_data.store.{module}.now", lambda: "2026-01-01T00:00:00+00:00")


def prepared(root: Path) -> None:
    """Two episodes in version 1; version 2 lacks the first one."""
    root.mkdir()
    with open_writer(root / "ds.zarr", SCHEMA, shard_frames=4) as writer:
        for n, length in enumerate((5, 3)):
            episode = writer.episode(f"e{n}")
            for step in make_steps(length, seed=n):
                episode.record(step)
            episode.finish(make_info(n))
        writer.commit(["e0", "e1"])
    delete(root)


def delete(root: Path) -> None:
    """Version 2 without the first episode, as far as it is not there."""
    with Curator(root / "ds.zarr") as curator:
        left = [entry for entry in curator.head.episodes if entry.uid != "e0"]
        if len(left) < len(curator.head.episodes):
            curator.publish(left, message="", annotations={}, split_rule=None)


def bring_back(root: Path) -> None:
    """Version 3 with both again: as a deletion writes it, and it checks the episode's files."""
    with Curator(root / "ds.zarr") as curator:
        if len(curator.head.episodes) == 1:
            episodes = ZarrReader(root / "ds.zarr", 1).episodes
            curator.publish(episodes, message="", annotations={}, split_rule=None)


def compact(root: Path) -> None:
    """The newest version as a dataset of its own."""
    source = ZarrReader(root / "ds.zarr")
    with ZarrWriter(root / "small.zarr", SCHEMA, shard_frames=4) as writer:
        for entry in source.episodes:
            if entry.uid not in writer.durable:
                writer.copy(source, entry.uid)
        writer.commit(
            [e.uid for e in source.episodes], splits={e.uid: e.split for e in source.episodes}
        )


def drop(root: Path) -> None:
    """Version 1, and with it the first episode, is collected."""
    collect(root / "ds.zarr", drop=[1], grace_s=0, delete=True)


def found(root: Path) -> Versions:
    """Every version that can be opened; each must be sound in every byte."""
    versions: Versions = {}
    for path in sorted(root.glob("*.zarr")):
        try:
            newest = open_dataset(path).version.number
        except NotFoundError:
            continue  # nothing was committed
        for number in range(1, newest + 1):
            try:
                reader = open_dataset(path, number)
            except NotFoundError:
                continue  # dropped
            assert reader.verify() == [], (path.name, number)
            versions[path.stem, number] = reader.version.content_hash
    return versions


VERBS = [
    pytest.param(bring_back, id="a-version"),
    pytest.param(compact, id="compact"),
    pytest.param(drop, id="gc"),
]


def assert_one_or_the_other(root: Path, verb: Callable[[Path], None], before: Versions,
                            after: Versions) -> None:  # fmt: skip
    """All that was, or all that is to be; and a second try makes it so, without a leftover."""
    there = found(root)
    assert there in (before, after)
    verb(root)
    collect(root / "ds.zarr", grace_s=0, delete=True)
    assert found(root) == after
    assert {p.name for p in root.iterdir()} <= {"ds.zarr", "small.zarr"}, "a leftover"
    shards = {p.name for p in (root / "ds.zarr/data/qpos/c").iterdir()}
    assert shards == ({"2"} if ("ds", 1) not in after else {"0", "1", "2"})


@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", VERBS)
def test_after_a_power_failure_at_any_moment_all_versions_are_sound(
    place: Path, verb: Callable[[Path], None]
) -> None:
    root = place / "watched"
    prepared(root)
    before = found(root)
    disk = Disk(root)
    with disk.watched():
        verb(root)
    after = found(root)
    assert after != before
    states = crashes(disk.journal, disk.start)
    for _, tree in states:
        lay_out(tree, place / "after")
        assert_one_or_the_other(place / "after", verb, before, after)
    made = len(disk.journal) - disk.start
    sys.stdout.write(f"{made} file operations, {len(states)} states after a power failure\n")
    assert made > 15
    assert len(states) > made


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("error", "lasting"),
    [
        pytest.param(errno.EIO, False, id="one-input-output-error"),
        pytest.param(errno.ENOSPC, True, id="a-full-disk"),
    ],
)
def test_any_failing_file_operation_is_told_and_loses_nothing(
    place: Path, verb: Callable[[Path], None], error: int, lasting: bool
) -> None:
    whole = place / "whole"
    prepared(whole)
    before = found(whole)
    verb(whole)
    after = found(whole)
    told = 0
    for number in itertools.count():
        root = place / str(number)
        prepared(root)
        disk = Disk(root, fail_at=number, error=error, lasting=lasting)
        try:
            with disk.watched():
                verb(root)
        except StoreError:
            told += 1
        if not disk.failed:
            break
        assert_one_or_the_other(root, verb, before, after)
        shutil.rmtree(root)
    sys.stdout.write(f"{number} operations failed with {errno.errorcode[error]}, {told} told\n")
    assert number > 5
    assert told > 0
