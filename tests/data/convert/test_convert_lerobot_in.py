"""LeRobot datasets that others made: older ones, odd ones, damaged ones, and ones made to hurt."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from act_data.convert import ConvertSettings, convert
from act_data.convert.lerobot.layout import file_key
from act_data.errors import ActError, DataError
from act_data.store import open_dataset
from tests.data.convert.originals import H, W, aloha_folder, lerobot_v21, picture


def test_a_dataset_of_version_2_1_is_read(tmp_path: Path) -> None:
    made = lerobot_v21(tmp_path / "lr", (9, 4, 6))
    report = convert(tmp_path / "lr", tmp_path / "ds.zarr")
    assert (report.variant, report.fps, report.stamps) == ("v2.1", 30, "nominal")
    assert report.left_out == {"next.done": "is known after the action only"}
    reader = open_dataset(tmp_path / "ds.zarr")
    assert reader.schema.robot == "so100"
    assert reader.schema.feature("qpos").names == tuple("abcdef")
    assert reader.schema.feature("action").names == tuple("ABCDEF")
    for n, (state, action) in enumerate(made):
        np.testing.assert_array_equal(reader.read("qpos", n), state)
        np.testing.assert_array_equal(reader.read("action", n), action)
        frames = reader.read("images/top", n).astype(int)
        true = np.stack([picture(t, 1, n) for t in range(len(state))]).astype(int)
        assert (np.abs(frames - true).mean(axis=(1, 2, 3)) < 6).all(), "each frame in its row"
        info = reader.episode(reader.episodes[n].uid).info
        assert info.task == ("pick", "place")[n % 2]
        assert info.imported is not None
        assert info.imported.pictures["images/top"].encoding == "h264"


def test_an_import_that_was_stopped_goes_on_in_the_middle_of_a_file(tmp_path: Path) -> None:
    aloha_folder(tmp_path / "in", lengths=(6, 7, 5))
    convert(tmp_path / "in", tmp_path / "lr", ConvertSettings(fps=50, target_format="lerobot"))
    (tmp_path / "lr" / "meta" / "act.json").unlink()  # as if somebody else had made it

    def stop(done: int, total: int) -> None:
        assert total == 18
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "lr", tmp_path / "ds.zarr", progress=stop)
    report = convert(tmp_path / "lr", tmp_path / "ds.zarr")
    assert [e.found for e in report.episodes] == [True, False, False]
    reader = open_dataset(tmp_path / "ds.zarr")
    for n, length in enumerate((6, 7, 5)):
        frames = reader.read("images/cam_low", n).astype(int)
        true = np.stack([picture(t, 1, n) for t in range(length)]).astype(int)
        assert (np.abs(frames - true).mean(axis=(1, 2, 3)) < 8).all()


# --- damage -----------------------------------------------------------------------------------

Edit = Callable[[Path], None]


def edited(key: str, change: Callable[[Any], Any]) -> Edit:
    """Change a JSON document."""

    def edit(root: Path) -> None:
        document = json.loads((root / key).read_text())
        (root / key).write_text(json.dumps(change(document)))

    return edit


def with_info(**changes: Any) -> Edit:
    return edited("meta/info.json", lambda info: {**info, **changes})


def with_feature(name: str, **changes: Any) -> Edit:
    def change(info: Any) -> Any:
        info["features"].setdefault(name, {}).update(changes)
        return info

    return edited("meta/info.json", change)


DATA = "data/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.cam_low/chunk-000/file-000.mp4"
PLACES = "meta/episodes/chunk-000/file-000.parquet"


def with_table(key: str, change: Callable[[pa.Table], pa.Table]) -> Edit:
    def edit(root: Path) -> None:
        pq.write_table(change(pq.read_table(root / key)), root / key)

    return edit


def column(name: str, values: Callable[[list[Any]], list[Any]], kind: Any = None) -> Any:
    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index(name)
        made = pa.array(values(table.column(at).to_pylist()), kind or table.schema.types[at])
        return table.set_column(at, name, made)

    return change


def cut(key: str, share: float = 0.6) -> Edit:
    def edit(root: Path) -> None:
        data = (root / key).read_bytes()
        (root / key).write_bytes(data[: int(len(data) * share)])

    return edit


def flipped(key: str) -> Edit:
    """Bytes in the middle of the file are others."""

    def edit(root: Path) -> None:
        data = bytearray((root / key).read_bytes())
        middle = len(data) // 3
        data[middle : middle + 200] = bytes(200)
        (root / key).write_bytes(data)

    return edit


def linked(key: str) -> Edit:
    def edit(root: Path) -> None:
        (root / key).rename(root.parent / "elsewhere")
        (root / key).symlink_to(root.parent / "elsewhere")

    return edit


def playlist(root: Path) -> None:
    """FFmpeg opens whatever a playlist names, if it is asked to guess the format."""
    (root.parent / "secret.ts").write_bytes(b"secret")
    (root / VIDEO).write_text(f"#EXTM3U\n#EXTINF:1,\n{root.parent / 'secret.ts'}\n#EXT-X-ENDLIST\n")


def nan(values: list[Any]) -> list[Any]:
    values[4] = [*values[4][:-1], float("nan")]
    return values


DAMAGE: list[Any] = [
    pytest.param(lambda r: (r / "meta/info.json").write_text("{"), "info.json", id="info-no-json"),
    pytest.param(with_info(fps=0), "fps", id="no-rate"),
    pytest.param(with_info(codebase_version="v1.6"), "v1.6", id="too-old"),
    pytest.param(with_info(codebase_version="v4.0"), "v4.0", id="too-new"),
    pytest.param(with_info(total_frames=99), "says 99", id="frames-missing"),
    pytest.param(with_info(total_episodes=3), "says 3", id="episodes-missing"),
    pytest.param(
        with_table(PLACES, lambda t: t.slice(0, 0)), "holds no episode", id="no-episode"
    ),
    pytest.param(with_info(data_path="../{chunk_index}.parquet"), "followed", id="climbing-path"),
    pytest.param(with_info(data_path="/etc/{file_index}"), "followed", id="absolute-path"),
    pytest.param(with_info(data_path="{chunk_index.__class__}"), "followed", id="path-of-dots"),
    pytest.param(with_info(video_path="{secret}.mp4"), "'secret'", id="unknown-field-in-path"),
    pytest.param(with_feature("observation.state", shape=[7]), "not of shape", id="wrong-shape"),
    pytest.param(
        with_feature("observation.images.cam_low", shape=[H, W + 2, 3]), "has pictures of",
        id="wrong-picture-shape",
    ),
    pytest.param(with_feature("extra", dtype="float32", shape=[2]), "no column", id="no-column"),
    pytest.param(cut(DATA), "no sound parquet", id="table-cut"),
    pytest.param(flipped(DATA), "table 'data", id="table-flipped"),
    pytest.param(lambda r: (r / DATA).unlink(), "is missing", id="table-missing"),
    pytest.param(linked(DATA), "symbolic link", id="table-is-a-link"),
    pytest.param(with_table(DATA, lambda t: t.slice(0, 9)), "ends after 9 rows", id="rows-missing"),
    pytest.param(
        with_table(DATA, column("frame_index", lambda v: [*v[:2], 7, *v[3:]])), "frame_index is 7",
        id="rows-in-disorder",
    ),
    pytest.param(
        with_table(DATA, column("timestamp", lambda v: [*v[:3], 9.0, *v[4:]])), "timestamps",
        id="other-timestamps",
    ),
    pytest.param(
        with_table(DATA, column("task_index", lambda v: [5] * len(v))), "task_index",
        id="unknown-task",
    ),
    pytest.param(
        with_table(DATA, column("action", lambda v: [None, *v[1:]])), "empty rows", id="empty-row"
    ),
    pytest.param(
        with_table(
            DATA, column("action", lambda v: [r[:-1] for r in v], pa.list_(pa.float32()))
        ), "not of shape", id="ragged",
    ),
    pytest.param(
        with_table(DATA, column("action", lambda v: ["x"] * len(v), pa.string())), "action",
        id="text-for-numbers",
    ),
    pytest.param(with_table(DATA, column("action", nan)), "step 4", id="nan"),
    pytest.param(cut(VIDEO), "video 'videos", id="video-cut"),
    pytest.param(flipped(VIDEO), "", id="video-flipped"),
    pytest.param(lambda r: (r / VIDEO).unlink(), "is missing", id="video-missing"),
    pytest.param(linked(VIDEO), "symbolic link", id="video-is-a-link"),
    pytest.param(playlist, "damaged", id="video-is-a-playlist"),
    pytest.param(lambda r: (r / VIDEO).write_bytes(b"\0" * 5000), "damaged", id="video-is-nothing"),
    pytest.param(
        with_table(PLACES, column(
            "videos/observation.images.cam_low/from_timestamp", lambda v: [0.0, 9.0])),
        "ends before", id="frames-beyond-the-end",
    ),
    pytest.param(
        with_table(PLACES, column("dataset_from_index", lambda v: [0, 3])), "", id="overlapping"
    ),
    pytest.param(
        with_table(PLACES, lambda t: t.drop_columns(["tasks"])), "no column", id="no-tasks"
    ),
    pytest.param(cut("meta/tasks.parquet"), "no sound parquet", id="tasks-cut"),
]  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lerobot")
    aloha_folder(folder / "in", lengths=(6, 7))
    convert(folder / "in", folder / "lr", ConvertSettings(fps=50, target_format="lerobot"))
    (folder / "lr" / "meta" / "act.json").unlink()
    return folder / "lr"


@pytest.mark.parametrize(("edit", "says"), DAMAGE)
def test_damage_is_told_and_nothing_is_written(
    tmp_path: Path, exported: Path, edit: Edit, says: str
) -> None:
    root = tmp_path / "lr"
    shutil.copytree(exported, root)
    edit(root)
    if says:
        with pytest.raises(ActError, match=says) as caught:
            convert(root, tmp_path / "ds.zarr")
        assert isinstance(caught.value, DataError)
        assert not (tmp_path / "ds.zarr" / "versions" / "000001").exists()
        return
    try:  # a video decoder may conceal what was flipped: then every frame is there
        convert(root, tmp_path / "ds.zarr")
    except DataError:
        return
    assert [e.length for e in open_dataset(tmp_path / "ds.zarr").episodes] == [6, 7]


def test_random_damage_never_shows_a_traceback(tmp_path: Path, exported: Path) -> None:
    rng = np.random.default_rng(0)
    refused = 0
    keys = [DATA, VIDEO, PLACES, "meta/info.json", "meta/tasks.parquet"]
    for n in range(40):
        root = tmp_path / f"lr{n}"
        shutil.copytree(exported, root)
        path = root / keys[n % len(keys)]
        data = bytearray(path.read_bytes())
        for at in rng.integers(0, len(data), 8):
            data[at] = rng.integers(256)
        path.write_bytes(data)
        try:
            convert(root, tmp_path / f"ds{n}.zarr")
        except ActError:
            refused += 1
        shutil.rmtree(root)
    assert refused > 10


def test_stale_notes_of_an_export_are_not_believed(tmp_path: Path, exported: Path) -> None:
    """A dataset that was exported here and then changed by lerobot's own tools."""
    aloha_folder(tmp_path / "in", lengths=(6, 7, 4))
    convert(tmp_path / "in", tmp_path / "other", ConvertSettings(fps=50, target_format="lerobot"))
    root = tmp_path / "lr"
    shutil.copytree(exported, root)
    shutil.copy(tmp_path / "other" / "meta" / "act.json", root / "meta" / "act.json")
    report = convert(root, tmp_path / "ds.zarr")
    assert report.variant == "v3.0"
    assert [e.steps for e in report.episodes] == [6, 7]


@pytest.mark.parametrize("suffix", ["PNG", "JPEG"])
def test_pictures_in_tables_stay_what_they_are(tmp_path: Path, exported: Path, suffix: str) -> None:
    """JPEG files of standard colours pass through; PNG stays lossless."""
    root = tmp_path / "lr"
    shutil.copytree(exported, root)
    key = "observation.images.cam_low"

    def file(n: int) -> bytes:
        made = io.BytesIO()
        Image.fromarray(picture(n, 2)).save(made, suffix)
        return made.getvalue()

    table = pq.read_table(root / DATA)
    rows = [{"bytes": file(n), "path": f"{n}.{suffix}"} for n in range(len(table))]
    pq.write_table(table.append_column(key, pa.array(rows)), root / DATA)
    shutil.rmtree(root / "videos" / key)
    with_feature(key, dtype="image", shape=[3, H, W])(root)
    report = convert(root, tmp_path / "ds.zarr", ConvertSettings(names={
        "observation.images.cam_high": "", "observation.images.cam_left_wrist": "",
    }))  # fmt: skip
    reader = open_dataset(tmp_path / "ds.zarr")
    assert reader.read("images/cam_low", 1).shape == (7, H, W, 3)
    (picture_report,) = [a for a in report.arrays if a.was]
    if suffix == "PNG":
        want = np.stack([picture(n, 2) for n in range(6)])
        np.testing.assert_array_equal(reader.read("images/cam_low", 0), want)
        assert (picture_report.was, picture_report.generations) == ("png", 0)
    else:
        kept = [reader.encoded("images/cam_low", 0, n) for n in range(6)]
        assert [k and k.data for k in kept] == [file(n) for n in range(6)]
        assert (picture_report.was, picture_report.generations) == ("jpeg", 1)
    cameras = ("observation.images.cam_high", "observation.images.cam_left_wrist")
    assert report.left_out == dict.fromkeys(cameras, "asked for")


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("a/{chunk_index:03d}/{file_index}.x", "a/007/12.x"),
        ("{video_key}/{file_index:06d}", "front/000012"),
    ],
)
def test_paths_are_filled_in_without_evaluating_them(template: str, key: str) -> None:
    assert file_key(template, chunk_index=7, file_index=12, video_key="front") == key


def test_a_video_key_cannot_climb_either() -> None:
    with pytest.raises(DataError):
        file_key("videos/{video_key}/x.mp4", video_key="../..")
