# ruff: noqa: N815 - fields carry shape suffixes too
"""What a policy says of held-out episodes, beside what was demonstrated.

Shape suffixes: B batch, T steps, K action chunk, A action dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from act_data.interfaces import DatasetReader
from act_model.dataset import EpisodeChunks
from act_model.policy import Policy
from act_model.validate import BATCH_SIZE, EndBin, end_bins

_MOST_CHUNKS = 40  # of an episode that are predicted
_MOST_EPISODES = 8  # whose predicted ends are looked at
_STARTS = 8  # in each of these


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One episode, and the chunks that a policy would have gone on with, one after the other.

    Attributes:
        episode: Position in the dataset.
        demonstrated_TA: In the robot's units; NaN where it was not validly recorded.
        chunks: (first step, (k, A) predicted actions), k up to K, less at the end.
        error_A: Mean absolute error of `chunks`.
    """

    episode: int
    uid: str
    demonstrated_TA: NDArray[np.float32]
    chunks: tuple[tuple[int, NDArray[np.float32]], ...]
    error_A: NDArray[np.float64]


def chunks_of_episodes(
    policy: Policy, reader: DatasetReader, episodes: Sequence[int]
) -> EpisodeChunks:
    """The samples of `episodes` as `policy` sees them."""
    model = policy.checkpoint.model
    return EpisodeChunks(
        reader,
        episodes,
        config=policy.checkpoint.train,
        chunk_size=model.chunk_size,
        cameras=model.cameras,
        depth=model.depth,
    )


def trace(policy: Policy, reader: DatasetReader, episode: int) -> Trace:
    """Predict `episode` in whole chunks, each from the demonstrated observation at its start.

    Raises:
        DataError: No step of it can be predicted from.
        StoreError: It is damaged.
    """
    chunks = chunks_of_episodes(policy, reader, [episode])
    size = policy.checkpoint.model.chunk_size
    steps = np.array([chunks.place(i)[1] for i in range(len(chunks))])
    starts = [0]
    while len(starts) < _MOST_CHUNKS:
        after = int(np.searchsorted(steps, steps[starts[-1]] + size))
        if after == len(steps):
            break
        starts.append(after)
    length = reader.episodes[episode].length
    dim = policy.checkpoint.model.action_dim
    demonstrated_TA = np.full((length, dim), np.nan, np.float32)
    predicted = []
    sum_A, count = np.zeros(dim), 0
    for first in range(0, len(starts), BATCH_SIZE):
        here = np.array(starts[first : first + BATCH_SIZE])
        batch = chunks.__getitems__(here)
        actions_BKA = policy.predict_batch(batch)
        true_BKA, valid_BK = batch.actions.numpy(), ~batch.is_pad.numpy()
        for n, t in enumerate(steps[here].tolist()):
            kept = min(size, length - t)
            valid_K = valid_BK[n, :kept]
            demonstrated_TA[t : t + kept][valid_K] = true_BKA[n, :kept][valid_K]
            predicted.append((t, actions_BKA[n, :kept]))
            wrong_KA = np.abs(actions_BKA[n, :kept] - true_BKA[n, :kept])[valid_K]
            sum_A += wrong_KA.sum(axis=0, dtype=np.float64)
            count += int(valid_K.sum())
    return Trace(
        episode=episode,
        uid=reader.episodes[episode].uid,
        demonstrated_TA=demonstrated_TA,
        chunks=tuple(predicted),
        error_A=sum_A / max(1, count),
    )


def said_ends(policy: Policy, reader: DatasetReader, episodes: Sequence[int]) -> tuple[EndBin, ...]:
    """How well predicted ends are calibrated on `episodes`, and at starts near their ends; () for
    a policy that predicts none."""
    chunks = chunks_of_episodes(policy, reader, episodes[:_MOST_EPISODES])
    grid = chunks.grid(_STARTS)
    said, true = [], []
    for first in range(0, len(grid), BATCH_SIZE):
        batch = chunks.__getitems__(grid[first : first + BATCH_SIZE])
        over_BK = policy.predict_chunks(batch)[1]
        if over_BK is None:
            return ()
        said.append(over_BK.ravel())
        true.append(batch.is_pad.numpy().ravel())
    return end_bins(np.concatenate(said), np.concatenate(true))
