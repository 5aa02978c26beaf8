"""Trains to the end in one go, and in sittings that SIGKILL ends at the given steps.

Run as `python -m tests.model.killed_runs FOLDER POLICY STEPS KILL...`; `whole` and `killed` are the
two runs in FOLDER. Each sitting is a process of its own, forked so that what takes long to import
is imported once.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path

import torch

from act_model.config import TrainConfig
from act_model.families import FAMILIES
from act_model.train import StepReport, train
from tests.model.memory_dataset import dataset_of, schema_of
from tests.model.small_policy import TINY


def sitting(out: Path, policy: str, steps: int, kill_at: int | None) -> int:
    """The signal that ended a sitting; 0 for one that came to the end."""
    child = os.fork()
    if child:
        return os.WTERMSIG(os.waitpid(child, 0)[1])

    def on_step(report: StepReport) -> None:
        if report.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    config = {"steps": steps, "batch_size": 2, "val_every": 3, "val_starts": 2, "lr": 1e-3}
    config |= {"ema": 0.9, "workers": 1, "warmup": 5, "schedule": "cosine", "augment": {}}
    train(
        dataset_of(8, 6, 5, val=1, schema=schema_of(cameras={"top": (16, 24)})),
        out=out,
        config=TrainConfig.model_validate({**config, **FAMILIES[policy].train}),
        model={**TINY[policy], "policy": policy, "chunk_size": 5},
        resume=(out / "last").is_dir(),
        on_step=on_step,
    )
    os._exit(0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for imported in ("torch._dynamo", "diffusers.schedulers"):  # by optimisers, and by noise
        importlib.import_module(imported)
    folder, policy, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    assert sitting(folder / "whole", policy, steps, None) == 0
    for kill_at in map(int, sys.argv[4:]):
        assert sitting(folder / "killed", policy, steps, kill_at) == signal.SIGKILL
    assert sitting(folder / "killed", policy, steps, None) == 0
