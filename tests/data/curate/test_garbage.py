"""Garbage is what no kept version needs, and nothing else ever goes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from act_data.curate.diff import diff
from act_data.curate.garbage import gc
from act_data.curate.versions import delete_episodes, restore
from act_data.errors import ConflictError, InputError, NotFoundError, StoreError
from act_data.registry import Registry
from act_data.store import open_dataset
from act_data.store.lock import WriterLock
from tests.data.curate.datasets import hashes, ingest, uids


@pytest.fixture
def ds(tmp_path: Path) -> Path:
    """Version 1 with five episodes, version 2 without the first and the third."""
    path = tmp_path / "ds.zarr"
    ingest(path, range(5))
    delete_episodes(str(path), ["0", "2"])
    return path


def files(path: Path) -> set[str]:
    return {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}


def aged(path: Path, hours: float) -> None:
    """Everything in `path` was last changed so many hours ago."""
    then = time.time() - hours * 3600
    for place in (path, *path.rglob("*")):
        os.utime(place, (then, then))


def test_nothing_is_garbage_while_a_version_needs_it(ds: Path) -> None:
    before = files(ds)
    report = gc(str(ds), grace_hours=0, delete=True)
    assert (report.episodes, report.files, report.bytes) == ((), 0, 0)
    assert files(ds) == before
    assert len(hashes(ds)) == 2


def test_a_dropped_version_gives_its_bytes_back_and_no_other_one_loses_any(ds: Path) -> None:
    kept = hashes(ds)[1]
    before = files(ds)
    would = gc("ds", drop=[1])
    assert files(ds) == before
    did = gc("ds", drop=[1], delete=True)
    assert did.model_dump(exclude={"dry_run"}) == would.model_dump(exclude={"dry_run"})
    assert did.episodes == ("e0000", "e0002")
    gone = before - files(ds)
    assert len(gone) == did.files + 2
    shards = {int(k.split("/c/")[1].split("/")[0]) for k in gone if k.startswith("data/")}
    assert shards == {0, 1, 4, 5}  # of 4 steps: 6, 7, 8, 9 and 10 of them
    reader = open_dataset(ds)
    assert reader.version.content_hash == kept
    assert reader.verify("deep") == []
    with pytest.raises(NotFoundError, match="dropped") as error:
        open_dataset(ds, 1)
    assert error.value.hint == "It has 2."
    assert gc("ds", grace_hours=0, delete=True).bytes == 0


def test_what_was_dropped_can_be_ingested_again_and_not_restored(ds: Path) -> None:
    gc("ds", drop=[1], delete=True)
    with pytest.raises(NotFoundError, match="no version"):
        restore("ds", ["e0000"])
    ingest(ds, [0])
    assert uids(ds) == ["e0001", "e0003", "e0004", "e0000"]
    assert gc("ds", grace_hours=0, delete=True).episodes == ()
    assert open_dataset(ds).verify() == []
    assert Registry().rebuild([ds]) == ["ds"]
    assert [v.number for v in Registry().show("ds").versions] == [1, 2, 3]


def test_an_interrupted_ingest_is_spared_until_it_is_old(ds: Path) -> None:
    ingest(ds, [7], commit=False)
    scratch = ds.with_name(".ds.zarr.partial")
    scratch.mkdir()
    (scratch / "000.0").write_bytes(b"half")
    report = gc("ds", delete=True)
    assert report.spared == 2
    assert (report.episodes, report.beside) == ((), ())
    aged(ds, 30)
    aged(scratch, 30)
    report = gc("ds", delete=True)
    assert (report.episodes, report.beside) == (("e0007",), (".ds.zarr.partial",))
    assert not scratch.exists()
    assert len(hashes(ds)) == 2
    ingest(ds, [7])
    assert uids(ds)[-1] == "e0007"
    assert len(hashes(ds)) == 3


def test_a_shard_without_an_episode_is_garbage(ds: Path) -> None:
    stray = ds / "data/qpos/c/77/0"
    stray.parent.mkdir()
    stray.write_bytes(b"left by a killed writer")
    assert gc("ds", delete=True).files == 0
    report = gc("ds", grace_hours=0, delete=True)
    assert (report.files, report.bytes) == (1, 23)
    assert not stray.parent.exists()


@dataclass(frozen=True)
class Trained:
    uid: str
    version: int
    content_hash: str


def test_versions_that_something_names_are_kept(ds: Path, tmp_path: Path) -> None:
    delete_episodes("ds", ["0"])
    ingest(ds, range(6))
    reader = open_dataset(ds, 1)
    run = tmp_path / "run"
    run.mkdir()
    Registry().register_checkpoint(run, Trained(reader.uid, 1, reader.version.content_hash), 5)
    Registry().tag("ds@2", "prod")
    report = gc("ds", keep_versions=1)
    assert report.versions == (3,)
    assert report.protected == {1: f"{run} was trained on it", 2: "it is tagged 'prod'"}
    assert gc("ds", drop=[1], keep_versions=1).versions == (1, 3)


def test_gc_does_not_guess(ds: Path) -> None:
    with pytest.raises(InputError, match="it is the newest"):
        gc("ds", drop=[2], delete=True)
    with pytest.raises(InputError, match="there is none"):
        gc("ds", drop=[9], delete=True)
    lock = WriterLock(ds)
    try:
        with pytest.raises(ConflictError, match="another process is writing"):
            gc("ds", grace_hours=0)
    finally:
        lock.release()
    (ds / "versions/000001/zarr.json").write_bytes(b"{}")
    before = files(ds)
    with pytest.raises(StoreError):
        gc("ds", grace_hours=0, delete=True)
    assert files(ds) == before


def test_a_dropped_version_is_still_told_of(ds: Path) -> None:
    gc("ds", drop=[1], delete=True)
    ingest(ds, [0])
    assert [e.uid for e in diff("ds@2", "ds@3").added] == ["e0000"]
