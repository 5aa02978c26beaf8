"""Datasets of this toolkit as the source: with their stamps, units, splits and JPEG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from act_data.convert import ConvertSettings, convert
from act_data.errors import InputError
from act_data.records import Codec
from act_data.store import open_dataset, open_writer
from tests.data.store.contract import assert_reads_back, make_schema, make_steps, record

LENGTHS = (6, 3, 9)


def made(path: Path, codec: Codec = "raw") -> Path:
    """Three episodes with sync arrays of which every value differs, the middle one held out."""
    with open_writer(path, make_schema(codec), shard_frames=4) as writer:
        for n, length in enumerate(LENGTHS):
            record(writer, f"ep-{n}", make_steps(length, seed=n), seed=n)
        writer.commit(
            [f"ep-{n}" for n in range(3)],
            splits={"ep-0": "train", "ep-1": "val", "ep-2": "train"},
        )
    return path


@pytest.mark.parametrize(("first", "second"), [("a.zarr", "b"), ("a", "b.zarr")])
def test_nothing_is_lost_between_zarr_and_hdf5(tmp_path: Path, first: str, second: str) -> None:
    source = made(tmp_path / first)
    settings = ConvertSettings(codec="raw")
    convert(source, tmp_path / second, settings)
    convert(tmp_path / second, tmp_path / "c.zarr", settings)
    one = open_dataset(source)
    for path in (tmp_path / second, tmp_path / "c.zarr"):
        two = open_dataset(path)
        assert two.schema == one.schema
        assert [e.hash for e in two.episodes] == [e.hash for e in one.episodes]
        assert [e.split for e in two.episodes] == ["train", "val", "train"]
        for n, length in enumerate(LENGTHS):
            assert_reads_back(two, n, make_steps(length, seed=n))
            info = two.episode(two.episodes[n].uid).info
            assert (info.task, info.success, info.notes) == ("pick the cube", True, "größer ✓")
            assert info.imported is not None
            assert info.imported.origin is not None
            assert info.imported.origin.name == f"bag{n}", "the first source, not the last file"
        assert two.verify() == []
    # What a training depends on: the same but for the codec of the pictures.
    assert open_dataset(tmp_path / "c.zarr").version.content_hash == one.version.content_hash


def test_jpeg_files_are_copied_not_encoded_again(tmp_path: Path) -> None:
    source = made(tmp_path / "a.zarr", "jpeg")
    report = convert(source, tmp_path / "b.zarr")
    one, two = open_dataset(source), open_dataset(tmp_path / "b.zarr")
    assert two.version.content_hash == one.version.content_hash
    assert [a.generations for a in report.arrays if a.was] == [1]
    worse = convert(source, tmp_path / "c", ConvertSettings(codec="jpeg"))
    assert [a.generations for a in worse.arrays if a.was] == [2], "the colours are swapped there"
    same = convert(tmp_path / "c", tmp_path / "d", ConvertSettings())
    assert [a.generations for a in same.arrays if a.was] == [2]
    c, d = (open_dataset(tmp_path / name).episodes for name in "cd")
    assert [e.hash for e in d] == [e.hash for e in c]


@pytest.mark.parametrize(
    ("was", "asked", "becomes"),
    [("raw", None, "raw"), ("zstd", None, "zstd"), ("jpeg", None, "jpeg"), ("zstd", "raw", "raw")],
)
def test_a_copy_keeps_the_codec_unless_another_is_asked_for(
    tmp_path: Path, was: Codec, asked: Codec | None, becomes: Codec
) -> None:
    source = made(tmp_path / "a.zarr", was)
    convert(source, tmp_path / "b.zarr", ConvertSettings(codec=asked))
    two = open_dataset(tmp_path / "b.zarr")
    assert two.schema.feature("images/cam_high").codec == becomes
    np.testing.assert_array_equal(
        two.read("images/cam_high", 2), open_dataset(source).read("images/cam_high", 2)
    )


def test_a_rate_is_not_changed_by_saying_another(tmp_path: Path) -> None:
    source = made(tmp_path / "a.zarr")
    with pytest.raises(InputError, match="10 steps per second, not 50"):
        convert(source, tmp_path / "b.zarr", ConvertSettings(fps=50))


def test_not_a_number_passes_where_the_sync_columns_tell_of_it(tmp_path: Path) -> None:
    """A masked step: qpos has a column of its own, whose reason says that it is not valid."""
    steps = make_steps(4)
    steps[2].observation["qpos"][0] = np.nan  # type: ignore[index]
    with open_writer(tmp_path / "a.zarr", make_schema(), shard_frames=4) as writer:
        record(writer, "ep-a", steps)
        writer.commit(["ep-a"])
    convert(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert np.isnan(open_dataset(tmp_path / "b.zarr").read("qpos", 0)[2, 0])
