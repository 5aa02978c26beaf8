"""Real-time chunking from training to the robot: what is on its way is told, and is executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from act_data.interfaces import DatasetReader
from act_data.types import NS_PER_S
from act_model.config import TrainConfig
from act_model.deploy import Mode, RolloutReport, deploy
from act_model.plan import DeployRequest, chunker_of, max_prefix_of
from act_model.policy import Policy
from act_model.robot_io import DatasetRobot
from act_model.train import train
from tests.model.memory_dataset import FPS, MemoryDataset, dataset_of, schema_of
from tests.model.small_policy import TINY

K, MAX_PREFIX, LATENCY_TICKS, EVERY = 12, 5, 2, 4


class Listening:
    """A policy, and what it was told and said."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.contract, self.stats = policy, policy.contract, policy.stats
        self.prefixes: list[NDArray[np.float32] | None] = []
        self.chunks: list[NDArray[np.float32]] = []

    def predict(self, observation: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        return self._kept(None, self.policy.predict(observation))

    def predict_after(
        self, observation: Mapping[str, NDArray[np.generic]], prefix_PA: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        return self._kept(prefix_PA, self.policy.predict_after(observation, prefix_PA))

    @property
    def max_prefix(self) -> int:
        return self.policy.max_prefix

    def _kept(
        self, prefix: NDArray[np.float32] | None, chunk: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        self.prefixes.append(None if prefix is None else prefix.copy())
        self.chunks.append(chunk.copy())
        return chunk


@pytest.fixture(scope="module")
def dataset() -> MemoryDataset:
    return dataset_of(60, 60, 60, 60, val=1, schema=schema_of(cameras={}))


@pytest.fixture(scope="module")
def policy(dataset: MemoryDataset, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """Trained for some seconds."""
    result = train(
        dataset,
        out=tmp_path_factory.mktemp("prefix") / "run",
        config=TrainConfig(
            steps=200,
            batch_size=32,
            lr=4e-3,
            val_every=200,
            schedule="cosine",
            warmup=20,
            val_starts=2,
            device="cpu",
        ),
        model={
            **TINY["act"],
            "hidden_dim": 32,
            "dropout": 0.0,
            "latent": "none",
            "chunk_size": K,
            "max_prefix": MAX_PREFIX,
        },
    )
    return Policy.load(result.last, "cpu")


def rollout(
    policy: Listening, dataset: MemoryDataset, log: Path, **request: object
) -> tuple[RolloutReport, NDArray[np.float64]]:
    """Of an episode, predictions late: the report and (T, A) what the policy wanted."""
    wanted = DeployRequest.model_validate({"execute": EVERY, **request})
    report = deploy(
        policy,
        DatasetRobot(cast(DatasetReader, dataset), 0, policy.contract),
        mode=Mode.REPLAY,
        chunker=chunker_of(wanted, policy),  # type: ignore[arg-type]  # a policy on a folder
        max_prefix=max_prefix_of(policy) if wanted.chunks == "prefix" else 0,  # type: ignore[arg-type]
        latency_ns=lambda: round(LATENCY_TICKS * NS_PER_S / FPS),
        log=log,
    )
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return report, np.array([line["raw"] for line in lines if line["raw"] is not None])


def test_committed_actions_are_the_executed_ones_and_no_seam_jumps(
    policy: Policy, dataset: MemoryDataset, tmp_path: Path
) -> None:
    told = Listening(policy)
    report, executed = rollout(told, dataset, tmp_path / "told", chunks="prefix")
    first, *prefixes = told.prefixes
    assert first is None, "nothing was on its way"
    assert len(prefixes) >= 8
    for number, prefix in enumerate(prefixes, 1):
        assert prefix is not None
        assert LATENCY_TICKS < len(prefix) <= MAX_PREFIX
        # The new chunk begins with what it was told, and that is what the robot does meanwhile.
        assert np.array_equal(told.chunks[number][: len(prefix)], prefix)
        begin = number * EVERY - LATENCY_TICKS  # ticks before the first chunk have none
        np.testing.assert_array_equal(executed[begin : begin + len(prefix)], prefix)
    assert (report.starved_ticks, report.splice_mismatches) == (0, 0)

    untold = Listening(policy)
    rollout(untold, dataset, tmp_path / "untold", chunks="open-loop")
    assert set(map(type, untold.prefixes)) == {type(None)}
    assert seams(told.chunks) == [0.0] * (len(told.chunks) - 1)
    assert np.median(seams(untold.chunks)) > 0.01, "the same policy, which was not told"


def seams(chunks: list[NDArray[np.float32]]) -> list[float]:
    """How far each chunk is, where it takes over, from what the one before it had planned."""
    return [
        float(np.abs(new[LATENCY_TICKS] - old[EVERY + LATENCY_TICKS]).max())
        for old, new in pairwise(chunks)
    ]
