"""What every store of episodes must do, whatever its files look like.

A test module inherits `StoreContract`, says how a dataset is called on disk, and runs all of it:

    class TestZarr(StoreContract):
        name = "ds.zarr"
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from act_data.errors import ActError, ConflictError, DataError, InputError, NotFoundError
from act_data.interfaces import DatasetReader, DatasetWriter
from act_data.records import (
    Codec,
    DatasetSchema,
    EpisodeInfo,
    EpisodeRecord,
    Feature,
    FeatureStats,
    SourceRecord,
    StatsRecord,
    SyncColumn,
)
from act_data.store import open_dataset, open_writer
from act_data.store.jpeg import codec_round_trip
from act_data.types import EncodedImage, Role, StepType, Timestep, Value

SHARD_FRAMES = 4


def make_schema(image_codec: Codec = "raw", *, robot: str = "two_joints") -> DatasetSchema:
    """Two joints, one 16x24 camera, two sync columns."""
    columns = ("joints", "camera")
    sync = {"dtype": "int64", "role": Role.SYNC}
    return DatasetSchema(
        robot=robot,
        fps=10.0,
        features=(
            Feature(name="qpos", role=Role.OBSERVATION, dtype="float32", shape=(2,), unit="rad",
                    names=("elbow", "wrist"), columns=("joints",)),
            Feature(name="images/cam_high", role=Role.OBSERVATION, dtype="uint8",
                    shape=(16, 24, 3), codec=image_codec, columns=("camera",)),
            Feature(name="action", role=Role.ACTION, dtype="float32", shape=(2,), unit="rad",
                    names=("elbow", "wrist")),
            Feature(name="timestamp", shape=(), unit="ns", **sync),
            Feature(name="sync_skew", shape=(2,), unit="ns", names=columns, **sync),
            Feature(name="sync_reason", shape=(2,), names=columns, role=Role.SYNC, dtype="uint8"),
            Feature(name="sync_index", shape=(2,), names=columns, **sync),
        ),
        columns=tuple(SyncColumn(name=c, stream=c, role=Role.OBSERVATION) for c in columns),
    )  # fmt: skip


def make_steps(length: int, *, seed: int = 0) -> list[Timestep]:
    """An episode of `length` steps that fits `make_schema`; every value differs."""
    rng = np.random.default_rng(seed)
    return [
        Timestep(
            step_type=StepType.FIRST if t == 0 else StepType.MID,
            tick_ns=1_700_000_000_123_456_789 + t * 100_000_000,
            observation={
                "qpos": rng.normal(size=2).astype(np.float32),
                "images/cam_high": rng.integers(0, 256, (16, 24, 3), dtype=np.uint8),
            },
            action={"action": rng.normal(size=2).astype(np.float32)},
            skew_ns=rng.integers(-(10**9), 10**9, 2),
            reason=rng.integers(0, 7, 2, dtype=np.uint8),
            index=np.array([t, -1 if t == 0 else t // 2], dtype=np.int64),
        )
        for t in range(length)
    ]


def make_info(seed: int = 0) -> EpisodeInfo:
    source = SourceRecord(name=f"bag{seed}", kind="memory", sha256=f"{seed:064x}")
    return EpisodeInfo(source=source, task="pick the cube", success=True, notes="größer ✓")


def record(
    writer: DatasetWriter, uid: str, steps: Sequence[Timestep], seed: int = 0
) -> EpisodeRecord:
    """Write one whole episode, without a commit."""
    episode = writer.episode(uid)
    for step in steps:
        episode.record(step)
    return episode.finish(make_info(seed))


def column(steps: Sequence[Timestep], feature: Feature) -> np.ndarray:
    """What reading `feature` back must give for `steps`."""
    sync = {
        "timestamp": lambda s: np.int64(s.tick_ns),
        "sync_skew": lambda s: s.skew_ns,
        "sync_reason": lambda s: s.reason,
        "sync_index": lambda s: s.index,
    }
    if feature.role is Role.SYNC:
        return np.stack([sync[feature.name](s) for s in steps])
    values: list[Value] = [{**s.observation, **s.action}[feature.name] for s in steps]
    if feature.dtype == "uint8":
        return np.stack([codec_round_trip(v, feature) for v in values])
    return np.stack([v for v in values if not isinstance(v, EncodedImage)])


def assert_reads_back(reader: DatasetReader, episode: int, steps: Sequence[Timestep]) -> None:
    for feature in reader.schema.features:
        got = reader.read(feature.name, episode)
        want = column(steps, feature)
        assert got.dtype == want.dtype == np.dtype(feature.dtype), feature.name
        np.testing.assert_array_equal(got, want, err_msg=feature.name)


def _read_in_child(reader: DatasetReader, pipe: multiprocessing.connection.Connection) -> None:
    pipe.send(reader.read("images/cam_high", 0).tobytes())
    pipe.close()


FILE_OPERATIONS = ("fsync", "replace", "rename", "mkdir", "unlink")


class Interrupting:
    """File operations of which the `number`-th is done, and then the user presses Ctrl-C."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            done = operation(*args, **kwargs)
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return done

        return call


class StoreContract:
    """The promises of `DatasetWriter` and `DatasetReader`.

    Attributes:
        name: File name of a dataset in this format.
        codecs: Codecs of the image array that this format has.
        versions: Whether older versions stay readable.
        appends: Whether a second episode can be added.
    """

    name: str
    codecs: tuple[Codec, ...] = ("raw", "jpeg")
    versions = True
    appends = True

    def writer(self, path: Path, schema: DatasetSchema | None = None) -> DatasetWriter:
        return open_writer(path, schema or make_schema(), shard_frames=SHARD_FRAMES)

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / self.name

    @pytest.fixture
    def committed(self, path: Path) -> Path:
        with self.writer(path) as writer:
            record(writer, "ep-a", make_steps(6))
            writer.commit(["ep-a"], message="first")
        return path

    def test_every_array_reads_back_as_recorded(self, path: Path) -> None:
        for n, codec in enumerate(self.codecs):
            place = path.with_stem(f"{path.stem}{n}")
            steps = make_steps(2 * SHARD_FRAMES + 1, seed=n)
            with self.writer(place, make_schema(codec)) as writer:
                made = record(writer, "ep-a", steps)
                writer.commit(["ep-a"])
            reader = open_dataset(place)
            assert reader.schema == make_schema(codec)
            assert [(e.uid, e.length) for e in reader.episodes] == [("ep-a", len(steps))]
            assert_reads_back(reader, 0, steps)
            assert reader.episode("ep-a") == made
            assert made.info == make_info()
            assert reader.verify() == []

    def test_rows_are_half_open_slices_of_the_episode(self, committed: Path) -> None:
        reader = open_dataset(committed)
        whole = reader.read("qpos", 0)
        frames = reader.read("images/cam_high", 0)
        for start, stop in [(0, 1), (2, 5), (3, 6), (0, 6), (4, 4), (6, 6)]:
            np.testing.assert_array_equal(reader.read("qpos", 0, start, stop), whole[start:stop])
            got = reader.read("images/cam_high", 0, start, stop)
            np.testing.assert_array_equal(got, frames[start:stop])
        np.testing.assert_array_equal(reader.read("qpos", 0, 4), whole[4:])

    @pytest.mark.parametrize("name", ["qpos", "images/cam_high", "timestamp"])
    def test_rows_are_put_where_the_caller_wants_them(self, committed: Path, name: str) -> None:
        reader = open_dataset(committed)
        rows = reader.read(name, 0, 1, 4)
        place = np.zeros((5, *rows.shape[1:]), rows.dtype)
        given = reader.read(name, 0, 1, 4, out=place[1:4])
        assert np.shares_memory(given, place)
        np.testing.assert_array_equal(place[1:4], rows)
        assert not place[[0, 4]].any()

    @pytest.mark.parametrize(
        "place",
        [
            pytest.param(np.zeros((2, 2), np.float32), id="too-few-rows"),
            pytest.param(np.zeros((3, 3), np.float32), id="too-wide"),
            pytest.param(np.zeros((3, 2), np.float64), id="another-type"),
            pytest.param(np.zeros((3, 4), np.float32)[:, ::2], id="with-holes"),
        ],
    )
    def test_a_place_that_rows_do_not_fit_into_is_refused(
        self, committed: Path, place: NDArray[np.generic]
    ) -> None:
        with pytest.raises(InputError, match="3 rows of 'qpos' do not go into"):
            open_dataset(committed).read("qpos", 0, 1, 4, out=place)
        assert not place.any()

    def test_what_does_not_exist_is_named(self, committed: Path) -> None:
        reader = open_dataset(committed)
        with pytest.raises(NotFoundError, match="elbow_camera"):
            reader.read("elbow_camera", 0)
        with pytest.raises(NotFoundError, match="1"):
            reader.read("qpos", 1)
        with pytest.raises(NotFoundError, match="ep-zzz"):
            reader.episode("ep-zzz")
        for start, stop in [(0, 7), (-1, 2), (5, 3)]:
            with pytest.raises(InputError, match="row"):
                reader.read("qpos", 0, start, stop)

    def test_a_missing_path_is_said_to_be_missing(self, path: Path) -> None:
        with pytest.raises(NotFoundError, match=path.name):
            open_dataset(path)

    def test_a_missing_version_is_said_to_be_missing(self, committed: Path) -> None:
        with pytest.raises(NotFoundError, match="9"):
            open_dataset(committed, version=9)

    def test_nothing_is_visible_before_the_commit(self, path: Path) -> None:
        with self.writer(path) as writer:
            record(writer, "ep-a", make_steps(3))
            with pytest.raises(NotFoundError):
                open_dataset(path)
            version = writer.commit(["ep-a"], message="first")
            assert open_dataset(path).version == version
        assert version.message == "first"

    def test_an_empty_dataset_leaves_nothing_behind(self, path: Path) -> None:
        with self.writer(path):
            pass
        assert not path.exists()

    def test_a_discarded_episode_leaves_nothing_behind(self, path: Path) -> None:
        with self.writer(path) as writer:
            episode = writer.episode("ep-a")
            for step in make_steps(6):
                episode.record(step)
            episode.discard()
            assert "ep-a" not in writer.durable
        assert not path.exists()

    def test_discarding_a_finished_episode_does_nothing(self, path: Path) -> None:
        with self.writer(path) as writer:
            episode = writer.episode("ep-a")
            for step in make_steps(3):
                episode.record(step)
            episode.finish(make_info())
            episode.discard()
            writer.commit(["ep-a"])
        assert_reads_back(open_dataset(path), 0, make_steps(3))

    def test_an_error_inside_the_writer_leaves_no_half_episode(self, path: Path) -> None:
        class InterruptionError(Exception):
            pass

        def interrupted() -> None:
            with self.writer(path) as writer:
                episode = writer.episode("ep-a")
                episode.record(make_steps(1)[0])
                raise InterruptionError

        with pytest.raises(InterruptionError):
            interrupted()
        assert not path.exists()
        with self.writer(path) as writer:
            record(writer, "ep-a", make_steps(2))
            writer.commit(["ep-a"])
        assert_reads_back(open_dataset(path), 0, make_steps(2))

    def test_a_finished_episode_survives_a_run_that_did_not_commit(self, path: Path) -> None:
        with self.writer(path) as writer:
            made = record(writer, "ep-a", make_steps(5))
        with self.writer(path) as writer:
            assert dict(writer.durable) == {"ep-a": made}
            with pytest.raises(ConflictError, match="ep-a"):
                writer.episode("ep-a")
            writer.commit(["ep-a"])
        reader = open_dataset(path)
        assert_reads_back(reader, 0, make_steps(5))
        assert reader.verify() == []

    def test_an_interrupt_at_any_moment_leaves_a_dataset_that_can_be_continued(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # No power is cut here: no need to wait for the disk.
        monkeypatch.setattr(os, "fsync", lambda _: None)
        steps = make_steps(SHARD_FRAMES + 1)
        number, finished = 0, True
        while finished:
            number += 1
            path = tmp_path / str(number) / self.name
            path.parent.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                interrupting = Interrupting(number)
                for name in FILE_OPERATIONS:
                    patch.setattr(os, name, interrupting(getattr(os, name)))
                try:
                    with self.writer(path) as writer:
                        record(writer, "ep-a", steps)
                        writer.commit(["ep-a"])
                    finished = False
                except KeyboardInterrupt:
                    pass
            with self.writer(path) as writer:
                if "ep-a" not in writer.durable:
                    record(writer, "ep-a", steps)
                writer.commit(["ep-a"])
            reader = open_dataset(path)
            assert_reads_back(reader, 0, steps)
            assert reader.verify() == [], f"after an interrupt at operation {number}"
        assert number > 5

    def test_a_commit_appends_and_keeps_the_split_of_what_was_there(self, path: Path) -> None:
        if not self.appends:
            pytest.skip("this format holds one episode")
        with self.writer(path) as writer:
            record(writer, "ep-a", make_steps(6))
            first = writer.commit(["ep-a"])
        with self.writer(path) as writer:
            record(writer, "ep-b", make_steps(3, seed=1), seed=1)
            record(writer, "ep-c", make_steps(5, seed=2), seed=2)
            second = writer.commit(["ep-a", "ep-c", "ep-b"])
            assert set(writer.durable) == {"ep-a", "ep-b", "ep-c"}
        assert [e.uid for e in second.episodes] == ["ep-a", "ep-c", "ep-b"]
        assert second.episodes[0] == first.episodes[0]
        assert {e.split for e in second.episodes} == {"train", "val"}
        assert second.content_hash != first.content_hash
        reader = open_dataset(path)
        assert reader.version == second
        for i, steps in enumerate([make_steps(6), make_steps(5, seed=2), make_steps(3, seed=1)]):
            assert_reads_back(reader, i, steps)
        assert reader.verify() == []

    def test_an_older_version_stays_readable(self, committed: Path) -> None:
        if not self.versions:
            pytest.skip("this format keeps one version")
        pinned = open_dataset(committed)
        with self.writer(committed) as writer:
            record(writer, "ep-b", make_steps(3, seed=1))
            writer.commit(["ep-b"], message="second")
        assert [e.uid for e in pinned.episodes] == ["ep-a"]
        assert_reads_back(pinned, 0, make_steps(6))
        assert open_dataset(committed, version=1).version == pinned.version
        newest = open_dataset(committed)
        assert (newest.version.number, newest.version.parent) == (2, 1)
        assert newest.uid == pinned.uid
        assert pinned.verify() == []

    def test_a_commit_without_anything_new_gives_the_same_version(self, committed: Path) -> None:
        before = open_dataset(committed).version
        with self.writer(committed) as writer:
            assert writer.commit(["ep-a"]) == before
            assert writer.commit([]) == before
        assert open_dataset(committed).version == before

    def test_an_unknown_episode_cannot_be_committed(self, committed: Path) -> None:
        with self.writer(committed) as writer, pytest.raises(NotFoundError, match="ep-x"):
            writer.commit(["ep-x"])

    def test_a_dataset_of_another_robot_is_refused(self, committed: Path) -> None:
        with pytest.raises(ConflictError, match="robot"):
            self.writer(committed, make_schema(robot="three_joints"))

    def test_one_writer_at_a_time(self, path: Path) -> None:
        with self.writer(path) as writer:
            record(writer, "ep-a", make_steps(2))
            with pytest.raises(ConflictError, match="lock"):
                self.writer(path)
            writer.commit(["ep-a"])
        with self.writer(path) as writer:
            assert set(writer.durable) == {"ep-a"}

    def test_a_step_that_does_not_fit_is_refused_with_the_name_of_the_array(
        self, path: Path
    ) -> None:
        good = make_steps(1)[0]
        bad: list[tuple[str, dict[str, Value]]] = [
            ("shape", {**good.observation, "qpos": np.zeros(3, np.float32)}),
            ("float64", {**good.observation, "qpos": np.zeros(2)}),
            ("qpos", {k: v for k, v in good.observation.items() if k != "qpos"}),
        ]
        for what, observation in bad:
            step = Timestep(
                step_type=good.step_type, tick_ns=good.tick_ns, observation=observation,
                action=good.action, skew_ns=good.skew_ns, reason=good.reason, index=good.index,
            )  # fmt: skip
            with self.writer(path) as writer:
                episode = writer.episode("ep-a")
                with pytest.raises(DataError, match=what) as error:
                    episode.record(step)
                assert "qpos" in str(error.value)
                episode.discard()
        assert not path.exists()

    def test_an_episode_without_steps_is_refused(self, path: Path) -> None:
        with self.writer(path) as writer, pytest.raises(DataError, match="ep-a"):
            writer.episode("ep-a").finish(make_info())
        assert not path.exists()

    def test_the_same_content_has_the_same_hash(self, tmp_path: Path) -> None:
        hashes = []
        for folder, uid in [("one", "ep-a"), ("two", "ep-b")]:
            (tmp_path / folder).mkdir()
            place = tmp_path / folder / self.name
            with self.writer(place) as writer:
                record(writer, uid, make_steps(6), seed=len(hashes))
                hashes.append(writer.commit([uid]).content_hash)
        assert hashes[0] == hashes[1]

    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_readers_travel_to_another_process(self, committed: Path) -> None:
        reader = open_dataset(committed)
        want = reader.read("images/cam_high", 0)
        copy = pickle.loads(pickle.dumps(reader))
        np.testing.assert_array_equal(copy.read("images/cam_high", 0), want)
        assert copy.version == reader.version
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        child = context.Process(target=_read_in_child, args=(reader, theirs))
        child.start()
        theirs.close()
        assert ours.poll(30)
        assert ours.recv() == want.tobytes()
        child.join()

    def test_statistics_are_kept_with_the_version(self, committed: Path) -> None:
        reader = open_dataset(committed)
        assert reader.stats() is None
        stats = make_stats(reader)
        reader.save_stats(stats)
        assert reader.stats() == stats
        assert open_dataset(committed).stats() == stats
        assert reader.verify() == []
        with pytest.raises(InputError, match="content"):
            reader.save_stats(stats.model_copy(update={"content_hash": "0" * 64}))

    def test_a_file_cut_short_is_found(self, committed: Path) -> None:
        files = sorted(f for f in [committed, *committed.rglob("*")] if f.is_file())
        assert files
        for file in files:
            data = file.read_bytes()
            file.write_bytes(data[: len(data) // 2])
            try:
                problems = open_dataset(committed).verify()
            except ActError as e:
                problems = [str(e)]
            assert problems, file
            file.write_bytes(data)
        assert open_dataset(committed).verify() == []


def make_stats(reader: DatasetReader) -> StatsRecord:
    numbers = (0.0, 1.5)
    return StatsRecord(
        dataset="ds",
        version=reader.version.number,
        content_hash=reader.version.content_hash,
        split="train",
        episodes=1,
        steps=6,
        features={
            "qpos": FeatureStats(
                count=(6, 6), mean=numbers, std=numbers, min=numbers, max=(1.0, None),
                q01=numbers, q10=numbers, q50=numbers, q90=numbers, q99=numbers, nan=(0, 0),
            )
        },
    )  # fmt: skip
