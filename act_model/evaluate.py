"""How good a policy is on recorded episodes: its chunks on a fixed grid, and a replay of each.

Shape suffixes: B batch, K action chunk, A action dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError
from act_data.interfaces import DatasetReader
from act_data.records import Record
from act_model.chunking import ActionQueue, Chunker
from act_model.contract import check_contract
from act_model.dataset import EpisodeChunks
from act_model.deploy import Mode, RolloutReport, deploy
from act_model.policy import Policy
from act_model.robot_io import DatasetRobot, labels, offered_by
from act_model.safety import joint_range

DEFAULT_STARTS = 8  # per episode, as in training
_BATCH_SIZE = 8


class HorizonError(Record):
    """Mean absolute error of the action that is `step` ticks into a chunk, 1 being the first.

    Attributes:
        count: Valid actions it is the mean of.
        mean: One per joint, in the joint's unit.
        percent: Of each joint's range in the training data; None where it never moved there.
    """

    step: int
    count: int
    mean: tuple[float, ...]
    percent: tuple[float | None, ...]


class EpisodeReplay(Record):
    """The rollout of one episode."""

    episode: int
    uid: str
    rollout: RolloutReport


class EvaluationReport(Record):
    """The error of a policy over episodes of a dataset.

    Attributes:
        version: Of the dataset, `content_hash` too.
        held_out: None of the episodes was trained on; None when nobody can tell.
        starts: Chunks that were predicted.
        joints: Names; `units` in the same order.
        horizons: Of steps 1, 10 and K, as far as there are valid actions.
        replays: With chunks turned into actions as in deployment.
    """

    dataset: str
    version: int
    content_hash: str
    episodes: tuple[int, ...]
    held_out: bool | None
    starts: int
    joints: tuple[str, ...]
    units: tuple[str, ...]
    horizons: tuple[HorizonError, ...]
    replays: tuple[EpisodeReplay, ...]


def evaluate(
    policy: Policy,
    reader: DatasetReader,
    *,
    episodes: Sequence[int] | None = None,
    starts: int = DEFAULT_STARTS,
    chunker: Callable[[], Chunker] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationReport:
    """Compare `policy` with the demonstrator; the same numbers from run to run.

    Args:
        reader: Usually of the dataset that the policy was trained on.
        episodes: Positions in `reader.episodes`; None: those of the val split.
        starts: Chunks per episode, evenly spread.
        chunker: Makes what turns chunks into actions in the replays; None: open loop.
        progress: Called with (episodes replayed, episodes).

    Raises:
        InputError: The dataset does not fit the policy, or has no held-out episode.
        DataError: No step of an episode can be predicted from.
    """
    check_contract(policy.contract, offered_by(reader.schema))
    if episodes is None:
        episodes = [i for i, entry in enumerate(reader.episodes) if entry.split == "val"]
    if not episodes:
        raise InputError(
            f"{reader.path} has no held-out episode",
            hint="Evaluate on a dataset that holds some out: one of several episodes.",
        )
    contract = policy.contract
    joints = labels(contract.action)
    make = chunker or (lambda: ActionQueue(contract.chunk_size, len(joints)))
    predicted, horizons = _grid_errors(policy, reader, episodes, starts)
    replays = []
    for done, episode in enumerate(episodes, start=1):
        robot = DatasetRobot(reader, episode, contract)
        rollout = deploy(policy, robot, mode=Mode.REPLAY, chunker=make())
        uid = reader.episodes[episode].uid
        replays.append(EpisodeReplay(episode=episode, uid=uid, rollout=rollout))
        if progress is not None:
            progress(done, len(episodes))
    trained = set(policy.checkpoint.dataset.train)
    return EvaluationReport(
        dataset=str(reader.path),
        version=reader.version.number,
        content_hash=reader.version.content_hash,
        episodes=tuple(episodes),
        held_out=not any(reader.episodes[e].uid in trained for e in episodes),
        starts=predicted,
        joints=tuple(name for name, _ in joints),
        units=tuple(unit for _, unit in joints),
        horizons=horizons,
        replays=tuple(replays),
    )


def _grid_errors(
    policy: Policy, reader: DatasetReader, episodes: Sequence[int], starts: int
) -> tuple[int, tuple[HorizonError, ...]]:
    """How many chunks were predicted, and their error at each horizon."""
    model = policy.checkpoint.model
    chunks = EpisodeChunks(
        reader,
        episodes,
        config=policy.checkpoint.train,
        chunk_size=model.chunk_size,
        cameras=model.cameras,
        depth=model.depth,
    )
    grid = chunks.grid(starts)
    sum_KA = np.zeros((model.chunk_size, model.action_dim))
    count_K = np.zeros(model.chunk_size, np.int64)
    for first in range(0, len(grid), _BATCH_SIZE):
        batch = chunks.__getitems__(grid[first : first + _BATCH_SIZE])
        valid_BK = ~batch.is_pad.numpy()
        error_BKA = np.abs(policy.predict_batch(batch) - batch.actions.numpy()).astype(np.float64)
        sum_KA += (error_BKA * valid_BK[..., None]).sum(axis=0)
        count_K += valid_BK.sum(axis=0)
    low, high = joint_range(policy.contract.action, policy.stats)
    steps = [s for s in sorted({1, 10, model.chunk_size}) if s <= len(count_K) and count_K[s - 1]]
    errors = [_horizon(s, int(count_K[s - 1]), sum_KA[s - 1], high - low) for s in steps]
    return len(grid), tuple(errors)


def _horizon(
    step: int, count: int, sum_A: NDArray[np.float64], span_A: NDArray[np.float64]
) -> HorizonError:
    mean = [float(value) for value in sum_A / count]
    return HorizonError(
        step=step,
        count=count,
        mean=tuple(mean),
        percent=tuple(
            100 * value / float(span) if span > 0 else None
            for value, span in zip(mean, span_A, strict=True)
        ),
    )
