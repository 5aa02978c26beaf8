"""diffusion_policy's replay buffers and robomimic's files as sources."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest
from imagecodecs.numcodecs import Jpeg2k

from act_data.convert import ConvertSettings, convert
from act_data.errors import ActError, DataError, InputError
from act_data.records import TIMESTAMP
from act_data.store import open_dataset, zarr2
from tests.data.convert.originals import H, W, picture, replay_buffer, robomimic_file, zarr2_array

FPS = ConvertSettings(fps=10)
LENGTHS = (5, 3, 4)


def zipped(folder: Path) -> Path:
    path = folder.with_name(folder.name + ".zip")
    with zipfile.ZipFile(path, "w") as made:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            made.write(file, file.relative_to(folder))
    return path


# --- replay buffers ---------------------------------------------------------------------------


@pytest.mark.parametrize("zip_it", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("codec", ["blosc", "zstd", "zlib", "lz4", "none"])
def test_a_replay_buffer_is_read(tmp_path: Path, codec: str, zip_it: bool) -> None:
    source = tmp_path / "pusht.zarr"
    arrays = replay_buffer(source, LENGTHS, codec)
    report = convert(zipped(source) if zip_it else source, tmp_path / "ds.zarr", FPS)
    reader = open_dataset(tmp_path / "ds.zarr")
    assert [e.length for e in reader.episodes] == list(LENGTHS)
    start = 0
    for n, length in enumerate(LENGTHS):
        rows = slice(start, start + length)
        for name in ("state", "keypoint", "n_contacts"):
            np.testing.assert_array_equal(reader.read(name, n), arrays[name][rows])
        np.testing.assert_array_equal(
            reader.read("action", n), arrays["action"][rows].astype(np.float32)
        )
        frames = reader.read("images/img", n)
        assert frames.dtype == np.uint8, "also where the buffer has floats, as that of Push-T"
        np.testing.assert_array_equal(frames, arrays["img"][rows])
        start += length
    assert any("float64 became float32: action" in note for note in report.notes)
    assert {a.generations for a in report.arrays if a.was} == {0}


def test_pictures_in_jpeg_2000_are_read_and_their_loss_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay_buffer(tmp_path / "real.zarr", LENGTHS, "jpeg2k")
    report = convert(tmp_path / "real.zarr", tmp_path / "ds.zarr", FPS)
    assert [(a.was, a.stored, a.generations) for a in report.arrays if a.was] == [
        ("jpeg2k", "jpeg", 2)
    ]
    frames = open_dataset(tmp_path / "ds.zarr").read("images/img", 1).astype(int)
    true = np.stack([picture(t, 0) for t in range(5, 8)]).astype(int)
    assert (np.abs(frames - true).mean(axis=(1, 2, 3)) < 5).all()
    monkeypatch.setattr(zarr2, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="JPEG 2000") as caught:
        convert(tmp_path / "real.zarr", tmp_path / "other.zarr", FPS)
    assert "act-toolkit[jpeg2k]" in caught.value.hint


@pytest.mark.parametrize("picture_", [(200, 200, 3), (H, W, 1)], ids=["too-large", "grey"])
def test_a_jpeg_2000_file_of_another_size_is_not_decoded(
    tmp_path: Path, picture_: tuple[int, ...]
) -> None:
    replay_buffer(tmp_path / "b.zarr", LENGTHS, "jpeg2k")
    other = Jpeg2k(level=50).encode(np.zeros(picture_, np.uint8))
    (tmp_path / "b.zarr/data/img/1.0.0.0").write_bytes(other)
    with pytest.raises(DataError, match="it holds a picture of"):
        convert(tmp_path / "b.zarr", tmp_path / "ds.zarr", FPS)


def test_stamps_of_a_real_robot_are_kept(tmp_path: Path) -> None:
    replay_buffer(tmp_path / "real.zarr", (4, 3), "blosc")
    stamps = 1_690_000_000.25 + np.arange(7) / 10
    zarr2_array(tmp_path / "real.zarr" / "data" / "timestamp", stamps, (4,), None)
    report = convert(tmp_path / "real.zarr", tmp_path / "ds.zarr", FPS)
    assert report.stamps == "recorded"
    reader = open_dataset(tmp_path / "ds.zarr")
    assert reader.read(TIMESTAMP, 1).tolist() == [round(s * 1e9) for s in stamps[4:].tolist()]
    assert (reader.schema.stamps, reader.schema.columns) == ("recorded", ())
    nominal = ConvertSettings(fps=10, names={"timestamp": ""})
    assert convert(tmp_path / "real.zarr", tmp_path / "b.zarr", nominal).stamps == "nominal"


def chunk(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(data) and None


def document(array: str, **changes: Any) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        path = root / array / ".zarray"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def link(root: Path) -> None:
    (root / "data/state/0.0").rename(root.parent / "secret")
    (root / "data/state/0.0").symlink_to(root.parent / "secret")


def zeros(size: int) -> bytes:
    return bytes(numcodecs.Blosc("zstd").encode(bytes(size)))


BAD: list[Any] = [
    pytest.param(lambda r: (r / "data/state/1.0").unlink(), "is missing", id="chunk-missing"),
    pytest.param(chunk("data/state/0.0", b"xx"), "damaged chunk", id="chunk-cut"),
    pytest.param(chunk("data/state/0.0", zeros(1 << 20)), "declares", id="bomb"),
    pytest.param(chunk("data/state/0.0", zeros(40)), "declares", id="chunk-too-short"),
    pytest.param(chunk("data/state/0.0", b"x" * 10_000), "more than", id="chunk-too-long"),
    pytest.param(link, "symbolic link", id="chunk-is-a-link"),
    pytest.param(document("data/state", dtype="|O"), "numbers are read", id="objects"),
    pytest.param(
        document("data/state", filters=[{"id": "pickle"}]), "'pickle'", id="pickle-filter"
    ),
    pytest.param(
        document("data/state", compressor={"id": "pickle"}), "'pickle'", id="pickle-codec"
    ),
    pytest.param(document("data/state", shape=[10**12, 5]), "rows, its", id="a-terabyte-of-rows"),
    pytest.param(
        document("data/state", chunks=[10**9, 5]), "too large", id="a-chunk-of-gigabytes"
    ),
    pytest.param(document("data/state", shape=[3, 5]), "has 3 rows", id="rows-missing"),
    pytest.param(document("data/state", shape="x"), "no zarr v2", id="no-shape"),
    pytest.param(document("data/state", zarr_format=3), "no zarr v2", id="version-3"),
    pytest.param(lambda r: (r / "data/state/.zarray").write_text("["), "no JSON", id="no-json"),
    pytest.param(
        chunk("meta/episode_ends/0", np.array([5, 3, 12]).tobytes()), "does not grow", id="ends"
    ),
    pytest.param(
        chunk("meta/episode_ends/0", np.array([5, 8, 13]).tobytes()), "end at 13", id="past-the-end"
    ),
    pytest.param(lambda r: (r / "meta/episode_ends/.zarray").unlink(), "missing", id="no-ends"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "says"), BAD)
def test_a_damaged_or_evil_buffer_is_refused(
    tmp_path: Path, edit: Callable[[Path], None], says: str
) -> None:
    replay_buffer(tmp_path / "b.zarr", LENGTHS)
    edit(tmp_path / "b.zarr")
    with pytest.raises(ActError, match=says) as caught:
        convert(tmp_path / "b.zarr", tmp_path / "ds.zarr", FPS)
    assert isinstance(caught.value, DataError)


def test_a_float_picture_that_is_none_is_refused_with_the_way_out(tmp_path: Path) -> None:
    replay_buffer(tmp_path / "b.zarr", LENGTHS)
    half = np.full((1, H, W, 3), 0.5, np.float32)
    (tmp_path / "b.zarr/data/img/2.0.0.0").write_bytes(numcodecs.Blosc("lz4").encode(half))
    with pytest.raises(DataError, match="looks like pictures") as caught:
        convert(tmp_path / "b.zarr", tmp_path / "ds.zarr", FPS)
    assert "--map img=" in caught.value.hint


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not a zip", b"x" * 100])
def test_a_zip_file_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "b.zarr.zip").write_bytes(data)
    with pytest.raises(ActError, match="no sound zip file"):
        convert(tmp_path / "b.zarr.zip", tmp_path / "ds.zarr", FPS)


def test_a_zip_bomb_is_not_inflated(tmp_path: Path) -> None:
    replay_buffer(tmp_path / "b.zarr", LENGTHS)
    (tmp_path / "b.zarr" / "data/state/0.0").write_bytes(bytes(100 << 20))
    path = tmp_path / "b.zarr.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for file in sorted(p for p in (tmp_path / "b.zarr").rglob("*") if p.is_file()):
            made.write(file, file.relative_to(tmp_path / "b.zarr"))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match="more than"):
        convert(path, tmp_path / "ds.zarr", FPS)


# --- robomimic --------------------------------------------------------------------------------


def test_a_robomimic_file_is_read_with_its_splits_and_its_rate(tmp_path: Path) -> None:
    made = robomimic_file(tmp_path / "lift.hdf5", LENGTHS)
    report = convert(tmp_path / "lift.hdf5", tmp_path / "ds.zarr")
    assert (report.source_format, report.variant, report.fps) == ("robomimic", "Lift", 20)
    assert sorted(report.left_out) == ["dones", "next_obs", "rewards", "states"]
    reader = open_dataset(tmp_path / "ds.zarr")
    assert (reader.schema.robot, reader.schema.simulated) == ("Panda", True)
    assert reader.schema.feature("images/agentview_image").codec == "zstd", "rendered pictures"
    assert [e.split for e in reader.episodes] == ["val", "train", "train"]
    for n, (position, camera, actions) in enumerate(made):
        np.testing.assert_array_equal(reader.read("robot0_eef_pos", n), position.astype(np.float32))
        np.testing.assert_array_equal(reader.read("action", n), actions.astype(np.float32))
        np.testing.assert_array_equal(reader.read("images/agentview_image", n), camera)
    assert [e.source for e in report.episodes] == ["demo_8", "demo_9", "demo_10"]


def without_actions(root: h5py.File) -> None:
    del root["data/demo_9/actions"]


def other_shape(root: h5py.File) -> None:
    del root["data/demo_9/actions"]
    root["data/demo_9/actions"] = np.zeros((3, 6))


def fewer_rows(root: h5py.File) -> None:
    del root["data/demo_9/obs/robot0_eef_pos"]
    root["data/demo_9/obs/robot0_eef_pos"] = np.zeros((2, 3))


def not_a_number(root: h5py.File) -> None:
    root["data/demo_9/actions"][1, 2] = np.inf


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        pytest.param(without_actions, "no 'data/demo_9/actions'", id="no-actions"),
        pytest.param(other_shape, "demo_9 is not like demo_8: actions", id="other-shape"),
        pytest.param(fewer_rows, "has 2 rows", id="rows-differ"),
        pytest.param(not_a_number, "demo_9, step 1: array 'actions'", id="infinite"),
    ],
)
def test_a_damaged_demonstration_is_told_or_left_out(
    tmp_path: Path, edit: Callable[[h5py.File], None], says: str
) -> None:
    robomimic_file(tmp_path / "lift.hdf5", LENGTHS)
    with h5py.File(tmp_path / "lift.hdf5", "r+") as root:
        edit(root)
    with pytest.raises(DataError, match=says):
        convert(tmp_path / "lift.hdf5", tmp_path / "ds.zarr")
    report = convert(tmp_path / "lift.hdf5", tmp_path / "ds.zarr", ConvertSettings(damaged="skip"))
    assert list(report.skipped) == ["demo_9"]
    assert [e.steps for e in report.episodes] == [5, 4]


@pytest.mark.parametrize("text", ["", "[", "[]", '{"env_kwargs": 7}', '{"env_kwargs": {}}'])
def test_a_file_that_says_little_about_itself_needs_a_rate(tmp_path: Path, text: str) -> None:
    robomimic_file(tmp_path / "lift.hdf5", LENGTHS)
    with h5py.File(tmp_path / "lift.hdf5", "r+") as root:
        root["data"].attrs["env_args"] = text
    with pytest.raises(InputError, match="how many steps a second"):
        convert(tmp_path / "lift.hdf5", tmp_path / "ds.zarr")
    assert convert(tmp_path / "lift.hdf5", tmp_path / "ds.zarr", FPS).fps == 10
