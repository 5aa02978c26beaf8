"""A training run for torchrun: `-m tests.model.torchrun_run FOLDER PARTS NOISE [fail]`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from act_model.config import TrainConfig
from act_model.train import StepReport, TrainResult, train
from tests.model.memory_dataset import dataset_of, schema_of
from tests.model.small_policy import TINY


def run(out: Path, parts: int, noise: bool, *, fails: bool = False) -> TrainResult:
    """Four steps; with `noise` everything that draws: dropout, style, augmentation."""
    drawn = {"dropout": 0.1} if noise else {"dropout": 0.0, "latent": "none"}
    return train(
        dataset_of(11, 9, 7, val=1, schema=schema_of(cameras={"top": (16, 24)})),
        out=out,
        config=TrainConfig.model_validate(
            {
                "steps": 4, "batch_size": 8, "val_every": 2, "lr": 1e-3, "parts": parts,
                "augment": {} if noise else None, "device": "cpu", "ema": 0.5,
            }
        ),
        model={**TINY["act"], "chunk_size": 6, **drawn},
        on_step=_fail if fails else None,
    )  # fmt: skip


def _fail(report: StepReport) -> None:
    if report.step == 2:
        raise RuntimeError("the first rank fails")


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    result = run(folder / "run", int(sys.argv[2]), sys.argv[3] == "noise", fails=len(sys.argv) > 4)
    (folder / f"rank-{os.environ['RANK']}").write_text(str(result.metrics["l1"]))
