"""Which checkpoint of a training is taken: the trainer's, or the one the original would take.

Shape suffixes: B batch, K action chunk, A action dim.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from act_data.interfaces import DatasetReader
from act_model.config import ModelConfig, TrainConfig
from act_model.nn import ActCvae, act_loss
from act_model.policy import Policy
from act_model.train import StepReport
from act_model.training_data import chunks_of
from benchmarks.ablation.rows import Amount, Pick
from benchmarks.ablation.world import CAMERAS, SIDE_PX


class Chooser:
    """Keeps, beside the trainer's `best` and `last`, the checkpoint that the original would keep.

    That is the one of the smallest validation loss with a style drawn from an encoder that sees the
    held-out actions, at one new random start per held-out episode.

    Attributes:
        l1: Of the checkpoint of each way to pick, the trainer's error on held-out episodes.
        step: Of that checkpoint.
    """

    def __init__(
        self, out: Path, reader: DatasetReader, config: TrainConfig, amount: Amount, seed: int
    ) -> None:
        model = ModelConfig(
            state_dim=3,
            action_dim=3,
            cameras=CAMERAS,
            image_size=(SIDE_PX, SIDE_PX),
            chunk_size=amount.chunk,
        )
        self.l1: dict[Pick, float] = {}
        self.step: dict[Pick, int] = {}
        self._out, self._seed = out, seed
        self._held_out = chunks_of(reader, "val", config, model)
        self._smallest: dict[Pick, float] = {}

    def folder(self, pick: Pick) -> Path:
        return self._out / {"z = 0": "best", "posterior": "posterior", "last": "last"}[pick]

    def on_step(self, report: StepReport) -> None:
        if report.validation is None:
            return
        l1 = report.validation.l1
        if self._better("posterior", self._posterior_loss(report.step), l1, report.step):
            shutil.rmtree(self.folder("posterior"), ignore_errors=True)
            shutil.copytree(self.folder("last"), self.folder("posterior"))
        self._better("z = 0", l1, l1, report.step)
        self.l1["last"], self.step["last"] = l1, report.step

    def _better(self, pick: Pick, value: float, l1: float, step: int) -> bool:
        if value >= self._smallest.get(pick, np.inf):
            return False
        self._smallest[pick], self.l1[pick], self.step[pick] = value, l1, step
        return True

    def _posterior_loss(self, step: int) -> float:
        rng = np.random.default_rng((self._seed, step))
        policy = Policy.load(self._out / "last", "cpu")
        episodes: dict[int, list[int]] = {}
        for index in range(len(self._held_out)):
            episodes.setdefault(self._held_out.place(index)[0], []).append(index)
        starts = np.array([rng.choice(indices) for indices in episodes.values()])
        batch = self._held_out.__getitems__(starts)
        net, transform = policy.network, policy.transform
        assert isinstance(net, ActCvae)
        net.config = net.config.model_copy(update={"state_dropout": 0.0})
        net.train()  # where a style is drawn; there is no other noise
        actions_BKA = transform.action(batch.actions)
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(int(rng.integers(2**31)))
            output = net(
                transform.images(batch.images),
                transform.state(batch.state),
                actions_BKA,
                batch.is_pad,
            )
            loss = act_loss(output, actions_BKA, batch.is_pad, policy.checkpoint.train.loss)
        return float(loss.total)
