"""Several datasets as one stream of batches, each with its share: co-training."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch

from act_model.config import TrainConfig
from act_model.dataset import Batch, EpisodeChunks, read_ahead
from act_model.sampling import draws_of_step, mixed


class Mixture:
    """Batches of which each dataset fills its share (Mobile ALOHA co-trains with static ALOHA).

    Within each dataset samples follow each other as they would alone. All of them must have the
    arrays and picture sizes of the first.

    Args:
        parts: The samples of each dataset.
        weights: Share of each; they need not sum to one.
    """

    def __init__(
        self, parts: Sequence[EpisodeChunks], weights: Sequence[float], config: TrainConfig
    ) -> None:
        self._parts = tuple(parts)
        self._weights = tuple(weights)
        self._config = config

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def batches(
        self, start_step: int = 0, mine: Sequence[int] | None = None, *, pinned: bool = False
    ) -> Generator[Batch, None, None]:
        """The batches of training steps `start_step`, ...; see `EpisodeChunks.batches`."""
        return read_ahead(self._batch, start_step, self._config, mine, pinned=pinned)

    def _batch(self, step: int, part: int, parts: int) -> Batch:
        config = self._config
        draws = draws_of_step(step, config.batch_size, part, parts)
        which, inside = mixed(config.seed, draws, self._weights)
        batches = [
            part.drawn(inside[which == number])
            for number, part in enumerate(self._parts)
            if (which == number).any()
        ]
        if len(batches) == 1:
            return batches[0]
        return Batch(
            images=_joined([b.images for b in batches]),
            depth=_joined([b.depth for b in batches]),
            state=torch.cat([b.state for b in batches]),
            actions=torch.cat([b.actions for b in batches]),
            is_pad=torch.cat([b.is_pad for b in batches]),
        )


def _joined(pictures: Sequence[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.cat(each) for each in zip(*pictures, strict=True))


def shares(weights: Sequence[float]) -> list[float]:
    """Weights of co-trained datasets with that of the first, which has the rest, in front."""
    return [1.0 - float(np.sum(weights)), *weights]
