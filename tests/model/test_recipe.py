"""What a command asks for, where the machine or its clock has a say in it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from act_data.errors import ActError, InputError
from act_model import recipe
from act_model.recipe import TrainRequest
from tests.model.memory_dataset import dataset_of


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


def test_event_files_without_their_library_are_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "open_verified", lambda _, **how: dataset_of(5))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="need tensorboard") as caught:
        recipe.train(TrainRequest(dataset="ds", out=tmp_path / "run", tensorboard=True))
    assert "act-toolkit[tensorboard]" in caught.value.hint
    assert not (tmp_path / "run").exists()
