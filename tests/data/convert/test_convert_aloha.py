"""ALOHA HDF5 recordings in and out, in the dialects of all four original programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from act_data.convert import ConvertSettings, convert
from act_data.errors import ConflictError, DataError, InputError
from act_data.records import TIMESTAMP
from act_data.store import jpeg, open_dataset
from act_data.types import Role
from tests.data.convert.originals import (
    CAMERAS,
    Dialect,
    aloha_file,
    aloha_folder,
    as_act_plus_plus_loads,
    picture,
)

FPS = ConvertSettings(fps=50)


def set_to(**changes: Any) -> ConvertSettings:
    return ConvertSettings.model_validate({"fps": 50, **changes})


def arrays_of(path: Path) -> dict[str, Any]:
    """Everything in an HDF5 file but what this toolkit adds."""
    found: dict[str, Any] = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("act/"):
            found[f"/{name}"] = (item[()], item.dtype, item.chunks if item.ndim > 2 else None)

    with h5py.File(path, "r") as root:
        root.visititems(add)
        found["sim"] = bool(root.attrs["sim"])
        found["compress"] = bool(root.attrs["compress"])
    return found


# --- round trips ------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", get_args(Dialect))
@pytest.mark.parametrize("sim", [True, False], ids=["sim", "real"])
def test_a_recording_comes_back_from_zarr_as_its_program_wrote_it(
    tmp_path: Path, dialect: Dialect, sim: bool
) -> None:
    source, store, back = tmp_path / "episode_0.hdf5", tmp_path / "ds.zarr", tmp_path / "b.hdf5"
    given_ = aloha_file(source, dialect, 5, sim=sim)
    report = convert(source, store, FPS)
    convert(store, back, ConvertSettings(dialect=dialect))
    one, two = arrays_of(source), arrays_of(back)
    assert two.keys() == one.keys()
    for name, want in one.items():
        lossy = two["compress"] and name.startswith(("/observations/images/", "/compress_len"))
        if lossy:
            continue
        np.testing.assert_equal(two[name], want, err_msg=name)
        if name in given_:
            assert two[name][0].tobytes() == given_[name].tobytes()
    assert set(two) >= set(given_)
    assert report.stamps == "nominal"
    assert ("sim is false" in " ".join(report.notes)) is not sim


def test_compressed_pictures_keep_their_colours_through_every_step(tmp_path: Path) -> None:
    source, store, back = tmp_path / "episode_0.hdf5", tmp_path / "ds.zarr", tmp_path / "b.hdf5"
    aloha_file(source, "mobile", 4)
    report = convert(source, store, FPS)
    convert(store, back, ConvertSettings(dialect="mobile"))
    reader = open_dataset(store)
    for i, camera in enumerate(CAMERAS):
        stored = reader.read(f"images/{camera}", 0).astype(int)
        for t in range(4):
            true = picture(t, i).astype(int)
            assert np.abs(as_act_plus_plus_loads(source, camera, t) - true).mean() < 6
            assert np.abs(stored[t] - true).mean() < 7
            assert np.abs(stored[t] - true[..., ::-1]).mean() > 20, "not swapped"
            assert np.abs(as_act_plus_plus_loads(back, camera, t) - true).mean() < 8
    assert {a.generations for a in report.arrays if a.was} == {2}
    info = open_dataset(back).episode(open_dataset(back).episodes[0].uid).info
    assert info.imported is not None
    assert info.imported.pictures["images/cam_high"].generations == 3
    assert info.imported.pictures["images/cam_high"].encoding == "jpeg"
    assert info.source.kind == "act_zarr"
    assert info.imported.origin is not None
    assert info.imported.origin.kind == "aloha_hdf5"


def test_jpeg_files_pass_from_one_aloha_folder_to_another_untouched(tmp_path: Path) -> None:
    aloha_folder(tmp_path / "in", "compressed")
    report = convert(tmp_path / "in", tmp_path / "out", FPS)
    assert {a.generations for a in report.arrays if a.was} == {1}
    reader = open_dataset(tmp_path / "out")
    seen = [{c: reader.read(f"images/{c}", n) for c in CAMERAS} for n in range(2)]
    entries = reader.episodes
    del reader  # HDF5 lets nobody else in while it is open
    for n, entry in enumerate(entries):
        old, new = (tmp_path / d / f"episode_{n}.hdf5" for d in ("in", "out"))
        with h5py.File(old) as was, h5py.File(new) as now:
            order = {c: i for i, c in enumerate(sorted(CAMERAS))}
            for i, camera in enumerate(CAMERAS):
                where = f"/observations/images/{camera}"
                for t in range(entry.length):
                    length = int(was["compress_len"][i, t])
                    assert now["compress_len"][order[camera], t] == length
                    assert bytes(now[where][t, :length]) == bytes(was[where][t, :length])
                    as_cv2 = cv2.imdecode(was[where][t], 1)
                    np.testing.assert_array_equal(seen[n][camera][t], as_cv2)


def test_jpeg_files_of_standard_colours_pass_into_zarr_untouched(tmp_path: Path) -> None:
    """A recorder that mended the colours: what its files hold is what every viewer shows."""
    path = tmp_path / "episode_0.hdf5"
    aloha_file(path, "compressed", 3)
    frames = [jpeg.encode(picture(t, 0), 80) for t in range(3)]
    with h5py.File(path, "r+") as root:
        for camera in CAMERAS:
            del root[f"observations/images/{camera}"]
            padded = np.stack([np.frombuffer(f.ljust(5000, b"\0"), np.uint8) for f in frames])
            root[f"observations/images/{camera}"] = padded
    report = convert(path, tmp_path / "ds.zarr", set_to(jpeg_colors="standard"))
    reader = open_dataset(tmp_path / "ds.zarr")
    for t, frame in enumerate(frames):
        kept = reader.encoded("images/cam_low", 0, t)
        assert kept is not None
        assert kept.data == frame
    assert {a.generations for a in report.arrays if a.was} == {1}


def test_rows_of_imported_data_claim_nothing_about_synchronisation(tmp_path: Path) -> None:
    aloha_folder(tmp_path / "in", lengths=(7, 2, 4))
    report = convert(tmp_path / "in", tmp_path / "ds.zarr", set_to(fps=29.97, task="fold"))
    reader = open_dataset(tmp_path / "ds.zarr")
    assert [e.length for e in reader.episodes] == [7, 2, 4]
    assert reader.schema.stamps == "nominal"
    assert reader.schema.columns == ()
    assert [f.name for f in reader.schema.named(Role.SYNC)] == [TIMESTAMP]
    assert all(f.columns == () for f in reader.schema.features)
    exact = [round(t * 10**11 / 2997) for t in range(7)]
    assert reader.read(TIMESTAMP, 0).tolist() == exact
    info = reader.episode(reader.episodes[0].uid).info
    assert (info.sync, info.task, info.source.files) == (None, "fold", ("episode_0.hdf5",))
    assert any("no stamps were recorded" in note for note in report.notes)
    assert any("units are not known: action" in note for note in report.notes)
    assert reader.verify() == []


NAMES = st.sampled_from(["qpos", "qvel", "effort", "obs_wheels", "imu", "action_eef"])


@settings(max_examples=25, deadline=None)
@given(
    vectors=st.dictionaries(NAMES, st.integers(1, 5), max_size=4),
    cameras=st.dictionaries(
        st.sampled_from(["top", "left", "right-1"]),
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        max_size=2,
    ),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    codec=st.sampled_from(["raw", "zstd", "blosc"]),
    seed=st.integers(0, 2**31),
)
def test_any_plain_recordings_survive_the_way_to_zarr_and_back(
    tmp_path_factory: pytest.TempPathFactory,
    vectors: dict[str, int],
    cameras: dict[str, tuple[int, int]],
    lengths: list[int],
    codec: str,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    rng = np.random.default_rng(seed)
    (folder / "in").mkdir()
    for i, steps in enumerate(lengths):
        with h5py.File(folder / "in" / f"episode_{i}.hdf5", "w") as root:
            root.attrs.update({"sim": True, "compress": False})
            root["action"] = rng.normal(size=(steps, 3)).astype(np.float32)
            for name, width in vectors.items():
                where = name if name.startswith("action") else f"observations/{name}"
                root[where] = rng.normal(size=(steps, width)).astype(np.float32)
            root.require_group("observations")
            for name, (h, w) in cameras.items():
                pixels = rng.integers(0, 256, (steps, h, w, 3), np.uint8)
                root.create_dataset(f"observations/images/{name}", data=pixels, chunks=(1, h, w, 3))
    convert(folder / "in", folder / "ds.zarr", set_to(codec=codec))
    convert(folder / "ds.zarr", folder / "out")
    for i in range(len(lengths)):
        one, two = (arrays_of(folder / d / f"episode_{i}.hdf5") for d in ("in", "out"))
        np.testing.assert_equal(two, one)


# --- what a person can decide -----------------------------------------------------------------


def test_arrays_are_renamed_concatenated_and_left_out_by_name(tmp_path: Path) -> None:
    path = tmp_path / "episode_0.hdf5"
    data = aloha_file(path, "mobile", 4)
    names = {"action": "action", "base_action": "action", "qvel": "velocity", "effort": ""}
    report = convert(path, tmp_path / "ds.zarr", set_to(names=names))
    reader = open_dataset(tmp_path / "ds.zarr")
    together = np.concatenate([data["/action"], data["/base_action"]], axis=1)
    np.testing.assert_array_equal(reader.read("action", 0), together)
    np.testing.assert_array_equal(reader.read("velocity", 0), data["/observations/qvel"])
    assert "effort" not in [f.name for f in reader.schema.features]
    assert report.left_out == {"effort": "asked for"}
    assert reader.schema.feature("action").role is Role.ACTION


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"fps": None}, "--fps", id="no-rate"),
        pytest.param({"names": {"qpso": "qpos"}}, "'qpso'", id="a-name-that-is-not-there"),
        pytest.param({"names": {"qvel": "qpos"}}, "would all become 'qpos'", id="one-target"),
        pytest.param(
            {"names": {"qpos": "x", "images/cam_low": "x"}}, "cannot be concatenated", id="mixed"
        ),
        pytest.param({"dialect": "mobile"}, "base_action", id="mobile-without-a-base"),
        pytest.param({"dialect": "agilex"}, "depth/<camera>", id="agilex-without-depth"),
        pytest.param({"names": {"qpos": "../x"}}, "'../x'", id="a-name-that-climbs"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    aloha_folder(tmp_path / "in")
    with pytest.raises(InputError) as caught:
        convert(tmp_path / "in", tmp_path / "out", set_to(**changes))
    assert says in f"{caught.value} {caught.value.hint}"
    assert not (tmp_path / "out").exists()


def test_a_dialect_leaves_out_what_its_program_does_not_know(tmp_path: Path) -> None:
    aloha_folder(tmp_path / "in", "agilex")
    report = convert(tmp_path / "in", tmp_path / "out", set_to(dialect="plain"))
    assert sorted(report.left_out) == ["base_action", *sorted(f"depth/{c}" for c in CAMERAS)]
    assert "/base_action" not in arrays_of(tmp_path / "out" / "episode_0.hdf5")


def test_recordings_that_do_not_agree_on_sim_need_a_word(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i, sim in enumerate((True, False)):
        aloha_file(tmp_path / "in" / f"episode_{i}.hdf5", sim=sim)
    with pytest.raises(InputError, match="do not agree"):
        convert(tmp_path / "in", tmp_path / "ds.zarr", FPS)
    convert(tmp_path / "in", tmp_path / "ds.zarr", set_to(simulated=True))
    assert open_dataset(tmp_path / "ds.zarr").schema.simulated


def test_several_episodes_do_not_go_into_one_file(tmp_path: Path) -> None:
    aloha_folder(tmp_path / "in")
    with pytest.raises(InputError, match="exactly one episode"):
        convert(tmp_path / "in", tmp_path / "one.hdf5", FPS)


def test_a_source_is_never_its_own_target(tmp_path: Path) -> None:
    aloha_folder(tmp_path / "in")
    with pytest.raises(ConflictError, match="the source itself"):
        convert(tmp_path / "in", tmp_path / "in", FPS)


# --- damage and interruption ------------------------------------------------------------------


def change(path: Path, where: str, values: Any) -> None:
    with h5py.File(path, "r+") as root:
        del root[where]
        root[where] = values


def cut_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


def half_a_picture(path: Path) -> None:
    with h5py.File(path, "r+") as root:
        row = root["observations/images/cam_high"][2]
        row[len(bytes(row).rstrip(b"\0")) // 2 :] = 0
        root["observations/images/cam_high"][2] = row


def no_number(path: Path) -> None:
    with h5py.File(path, "r+") as root:
        root["observations/qvel"][2, 5] = np.nan


DAMAGE = [
    pytest.param(cut_file, "not a sound HDF5 file", id="cut-short"),
    pytest.param(half_a_picture, "row 2 of observations/images/cam_high", id="half-a-jpeg"),
    pytest.param(no_number, "step 2: array 'qvel' holds", id="nan"),
    pytest.param(
        lambda p: change(p, "action", np.zeros((3, 14), "f4")), "has 5 rows", id="rows-differ"
    ),
    pytest.param(
        lambda p: change(p, "action", np.zeros((5, 7), "f4")), "is not like", id="other-robot"
    ),
    pytest.param(
        lambda p: change(p, "observations/images/cam_low", np.zeros((5, 8, 8, 3), "u1")),
        "is not like", id="other-camera",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "says"), DAMAGE)
def test_a_damaged_episode_ends_the_conversion_or_is_left_out_and_told(
    tmp_path: Path, damage: Any, says: str
) -> None:
    aloha_folder(tmp_path / "in", "compressed", lengths=(5, 5, 4))
    damage(tmp_path / "in" / "episode_1.hdf5")
    with pytest.raises(DataError, match=says) as caught:
        convert(tmp_path / "in", tmp_path / "out.zarr", FPS)
    assert "--damaged skip" in caught.value.hint
    report = convert(tmp_path / "in", tmp_path / "out.zarr", set_to(damaged="skip"))
    assert [e.source for e in report.episodes] == ["episode_0.hdf5", "episode_2.hdf5"]
    assert list(report.skipped) == ["episode_1.hdf5"]
    assert says in report.skipped["episode_1.hdf5"]
    assert open_dataset(tmp_path / "out.zarr").verify() == []


def test_a_conversion_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    aloha_folder(tmp_path / "in", lengths=(4, 4, 4))

    def stop(done: int, total: int) -> None:
        assert total == 12
        if done == 6:
            raise KeyboardInterrupt

    for out in (tmp_path / "ds.zarr", tmp_path / "folder"):
        with pytest.raises(KeyboardInterrupt):
            convert(tmp_path / "in", out, FPS, progress=stop)
        assert sorted(p.name for p in tmp_path.iterdir() if "partial" in p.name) == []
        report = convert(tmp_path / "in", out, FPS)
        assert [e.found for e in report.episodes] == [True, False, False]
        assert report.added == 2
        again = convert(tmp_path / "in", out, FPS)
        assert (again.added, again.version, again.content_hash) == (0, 1, report.content_hash)


def test_a_stop_before_the_first_episode_leaves_nothing(tmp_path: Path) -> None:
    aloha_folder(tmp_path / "in")

    def stop(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    for out in (tmp_path / "ds.zarr", tmp_path / "folder", tmp_path / "out" / "deep.zarr"):
        with pytest.raises(KeyboardInterrupt):
            convert(tmp_path / "in", out, FPS, progress=stop)
        assert not out.exists()
