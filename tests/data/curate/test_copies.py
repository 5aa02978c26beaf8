"""Datasets made of others: byte for byte, whole or not at all, and independent of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from act_data.curate.copies import compact, filter_into, merge
from act_data.curate.versions import annotate, delete_episodes, split
from act_data.errors import ConflictError, InputError, StoreError
from act_data.records import Annotation
from act_data.registry import Registry
from act_data.report import stats
from act_data.store import open_dataset
from tests.data.curate.datasets import hashes, ingest, uids


@pytest.fixture
def ds(tmp_path: Path) -> Path:
    path = tmp_path / "ds.zarr"
    ingest(path, range(5))
    return path


def pictures(path: Path) -> list[bytes]:
    reader = open_dataset(path)
    return [reader.read("images/cam_high", n).tobytes() for n in range(len(reader.episodes))]


def test_a_compact_dataset_has_the_content_of_its_origin_and_no_holes(
    ds: Path, tmp_path: Path
) -> None:
    annotate(str(ds), ["3"], Annotation(task="pour"))
    split(str(ds), val=["1"])
    delete_episodes(str(ds), ["0", "2"])
    stats(str(ds))
    out = tmp_path / "small.zarr"
    report = compact("ds", out)
    old, new = open_dataset(ds), open_dataset(out)
    assert new.version.content_hash == old.version.content_hash == report.content_hash
    assert new.uid != old.uid
    assert [(e.uid, e.hash, e.split) for e in new.episodes] == [
        (e.uid, e.hash, e.split) for e in old.episodes
    ]
    assert [e.start for e in new.episodes] == [0, 8, 20]  # shards of 4: 7, 9 and 10 steps
    assert new.episode("e0003") == old.episode("e0003").model_copy(
        update={"start": 8, "files": new.episode("e0003").files}
    )
    assert pictures(out) == pictures(ds)
    saved = new.stats()
    assert saved is not None
    assert saved.features == old.stats().features  # type: ignore[union-attr]
    assert report.linked_bytes == report.bytes > 0
    assert (report.made_from[0].uid, report.made_from[0].version) == (old.uid, 4)
    assert Registry().resolve("small").path == out
    shutil.rmtree(ds)
    assert len(hashes(out)) == 1


def test_what_cannot_be_linked_is_copied(
    ds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_links)
    report = compact(str(ds), tmp_path / "copy.zarr")
    assert report.linked_bytes == 0
    assert hashes(tmp_path / "copy.zarr") == hashes(ds)


def test_a_merge_holds_the_episodes_of_all_and_each_once(ds: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr"
    ingest(other, [9, 3, 8], shard_frames=5)  # shards of another size: the frames move over
    annotate(str(other), ["e0009"], Annotation(task="wipe"))
    split(str(other), val=["e0008"])
    out = tmp_path / "both.zarr"
    would = merge([str(ds), str(other)], out, dry_run=True)
    assert not out.exists()
    report = merge([str(ds), str(other)], out)
    assert uids(out) == ["e0000", "e0001", "e0002", "e0003", "e0004", "e0009", "e0008"]
    assert report.duplicates == ("e0003",)
    reader = open_dataset(out)
    assert reader.episode("e0009").info.task == "wipe"
    assert reader.episodes[6].split == "val"
    assert [e.hash for e in reader.episodes[:5]] == [e.hash for e in open_dataset(ds).episodes]
    assert report.content_hash == would.content_hash == hashes(out)[0]
    assert [o.name for o in report.made_from] == ["ds", "other"]


def test_a_filter_may_make_a_dataset_of_its_own(ds: Path, tmp_path: Path) -> None:
    out = tmp_path / "long.zarr"
    filter_into("ds@1", "length > 8", out)
    assert uids(out) == ["e0003", "e0004"]
    assert len(hashes(ds)) == 1


def test_a_merge_of_different_robots_shows_both_sides(ds: Path, tmp_path: Path) -> None:
    ingest(tmp_path / "other.zarr", [7], robot="three_joints")
    with pytest.raises(ConflictError, match=r"three_joints.*not 'two_joints'"):
        merge(["ds", "other"], tmp_path / "both.zarr")
    assert not (tmp_path / "both.zarr").exists()


def test_damage_does_not_travel(ds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = sorted((ds / "data/qpos/c").iterdir())[0]
    file = shard if shard.is_file() else next(p for p in shard.rglob("*") if p.is_file())
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(18, "no")))
    with pytest.raises(StoreError, match="sha256"):
        compact(str(ds), tmp_path / "copy.zarr")
    file.unlink()
    with pytest.raises(StoreError, match="missing"):
        compact(str(ds), tmp_path / "copy.zarr")


def test_a_place_that_is_taken_is_refused(ds: Path, tmp_path: Path) -> None:
    ingest(tmp_path / "other.zarr", [7])
    with pytest.raises(ConflictError, match="holds a dataset already"):
        compact(str(ds), tmp_path / "other.zarr")
    with pytest.raises(InputError, match="no place"):
        compact(str(ds), tmp_path / "folder")
    with pytest.raises(InputError, match="one dataset"):
        merge([str(ds)], tmp_path / "x.zarr")
    with pytest.raises(InputError, match="true of no episode"):
        filter_into(str(ds), "length > 99", tmp_path / "x.zarr")
    assert sorted(p.name for p in tmp_path.glob("*.zarr")) == ["ds.zarr", "other.zarr"]
