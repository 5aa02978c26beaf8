"""A checkpoint as a function of an observation, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from act_data.errors import InputError, NotFoundError, StoreError
from act_data.types import SyncPolicy
from act_model import checkpoint as checkpoints
from act_model.chunking import TemporalEnsemble
from act_model.config import CameraContract, Contract, VectorContract
from act_model.contract import blank_observation, check_contract, mismatches
from act_model.evaluate import evaluate
from act_model.policy import Policy, device_of
from act_model.robot_io import DatasetRobot, offered_by
from act_model.transforms import Transform
from tests.model.memory_dataset import MemoryDataset, dataset_of, schema_of
from tests.model.small_policy import K, save_checkpoint


@pytest.fixture(scope="module")
def dataset() -> MemoryDataset:
    torch.set_num_threads(1)
    schema = schema_of(cameras={"top": (32, 48), "side": (24, 40)}, depth={"top": (32, 48)})
    return dataset_of(20, 15, val=1, schema=schema)


@pytest.fixture(scope="module")
def folder(dataset: MemoryDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("run") / "best", dataset, depth=("top",))


@pytest.fixture(scope="module")
def policy(folder: Path) -> Policy:
    return Policy.load(folder, "cpu")


@pytest.fixture
def observation(dataset: MemoryDataset, policy: Policy) -> dict[str, NDArray[np.generic]]:
    row = DatasetRobot(dataset, 0, policy.contract).observe()
    assert row is not None
    return dict(row.arrays())


def test_it_predicts_a_chunk_in_the_robots_units(
    policy: Policy, observation: dict[str, NDArray[np.generic]]
) -> None:
    actions = policy.predict(observation)
    assert actions.shape == (K, 3)
    assert actions.dtype == np.float32
    assert np.isfinite(actions).all()
    checkpoint = policy.checkpoint
    transform = Transform(checkpoint.model, checkpoint.contract, checkpoint.stats, checkpoint.train)
    seen = policy.inputs(observation)
    with torch.inference_mode():
        raw = policy.network(seen.images, seen.state, depth_BM1HW=seen.depth).actions_BKA
        assert np.array_equal(actions, transform.unaction(raw)[0].numpy())
    # Normalised values of about 1 are not what leaves: the units are those of the statistics.
    assert not np.allclose(actions, raw[0].numpy(), atol=1e-3)


def test_a_prediction_draws_nothing(
    policy: Policy, observation: dict[str, NDArray[np.generic]]
) -> None:
    assert np.array_equal(policy.predict(observation), policy.predict(observation))


def test_a_policy_goes_on_from_the_actions_that_are_under_way(
    dataset: MemoryDataset, observation: dict[str, NDArray[np.generic]], tmp_path: Path
) -> None:
    bound = Policy.load(save_checkpoint(tmp_path / "c", dataset, depth=("top",), max_prefix=3))
    assert bound.max_prefix == 3
    free = bound.predict(observation)
    prefix = free[:2] + np.float32(0.1)
    after = bound.predict_after(observation, prefix)
    assert np.array_equal(after[:2], prefix)
    assert (np.abs(after[2:] - free[2:]).max(axis=1) > 1e-4).all()
    assert np.array_equal(bound.predict_after(observation, prefix[:0]), free)


@pytest.mark.parametrize(
    "shape", [pytest.param((1, 3), id="too-long"), pytest.param((0, 2), id="another-robot's")]
)
def test_a_prefix_that_a_policy_was_not_trained_for_is_refused(
    policy: Policy, observation: dict[str, NDArray[np.generic]], shape: tuple[int, int]
) -> None:
    with pytest.raises(InputError, match=r"the policy takes up to \(0, 3\)"):
        policy.predict_after(observation, np.zeros(shape, np.float32))


def test_a_policy_that_learned_the_end_says_how_likely_it_is(
    dataset: MemoryDataset,
    policy: Policy,
    observation: dict[str, NDArray[np.generic]],
    tmp_path: Path,
) -> None:
    assert policy.predict_chunk(observation).over is None
    folder = save_checkpoint(tmp_path / "c", dataset, depth=("top",), is_pad_head=True)
    learned = Policy.load(folder)
    with torch.no_grad():
        assert learned.network.is_pad_head is not None
        learned.network.is_pad_head.weight.zero_()
        learned.network.is_pad_head.bias.fill_(np.log(3))
    predicted = learned.predict_chunk(observation)
    assert predicted.over is not None
    np.testing.assert_allclose(predicted.over, np.full(K, 0.75), rtol=1e-6)
    assert np.array_equal(predicted.actions, learned.predict(observation))


def test_every_array_matters(policy: Policy, observation: dict[str, NDArray[np.generic]]) -> None:
    before = policy.predict(observation)
    for name in ("qpos", "images/top", "images/side", "depth/top"):
        changed = dict(observation)
        changed[name] = (observation[name] + np.ones(1, observation[name].dtype)).astype(
            observation[name].dtype
        )[::-1]
        assert not np.array_equal(before, policy.predict(changed)), name


def test_arrays_that_the_policy_does_not_use_are_ignored(
    policy: Policy, observation: dict[str, NDArray[np.generic]]
) -> None:
    more = {**observation, "effort": np.full(3, np.nan, np.float32)}
    assert np.array_equal(policy.predict(observation), policy.predict(more))


def test_a_whole_batch_is_predicted_as_its_rows(dataset: MemoryDataset, policy: Policy) -> None:
    from act_model.dataset import EpisodeChunks

    model = policy.checkpoint.model
    chunks = EpisodeChunks(
        dataset,
        [0],
        config=policy.checkpoint.train,
        chunk_size=K,
        cameras=model.cameras,
        depth=model.depth,
    )
    actions = policy.predict_batch(chunks.__getitems__([0, 5]))
    robot = DatasetRobot(dataset, 0, policy.contract)
    rows = [robot.observe() for _ in range(6)]
    for got, row in zip(actions, (rows[0], rows[5]), strict=True):
        assert row is not None
        np.testing.assert_allclose(got, policy.predict(row.arrays()), atol=1e-5)


def test_every_wrong_array_is_listed_with_both_sides(
    policy: Policy, observation: dict[str, NDArray[np.generic]]
) -> None:
    del observation["images/side"]
    observation["images/top"] = np.zeros((480, 640, 3), np.uint8)
    observation["depth/top"] = observation["depth/top"].astype(np.float32)
    observation["qpos"] = np.array([0, np.nan, 0], np.float32)
    with pytest.raises(InputError) as error:
        policy.predict(observation)
    text = str(error.value)
    assert "images/side: policy (24, 40, 3) uint8, robot nothing" in text
    assert "images/top: policy (32, 48, 3) uint8, robot (480, 640, 3) uint8" in text
    assert "depth/top: policy (32, 48) uint16, robot (32, 48) float32" in text
    assert "qpos: policy finite numbers, robot [0.0, nan, 0.0]" in text


def test_a_blank_observation_fits(policy: Policy) -> None:
    assert policy.predict(blank_observation(policy.contract)).shape == (K, 3)


@pytest.mark.parametrize("name", ["cuda:77", "toaster"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"no device '{name}'"):
        device_of(name)


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no checkpoint"):
        Policy.load(tmp_path)


def test_weights_of_another_network_are_refused(
    dataset: MemoryDataset, folder: Path, tmp_path: Path
) -> None:
    checkpoint = checkpoints.load(folder)
    weights = checkpoints.load_weights(checkpoint)
    weights["action_head.weight"] = weights["action_head.weight"][:2]
    checkpoints.save(
        tmp_path / "mixed",
        weights=weights,
        model=checkpoint.model,
        train=checkpoint.train,
        contract=checkpoint.contract,
        stats=checkpoint.stats,
        dataset=checkpoint.dataset,
        step=1,
        metrics={},
    )
    with pytest.raises(StoreError, match=r"1 weights do not fit.*'action_head.weight'"):
        Policy.load(tmp_path / "mixed", "cpu")


# --- the contract -----------------------------------------------------------------------------


def arm(*names: str, unit: str = "rad", name: str = "qpos") -> VectorContract:
    return VectorContract(name=name, names=names, unit=unit)


def test_a_robot_that_offers_more_fits(dataset: MemoryDataset, policy: Policy) -> None:
    offered = offered_by(dataset.schema)
    more = offered.model_copy(update={"state": (arm("x", name="effort"), *offered.state)})
    assert mismatches(policy.contract, more) == []
    check_contract(policy.contract, more)


def changes(offered: Contract) -> dict[str, tuple[Contract, str]]:
    names = offered.state[0].names
    camera = offered.cameras[0]
    small = CameraContract(name="top", height=240, width=320, codec="jpeg", quality=95)
    sync = {
        n: s.model_copy(update={"policy": SyncPolicy.NEAREST}) for n, s in offered.streams.items()
    }

    def state(vector: VectorContract) -> Contract:
        return offered.model_copy(update={"state": (vector,)})

    return {
        "rate": (offered.model_copy(update={"rate_hz": 40.0}), "rate [Hz]"),
        "shift": (offered.model_copy(update={"action_shift": 1}), "action shift"),
        "names": (state(arm(names[0], "elbow", names[2])), "state qpos names"),
        "order": (state(arm(*reversed(names))), "state qpos order"),
        "size": (state(arm(*names, "gripper")), "state qpos size"),
        "unit": (state(arm(*names, unit="deg")), "state qpos unit"),
        "missing": (offered.model_copy(update={"action": ()}), "action action"),
        "picture": (
            offered.model_copy(update={"cameras": (small, offered.cameras[1])}),
            "images/top",
        ),
        "camera": (offered.model_copy(update={"cameras": (camera,)}), "images/side"),
        "depth": (offered.model_copy(update={"depth": ()}), "depth/top"),
        "sync": (offered.model_copy(update={"streams": sync}), "sync of arm"),
    }


CHANGES = ("rate", "shift", "names", "order", "size", "unit", "missing", "picture", "camera",
           "depth", "sync")  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_robot_that_differs_is_refused_before_anything_moves(
    dataset: MemoryDataset, policy: Policy, change: str
) -> None:
    robot, what = changes(offered_by(dataset.schema))[change]
    assert what in [m.what for m in mismatches(policy.contract, robot)]
    with pytest.raises(InputError, match="does not fit the policy"):
        check_contract(policy.contract, robot)


def test_all_differences_are_shown_beside_each_other(
    dataset: MemoryDataset, policy: Policy
) -> None:
    offered = offered_by(dataset.schema)
    robot = offered.model_copy(
        update={"rate_hz": 40.0, "robot": "other", "state": (arm("a", "b", "c", unit="deg"),)}
    )
    with pytest.raises(InputError) as error:
        check_contract(policy.contract, robot)
    head, columns, *rows = str(error.value).splitlines()
    assert head == "the robot does not fit the policy in 3 points:"
    assert columns.split() == ["policy", "(one_arm)", "robot", "(other)"]
    assert [row.split()[-1] for row in rows] == ["40.0", "deg", "c"]
    assert "3: arm/joint0, arm/joint1, arm/joint2" in rows[2]


# --- evaluation -------------------------------------------------------------------------------


def test_an_evaluation_gives_the_error_per_joint_and_horizon(
    dataset: MemoryDataset, policy: Policy
) -> None:
    calls: list[tuple[int, int]] = []
    report = evaluate(
        policy, dataset, starts=4, progress=lambda done, total: calls.append((done, total))
    )
    assert report.episodes == (1,)
    assert calls == [(1, 1)]
    assert report.starts == 4
    assert report.joints == tuple(f"command/joint{i}" for i in range(3))
    assert [h.step for h in report.horizons] == [1, K]
    assert json.loads(report.model_dump_json())["dataset"] == "memory.zarr"

    # The same by hand, from single predictions.
    robot = DatasetRobot(dataset, 1, policy.contract)
    rows = [robot.observe() for _ in range(15)]
    actions = dataset.read("action", 1).astype(np.float32)
    errors = []
    for t in np.linspace(0, 14, 4).round().astype(int):
        row = rows[t]
        assert row is not None
        errors.append(np.abs(policy.predict(row.arrays())[0] - actions[t]))
    np.testing.assert_allclose(report.horizons[0].mean, np.mean(errors, axis=0), rtol=1e-4)
    assert report.horizons[0].count == 4
    assert report.horizons[1].count == 3  # the one that starts at 14 of 15 ends in padding

    (replay,) = report.replays
    assert replay.uid == "episode-1"
    assert replay.rollout.compared_ticks == 15


def test_an_evaluation_says_whether_the_episodes_were_trained_on(
    dataset: MemoryDataset, policy: Policy
) -> None:
    report = evaluate(policy, dataset, episodes=[0], chunker=lambda: TemporalEnsemble(K, 3))
    assert not report.held_out
    assert report.replays[0].rollout.chunks == 20


def test_an_evaluation_needs_an_episode(policy: Policy) -> None:
    schema = schema_of(cameras={"top": (32, 48), "side": (24, 40)}, depth={"top": (32, 48)})
    with pytest.raises(InputError, match="no held-out episode"):
        evaluate(policy, dataset_of(9, schema=schema))


def test_an_evaluation_on_another_robot_is_refused(policy: Policy) -> None:
    with pytest.raises(InputError, match="does not fit the policy"):
        evaluate(policy, dataset_of(9))
