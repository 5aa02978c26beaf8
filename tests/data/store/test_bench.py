"""Episodes made beside a dataset by any process, and adopted by its writer: both formats alike."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
from pathlib import Path

import pytest

from act_data.errors import ConflictError, DataError, InputError, NotFoundError, StoreError
from act_data.interfaces import Bench, DatasetWriter
from act_data.records import DatasetSchema
from act_data.store import open_dataset, open_writer
from tests.data.store.contract import (
    assert_reads_back,
    make_info,
    make_schema,
    make_steps,
    record,
)

FORMATS = pytest.mark.parametrize("name", ["ds.zarr", "ds", "ds.hdf5"])
FOLDERS = pytest.mark.parametrize("name", ["ds.zarr", "ds"])


def writer(path: Path, schema: DatasetSchema | None = None, shards: int = 4) -> DatasetWriter:
    return open_writer(path, schema or make_schema("raw"), shard_frames=shards)


def make(bench: Bench, uid: str, length: int = 6, seed: int = 0) -> None:
    """Finish an episode on the bench."""
    episode = bench.episode(uid)
    for step in make_steps(length, seed=seed):
        episode.record(step)
    episode.finish(make_info(seed))


def beside(path: Path) -> list[str]:
    """What lies beside a dataset."""
    return sorted(p.name for p in path.parent.iterdir() if p.name != path.name)


@FORMATS
def test_an_episode_made_on_the_bench_is_the_one_made_in_place(tmp_path: Path, name: str) -> None:
    path, other = tmp_path / name, tmp_path / f"other_{name}"
    with writer(other) as opened:
        in_place = record(opened, "a", make_steps(6))
        opened.commit(["a"])
    with writer(path) as opened:
        make(pickle.loads(pickle.dumps(opened.bench)), "a")
        assert "a" not in opened.durable
        adopted = opened.adopt("a")
        assert opened.durable["a"] == adopted
        opened.commit(["a"])
    assert (adopted.hash, adopted.files, adopted.info) == (
        in_place.hash, in_place.files, in_place.info,
    )  # fmt: skip
    reader = open_dataset(path)
    assert_reads_back(reader, 0, make_steps(6))
    assert reader.verify() == []
    assert reader.version.content_hash == open_dataset(other).version.content_hash
    shutil.rmtree(other, ignore_errors=True)
    other.unlink(missing_ok=True)
    assert beside(path) == []


@FOLDERS
def test_processes_make_episodes_at_once_and_each_finds_its_place(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    context = multiprocessing.get_context("spawn")
    with writer(path) as opened:
        children = [
            context.Process(target=make, args=(opened.bench, f"e{n}", 5 + n, n)) for n in range(2)
        ]
        for child in children:
            child.start()
        record(opened, "here", make_steps(9, seed=9))
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0, 0]
        opened.adopt("e1")
        opened.adopt("e0")
        opened.commit(["e0", "e1", "here"])
    reader = open_dataset(path)
    for number, (length, seed) in enumerate([(5, 0), (6, 1), (9, 9)]):
        assert_reads_back(reader, number, make_steps(length, seed=seed))
    assert reader.verify() == []


@FOLDERS
def test_what_was_finished_and_not_adopted_is_there_for_the_next_writer(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    with writer(path) as opened:
        make(opened.bench, "kept")
        make(opened.bench, "removed")
        unfinished = opened.bench.episode("unfinished")
        unfinished.record(make_steps(1)[0])
        opened.bench.remove("removed")
        opened.bench.remove("never")
    unfinished.discard()
    assert beside(path) == []
    with pytest.raises(NotFoundError):
        open_dataset(path)
    with writer(path) as opened:
        assert list(opened.durable) == ["kept"]
        opened.commit(["kept"])
    reader = open_dataset(path)
    assert_reads_back(reader, 0, make_steps(6))
    assert reader.verify() == []
    assert beside(path) == []


@FOLDERS
def test_an_episode_is_adopted_once_and_when_it_is_finished(tmp_path: Path, name: str) -> None:
    with writer(tmp_path / name) as opened:
        bench = opened.bench
        with pytest.raises(NotFoundError, match="'a'"):
            opened.adopt("a")
        episode = bench.episode("a")
        episode.record(make_steps(1)[0])
        with pytest.raises(NotFoundError, match="'a'"):
            opened.adopt("a")
        episode.finish(make_info())
        opened.adopt("a")
        with pytest.raises(ConflictError, match="'a'"):
            opened.adopt("a")
        with pytest.raises(InputError, match="uid"):
            bench.episode("../a")
        with pytest.raises(DataError, match="no step"):
            bench.episode("b").finish(make_info())
    with pytest.raises(ConflictError, match="closed"):
        opened.adopt("a")


@FOLDERS
def test_two_processes_may_make_the_same_episode(tmp_path: Path, name: str) -> None:
    with writer(tmp_path / name) as opened:
        child = multiprocessing.get_context("spawn").Process(target=make, args=(opened.bench, "a"))
        child.start()
        make(opened.bench, "a")
        child.join()
        assert child.exitcode == 0
        opened.adopt("a")
        opened.commit(["a"])
    assert open_dataset(tmp_path / name).verify() == []
    with writer(tmp_path / name) as opened:
        assert list(opened.durable) == ["a"]


def test_a_single_file_takes_one_episode_from_the_bench(tmp_path: Path) -> None:
    path = tmp_path / "one.hdf5"
    with writer(path) as opened:
        bench = opened.bench
        make(bench, "a")
        with pytest.raises(InputError, match="holds exactly one episode, and has it: 'a'"):
            bench.episode("b")
        opened.adopt("a")
        opened.commit(["a"])
    with (
        writer(path) as opened,
        pytest.raises(InputError, match="holds exactly one episode, and has it: 'a'"),
    ):
        opened.bench.episode("b")
    assert open_dataset(path).verify() == []
    assert beside(path) == []


def test_a_bench_whose_writer_is_gone_makes_nothing(tmp_path: Path) -> None:
    with writer(tmp_path / "ds.zarr") as opened:
        bench = opened.bench
        record(opened, "a", make_steps(2))
        opened.commit(["a"])
    with pytest.raises(StoreError, match="cannot write"):
        make(bench, "b")
    assert beside(tmp_path / "ds.zarr") == []


@pytest.mark.parametrize("damage", ["no-record", "no-shard", "cut", "link", "another-schema",
                                    "other-shards", "renamed", "no-json"])  # fmt: skip
def test_what_a_dead_run_left_is_adopted_only_if_it_is_whole_and_fits(
    tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "ds.zarr"
    opened = writer(path)
    make(opened.bench, "a")
    ready = tmp_path / ".ds.zarr.partial" / "a.ready"
    left = tmp_path / "left"
    shutil.copytree(ready, left)
    opened.bench.remove("a")
    opened.__exit__(None, None, None)
    ready.parent.mkdir()
    shutil.move(left, ready.with_name("b.ready") if damage == "renamed" else ready)
    shard = ready / "001.0"
    if damage == "no-record":
        (ready / "ready.json").unlink()
    elif damage == "no-json":
        (ready / "ready.json").write_text("{")
    elif damage == "no-shard":
        shard.unlink()
    elif damage == "cut":
        os.truncate(shard, 10)
    elif damage == "link":
        shard.rename(tmp_path / "elsewhere")
        shard.symlink_to(tmp_path / "elsewhere")
    schema = make_schema("raw", robot="another") if damage == "another-schema" else None
    with writer(path, schema, 8 if damage == "other-shards" else 4) as opened:
        assert not opened.durable
    assert not path.exists()
    assert beside(path) == (["elsewhere"] if damage == "link" else [])
