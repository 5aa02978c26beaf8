"""Recordings as robots: what a policy sees of them is what training saw, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pytest
import torch

from act_data.convert import cache
from act_data.errors import DataError, InputError
from act_data.ingest import IngestSettings, ingest
from act_data.interfaces import DatasetReader
from act_data.records import SYNC_REASON
from act_data.robot import load_robot
from act_data.sources import Recording, find_recordings, open_recording
from act_data.store import open_dataset
from act_data.types import Reason, SyncPolicy
from act_model.checkpoint import contract_of
from act_model.chunking import TemporalEnsemble
from act_model.contract import check_contract
from act_model.dataset import EpisodeChunks
from act_model.deploy import Mode, deploy
from act_model.policy import Policy
from act_model.robot_io import BagRobot, DatasetRobot, RobotIO, RobotObservation, offered_by
from tests.model.memory_dataset import MemoryDataset, dataset_of, episode_of, schema_of
from tests.model.small_policy import K, save_checkpoint


def observations(robot: RobotIO) -> Iterator[RobotObservation]:
    while (observation := robot.observe()) is not None:
        yield observation


class TestDatasetRobot:
    def test_it_gives_the_stored_rows_in_order(self) -> None:
        dataset = dataset_of(7, 5)
        robot = DatasetRobot(dataset, 1, offered_by(dataset.schema))
        seen = list(observations(robot))
        assert [o.tick for o in seen] == list(range(5))
        assert [o.first for o in seen] == [True] + 4 * [False]
        for row, observation in enumerate(seen):
            arrays = observation.arrays()
            assert sorted(arrays) == ["images/top", "qpos"]
            for name, array in arrays.items():
                assert np.array_equal(array, dataset.read(name, 1)[row])
            assert observation.demonstrated is not None
            assert np.array_equal(observation.demonstrated, dataset.read("action", 1)[row])
        assert robot.observe() is None

    def test_pictures_are_read_when_they_are_asked_for(self) -> None:
        dataset = dataset_of(6)
        seen = list(observations(DatasetRobot(dataset, 0, offered_by(dataset.schema))))
        assert not [read for read in dataset.reads if read[0] == "images/top"]
        seen[3].arrays()
        assert [r for r in dataset.reads if r[0] == "images/top"] == [("images/top", 0, 3, 4)]

    def test_a_row_is_valid_when_the_streams_behind_it_were(self) -> None:
        schema = schema_of()
        arrays = episode_of(schema, 6, seed=0)
        arrays[SYNC_REASON][1, 2] = Reason.GAP  # camera
        arrays[SYNC_REASON][2, 1] = Reason.LATE  # command
        arrays["action"][4, 0] = np.nan
        dataset = MemoryDataset(schema, [arrays])
        seen = list(observations(DatasetRobot(dataset, 0, offered_by(schema))))
        assert [o.valid for o in seen] == [True, False, True, True, True, True]
        assert [o.demonstrated is None for o in seen] == [False, False, True, False, True, False]

    def test_an_episode_that_is_not_there_is_refused(self) -> None:
        dataset = dataset_of(4, 4)
        with pytest.raises(InputError, match="no episode 2") as error:
            DatasetRobot(dataset, 2, offered_by(dataset.schema))
        assert error.value.hint == "It has episodes 0 to 1."


class Ingested(NamedTuple):
    reader: DatasetReader
    recording: Recording
    policy: Policy


@pytest.fixture(scope="module", params=["jpeg", "raw"])
def ingested(
    request: pytest.FixtureRequest, shared_bags: Path, tmp_path_factory: pytest.TempPathFactory
) -> Ingested:
    """A real bag (padded rows, a JPEG topic, a silent camera) and what became of it."""
    torch.set_num_threads(1)
    codec: Literal["jpeg", "raw"] = request.param
    folder = tmp_path_factory.mktemp(codec)
    bag = shared_bags / "recorded_ros1" / "aloha_none.bag"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACT_REGISTRY", str(folder / "registry.db"))
        ingest([bag], folder / "ds.zarr", IngestSettings(robot="cobot_magic", codec=codec))
    reader = open_dataset(folder / "ds.zarr")
    checkpoint = save_checkpoint(
        folder / "best",
        reader,
        state=("qpos", "qvel", "base_vel"),
        action=("action", "base_action"),
        depth=("cam_high",),
    )
    (recording,) = find_recordings([bag])
    return Ingested(reader, recording, Policy.load(checkpoint, "cpu"))


class TestBagRobot:
    def test_the_network_sees_the_same_bits_of_the_bag_and_of_its_dataset(
        self, ingested: Ingested
    ) -> None:
        reader, recording, policy = ingested
        stored = DatasetRobot(reader, 0, policy.contract)
        rows = 0
        inputs = {}
        with open_recording(recording) as source:
            live = BagRobot(source, load_robot("cobot_magic"), policy.contract)
            check_contract(policy.contract, live.contract)
            for ours, theirs in zip(observations(live), observations(stored), strict=True):
                assert (ours.tick, ours.tick_ns, ours.first, ours.valid) == (
                    theirs.tick,
                    theirs.tick_ns,
                    theirs.first,
                    theirs.valid,
                )
                assert (ours.demonstrated is None) == (theirs.demonstrated is None)
                if ours.demonstrated is not None:
                    assert np.array_equal(ours.demonstrated, theirs.demonstrated)
                seen, kept = ours.arrays(), theirs.arrays()
                assert seen.keys() == kept.keys()
                for name in seen:
                    assert seen[name].dtype == kept[name].dtype, name
                    assert np.array_equal(seen[name], kept[name]), (name, ours.tick)
                if ours.valid and ours.tick % 10 == 0:
                    inputs[ours.tick] = policy.inputs(seen)
                rows += 1
        assert rows == reader.episodes[0].length > 170

        # And the door of training: the same network input of the same tick, to the bit.
        chunks = EpisodeChunks(
            reader,
            [0],
            config=policy.checkpoint.train,
            chunk_size=K,
            cameras=policy.checkpoint.model.cameras,
            depth=policy.checkpoint.model.depth,
        )
        index = {chunks.place(i)[1]: i for i in range(len(chunks))}
        ticks = sorted(inputs.keys() & index.keys())
        assert len(ticks) > 10
        batch = chunks.__getitems__([index[t] for t in ticks])
        images, state = policy.transform.images(batch.images), policy.transform.state(batch.state)
        depth = policy.transform.depth(batch.depth)
        assert depth is not None
        for row, tick in enumerate(ticks):
            deployed = inputs[tick]
            assert deployed.depth is not None
            assert torch.equal(images[row], deployed.images[0]), tick
            assert torch.equal(state[row], deployed.state[0]), tick
            assert torch.equal(depth[row], deployed.depth[0]), tick

    def test_a_rollout_of_the_bag_is_the_rollout_of_its_dataset(
        self, ingested: Ingested, tmp_path: Path
    ) -> None:
        reader, recording, policy = ingested

        def rollout(robot: RobotIO, name: str) -> bytes:
            log = tmp_path / name
            report = deploy(
                policy,
                robot,
                mode=Mode.REPLAY,
                chunker=TemporalEnsemble(K, 16, every=3),
                log=log,
                max_ticks=40,
            )
            assert report.chunks == 14
            return log.read_bytes()

        with open_recording(recording) as source:
            live = rollout(BagRobot(source, load_robot("cobot_magic"), policy.contract), "bag")
        assert live == rollout(DatasetRobot(reader, 0, policy.contract), "dataset")

    def test_the_recording_is_read_as_the_policy_was_trained(self, ingested: Ingested) -> None:
        reader, recording, _ = ingested
        offered = offered_by(reader.schema)
        streams = {
            name: sync.model_copy(update={"policy": SyncPolicy.NEAREST, "tolerance_ms": 16.0})
            for name, sync in offered.streams.items()
        }
        trained = offered.model_copy(update={"rate_hz": 15.0, "streams": streams})
        with open_recording(recording) as source:
            robot = BagRobot(source, load_robot("cobot_magic"), trained)
            assert robot.contract.rate_hz == 15.0
            assert robot.contract.streams == streams
            first, second = robot.observe(), robot.observe()
        assert first is not None
        assert second is not None
        assert second.tick_ns - first.tick_ns == pytest.approx(1e9 / 15, abs=1)

    @pytest.mark.parametrize("size", [None, (30, 40)], ids=["as-it-was", "smaller"])
    def test_a_policy_trained_on_a_raw_copy_sees_the_same_bits_of_the_bag(
        self, ingested: Ingested, tmp_path: Path, size: tuple[int, int] | None
    ) -> None:
        reader, recording, policy = ingested
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ACT_REGISTRY", str(tmp_path / "registry.db"))
            cache(str(reader.path), size=size, out=tmp_path / "copy.zarr")
        copy = open_dataset(tmp_path / "copy.zarr")
        trained = contract_of(
            copy.schema, policy.checkpoint.train, K, cameras=("cam_high",), depth=("cam_high",)
        )
        of_copy, of_original = (DatasetRobot(r, 0, trained) for r in (copy, reader))
        compared = 0
        with open_recording(recording) as source:
            of_bag = BagRobot(source, load_robot("cobot_magic"), trained)
            for robot in (of_copy, of_original, of_bag):
                check_contract(trained, robot.contract)
            for _ in range(40):
                seen = [robot.observe() for robot in (of_copy, of_original, of_bag)]
                assert all(observed is not None and observed.valid for observed in seen)
                copied, *others = [observed.arrays() for observed in seen if observed is not None]
                assert copied["images/cam_high"].shape[:2] == (size or (48, 64))
                for other in others:
                    for name, value in copied.items():
                        assert np.array_equal(value, other[name]), name
                        compared += 1
        assert compared == 40 * 2 * 5

    def test_closing_ends_the_recording(self, ingested: Ingested) -> None:
        reader, recording, _ = ingested
        with open_recording(recording) as source:
            robot = BagRobot(source, load_robot("cobot_magic"), offered_by(reader.schema))
            robot.close()
            robot.close()
            assert robot.observe() is None


def test_a_bag_of_another_robot_is_refused_by_its_topics(shared_bags: Path) -> None:
    dataset = dataset_of(4)
    (recording,) = find_recordings([shared_bags / "foxglove_example.bag"])
    with open_recording(recording) as source, pytest.raises(DataError):
        BagRobot(source, load_robot("cobot_magic"), offered_by(dataset.schema))


def test_everything_that_a_robot_offers_is_in_its_contract() -> None:
    schema = schema_of(state=4, cameras={"a": (32, 48), "b": (16, 24)}, depth={"a": (32, 48)})
    offered = offered_by(schema)
    assert [v.name for v in offered.state] == ["qpos"]
    assert [len(v.names) for v in offered.state] == [4]
    assert [(c.name, c.height, c.width) for c in offered.cameras] == [("a", 32, 48), ("b", 16, 24)]
    assert [c.name for c in offered.depth] == ["a"]
