"""What the tests of serving share: a small policy with pictures and depth, and what it sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from act_model.policy import Policy
from act_model.robot_io import DatasetRobot
from tests.model.memory_dataset import MemoryDataset, dataset_of, schema_of
from tests.model.small_policy import save_checkpoint


@pytest.fixture(scope="module")
def dataset() -> MemoryDataset:
    torch.set_num_threads(1)
    schema = schema_of(cameras={"top": (32, 48), "side": (24, 40)}, depth={"top": (32, 48)})
    return dataset_of(20, 15, val=1, schema=schema)


@pytest.fixture(scope="module")
def policy(dataset: MemoryDataset, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = save_checkpoint(tmp_path_factory.mktemp("run") / "best", dataset, depth=("top",))
    return Policy.load(folder, "cpu")


@pytest.fixture(scope="module")
def observation(dataset: MemoryDataset, policy: Policy) -> dict[str, NDArray[np.generic]]:
    row = DatasetRobot(dataset, 0, policy.contract).observe()
    assert row is not None
    return dict(row.arrays())
