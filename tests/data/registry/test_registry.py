"""The registry gives names to datasets, proves them unchanged, and can be thrown away."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from act_data.errors import ConflictError, InputError, NotFoundError, StoreError
from act_data.registry import Registry, find_datasets
from act_data.registry.database import transaction
from act_data.store import open_dataset, open_writer
from tests.data.store.contract import make_schema, make_steps, record


def dataset(path: Path, *uids: str) -> Path:
    """A dataset at `path` with one version per uid; continued when it is there."""
    with open_writer(path, make_schema(), shard_frames=4) as writer:
        for uid in uids:
            if uid not in writer.durable:
                record(writer, uid, make_steps(2, seed=len(uid) + ord(uid[-1])))
                writer.commit([uid])
    return path


def registered(path: Path, *uids: str) -> Registry:
    registry = Registry()
    registry.register(open_dataset(dataset(path, *uids)))
    return registry


@pytest.fixture(autouse=True, params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here holds in both kinds of database."""
    if request.param == "postgresql":
        monkeypatch.setenv("ACT_REGISTRY", request.getfixturevalue("postgres"))


@pytest.fixture(params=["pick.zarr", "pick"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Of an act-zarr dataset, and of a folder of HDF5 episodes."""
    return tmp_path / str(request.param)


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "version"),
    [
        pytest.param("pick", 2, id="name"),
        pytest.param("pick@1", 1, id="number"),
        pytest.param("pick@v1", 1, id="v-number"),
        pytest.param("pick@v2", 2, id="newest-by-number"),
        pytest.param("pick@latest", 2, id="latest"),
        pytest.param("{path}", 2, id="path"),
        pytest.param("{path}@1", 1, id="path-and-number"),
    ],
)
def test_a_reference_finds_its_version(path: Path, ref: str, version: int) -> None:
    registry = registered(path, "ep-a", "ep-b")
    found = registry.resolve(ref.format(path=path))
    reader = open_dataset(path, version)
    assert (found.name, found.path, found.version) == ("pick", path, version)
    assert found.content_hash == reader.version.content_hash


def test_the_name_is_the_file_without_suffix_and_made_unique_in_order(tmp_path: Path) -> None:
    registry = Registry()
    names = []
    for folder in ("one", "two", "three"):
        (tmp_path / folder).mkdir()
        reader = open_dataset(dataset(tmp_path / folder / "pick up!.zarr", "ep-a"))
        names.append(registry.register(reader))
        assert registry.register(reader) == names[-1], "again changes nothing"
    assert names == ["pick-up", "pick-up-2", "pick-up-3"]
    assert [d.name for d in registry.datasets()] == names


def test_a_chosen_name_is_kept_and_must_be_free_and_writable_as_a_reference(
    tmp_path: Path,
) -> None:
    registry = Registry()
    one, two = (open_dataset(dataset(tmp_path / n, "ep-a")) for n in ("one.zarr", "two.zarr"))
    assert registry.register(one, "cube") == "cube"
    assert registry.register(one) == "cube"
    assert registry.register(one, "cubes") == "cubes"
    with pytest.raises(ConflictError, match="'cubes'"):
        registry.register(two, "cubes")
    for bad in ("", "a@1", "a/b", "-a", "a b"):
        with pytest.raises(InputError, match="cannot be the name"):
            registry.register(two, bad)
    assert [d.name for d in registry.datasets()] == ["cubes"]


def test_what_is_listed_is_what_the_store_says(path: Path) -> None:
    registry = registered(path, "ep-a", "ep-b")
    newest = open_dataset(path)
    shown = registry.show("pick")
    assert registry.datasets() == [shown]
    assert (shown.uid, shown.path, shown.robot, shown.fps) == (
        newest.uid, str(path), "two_joints", 10.0,
    )  # fmt: skip
    assert [(v.number, v.episodes, v.frames) for v in shown.versions] == [(1, 1, 2), (2, 2, 4)]
    assert shown.versions[1].content_hash == newest.version.content_hash
    assert shown.created == open_dataset(path, 1).version.created


def test_an_older_version_that_is_registered_later_does_not_become_the_latest(
    path: Path,
) -> None:
    registry = registered(path, "ep-a", "ep-b")
    registry.register(open_dataset(path, 1))
    assert registry.resolve("pick").version == 2


def test_an_unknown_name_lists_the_nearest_ones(tmp_path: Path) -> None:
    registry = Registry()
    for name in ("pick_cube.zarr", "pick_cup.zarr", "weld.zarr"):
        registry.register(open_dataset(dataset(tmp_path / name, "ep-a")))
    for ask in (registry.resolve, registry.show):
        with pytest.raises(NotFoundError, match="'pick_cub'") as caught:
            ask("pick_cub")
        assert "pick_cube" in caught.value.hint
        assert "pick_cup" in caught.value.hint
        assert "weld" not in caught.value.hint
    with pytest.raises(NotFoundError, match="'zzz'") as caught:
        registry.resolve("zzz")
    assert "act-data list" in caught.value.hint
    with pytest.raises(NotFoundError, match="does not exist"):
        registry.resolve(str(tmp_path / "gone.zarr"))


@pytest.mark.parametrize("version", ["", "1.5", "-1", "٣", "9" * 30, "a b", "a/b"])
def test_what_is_no_version_is_an_input_error(path: Path, version: str) -> None:
    registry = registered(path, "ep-a")
    with pytest.raises(InputError, match="is no version") as caught:
        registry.resolve(f"pick@{version}")
    assert "pick@latest" in caught.value.hint


def test_a_version_that_does_not_exist_is_not_found(path: Path) -> None:
    registry = registered(path, "ep-a", "ep-b")
    with pytest.raises(NotFoundError, match="no version 7") as caught:
        registry.resolve("pick@7")
    assert "1, 2" in caught.value.hint


# --- proof ------------------------------------------------------------------------------------


def test_a_dataset_that_is_gone_or_moved_says_the_way_out(path: Path, tmp_path: Path) -> None:
    registry = registered(path, "ep-a")
    moved = path.rename(tmp_path / f"moved{path.suffix}")
    with pytest.raises(NotFoundError, match="no longer at") as caught:
        registry.resolve("pick")
    assert "act-data rebuild" in caught.value.hint
    registry.register(open_dataset(moved))
    assert registry.resolve("pick").path == moved


def test_content_that_changed_under_its_version_is_refused_until_it_is_rebuilt(
    path: Path, tmp_path: Path
) -> None:
    registry = registered(path, "ep-a")
    row = "UPDATE version SET content_hash = 'another'"
    with transaction(registry.place, write=True) as db:
        db.exec_driver_sql(row)
    for ref in ("pick", "pick@1", str(path)):
        with pytest.raises(StoreError, match="no longer matches pick@1") as caught:
            registry.resolve(ref)
        assert "another" in str(caught.value)
        assert "rebuild" in caught.value.hint
    with pytest.raises(StoreError, match="no longer matches"):
        registry.register(open_dataset(path))
    assert registry.rebuild([tmp_path]) == ["pick"]
    assert registry.resolve("pick").version == 1


def test_another_dataset_in_the_place_of_a_registered_one_is_refused_then_takes_over(
    path: Path,
) -> None:
    registry = registered(path, "ep-a")
    shutil.rmtree(path)
    reader = open_dataset(dataset(path, "ep-b"))
    with pytest.raises(StoreError, match="another dataset"):
        registry.resolve("pick")
    assert registry.register(reader) == "pick"
    assert registry.resolve("pick").content_hash == reader.version.content_hash
    assert len(registry.datasets()) == 1


def test_a_path_that_was_never_registered_needs_no_registration(path: Path) -> None:
    dataset(path, "ep-a")
    assert Registry().resolve(str(path)).name == "pick"
    assert Registry().datasets() == []


# --- the file ---------------------------------------------------------------------------------


def test_a_rebuilt_registry_equals_the_one_that_was_lost(tmp_path: Path) -> None:
    registry = Registry()
    for name in ("a/pick.zarr", "b/pick.zarr", "c/hdf5", "one.hdf5"):
        path = tmp_path / "data" / name
        registry.register(open_dataset(dataset(path, *(["ep-a", "ep-b"][: 2 - ("one" in name)]))))
    before = registry.datasets()
    assert [d.name for d in before] == ["hdf5", "one", "pick", "pick-2"]
    with transaction(registry.place, write=True) as db:
        db.exec_driver_sql("DELETE FROM dataset")
    assert registry.datasets() == []
    assert registry.rebuild([tmp_path / "data"]) == ["hdf5", "one", "pick", "pick-2"]
    assert registry.datasets() == before


def test_rebuild_keeps_names_and_checkpoints_and_forgets_what_is_gone(tmp_path: Path) -> None:
    registry = Registry()
    for name in ("pick.zarr", "gone.zarr"):
        registry.register(open_dataset(dataset(tmp_path / name, "ep-a")), f"my-{name[:4]}")
    registry.register_checkpoint(tmp_path, TrainedOn("u", 1, "h"), 10)
    shutil.rmtree(tmp_path / "gone.zarr")
    (tmp_path / "new").mkdir()
    dataset(tmp_path / "new" / "my-pick.zarr", "ep-b")
    assert registry.rebuild([tmp_path / "new"]) == ["my-pick", "my-pick-2"]
    assert registry.show("my-pick").path == str(tmp_path / "pick.zarr")
    assert registry.newest_checkpoint() == tmp_path


def test_a_rebuild_that_fails_leaves_the_registry_as_it_was(tmp_path: Path) -> None:
    registry = registered(tmp_path / "pick.zarr", "ep-a")
    before = registry.datasets()
    (tmp_path / "broken.hdf5").write_bytes(b"not HDF5")
    with pytest.raises(StoreError, match=r"broken\.hdf5"):
        registry.rebuild([tmp_path])
    with pytest.raises(NotFoundError, match="nowhere"):
        registry.rebuild([tmp_path / "nowhere"])
    assert registry.datasets() == before


def test_datasets_are_found_in_folders_and_links_are_not_followed_around(tmp_path: Path) -> None:
    expected = [
        dataset(tmp_path / name, "ep-a") for name in ("a/deep/x.zarr", "b.hdf5", "c", "d.zarr")
    ]
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    assert find_datasets(tmp_path) == expected
    assert find_datasets(tmp_path / "c") == [tmp_path / "c"]


def test_two_processes_register_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    paths = [dataset(tmp_path / f"d{i}" / "pick.zarr", "ep-a") for i in range(6)]
    code = """
import sys
from pathlib import Path
from act_data.registry import Registry
from act_data.store import open_dataset

class TrainedOn:
    uid, version, content_hash = "u", 1, "h"

sys.stdin.readline()
for path in map(Path, sys.argv[1:]):
    for _ in range(5):
        Registry().register(open_dataset(path))
        Registry().register_checkpoint(path, TrainedOn, 1)
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *map(str, mine)],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for mine in (paths[:4], paths[2:])
    ]  # fmt: skip
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert errors == ["", ""]
    registry = Registry()
    assert {d.path for d in registry.datasets()} == set(map(str, paths))
    names = {"pick", *(f"pick-{i}" for i in range(2, 7))}
    assert {d.name for d in registry.datasets()} == names
    assert registry.newest_checkpoint() in paths


# --- checkpoints ------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainedOn:
    uid: str
    version: int
    content_hash: str


def test_the_newest_checkpoint_is_the_one_registered_last_that_is_still_there(
    tmp_path: Path,
) -> None:
    registry = Registry()
    assert registry.newest_checkpoint() is None
    data = TrainedOn("u", 1, "h")
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
        registry.register_checkpoint(folder, data, step=100)
    assert registry.newest_checkpoint() == folders[2]
    registry.register_checkpoint(folders[0], data, step=200)
    assert registry.newest_checkpoint() == folders[0]
    folders[0].rmdir()
    assert registry.newest_checkpoint() == folders[2]
    for folder in folders[1:]:
        folder.rmdir()
    assert registry.newest_checkpoint() is None
