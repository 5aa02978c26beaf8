"""Which samples a training step sees: functions of the seed and the step alone.

So a run resumes at any step without replaying the ones before, and threads that read ahead agree.

Shape suffix: B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MIXTURE_BLOCK = 1000  # samples over which the shares of a mixture are exact


def draws_of_step(step: int, batch_size: int, part: int = 0, parts: int = 1) -> NDArray[np.int64]:
    """Running numbers, from 0, of the draws of training step `step`: batch_size / parts of them.

    Args:
        part: Which of the equal `parts` of the step's batch.
    """
    size = batch_size // parts
    return step * batch_size + part * size + np.arange(size, dtype=np.int64)


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """A permutation of range(count) that depends on its arguments alone. Read-only."""
    order = np.random.default_rng([seed % 2**64, epoch]).permutation(count)
    order.setflags(write=False)
    return order


def every_sample(seed: int, draws_B: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The samples, of `count`, at the running numbers `draws_B`.

    Epochs follow each other without a seam, so every batch is full and every sample is drawn once
    before any is drawn again.
    """
    epoch_B, place_B = np.divmod(draws_B, count)
    indices_B = np.empty(len(draws_B), dtype=np.int64)
    for number in np.unique(epoch_B):
        here = epoch_B == number
        indices_B[here] = epoch_order(seed, int(number), count)[place_B[here]]
    return indices_B


def one_per_episode(
    seed: int, draws_B: NDArray[np.int64], offsets: NDArray[np.int64]
) -> NDArray[np.int64]:
    """As ACT draws: every episode once per epoch, with one random start (Zhao et al., 2023).

    Args:
        offsets: (E + 1,) sample `offsets[e]` is the first of episode e; no episode is empty.
    """
    count = len(offsets) - 1
    episodes_B = every_sample(seed, draws_B, count)
    starts_B = np.empty(len(draws_B), dtype=np.int64)
    for n, (draw, episode) in enumerate(zip(draws_B, episodes_B, strict=True)):
        rng = np.random.default_rng([seed % 2**64, int(draw) // count, int(episode), 1])
        starts_B[n] = rng.integers(offsets[episode], offsets[episode + 1])
    return starts_B


def mixed(
    seed: int, draws_B: NDArray[np.int64], weights: Sequence[float]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of several datasets each draw falls on, and its running number there; (B,) each.

    Of every 1000 draws each dataset has its share, rounded to the nearest whole, in random order.
    """
    counts = _shares(weights)
    which_B, inside_B = np.empty_like(draws_B), np.empty_like(draws_B)
    block_B, place_B = np.divmod(draws_B, MIXTURE_BLOCK)
    for block in np.unique(block_B):
        order, rank = _block_order(seed, int(block), counts)
        here = block_B == block
        which_B[here] = order[place_B[here]]
        inside_B[here] = rank[place_B[here]] + block * np.array(counts)[which_B[here]]
    return which_B, inside_B


def _shares(weights: Sequence[float]) -> tuple[int, ...]:
    """How many of a block fall on each dataset: the largest remainders get what is left."""
    exact = np.array(weights, dtype=np.float64) / sum(weights) * MIXTURE_BLOCK
    counts = np.floor(exact).astype(np.int64)
    left = MIXTURE_BLOCK - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:left]] += 1
    return tuple(counts.tolist())


@lru_cache(maxsize=4)
def _block_order(
    seed: int, block: int, counts: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.random.default_rng([seed % 2**64, block, 2]).permutation(
        np.repeat(np.arange(len(counts)), counts)
    )
    rank = np.empty(MIXTURE_BLOCK, dtype=np.int64)
    for number in range(len(counts)):
        here = order == number
        rank[here] = np.arange(here.sum())
    return order, rank
