"""LeRobot datasets out and in: what is in the files, and what comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from act_data.convert import ConvertReport, ConvertSettings, convert
from act_data.convert.lerobot import files, layout
from act_data.convert.lerobot.video import count_frames
from act_data.errors import ConflictError, DataError, InputError
from act_data.records import DatasetFacts, DatasetSchema, Feature, SyncColumn
from act_data.stats import compute
from act_data.store import open_dataset, open_writer
from act_data.store.facts import facts_of, save_facts
from act_data.types import Reason, Role, StepType, Timestep
from tests.data.convert.originals import aloha_file, aloha_folder, picture
from tests.data.store.contract import assert_reads_back, make_schema, make_steps, record

LENGTHS = (7, 4, 5)
TO = {"target_format": "lerobot"}


def export(source: Path, out: Path, **changes: Any) -> ConvertReport:
    return convert(source, out, ConvertSettings.model_validate({**TO, **changes}))


def valid_steps(length: int, seed: int = 0) -> list[Timestep]:
    """As `make_steps`, but every pick is valid."""
    steps = make_steps(length, seed=seed)
    for step in steps:
        step.reason[:] = Reason.OK
    return steps


def made(path: Path) -> Path:
    """Three episodes, the first one held out, with true stamps."""
    with open_writer(path, make_schema("raw"), shard_frames=4) as writer:
        for n, length in enumerate(LENGTHS):
            record(writer, f"ep-{n}", valid_steps(length, n), seed=n)
        splits = {"ep-0": "val", "ep-1": "train", "ep-2": "train"}
        writer.commit(list(splits), splits=splits)  # type: ignore[arg-type]
    return path


# --- the page ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("licence", "keys"),
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("", {}),
        ("MIT AND NOASSERTION", {"license": "other", "license_name": "MIT AND NOASSERTION"}),
        ("https://example.org/a?b=c", {"license": "other", "license_link": "https://example.org/a?b=c"}),
        ('"\n- x: [', {"license": "other", "license_name": '"\n- x: ['}),
    ],
)  # fmt: skip
def test_what_is_said_of_a_dataset_is_on_its_page_and_comes_back(
    licence: str, keys: dict[str, str], tmp_path: Path
) -> None:
    said = DatasetFacts(description="Pours *water*.", licence=licence, cite="@misc{a,\n```}")
    save_facts(open_dataset(made(tmp_path / "a.zarr")), said)
    export(tmp_path / "a.zarr", tmp_path / "lr`s")
    text = (tmp_path / "lr`s" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    found = YAML(typ="safe").load(head)
    assert {key: found[key] for key in found if key.startswith("license")} == keys
    assert found["tags"] == ["LeRobot"]
    assert found["configs"] == [{"config_name": "default", "data_files": "data/*/*.parquet"}]
    assert body.startswith("\n# `lr s`\n\nPours *water*.\n\n3 episodes of robot `two_joints`: 16 ")
    assert body.endswith("## How to cite\n\n```\n@misc{a,\n'''}\n```\n")
    convert(tmp_path / "lr`s", tmp_path / "b.zarr")
    assert facts_of(open_dataset(tmp_path / "b.zarr")) == said


# --- the files --------------------------------------------------------------------------------


def test_the_files_of_a_dataset_are_those_of_version_3(tmp_path: Path) -> None:
    export(made(tmp_path / "a.zarr"), tmp_path / "lr")
    every = [p for p in (tmp_path / "lr").rglob("*") if p.is_file()]
    found = sorted(str(p.relative_to(tmp_path / "lr")) for p in every)
    assert found == [
        "README.md",
        "data/chunk-000/file-000.parquet",
        "meta/act.json",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        "videos/observation.images.cam_high/chunk-000/file-000.mp4",
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "lr"], "nothing beside it"
    info = json.loads((tmp_path / "lr" / "meta" / "info.json").read_text())
    one = {"names": None, "shape": [1]}
    counted = {n: {"dtype": "int64", **one} for n in layout.COUNTED if n != "timestamp"}
    stamps = {"dtype": "int64", "shape": [2], "names": None}
    joints = {"dtype": "float32", "shape": [2], "names": ["elbow", "wrist"]}
    assert info == {
        "codebase_version": "v3.0",
        "robot_type": "two_joints",
        "total_episodes": 3,
        "total_frames": 16,
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 10,
        "splits": {"train": "0:2", "val": "2:3"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {
            "observation.state": joints,
            "action": joints,
            "observation.images.cam_high": {
                "dtype": "video",
                "shape": [16, 24, 3],
                "names": ["height", "width", "channels"],
                "info": {
                    "video.height": 16,
                    "video.width": 24,
                    "video.codec": "av1",
                    "video.pix_fmt": "yuv420p",
                    "video.fps": 10,
                    "video.channels": 3,
                    "is_depth_map": False,
                    "has_audio": False,
                },
            },
            "sync.timestamp_ns": {"dtype": "int64", **one},
            "sync.skew_ns": stamps,
            "sync.reason": stamps,
            "sync.index": stamps,
            "timestamp": {"dtype": "float32", **one},
            **counted,
        },
    }
    data = pq.read_table(tmp_path / "lr" / found[1])
    assert {f.name: str(f.type) for f in data.schema} == {
        "observation.state": "fixed_size_list<element: float>[2]",
        "action": "fixed_size_list<element: float>[2]",
        "sync.timestamp_ns": "int64",
        **dict.fromkeys(
            ("sync.skew_ns", "sync.reason", "sync.index"), "fixed_size_list<element: int64>[2]"
        ),
        "timestamp": "float",
        **dict.fromkeys(counted, "int64"),
    }
    tasks = pq.read_table(tmp_path / "lr" / "meta" / "tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0], "task": ["pick the cube"]}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_every_episode_knows_its_rows_and_its_frames_by_whole_numbers(tmp_path: Path) -> None:
    export(made(tmp_path / "a.zarr"), tmp_path / "lr", task="stack")
    rows = pq.read_table(tmp_path / "lr" / "meta" / "episodes").to_pylist()
    camera = "videos/observation.images.cam_high"
    keys = ("length", "tasks", "dataset_from_index", "dataset_to_index",
            f"{camera}/from_timestamp", f"{camera}/to_timestamp")  # fmt: skip
    assert [tuple(row[key] for key in keys) for row in rows] == [
        (4, ["stack"], 0, 4, 0 / 10, 4 / 10),
        (5, ["stack"], 4, 9, 4 / 10, 9 / 10),
        (7, ["stack"], 9, 16, 9 / 10, 16 / 10),  # held out: comes last
    ]
    data = pq.read_table(tmp_path / "lr" / "data").to_pydict()
    assert data["index"] == list(range(16))
    assert data["frame_index"] == [*range(4), *range(5), *range(7)]
    assert data["episode_index"] == [0] * 4 + [1] * 5 + [2] * 7
    exact = [np.float32(i / 10) for i in data["frame_index"]]
    np.testing.assert_array_equal(np.float32(data["timestamp"]), exact)
    path = tmp_path / "lr" / camera / "chunk-000" / "file-000.mp4"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [frame.pts * stream.time_base for frame in container.decode(stream)]
    assert [t * 10 for t in times] == list(range(16))


def test_statistics_are_those_of_act_data_stats(tmp_path: Path) -> None:
    source = made(tmp_path / "a.zarr")
    export(source, tmp_path / "lr")
    stats = json.loads((tmp_path / "lr" / "meta" / "stats.json").read_text())
    ours = compute(open_dataset(source), "all").features
    for key, name in {"observation.state": "qpos", "action": "action"}.items():
        for number in ("min", "max", "mean", "std", "q01", "q50", "q99"):
            np.testing.assert_allclose(stats[key][number], getattr(ours[name], number), rtol=1e-12)
        assert stats[key]["count"] == [16]
    pictures = stats["observation.images.cam_high"]
    for number in ("min", "max", "mean", "std", "q10", "q90"):
        want = np.divide(getattr(ours["images/cam_high"], number), 255).reshape(3, 1, 1)
        np.testing.assert_allclose(pictures[number], want, rtol=1e-12)
    episodes = pq.read_table(tmp_path / "lr" / "meta" / "episodes").to_pylist()
    state = np.stack([s.observation["qpos"] for s in valid_steps(4, 1)])
    np.testing.assert_allclose(episodes[0]["stats/observation.state/mean"], state.mean(0), 1e-6)
    assert episodes[0]["stats/observation.state/count"] == [4]


def test_files_are_rolled_by_size_and_by_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for n in range(4):
        aloha_file(tmp_path / "in" / f"episode_{n}.hdf5", steps=20, seed=n)
    monkeypatch.setattr(files, "_MAX_VIDEO_S", 1)  # 50 frames: two episodes of 20
    export(tmp_path / "in", tmp_path / "lr", fps=50)
    videos = sorted((tmp_path / "lr" / "videos").rglob("*.mp4"))
    assert [count_frames(path) for path in videos] == [40] * 6
    rows = pq.read_table(tmp_path / "lr" / "meta" / "episodes").to_pylist()
    where = "videos/observation.images.cam_low/"
    assert [(r[f"{where}file_index"], r[f"{where}from_timestamp"]) for r in rows] == [
        (0, 0.0), (0, 0.4), (1, 0.0), (1, 0.4),
    ]  # fmt: skip

    monkeypatch.setattr(files.DataFiles, "begin", _with_limit(files.DataFiles.begin, 20_000))
    export(tmp_path / "in", tmp_path / "png", fps=50, pictures="image")
    tables = sorted((tmp_path / "png" / "data").rglob("*.parquet"))
    assert len(tables) > 1
    assert sum(pq.read_metadata(path).num_rows for path in tables) == 80
    for out in ("lr", "png"):
        convert(tmp_path / out, tmp_path / f"{out}.zarr")
        assert [e.length for e in open_dataset(tmp_path / f"{out}.zarr").episodes] == [20] * 4


def _with_limit(begin: Any, limit: int) -> Any:
    def limited(self: files.DataFiles, length: int) -> None:
        self._limit = limit
        begin(self, length)

    return limited


# --- round trips ------------------------------------------------------------------------------


def test_numbers_stamps_and_lossless_pictures_come_back_as_they_were(tmp_path: Path) -> None:
    source = made(tmp_path / "a.zarr")
    export(source, tmp_path / "lr", pictures="image")
    report = convert(tmp_path / "lr", tmp_path / "b.zarr", ConvertSettings(codec="raw"))
    one, two = open_dataset(source), open_dataset(tmp_path / "b.zarr")
    assert two.schema == one.schema
    order = [1, 2, 0]  # held out comes last
    assert [e.hash for e in two.episodes] == [one.episodes[n].hash for n in order]
    assert [e.split for e in two.episodes] == ["train", "train", "val"]
    for place, n in enumerate(order):
        assert_reads_back(two, place, valid_steps(LENGTHS[n], n))
        info = two.episode(two.episodes[place].uid).info
        assert (info.task, info.success, info.notes) == ("pick the cube", True, "größer ✓")
        assert info.imported is not None
        assert info.imported.origin is not None
        assert (info.source.kind, info.imported.origin.name) == ("lerobot", f"bag{n}")
    assert [a.generations for a in report.arrays if a.was] == [0]
    assert report.stamps == "recorded"


@pytest.mark.parametrize("codec", ["av1", "h264"])
def test_video_loses_a_little_and_says_so(tmp_path: Path, codec: str) -> None:
    aloha_folder(tmp_path / "in", lengths=(9, 6))
    out = export(tmp_path / "in", tmp_path / "lr", fps=50, video_codec=codec)
    assert {(a.was, a.stored, a.generations) for a in out.arrays if a.was} == {("raw", codec, 1)}
    back = convert(tmp_path / "lr", tmp_path / "b.zarr")
    assert {(a.was, a.stored, a.generations) for a in back.arrays if a.was} == {(codec, "jpeg", 2)}
    reader = open_dataset(tmp_path / "b.zarr")
    for episode, length in enumerate((9, 6)):
        stored = reader.read("images/cam_low", episode).astype(int)
        true = np.stack([picture(t, 1, episode) for t in range(length)]).astype(int)
        errors = np.abs(stored - true).mean(axis=(1, 2, 3))
        assert (errors < 8).all(), errors
        swapped = np.abs(stored - true[..., ::-1]).mean()
        assert swapped > 20


FEATURES = st.lists(
    st.tuples(
        st.sampled_from(["qpos", "qvel", "force", "base_action", "action", "map"]),
        st.sampled_from([(1,), (2,), (7,), (2, 3)]),
    ),
    max_size=4,
    unique_by=lambda f: f[0],
)


@settings(max_examples=20, deadline=None)
@given(
    vectors=FEATURES,
    cameras=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), max_size=2),
    columns=st.integers(0, 2),
    stamps=st.sampled_from(["recorded", "nominal"]),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    seed=st.integers(0, 2**31),
)
def test_any_dataset_survives_the_way_to_lerobot_and_back(
    tmp_path_factory: pytest.TempPathFactory,
    vectors: list[tuple[str, tuple[int, ...]]],
    cameras: list[tuple[int, int]],
    columns: int,
    stamps: Any,
    lengths: list[int],
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    rng = np.random.default_rng(seed)
    columns = columns if stamps == "recorded" else 0
    names = tuple(f"s{i}" for i in range(columns))
    sync: dict[str, Any] = {"role": Role.SYNC, "shape": (columns,), "names": names}
    arrays = [
        Feature(
            name=name,
            role=Role.ACTION if "action" in name else Role.OBSERVATION,
            dtype="float32",
            shape=shape,
            unit="rad",
        )
        for name, shape in (vectors or [("qpos", (2,))])
    ] + [
        Feature(
            name=f"images/c{i}", role=Role.OBSERVATION, dtype="uint8", shape=(*size, 3), codec="raw"
        )
        for i, size in enumerate(cameras)
    ]
    schema = DatasetSchema(
        robot="any",
        fps=int(rng.integers(1, 200)),
        stamps=stamps,
        features=(
            *arrays,
            Feature(name="timestamp", role=Role.SYNC, dtype="int64", shape=(), unit="ns"),
            *(
                Feature(name=n, dtype=d, unit=u, **sync)
                for n, d, u in (
                    ("sync_skew", "int64", "ns"), ("sync_reason", "uint8", ""),
                    ("sync_index", "int64", ""),
                )
                if columns
            ),
        ),
        columns=tuple(SyncColumn(name=n, stream=n, role=Role.OBSERVATION) for n in names),
    )  # fmt: skip
    with open_writer(folder / "a.zarr", schema, shard_frames=4) as writer:
        for n, length in enumerate(lengths):
            episode = writer.episode(f"ep-{n}")
            for t in range(length):
                values: dict[str, Any] = {
                    f.name: rng.integers(0, 256, f.shape, np.uint8)
                    if f.dtype == "uint8"
                    else rng.normal(size=f.shape).astype(np.float32)
                    for f in arrays
                }
                nominal = round(t * 1e9 / schema.fps)
                episode.record(
                    Timestep(
                        step_type=StepType.MID if t else StepType.FIRST,
                        tick_ns=nominal if stamps == "nominal" else int(rng.integers(2**62)),
                        observation={k: v for k, v in values.items() if "action" not in k},
                        action={k: v for k, v in values.items() if "action" in k},
                        skew_ns=rng.integers(-(2**40), 2**40, columns),
                        reason=np.zeros(columns, np.uint8),
                        index=rng.integers(-1, 2**40, columns),
                    )
                )
            from tests.data.store.contract import make_info

            episode.finish(make_info(n))
        writer.commit(
            [f"ep-{n}" for n in range(len(lengths))],
            splits={f"ep-{n}": "train" for n in range(len(lengths))},
        )
    export(folder / "a.zarr", folder / "lr", pictures="image")
    convert(folder / "lr", folder / "b.zarr", ConvertSettings(codec="raw"))
    one, two = open_dataset(folder / "a.zarr"), open_dataset(folder / "b.zarr")
    assert two.schema == one.schema
    assert [e.hash for e in two.episodes] == [e.hash for e in one.episodes]


def test_arrays_that_were_concatenated_come_apart_again(tmp_path: Path) -> None:
    data = aloha_file(tmp_path / "episode_0.hdf5", "mobile", 4)
    names = {"action": "action", "base_action": "action"}
    export(tmp_path / "episode_0.hdf5", tmp_path / "lr", fps=50, names=names, pictures="image")
    info = json.loads((tmp_path / "lr" / "meta" / "info.json").read_text())
    assert info["features"]["action"]["shape"] == [16]
    convert(tmp_path / "lr", tmp_path / "b.zarr")
    reader = open_dataset(tmp_path / "b.zarr")
    np.testing.assert_array_equal(reader.read("action", 0), data["/action"])
    np.testing.assert_array_equal(reader.read("base_action", 0), data["/base_action"])


# --- what LeRobot cannot hold -----------------------------------------------------------------


def test_episodes_are_cut_where_steps_are_not_valid(tmp_path: Path) -> None:
    steps = valid_steps(9)
    for t in (0, 4, 5):
        steps[t].reason[1] = Reason.GAP
        steps[t].observation["qpos"][:] = np.nan  # type: ignore[index]
    with open_writer(tmp_path / "a.zarr", make_schema(), shard_frames=4) as writer:
        record(writer, "ep-a", steps)
        writer.commit(["ep-a"])
    report = export(tmp_path / "a.zarr", tmp_path / "lr")
    assert [(e.steps, e.left_out) for e in report.episodes] == [(6, 3)]
    assert any("3 steps without valid data were left out" in note for note in report.notes)
    convert(tmp_path / "lr", tmp_path / "b.zarr")
    reader = open_dataset(tmp_path / "b.zarr")
    kept = [[1, 2, 3], [6, 7, 8]]
    for n, rows in enumerate(kept):
        want = np.stack([steps[t].observation["qpos"] for t in rows])
        np.testing.assert_array_equal(reader.read("qpos", n), want)
        assert reader.read("timestamp", n).tolist() == [steps[t].tick_ns for t in rows]
    with pytest.raises(DataError, match="LeRobot has no mask"):
        export(tmp_path / "a.zarr", tmp_path / "keep", masked="keep")
    assert not (tmp_path / "keep").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({}, "no place for the 16-bit depth", id="depth"),
        pytest.param({"fps": 29.97}, "whole steps per second", id="odd-rate"),
        pytest.param({"names": {"qpos": "timestamp"}}, "'timestamp'", id="a-name-that-is-taken"),
        pytest.param({"names": {"qpos": "a/b"}}, "'a/b'", id="a-name-with-a-slash"),
    ],
)
def test_what_does_not_fit_is_told_with_the_way_out(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    aloha_file(tmp_path / "episode_0.hdf5", "agilex", 2)
    names = {f"depth/{c}": "" for c in ("cam_high", "cam_low", "cam_left_wrist")}
    if changes:
        changes = {**changes, "names": {**names, **changes.get("names", {})}}
    with pytest.raises(InputError, match=says) as caught:
        export(tmp_path / "episode_0.hdf5", tmp_path / "lr", **{"fps": 50, **changes})
    assert caught.value.hint
    assert not (tmp_path / "lr").exists()


def test_odd_sides_cannot_be_video_and_can_be_files(tmp_path: Path) -> None:
    path = tmp_path / "episode_0.hdf5"
    aloha_file(path, steps=2)
    import h5py

    with h5py.File(path, "r+") as root:
        del root["observations/images/cam_low"]
        root["observations/images/cam_low"] = np.zeros((2, 15, 24, 3), np.uint8)
    with pytest.raises(InputError, match="a side is odd") as caught:
        export(path, tmp_path / "lr", fps=50)
    assert "--pictures image" in caught.value.hint
    export(path, tmp_path / "lr", fps=50, pictures="image")


def test_a_dataset_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    source = made(tmp_path / "a.zarr")

    def stop(done: int, _: int) -> None:
        if done == 9:
            raise KeyboardInterrupt

    settings = ConvertSettings.model_validate(TO)
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "lr", settings, progress=stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    (tmp_path / ".lr.partial" / "data").mkdir(parents=True)  # what a killed run leaves
    (tmp_path / ".lr.partial" / "data" / "x").write_text("half")
    convert(source, tmp_path / "lr", settings)
    assert not (tmp_path / ".lr.partial").exists()
    assert not list((tmp_path / "lr").rglob("x"))
    with pytest.raises(ConflictError, match="exists"):
        convert(source, tmp_path / "lr", settings)


def test_a_damaged_episode_leaves_no_frame_behind_when_it_is_skipped(tmp_path: Path) -> None:
    aloha_folder(tmp_path / "in", lengths=(5, 6, 4))
    import h5py

    with h5py.File(tmp_path / "in" / "episode_1.hdf5", "r+") as root:
        root["observations/qvel"][4, 0] = np.nan
    with pytest.raises(DataError, match="'qvel' holds"):
        export(tmp_path / "in", tmp_path / "lr", fps=50)
    report = export(tmp_path / "in", tmp_path / "lr", fps=50, damaged="skip")
    assert list(report.skipped) == ["episode_1.hdf5"]
    videos = list((tmp_path / "lr" / "videos").rglob("*.mp4"))
    assert [count_frames(path) for path in videos] == [9, 9, 9]
    assert pq.read_table(tmp_path / "lr" / "data").num_rows == 9


def test_without_the_extra_the_way_to_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from act_data.convert import lerobot

    monkeypatch.setattr(lerobot, "find_spec", lambda name: None)
    aloha_file(tmp_path / "episode_0.hdf5")
    with pytest.raises(InputError, match="need pyarrow and av") as caught:
        export(tmp_path / "episode_0.hdf5", tmp_path / "lr", fps=50)
    assert "act-toolkit[lerobot]" in caught.value.hint
