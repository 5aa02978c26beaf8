"""What a command asks for, where the machine or its clock has a say in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from act_data.errors import ActError
from act_model import recipe
from act_model.deploy import Mode
from act_model.launch import DeployRequest, _chunker
from act_model.policy import Policy
from act_model.recipe import TrainRequest
from tests.model.memory_dataset import dataset_of, schema_of
from tests.model.small_policy import K, save_checkpoint


def test_open_loop_in_real_time_keeps_a_reserve_for_the_next_prediction(tmp_path: Path) -> None:
    reader = dataset_of(9, schema=schema_of(cameras={}))
    policy = Policy.load(save_checkpoint(tmp_path / "policy", reader), "cpu")
    shadow = DeployRequest(mode=Mode.SHADOW)
    assert _chunker(DeployRequest(), policy).every == K
    assert 1 <= _chunker(shadow, policy).every < K
    assert _chunker(shadow.model_copy(update={"execute": K}), policy).every == K
    assert _chunker(shadow.model_copy(update={"chunks": "ensemble"}), policy).every == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no more"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_a_run_too_big_for_the_machine_says_what_to_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def train_on(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(recipe, "open_verified", lambda _, **how: dataset_of(5))
    monkeypatch.setattr(recipe, "train_on", train_on)
    with pytest.raises(ActError, match="memory of this machine") as caught:
        recipe.train(TrainRequest(dataset="ds", out=tmp_path / "run"))
    assert "--batch-size" in caught.value.hint
