"""ALOHA HDF5 files: the store's contract, the original's way of reading, crashes and evil files."""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from act_data.errors import ConflictError, DataError, InputError, NotFoundError, StoreError
from act_data.records import DatasetSchema, Feature
from act_data.store import jpeg, open_dataset, open_writer
from act_data.types import EncodedImage, Role, StepType, Timestep
from tests.data.store.contract import (
    StoreContract,
    assert_reads_back,
    make_info,
    make_schema,
    make_steps,
    record,
)


class TestFolder(StoreContract):
    name = "episodes"
    codecs = ("raw",)  # JPEG has swapped channels here, see below


class TestSingleFile(StoreContract):
    name = "one.hdf5"
    codecs = ("raw",)
    versions = False
    appends = False

    def test_a_commit_appends_and_keeps_the_split_of_what_was_there(self, path: Path) -> None:
        """It does not: this format holds one episode, and says how to keep several."""
        with self.writer(path) as writer:
            record(writer, "ep-a", make_steps(2))
            with pytest.raises(InputError, match="exactly one episode") as caught:
                writer.episode("ep-b")
            assert "folder" in caught.value.hint
            writer.commit(["ep-a"])
        with self.writer(path) as writer, pytest.raises(InputError, match="exactly one episode"):
            writer.episode("ep-b")

    def test_an_older_version_stays_readable(self, committed: Path) -> None:
        """There is one version and no other."""
        assert open_dataset(committed, 1).version.number == 1
        with pytest.raises(NotFoundError, match="version 2"):
            open_dataset(committed, 2)


# --- as the original scripts read it ----------------------------------------------------------

CAMERAS = ("cam_right_wrist", "cam_high")  # not in alphabetical order


def mobile_schema(codec: str = "raw") -> DatasetSchema:
    """A small Mobile ALOHA: 14 joints, base, two cameras, one depth camera, an IMU."""

    def vector(name: str, role: Role, size: int) -> Feature:
        return Feature(name=name, role=role, dtype="float32", shape=(size,))

    return DatasetSchema(
        robot="mobile",
        fps=30,
        features=(
            *(vector(name, Role.OBSERVATION, 14) for name in ("qpos", "qvel", "effort")),
            vector("imu", Role.OBSERVATION, 6),
            *(
                Feature(
                    name=f"images/{camera}", role=Role.OBSERVATION, dtype="uint8",
                    shape=(32, 48, 3), codec=codec, quality=90,
                )
                for camera in CAMERAS
            ),
            Feature(
                name="depth/cam_high", role=Role.OBSERVATION, dtype="uint16", shape=(32, 48),
                codec="raw",
            ),
            vector("action", Role.ACTION, 14),
            vector("base_action", Role.ACTION, 2),
            Feature(name="timestamp", role=Role.SYNC, dtype="int64", shape=()),
        ),
    )  # fmt: skip


def picture(t: int, camera: int) -> np.ndarray:
    """Smooth, so that JPEG keeps it; red, green and blue differ."""
    y, x = np.mgrid[0:32, 0:48]
    return np.stack([4 * x + t, 20 + 3 * y, np.full_like(x, 60 * camera + t)], -1).astype(np.uint8)


def mobile_steps(length: int = 5) -> list[Timestep]:
    rng = np.random.default_rng(0)

    def vector(size: int) -> np.ndarray:
        return rng.normal(size=size).astype(np.float32)

    return [
        Timestep(
            step_type=StepType.FIRST if t == 0 else StepType.MID,
            tick_ns=10**18 + t,
            observation={
                "qpos": vector(14), "qvel": vector(14), "effort": vector(14), "imu": vector(6),
                **{f"images/{c}": picture(t, i) for i, c in enumerate(CAMERAS)},
                "depth/cam_high": rng.integers(0, 2**16, (32, 48), np.uint16),
            },
            action={"action": vector(14), "base_action": vector(2)},
            skew_ns=np.zeros(0, np.int64), reason=np.zeros(0, np.uint8),
            index=np.zeros(0, np.int64),
        )
        for t in range(length)
    ]  # fmt: skip


def ingested(path: Path, codec: str = "raw", steps: list[Timestep] | None = None) -> list[Timestep]:
    steps = mobile_steps() if steps is None else steps
    with open_writer(path, mobile_schema(codec)) as writer:
        record(writer, "ep-a", steps)
        writer.commit(["ep-a"])
    return steps


def test_the_original_scripts_find_every_key_with_its_type_and_chunks(tmp_path: Path) -> None:
    steps = ingested(tmp_path / "data")
    with h5py.File(tmp_path / "data" / "episode_0.hdf5", "r") as root:
        assert root.attrs["sim"].dtype == np.bool_
        assert not root.attrs["sim"]
        assert not root.attrs["compress"]
        for key in ("qpos", "qvel", "effort", "imu"):
            stored = root[f"/observations/{key}"]
            assert stored.dtype == np.float32
            np.testing.assert_array_equal(stored[()], [s.observation[key] for s in steps])
        for key in ("action", "base_action"):
            assert root[f"/{key}"].dtype == np.float32
            np.testing.assert_array_equal(root[f"/{key}"][()], [s.action[key] for s in steps])
        # imitate_episodes: camera by name, one frame; a real robot's action starts one earlier.
        assert sorted(root["/observations/images"].keys()) == sorted(CAMERAS)
        assert root["/action"][max(0, 3 - 1) :].shape == (3, 14)
        for camera in CAMERAS:
            images = root[f"/observations/images/{camera}"]
            assert (images.shape, images.dtype) == ((5, 32, 48, 3), np.uint8)
            assert (images.chunks, images.compression) == ((1, 32, 48, 3), None)
            assert images.id.get_create_plist().get_nfilters() == 0
            np.testing.assert_array_equal(images[3], steps[3].observation[f"images/{camera}"])
        depth = root["/observations/images_depth/cam_high"]
        assert (depth.dtype, depth.chunks) == (np.uint16, (1, 32, 48))
        np.testing.assert_array_equal(depth[2], steps[2].observation["depth/cam_high"])
        assert "compress_len" not in root


def test_compressed_pictures_decode_as_the_original_scripts_decode_them(tmp_path: Path) -> None:
    ingested(tmp_path / "one.hdf5", "jpeg")
    with h5py.File(tmp_path / "one.hdf5", "r") as root:
        assert root.attrs["compress"]
        lengths = root["/compress_len"][()]
        assert (lengths.shape, lengths.dtype) == ((2, 5), np.float32)
        # visualize_episodes: cameras in the order in which HDF5 lists them.
        for row, camera in enumerate(root["/observations/images"].keys()):
            padded = root[f"/observations/images/{camera}"]
            assert (padded.dtype, padded.chunks) == (np.uint8, (1, padded.shape[1]))
            assert padded.shape == (5, int(lengths[row].max()))
            for t in range(5):
                length = int(lengths[row, t])
                assert padded[t, length - 2 : length].tobytes() == b"\xff\xd9"
                assert not padded[t, length:].any()
                # cv2.imdecode gives a file's channels as blue, green, red.
                whole = np.asarray(Image.open(io.BytesIO(padded[t].tobytes())))[..., ::-1]
                true = picture(t, CAMERAS.index(camera)).astype(int)
                assert np.abs(whole - true).mean() < 4
                assert np.abs(whole[..., ::-1] - true).mean() > 20, "not swapped"


def test_compressed_pictures_read_back_as_one_swapped_encoding_makes_them(tmp_path: Path) -> None:
    steps = ingested(tmp_path / "data", "jpeg")
    reader = open_dataset(tmp_path / "data")
    for camera in CAMERAS:
        name = f"images/{camera}"
        expected = [
            jpeg.decode(jpeg.encode(s.observation[name][..., ::-1], 90))[..., ::-1] for s in steps
        ]
        np.testing.assert_array_equal(reader.read(name, 0), expected)
        np.testing.assert_array_equal(reader.read(name, 0, 2, 4), expected[2:4])
    assert reader.verify() == []


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_a_camera_that_sends_jpeg_is_decoded_first(tmp_path: Path, codec: str) -> None:
    steps = mobile_steps(2)
    shown: dict[str, np.ndarray] = {}
    for step in steps:
        for name in [n for n in step.observation if n.startswith("images/")]:
            data = jpeg.encode(step.observation[name], 95)
            shown[name] = jpeg.decode(data)
            step.observation[name] = EncodedImage(data=data, shape=(32, 48, 3))
    ingested(tmp_path / "data", codec, steps)
    reader = open_dataset(tmp_path / "data")
    for name, image in shown.items():
        got = reader.read(name, 0)[-1].astype(int)
        assert np.abs(got - image).mean() < (4 if codec == "jpeg" else 1e-9)


def test_a_jpeg_of_another_size_or_a_broken_one_is_a_data_error(tmp_path: Path) -> None:
    step = mobile_steps(1)[0]
    small = EncodedImage(data=jpeg.encode(np.zeros((8, 8, 3), np.uint8), 90), shape=(8, 8, 3))
    broken = EncodedImage(data=b"\xff\xd8 not a picture", shape=(32, 48, 3))
    with open_writer(tmp_path / "data", mobile_schema("jpeg")) as writer:
        episode = writer.episode("ep-a")
        for image in (small, broken):
            step.observation["images/cam_high"] = image
            with pytest.raises(DataError):
                episode.record(step)
        step.observation["images/cam_high"] = picture(0, 0)
        step.observation["images/cam_new"] = picture(0, 0)
        with pytest.raises(DataError, match="cam_new"):
            episode.record(step)
        del step.observation["images/cam_new"]
        episode.record(step)
        assert episode.finish(make_info()).length == 1


def test_raw_content_has_the_same_hash_in_both_formats(tmp_path: Path) -> None:
    hashes = []
    for name in ("ds.zarr", "folder", "one.hdf5"):
        with open_writer(tmp_path / name, make_schema("raw"), shard_frames=4) as writer:
            made = record(writer, "ep-a", make_steps(70))
            version = writer.commit(["ep-a"])
        hashes.append((made.hash, version.content_hash))
    assert len(set(hashes)) == 1


def test_long_episodes_grow_without_holes_and_without_reserved_rest(tmp_path: Path) -> None:
    steps = make_steps(300)
    with open_writer(tmp_path / "one.hdf5", make_schema()) as writer:
        record(writer, "ep-a", steps)
        writer.commit(["ep-a"])
    assert_reads_back(open_dataset(tmp_path / "one.hdf5"), 0, steps)
    pixels = 300 * 16 * 24 * 3
    assert (tmp_path / "one.hdf5").stat().st_size < pixels + 200_000


# --- what the layout cannot hold --------------------------------------------------------------


def changed(**changes: Any) -> DatasetSchema:
    schema = mobile_schema()
    features = {f.name: f for f in schema.features}
    for name, change in changes.items():
        key = name.replace("__", "/")
        features[key] = features[key].model_copy(update=change)
    return schema.model_copy(update={"features": tuple(features.values())})


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        pytest.param(changed(depth__cam_high={"codec": "blosc"}), "'blosc'", id="blosc-depth"),
        pytest.param(changed(images__cam_high={"codec": "zstd"}), "'zstd'", id="zstd-images"),
        pytest.param(
            changed(images__cam_high={"codec": "jpeg"}), "some images are", id="mixed-codecs"
        ),
        pytest.param(changed(qpos={"name": "../qpos"}), "'../qpos'", id="a-path-that-climbs"),
        pytest.param(changed(base_action={"name": "observations"}), "cannot lie", id="reserved"),
        pytest.param(changed(base_action={"name": "compress_len"}), "cannot lie", id="lengths"),
        pytest.param(changed(imu={"name": "images"}), "cannot lie", id="an-array-for-a-group"),
        pytest.param(changed(imu={"name": "qpos/imu"}), "cannot lie", id="array-in-an-array"),
        pytest.param(changed(imu={"name": "qpos"}), "cannot lie", id="twice"),
        pytest.param(changed(timestamp={"name": "clock"}), "cannot lie", id="unknown-sync-array"),
    ],
)
def test_a_schema_that_does_not_fit_is_an_input_error(
    tmp_path: Path, schema: DatasetSchema, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_writer(tmp_path / "data", schema)
    assert caught.value.hint
    assert not (tmp_path / "data").exists()


def test_a_commit_message_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    with open_writer(tmp_path / "data", make_schema()) as writer:
        record(writer, "ep-a", make_steps(2))
        with pytest.raises(InputError, match="5000 characters"):
            writer.commit(["ep-a"], message="x" * 5000)
        with pytest.raises(NotFoundError):
            open_dataset(tmp_path / "data")
        writer.commit(["ep-a"], message="x" * 2900)
    assert open_dataset(tmp_path / "data").version.message == "x" * 2900


def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ConflictError, match=r"notes\.txt"):
        open_writer(folder, make_schema())
    (tmp_path / "file").write_text("")
    with pytest.raises(ConflictError, match="a file"):
        open_writer(tmp_path / "file", make_schema())
    (tmp_path / "folder.hdf5").mkdir()
    with pytest.raises(ConflictError, match="a folder"):
        open_writer(tmp_path / "folder.hdf5", make_schema())
    with pytest.raises(StoreError, match="a folder"):
        open_dataset(tmp_path / "folder.hdf5")


# --- crashes ----------------------------------------------------------------------------------

EPISODES = {"ep-a": 3, "ep-b": 2, "ep-c": 2}


def write_three(path: Path) -> None:
    """Two versions: ep-a, then ep-b and ep-c; whatever is there already is kept."""
    with open_writer(path, make_schema("jpeg")) as writer:
        for uids in (["ep-a"], ["ep-b", "ep-c"]):
            for uid in uids:
                if uid not in writer.durable:
                    record(writer, uid, make_steps(EPISODES[uid], seed=EPISODES[uid]))
            writer.commit(uids)


def killed_at(operation: int, path: Path) -> bool:
    """Run `write_three` in a process that is killed before its n-th file operation."""
    pid = os.fork()
    if pid == 0:
        left = [operation]

        def counted(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **kwargs)

            return call

        for name in ("fsync", "pwrite", "posix_fallocate"):
            setattr(os, name, counted(getattr(os, name)))
        for name in ("rename", "mkdir", "unlink"):
            setattr(Path, name, counted(getattr(Path, name)))
        code = 1
        try:
            write_three(path)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status != 0


def test_after_a_kill_at_any_file_operation_a_second_run_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A kill loses nothing that was written, unlike a power cut: no need to wait for the disk.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    write_three(tmp_path / "whole")
    whole = open_dataset(tmp_path / "whole")
    seen: set[int] = set()
    operation = 0
    while True:
        operation += 1
        path = tmp_path / f"run{operation}"
        if not killed_at(operation, path):
            break
        before: dict[Path, bytes] = {}
        try:
            reader = open_dataset(path)
        except NotFoundError:
            seen.add(0)
        else:
            assert reader.verify() == []
            number = reader.version.number
            seen.add(number)
            assert len(reader.episodes) == {1: 1, 2: 3}[number]
            files = [path / f"episode_{i}.hdf5" for i in range(len(reader.episodes))]
            before = {file: file.read_bytes() for file in files}
        write_three(path)
        for file, data in before.items():
            assert file.read_bytes() == data, operation
        reader = open_dataset(path)
        assert reader.version.content_hash == whole.version.content_hash, operation
        assert reader.verify() == []
        assert sorted(p.name for p in path.iterdir()) == [f"episode_{i}.hdf5" for i in range(3)]
    assert seen == {0, 1, 2}
    assert operation > 20


def test_a_full_disk_is_a_store_error_and_leaves_a_process_that_can_go_on(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
from act_data.errors import StoreError
from act_data.store import open_dataset, open_writer
from tests.data.store.contract import make_info, make_schema, make_steps, record

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, limit = Path(sys.argv[1]), 1_600_000
for codec in ("raw", "jpeg"):
    with open_writer(path / codec, make_schema(codec)) as writer:
        record(writer, "ep-a", make_steps(3))
        writer.commit(["ep-a"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        episode = writer.episode("ep-b")
        try:
            for step in make_steps(50) * 60:
                episode.record(step)
            episode.finish(make_info())
        except StoreError as error:
            print(codec, "cannot write" in str(error), writer.durable.keys())
            episode.discard()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        record(writer, "ep-b", make_steps(3, seed=1))
        writer.commit(["ep-b"])
    print(sorted(p.name for p in (path / codec).iterdir()), open_dataset(path / codec).verify())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    files = "['episode_0.hdf5', 'episode_1.hdf5'] []"
    assert done.stdout.splitlines() == [
        "raw True dict_keys(['ep-a'])", files, "jpeg True dict_keys(['ep-a'])", files,
    ], done.stderr  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_files_of_a_version_that_are_gone_or_swapped_are_named(tmp_path: Path) -> None:
    path = tmp_path / "data"
    write_three(path)
    second, third = path / "episode_1.hdf5", path / "episode_2.hdf5"
    data = third.read_bytes()
    third.unlink()
    with pytest.raises(StoreError, match=r"episode_2\.hdf5' is missing"):
        open_dataset(path)
    third.write_bytes(second.read_bytes())
    second.write_bytes(data)
    problems = open_dataset(path).verify()
    assert problems == []  # two episodes that changed places: another dataset, and a sound one
    write_three(tmp_path / "other")
    third.write_bytes((tmp_path / "other" / "episode_2.hdf5").read_bytes())
    with pytest.raises(StoreError, match="another dataset"):
        open_dataset(path)


def test_verify_names_foreign_files_and_flipped_bytes_of_every_array(tmp_path: Path) -> None:
    path = tmp_path / "data"
    for codec in ("raw", "jpeg"):
        folder = path / codec
        ingested(folder, codec)
        file = folder / "episode_0.hdf5"
        whole = file.read_bytes()
        places: dict[str, int] = {}

        def place(name: str, found: Any, places: dict[str, int] = places) -> None:
            if isinstance(found, h5py.Dataset) and name not in ("act/commit", "compress_len"):
                chunked = found.chunks is not None
                places[name] = (
                    found.id.get_chunk_info(0).byte_offset if chunked else found.id.get_offset()
                )

        with h5py.File(file) as root:
            root.visititems(place)
        assert len(places) == 10
        for name, offset in places.items():
            data = bytearray(whole)
            data[offset] ^= 1
            file.write_bytes(data)
            assert open_dataset(folder).verify() != [], name
        file.write_bytes(whole)
        assert open_dataset(folder).verify() == []
        (folder / "notes.txt").write_text("mine")
        assert "notes.txt" in str(open_dataset(folder).verify()[0])


# --- files by somebody else -------------------------------------------------------------------


def replaced(name: str, **how: Any) -> Callable[[h5py.File, Path], None]:
    """Put another dataset in the place of `name`."""

    def edit(root: h5py.File, _: Path) -> None:
        del root[name]
        root.create_dataset(name, **how)

    return edit


def outside(root: h5py.File, folder: Path) -> None:
    secret = folder / "secret"
    secret.write_bytes(b"s" * 4096)
    del root["action"]
    root.create_dataset("action", (5, 14), "f4", external=[(str(secret), 0, 280)])


def external_link(root: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "elsewhere.h5", "w") as other:
        other["action"] = np.zeros((5, 14), np.float32)
    del root["action"]
    root["action"] = h5py.ExternalLink(str(folder / "elsewhere.h5"), "/action")


def soft_link(root: h5py.File, _: Path) -> None:
    del root["action"]
    root["action"] = h5py.SoftLink("/observations/qpos")


def linked_group(root: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "elsewhere.h5", "w") as other:
        root.copy("observations", other)
    del root["observations"]
    root["observations"] = h5py.ExternalLink(str(folder / "elsewhere.h5"), "/observations")


def virtual(root: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "elsewhere.h5", "w") as other:
        other["action"] = np.zeros((5, 14), np.float32)
    layout = h5py.VirtualLayout((5, 14), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "elsewhere.h5"), "action", (5, 14), "f4")
    del root["action"]
    root.create_virtual_dataset("action", layout)


def endless_group(root: h5py.File, _: Path) -> None:
    del root["observations/images"]
    root["observations/images"] = root["observations"]


def lengths(value: float) -> Callable[[h5py.File, Path], None]:
    def edit(root: h5py.File, _: Path) -> None:
        root["compress_len"][0, 1] = value

    return edit


FLOATS = np.zeros((5, 14), np.float32)
EVIL: list[Any] = [
    pytest.param("raw", outside, "outside the file", id="external-storage"),
    pytest.param("raw", external_link, "link to somewhere else", id="external-link"),
    pytest.param("raw", soft_link, "link to somewhere else", id="soft-link"),
    pytest.param("raw", linked_group, "link to somewhere else", id="group-in-another-file"),
    pytest.param("raw", virtual, "outside the file", id="virtual-dataset"),
    pytest.param("raw", endless_group, "has no 'observations/im", id="a-group-inside-itself"),
    pytest.param(
        "raw", replaced("action", data=FLOATS, compression="gzip"), "filters", id="a-filter"
    ),
    pytest.param("raw", replaced("action", data=FLOATS[:4]), "schema says", id="rows-missing"),
    pytest.param("raw", replaced("action", data=FLOATS.astype("f8")), "float64", id="type"),
    pytest.param(
        "raw", replaced("action", shape=(5, 14), dtype="f4", chunks=(1, 14)), "promises",
        id="chunks-missing",
    ),
    pytest.param("raw", lambda root, _: root.pop("action"), "has no 'action'", id="missing"),
    pytest.param("jpeg", lengths(np.nan), "no length", id="length-nan"),
    pytest.param("jpeg", lengths(-1), "no length", id="length-negative"),
    pytest.param("jpeg", lengths(1e6), "has room for", id="length-beyond-the-padding"),
    pytest.param("jpeg", lengths(300), "row 1", id="length-too-short"),
    pytest.param(
        "jpeg",
        replaced("observations/images/cam_high", shape=(5, 10**12), dtype="u1", chunks=(1, 64)),
        "promises", id="a-petabyte-of-nothing",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "edit", "message"), EVIL)
def test_an_evil_array_is_a_store_error_before_its_data_is_read(
    tmp_path: Path, codec: str, edit: Callable[[h5py.File, Path], None], message: str
) -> None:
    path = tmp_path / "one.hdf5"
    ingested(path, codec)
    with h5py.File(path, "r+") as root:
        edit(root, tmp_path)
    reader = open_dataset(path)

    def read_all() -> None:
        for feature in reader.schema.features:
            reader.read(feature.name, 0)

    with pytest.raises(StoreError, match=message) as caught:
        read_all()
    assert str(path) in str(caught.value)
    assert reader.verify() != []


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    def edit(root: h5py.File) -> None:
        root["act"].attrs[name] = value

    return edit


def in_json(name: str, **changes: Any) -> Callable[[h5py.File], None]:
    def edit(root: h5py.File) -> None:
        root["act"].attrs[name] = json.dumps({**json.loads(root["act"].attrs[name]), **changes})

    return edit


def without_act(root: h5py.File) -> None:
    del root["act"]


def linked_act(root: h5py.File) -> None:
    root["elsewhere"] = root["act"]
    del root["act"]
    root["act"] = h5py.SoftLink("/elsewhere")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        pytest.param(without_act, "has no 'act'", id="an-original-aloha-file"),
        pytest.param(linked_act, "link", id="act-is-a-link"),
        pytest.param(attribute("format_version", 2), "format version 2", id="newer"),
        pytest.param(attribute("format_version", "1"), "format_version", id="version-as-text"),
        pytest.param(attribute("format", "aloha"), "this toolkit", id="another-format"),
        pytest.param(attribute("schema", 7), "'schema'", id="schema-is-a-number"),
        pytest.param(attribute("schema", "{"), "'schema'", id="schema-is-no-json"),
        pytest.param(attribute("episode", ["a", "b"]), "'episode'", id="record-is-a-list"),
        pytest.param(in_json("episode", uid="../../x"), "uid", id="a-uid-that-climbs"),
        pytest.param(in_json("episode", length=0), "0 steps", id="no-steps"),
        pytest.param(in_json("schema", surprise=1), "surprise", id="unknown-key"),
        pytest.param(in_json("schema", features=[]), "", id="no-arrays"),
    ],
)
def test_a_file_that_says_something_impossible_about_itself_is_a_store_error(
    tmp_path: Path, edit: Callable[[h5py.File], None], message: str
) -> None:
    path = tmp_path / "one.hdf5"
    ingested(path)
    with h5py.File(path, "r+") as root:
        edit(root)
    if message:
        with pytest.raises(StoreError, match=message) as caught:
            open_dataset(path)
        assert str(path) in str(caught.value)
    else:
        assert open_dataset(path).verify() != []


@pytest.mark.parametrize("data", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_file_that_is_not_hdf5_is_a_store_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "one.hdf5").write_bytes(data)
    with pytest.raises(StoreError, match="not a sound HDF5 file") as caught:
        open_dataset(tmp_path / "one.hdf5")
    assert caught.value.hint


def test_a_pipe_in_the_place_of_an_episode_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data" / "episode_0.hdf5")
    with pytest.raises(StoreError, match="not a plain file"):
        open_dataset(tmp_path / "data")


def damage_is_found(path: Path, steps: list[Timestep]) -> bool:
    """Whether the dataset admits to be damaged; if not, it holds `steps`."""
    try:
        reader = open_dataset(path)
        if not reader.verify():
            assert_reads_back(reader, 0, steps)
            return False
    except StoreError:
        pass
    return True


def test_random_damage_is_found_or_without_effect_and_never_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "one.hdf5"
    steps = make_steps(3)
    with open_writer(path, make_schema()) as writer:
        record(writer, "ep-a", steps)
        writer.commit(["ep-a"])
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    pid = os.fork()  # HDF5 is C: a crash should fail this test, not end the test run
    if pid == 0:
        found, code = 0, 1
        try:
            for _ in range(60):
                data = bytearray(whole)
                for place in rng.integers(0, 12_000, 3):
                    data[place] = rng.integers(256)
                path.write_bytes(data)
                found += damage_is_found(path, steps)
            code = 0 if found > 20 else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def open_hdf5_files() -> int:
    count: int = h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)
    return count


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("act", "'act' cannot be read", id="when-opened"),
        pytest.param("action", "'action' cannot be read", id="when-read"),
    ],
)
def test_an_error_leaves_no_file_open(tmp_path: Path, name: str, message: str) -> None:
    """HDF5 gives whoever opens an open file what it remembers of it, not what the disk holds."""
    path = tmp_path / "one.hdf5"
    ingested(path)
    with h5py.File(path) as root:
        header = h5py.h5o.get_info(root[name].id).addr
    with path.open("r+b") as file:
        file.seek(header)
        file.write(b"\xff")  # a version of object headers that does not exist
    gc.collect()
    before = open_hdf5_files()
    gc.disable()  # closed by us, not by chance
    try:
        problems: list[str] = []
        try:
            reader = open_dataset(path)
            problems += map(str, reader.verify())
            reader.read("action", 0)
        except StoreError as error:
            problems.append(str(error))
        reader = None
        assert all(message in problem for problem in problems)
        assert problems
        assert open_hdf5_files() == before
    finally:
        gc.enable()


def test_verify_reads_the_disk_also_after_the_same_file_was_read(tmp_path: Path) -> None:
    path = tmp_path / "one.hdf5"
    ingested(path)
    reader = open_dataset(path)
    assert reader.read("qpos", 0).shape == (5, 14)
    with path.open("r+b") as file:
        file.seek(0)
        file.write(bytes(4096))
    assert "not a sound HDF5 file" in str(reader.verify()[0])


def test_a_damaged_statistics_file_is_a_store_error(tmp_path: Path) -> None:
    ingested(tmp_path / "one.hdf5")
    (tmp_path / "one.stats.json").write_text("{}")
    with pytest.raises(StoreError, match=r"one\.stats\.json"):
        open_dataset(tmp_path / "one.hdf5").stats()
