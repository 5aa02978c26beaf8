"""The verb `ingest`: which episodes a run writes, finds, completes and registers, and how."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
import pytest

from act_data.errors import ConflictError, DataError, InputError, NotFoundError
from act_data.fitting import fitting_robot
from act_data.ingest import IngestReport, IngestSettings, configured, ingest
from act_data.interfaces import DatasetReader
from act_data.records import SYNC_REASON, SYNC_SKEW, TIMESTAMP
from act_data.registry import Registry
from act_data.robot import load_robot, preset_names
from act_data.store import jpeg, open_dataset
from act_data.types import ClockPolicy, Reason, RobotSpec, StreamKind, SyncPolicy, TopicInfo
from tests.bags import KINDS, Entry, write
from tests.small_robot import HZ, IMAGE, ROBOT, S, bag, entries, picture, robot_file

EXAMPLES = Path(__file__).parents[2] / "examples" / "bags"


def made(
    folder: Path, sources: Iterable[Path], out: str = "ds.zarr", **settings: object
) -> tuple[DatasetReader, IngestReport]:
    """What an ingest of the small robot, or of `settings`, made."""
    chosen = {"robot": str(robot_file(folder)), **settings}
    report = ingest(list(sources), folder / out, IngestSettings.model_validate(chosen))
    return open_dataset(folder / out), report


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` but the registry's, which notes who asked."""
    files = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("registry.")]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def with_gap(start_s: float = 2.0, stop_s: float = 3.0, frames: int = 90) -> list[Entry]:
    """The arm is silent for a while."""
    silent = range(round(start_s * S), round(stop_s * S))
    return [e for e in entries(frames) if not (e[0] == "/arm" and e[2] in silent)]


# --- which robot ---


def topics_of(robot: RobotSpec, *, optional: bool) -> dict[str, TopicInfo]:
    types = {
        StreamKind.IMAGE: IMAGE, StreamKind.DEPTH: IMAGE,
        StreamKind.JOINT_STATE: "sensor_msgs/msg/JointState",
        StreamKind.ODOMETRY: "nav_msgs/msg/Odometry", StreamKind.TWIST: "geometry_msgs/msg/Twist",
    }  # fmt: skip
    return {
        s.topic: TopicInfo(name=s.topic, type=types.get(s.kind, "my_msgs/msg/Own"), count=9)
        for s in robot.streams
        if s.required or optional
    }


@pytest.mark.parametrize("name", preset_names())
def test_the_preset_that_fits_is_chosen(name: str) -> None:
    assert fitting_robot(topics_of(load_robot(name), optional=False)).name == name


def test_of_several_presets_that_fit_the_one_that_reads_most_is_chosen() -> None:
    everything: dict[str, TopicInfo] = {}
    for name in preset_names():
        everything |= topics_of(load_robot(name), optional=True)
    chosen = fitting_robot(everything)
    assert len(chosen.streams) == max(len(load_robot(name).streams) for name in preset_names())


def test_when_no_preset_fits_each_one_says_what_it_lacks() -> None:
    with pytest.raises(DataError) as caught:
        fitting_robot({"/odom": TopicInfo(name="/odom", type="nav_msgs/msg/Odometry")})
    for name in preset_names():
        assert f"robot {name!r}" in str(caught.value)
    assert "/odom (Odometry)" in str(caught.value)


def test_a_recording_of_the_examples_is_recognised_and_ingested(tmp_path: Path) -> None:
    reader, report = made(tmp_path, [EXAMPLES / "reach_00.bag"], robot="auto")
    assert report.robot == reader.schema.robot == "cobot_magic"
    assert reader.schema.feature("action").shape == (14,)
    assert reader.schema.feature("base_action").shape == (2,)
    assert "depth/cam_high" not in [f.name for f in reader.schema.features]


# --- which episodes ---


def test_every_recording_is_one_episode_of_one_registered_version(tmp_path: Path) -> None:
    bags = [bag(tmp_path, name, entries(20 + 5 * n, phase=n)) for n, name in enumerate("cab")]
    reader, report = made(tmp_path, bags)
    assert [e.recording for e in report.episodes] == ["c", "a", "b"]
    assert [e.steps for e in report.episodes] == [19, 24, 29] == [e.length for e in reader.episodes]
    assert (report.version, report.added) == (1, 3)
    assert report.content_hash == reader.version.content_hash
    assert report.source_bytes == sum(path.stat().st_size for path in bags)
    assert reader.verify() == []
    found = Registry().resolve(report.name)
    assert (found.path, found.version) == (tmp_path / "ds.zarr", 1)
    for n in range(3):
        qpos = reader.read("qpos", n)
        expected = np.sin(np.arange(len(qpos))[:, None] / 10 + n + [0, 1])
        np.testing.assert_allclose(qpos, expected, atol=0.11)
        assert len(np.unique(qpos[:, 0])) == len(qpos), "a step that repeats another"


def test_a_folder_of_recordings_of_every_kind_gives_equal_episodes(tmp_path: Path) -> None:
    (tmp_path / "bags").mkdir()
    for kind in KINDS:
        bag(tmp_path / "bags", kind, entries(20), kind)
    reader, report = made(tmp_path, [tmp_path / "bags"])
    assert len({e.hash for e in reader.episodes}) == 1
    assert len({e.uid for e in report.episodes}) == 3
    kinds = {reader.episode(e.uid).info.source.kind for e in reader.episodes}
    assert kinds == set(KINDS)


def test_the_same_recording_under_two_names_is_one_episode(tmp_path: Path) -> None:
    first = bag(tmp_path, "first", entries(20))
    second = tmp_path / "second.bag"
    second.write_bytes(first.read_bytes())
    reader, report = made(tmp_path, [first, second])
    assert [e.found for e in report.episodes] == [False, True]
    assert len(reader.episodes) == 1


@pytest.mark.parametrize("out", ["ds.zarr", "ds", "ds.hdf5"])
def test_a_second_run_finds_everything_and_changes_nothing(tmp_path: Path, out: str) -> None:
    path = bag(tmp_path, "a", entries(20))
    first, report = made(tmp_path, [path], out)
    before = contents(tmp_path)
    reader, again = made(tmp_path, [path], out)
    assert (again.added, again.version) == (0, 1)
    assert [e.found for e in again.episodes] == [True]
    assert again.episodes[0].steps == report.episodes[0].steps
    assert again.episodes[0].sync == report.episodes[0].sync
    assert reader.version == first.version
    assert contents(tmp_path) == before


@pytest.mark.parametrize("out", ["ds.zarr", "ds"])
def test_a_new_recording_makes_a_version_and_leaves_the_old_episodes_untouched(
    tmp_path: Path, out: str
) -> None:
    first = bag(tmp_path, "a", entries(20))
    made(tmp_path, [first], out)
    before = contents(tmp_path / out)
    second = bag(tmp_path, "b", entries(25, phase=1))
    reader, report = made(tmp_path, [second], out)
    assert (report.version, report.added, len(reader.episodes)) == (2, 1, 2)
    after = contents(tmp_path / out)
    never_changed = ("episodes/", "versions/", "episode_")
    kept = {
        key: data
        for key, data in before.items()
        if key.startswith(never_changed) or (key.startswith("data/") and "/c/" in key)
    }
    assert kept
    assert kept.items() <= after.items()
    assert len(open_dataset(tmp_path / out, version=1).episodes) == 1
    assert [v.number for v in Registry().show(report.name).versions] == [1, 2]
    assert reader.verify() == []


@pytest.mark.parametrize("out", ["ds.zarr", "ds"])
def test_an_interrupted_run_is_completed_by_the_same_command(tmp_path: Path, out: str) -> None:
    bags = [bag(tmp_path, name, entries(20, phase=n)) for n, name in enumerate("abc")]
    whole, _ = made(tmp_path, bags, "whole" + Path(out).suffix)

    def interrupt(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    settings = IngestSettings(robot=str(tmp_path / "small.yaml"))
    with pytest.raises(KeyboardInterrupt):
        ingest(bags, tmp_path / out, settings, progress=interrupt)
    with pytest.raises(NotFoundError):
        open_dataset(tmp_path / out)
    with pytest.raises(NotFoundError):
        Registry().resolve(Path(out).stem)
    reader, report = made(tmp_path, bags, out)
    assert [e.found for e in report.episodes] == [True, False, False]
    assert report.version == 1
    assert reader.version.content_hash == whole.version.content_hash


def test_a_first_recording_that_fails_leaves_nothing_and_a_later_one_what_was_finished(
    tmp_path: Path,
) -> None:
    good = bag(tmp_path, "good", entries(20))
    broken = [(*e[:3], {**e[3], "data": b""}) if e[2] > 1.4 * S and "data" in e[3] else e
              for e in entries(20)]  # fmt: skip
    bad = bag(tmp_path, "bad", broken)
    before = {p.name for p in tmp_path.iterdir()} | {"small.yaml"}
    with pytest.raises(DataError, match=r"^bad: /cam"):
        made(tmp_path, [bad, good])
    assert {p.name for p in tmp_path.iterdir()} == before
    with pytest.raises(DataError, match=r"^bad: /cam") as caught:
        made(tmp_path, [good, bad])
    assert "1 finished episodes are kept" in caught.value.hint
    reader, report = made(tmp_path, [good])
    assert [e.found for e in report.episodes] == [True]
    assert reader.verify() == []


def test_two_runs_at_once_do_not_write_one_dataset(tmp_path: Path) -> None:
    path = bag(tmp_path, "a", entries(20))

    def second(done: int, total: int) -> None:
        with pytest.raises(ConflictError, match="another process is writing"):
            made(tmp_path, [path])

    settings = IngestSettings(robot=str(robot_file(tmp_path)))
    ingest([path], tmp_path / "ds.zarr", settings, progress=second)
    assert open_dataset(tmp_path / "ds.zarr").verify() == []
    assert {p.name for p in tmp_path.iterdir()} <= {"a.bag", "ds.zarr", "small.yaml", "registry.db"}


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_counts_the_bytes_of_all_recordings(tmp_path: Path, jobs: int) -> None:
    bags = [bag(tmp_path, name, entries(20, phase=n)) for n, name in enumerate("ab")]
    seen: list[tuple[int, int]] = []
    settings = IngestSettings(robot=str(robot_file(tmp_path)), jobs=jobs)
    ingest(bags, tmp_path / "ds.zarr", settings, progress=lambda *pair: seen.append(pair))
    done = [done for done, _ in seen]
    total = sum(path.stat().st_size for path in bags)
    assert {total for _, total in seen} == {total}
    assert done == sorted(done)
    assert done[-1] == total
    assert jobs == 2 or len(set(done)) > 30


# --- gaps ---


@pytest.mark.parametrize("out", ["ds.zarr", "ds"])
def test_cut_makes_an_episode_of_each_side_and_a_second_run_completes_what_is_missing(
    tmp_path: Path, out: str
) -> None:
    path = bag(tmp_path, "gap", with_gap())
    reader, report = made(tmp_path, [path], out, gap="cut")
    assert [e.recording for e in report.episodes] == ["gap", "gap"]
    assert [e.masked for e in report.episodes] == [0, 0]
    # Frames 0 to 30 and 60 to 89 have both arms; the last of each is seen and has no row. The
    # arm holds for 50 ms, a tick and a half, after its last sample.
    first, second = reader.episodes
    assert 29 <= first.length <= 31
    assert 28 <= second.length <= 29
    stop, start = reader.read(TIMESTAMP, 0)[-1], reader.read(TIMESTAMP, 1)[0]
    assert start - stop > 0.9 * S
    again = made(tmp_path, [path], out, gap="cut")[1]
    assert (again.added, [e.found for e in again.episodes]) == (0, [True, True])

    def interrupt(done: int, total: int) -> None:
        if done > 0.8 * total:
            raise KeyboardInterrupt

    settings = IngestSettings.model_validate({"robot": str(tmp_path / "small.yaml"), "gap": "cut"})
    other = tmp_path / f"other_{out}"
    with pytest.raises(KeyboardInterrupt):
        ingest([path], other, settings, progress=interrupt)
    completed = ingest([path], other, settings)
    assert [e.found for e in completed.episodes] == [True, False]
    assert completed.content_hash == report.content_hash


def test_mask_keeps_the_rows_and_says_why_they_are_not_valid(tmp_path: Path) -> None:
    reader, report = made(tmp_path, [bag(tmp_path, "gap", with_gap())], gap="mask")
    (episode,) = report.episodes
    assert episode.steps == 89
    names = [c.name for c in reader.schema.columns]
    reasons = reader.read(SYNC_REASON, 0)
    wrong = np.flatnonzero(reasons[:, names.index("arm")])
    assert episode.masked == len(wrong)
    assert wrong.tolist() == list(range(wrong[0], wrong[-1] + 1))
    assert 26 <= len(wrong) <= 30
    assert not reasons[:, [names.index("cam"), names.index("lead")]].any()
    assert set(reasons[wrong, names.index("arm")]) <= {Reason.GAP, Reason.DEAD}
    frozen = reader.read("qpos", 0)[wrong]
    assert (frozen == frozen[0]).all(), "a masked row shows the newest sample there was"
    assert episode.sync is not None
    assert sum(episode.sync.streams["arm"].invalid.values()) == len(wrong)


def test_fail_refuses_a_long_gap_and_lets_a_short_one_pass(tmp_path: Path) -> None:
    path = bag(tmp_path, "gap", with_gap())
    with pytest.raises(DataError, match=r"^gap: gap of \d+ ticks") as caught:
        made(tmp_path, [path], gap="fail")
    assert "arm" in str(caught.value)
    assert caught.value.hint
    assert not (tmp_path / "ds.zarr").exists()
    _, report = made(tmp_path, [path], gap="fail", max_gap_s=1.5)
    assert report.episodes[0].steps == 89


# --- formats and settings ---


def test_hdf5_holds_the_arrays_that_zarr_holds(tmp_path: Path) -> None:
    bags = [bag(tmp_path, name, entries(20, phase=n)) for n, name in enumerate("ab")]
    zarr, _ = made(tmp_path, bags, codec="zstd")
    folder, report = made(tmp_path, bags, "hdf5")
    single, _ = made(tmp_path, bags[:1], "one.hdf5")
    assert sorted(p.name for p in (tmp_path / "hdf5").iterdir()) == [
        "episode_0.hdf5",
        "episode_1.hdf5",
    ]
    assert folder.schema.feature("images/cam").codec == "raw"
    for n in range(2):
        for name in ("qpos", "action", "images/cam", TIMESTAMP, SYNC_SKEW, SYNC_REASON):
            np.testing.assert_array_equal(folder.read(name, n), zarr.read(name, n))
    np.testing.assert_array_equal(single.read("images/cam", 0), zarr.read("images/cam", 0))
    with h5py.File(tmp_path / "hdf5" / "episode_1.hdf5", locking=False) as file:
        np.testing.assert_array_equal(file["observations/qpos"], zarr.read("qpos", 1))
        np.testing.assert_array_equal(file["action"], zarr.read("action", 1))
        assert file["observations/images/cam"].shape == (19, 16, 24, 3)
    assert Registry().resolve(report.name).path == tmp_path / "hdf5"


def test_what_the_settings_override_is_in_the_schema(tmp_path: Path) -> None:
    path = bag(tmp_path, "a", entries(40))
    plain, _ = made(tmp_path, [path])
    assert (plain.schema.fps, plain.schema.action_shift) == (30, 0)
    assert plain.schema.streams["arm"].policy is SyncPolicy.HOLD
    reader, _ = made(
        tmp_path, [path], "other.zarr",
        fps=15, sync="nearest", clock="receive", action_shift=2, codec="zstd",
    )  # fmt: skip
    assert (reader.schema.fps, reader.schema.action_shift) == (15, 2)
    assert reader.schema.clock is ClockPolicy.RECEIVE
    assert {s.policy for s in reader.schema.streams.values()} == {SyncPolicy.NEAREST}
    assert reader.schema.feature("images/cam").codec == "zstd"
    assert np.diff(reader.read(TIMESTAMP, 0)).tolist() == pytest.approx([S / 15] * 17, abs=1)
    # action[t] is the command at tick t + 2: 4 frames of the leader, which is 0.1 ahead.
    qpos, action = reader.read("qpos", 0), reader.read("action", 0)
    phase = np.unwrap(np.arctan2(*(a[:, 0] for a in (qpos, np.roll(qpos, 1, 0)))))
    assert len(phase) == len(action) == 18
    np.testing.assert_allclose(action[:-3, 0], qpos[2:-1, 0], atol=0.2)
    assert np.abs(action[:-3, 0] - qpos[:-3, 0]).max() > 0.3


def test_shards_and_stored_quality_change_files_and_not_the_episodes_that_are_found(
    tmp_path: Path,
) -> None:
    path = bag(tmp_path, "a", entries(40))
    one, report = made(tmp_path, [path])
    many, small = made(tmp_path, [path], "many.zarr", shard_frames=8)
    assert one.version.content_hash == many.version.content_hash
    assert report.episodes[0].uid == small.episodes[0].uid
    _, coarse = made(tmp_path, [path], "coarse.zarr", quality=50)
    assert coarse.episodes[0].uid != report.episodes[0].uid


def test_settings_that_cannot_be_are_refused() -> None:
    for wrong in ({"fps": 0}, {"fps": float("inf")}, {"max_gap_s": float("inf")}, {"speed": 2}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            IngestSettings.model_validate(wrong)
    robot = load_robot("aloha")
    assert configured(robot, IngestSettings()) == robot


def test_an_episode_carries_where_it_came_from_and_what_is_known_about_it(tmp_path: Path) -> None:
    import hashlib

    path = bag(tmp_path, "a", entries(40))
    reader, _ = made(
        tmp_path, [path],
        task="pour tea", operator="ada", success=False, notes="spilled",
    )  # fmt: skip
    info = reader.episode(reader.episodes[0].uid).info
    assert (info.task, info.operator, info.success, info.notes) == (
        "pour tea", "ada", False, "spilled",
    )  # fmt: skip
    assert info.source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert info.source.topics == ("/arm", "/cam/image_raw", "/lead")
    assert info.source.files == (str(path),)
    assert (info.source.start_ns, info.source.kind) == (S, "ros1")
    assert info.sync is not None
    assert info.sync.streams["cam"].received == 40
    assert info.sync.streams["arm"].rate_hz == pytest.approx(HZ)


def test_a_path_that_is_no_name_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    path = bag(tmp_path, "a", entries(5))
    for out in ("/", "ds.h5"):
        with pytest.raises(InputError, match="no name for a dataset"):
            ingest([path], Path(out))


# --- streams ---


def compressed(what: Iterable[Entry]) -> list[Entry]:
    """The pictures as a JPEG transport has them, of the right size and different contents."""
    rng = np.random.default_rng(0)
    found: list[Entry] = []
    for topic, kind, t, values in what:
        if kind == IMAGE:
            image = rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)
            data = jpeg.encode(image, 90)
            topic, kind = f"{topic}/compressed", "sensor_msgs/msg/CompressedImage"
            values = {"header": t, "format": "jpeg", "data": data}
        found.append((topic, kind, t, values))
    return found


def test_a_raw_topic_is_found_compressed_and_its_jpegs_pass_through(tmp_path: Path) -> None:
    what = compressed(entries(20))
    reader, report = made(tmp_path, [bag(tmp_path, "a", what)])
    info = reader.episode(report.episodes[0].uid).info
    assert "/cam/image_raw/compressed" in info.source.topics
    published = [jpeg.decode(e[3]["data"]) for e in what if "CompressedImage" in e[1]]
    stored = reader.read("images/cam", 0)
    assert len(stored) == 19
    for image in stored:
        assert any((image == other).all() for other in published), "it was encoded again"


SENSORS = """\
name: sensors
fps: 30
streams:
  cam: {topic: /cam/image_raw, kind: image}
  arm: {topic: /arm, kind: joint_state, joints: [b, a], unit: rad}
  lead: {topic: /lead, kind: joint_state, unit: rad}
  imu: {topic: /imu, kind: imu, field: [angular_velocity, linear_acceleration]}
  force: {topic: /force, kind: wrench, unit: N}
  skin: {topic: /skin, kind: multi_array, shape: [4]}
  near: {topic: /scan, kind: numeric, field: "ranges[2:5]", unit: m}
  gripper: {topic: /gripper, kind: numeric, field: [opening, "tips[1].force.z"]}
  depth: {topic: /depth/image_raw, kind: depth, unit: mm, required: false}
arrays:
  qpos: {role: observation, from: arm}
  images/cam: {role: observation, from: cam}
  depth/cam: {role: observation, from: depth}
  imu: {role: observation, from: imu}
  touch: {role: observation, from: [force, skin]}
  near: {role: observation, from: near}
  gripper: {role: observation, from: gripper, names: [opening, tip]}
  action: {role: action, from: lead}
"""
GRIPPER = "my_msgs/msg/Gripper"
DEFINITIONS = {GRIPPER: "float64 opening\nTip[] tips\n" + "=" * 80 + "\nMSG: my_msgs/Tip\n"
               "geometry_msgs/Vector3 force\n" + "=" * 80 + "\nMSG: geometry_msgs/Vector3\n"
               "float64 x\nfloat64 y\nfloat64 z\n"}  # fmt: skip


def sensed(frames: int = 20, *, depth: bool = False) -> list[Entry]:
    """As `entries`, with sensors that no preset knows; every number tells the frame."""
    found = entries(frames)
    for i in range(frames):
        t = round((1 + i / HZ) * S)
        scan = {"range_min": 0.5, "range_max": 9.0, "ranges": [0, 1, 2 + i / 100, np.inf, 4, 5]}
        found += [
            ("/imu", "sensor_msgs/msg/Imu", t + 2, {
                "header": t + 2, "angular_velocity": {"x": i}, "linear_acceleration": {"z": 9.81}}),
            ("/force", "geometry_msgs/msg/WrenchStamped", t + 2, {
                "header": t + 2, "wrench": {"force": {"x": i, "y": -i}, "torque": {"z": 0.5}}}),
            ("/skin", "std_msgs/msg/Float32MultiArray", t + 2, {"data": [i, 1, 2, 3]}),
            ("/scan", "sensor_msgs/msg/LaserScan", t + 2, {"header": t + 2, **scan}),
            ("/gripper", GRIPPER, t + 2, {
                "opening": 0.01 * i, "tips": [{}, {"force": {"z": 7.0}}]}),
        ]  # fmt: skip
        if depth:
            mm = np.full((16, 24), 500 + i, "<u2").tobytes()
            values = {**picture(0), "encoding": "16UC1", "step": 48, "data": mm}
            found.append(("/depth/image_raw", IMAGE, t + 2, {"header": t + 2, **values}))
    return sorted(found, key=lambda e: e[2])


@pytest.mark.parametrize("kind", KINDS)
def test_any_sensor_is_a_few_lines_of_yaml(tmp_path: Path, kind: str) -> None:
    robot = robot_file(tmp_path, SENSORS, "sensors.yaml")
    path = write(tmp_path / "a", kind, sensed(depth=True), definitions=DEFINITIONS)  # type: ignore[arg-type]
    reader, report = made(tmp_path, [path], robot=str(robot))
    assert report.episodes[0].masked == 0
    frame = reader.read("imu", 0)[:, 0]
    assert np.diff(frame).tolist() == [1] * 18
    np.testing.assert_allclose(reader.read("imu", 0)[:, 1:], [[0, 0, 0, 0, 9.81]] * 19)
    touch = reader.read("touch", 0)
    np.testing.assert_array_equal(touch[:, 0], frame)
    np.testing.assert_array_equal(touch[:, 1:6], np.c_[-frame, [[0, 0, 0, 0.5]] * 19])
    np.testing.assert_array_equal(touch[:, 6:], np.c_[frame, [[1, 2, 3]] * 19])
    near = reader.read("near", 0)
    np.testing.assert_allclose(near, np.c_[2 + frame / 100, [[9, 4]] * 19], rtol=1e-6)
    gripper = reader.read("gripper", 0)
    np.testing.assert_allclose(gripper, np.c_[0.01 * frame, [7.0] * 19], rtol=1e-6)
    assert reader.schema.feature("gripper").names == ("opening", "tip")
    assert reader.schema.feature("near").unit == "m"
    assert reader.schema.feature("qpos").names == ("arm/b", "arm/a")
    depth = reader.read("depth/cam", 0)
    assert (depth.dtype, depth.shape) == (np.uint16, (19, 16, 24))
    np.testing.assert_array_equal(depth[:, 3, 5], 500 + frame)
    swapped = made(tmp_path, [path], "plain.zarr")[0].read("qpos", 0)
    np.testing.assert_array_equal(reader.read("qpos", 0), swapped[: len(frame), ::-1])


def test_an_optional_stream_may_be_missing_and_its_array_with_it(tmp_path: Path) -> None:
    robot = str(robot_file(tmp_path, SENSORS, "sensors.yaml"))
    without = write(tmp_path / "without", "ros1", sensed(), definitions=DEFINITIONS)
    reader, _ = made(tmp_path, [without], robot=robot)
    assert "depth/cam" not in [f.name for f in reader.schema.features]
    assert reader.verify() == []
    fully = write(tmp_path / "with", "ros1", sensed(25, depth=True), definitions=DEFINITIONS)
    with pytest.raises(ConflictError, match="depth/cam"):
        made(tmp_path, [fully], robot=robot)


def test_an_optional_stream_may_fall_silent_without_masking_the_rest(tmp_path: Path) -> None:
    robot = str(robot_file(tmp_path, SENSORS, "sensors.yaml"))
    what = [e for e in sensed(60, depth=True) if e[0] != "/depth/image_raw" or e[2] < 2 * S]
    path = write(tmp_path / "a", "ros1", what, definitions=DEFINITIONS)
    reader, report = made(tmp_path, [path], robot=robot)
    assert report.episodes[0].masked == 0
    column = [c.name for c in reader.schema.columns].index("depth")
    reasons = reader.read(SYNC_REASON, 0)[:, column]
    assert not reasons[:28].any()
    assert set(reasons[35:]) <= {Reason.GAP, Reason.DEAD}


def test_a_robot_file_that_declares_what_nobody_delivers_is_refused(tmp_path: Path) -> None:
    wrong = ROBOT.replace("kind: image}", "kind: image, shape: [8, 8, 3]}")
    robot = robot_file(tmp_path, wrong, "wrong.yaml")
    with pytest.raises(DataError, match=r"shape \(16, 24, 3\), declared is \(8, 8, 3\)"):
        made(tmp_path, [bag(tmp_path, "a", entries(5))], robot=str(robot))
