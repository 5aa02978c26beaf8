from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from act_data.errors import ConflictError, InputError
from act_model.checkpoint import load, load_weights
from act_model.config import TrainConfig
from act_model.dataset import EpisodeChunks
from act_model.mixture import Mixture
from act_model.sampling import draws_of_step, mixed, one_per_episode
from act_model.train import train
from tests.model.memory_dataset import MemoryDataset, dataset_of, schema_of
from tests.model.test_train import TINY

NO_CAMERA = schema_of(cameras={})
CONFIG = TrainConfig(steps=6, batch_size=4, lr=1e-3, val_every=3, val_starts=3)


def chunks_of(dataset: MemoryDataset, config: TrainConfig = CONFIG) -> EpisodeChunks:
    return EpisodeChunks(dataset, range(len(dataset.episodes)), config=config, chunk_size=5)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(-5, 2**40),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    epochs=st.integers(1, 4),
)
def test_one_start_per_episode_and_epoch_and_never_outside_it(
    seed: int, lengths: list[int], epochs: int
) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    draws = np.arange(epochs * len(lengths))
    starts = one_per_episode(seed, draws, offsets)
    owners = np.searchsorted(offsets, starts, side="right") - 1
    for epoch in range(epochs):
        part = owners[epoch * len(lengths) : (epoch + 1) * len(lengths)]
        assert sorted(part.tolist()) == list(range(len(lengths)))
    for cut in range(len(draws)):  # the same from wherever one resumes
        np.testing.assert_array_equal(one_per_episode(seed, draws[cut:], offsets), starts[cut:])


def test_short_episodes_count_as_much_as_long_ones_when_episodes_are_drawn() -> None:
    dataset = dataset_of(40, 4, schema=NO_CAMERA)
    steps = chunks_of(dataset)
    episodes = chunks_of(dataset, CONFIG.model_copy(update={"starts": "episodes"}))
    first = torch.from_numpy(dataset.read("qpos", 1))

    def share(chunks: EpisodeChunks) -> float:
        states = chunks.drawn(np.arange(440)).state
        return float((states[:, None] == first[None]).all(-1).any(-1).float().mean())

    assert share(steps) == pytest.approx(4 / 44)
    assert share(episodes) == 0.5


def test_zero_padding_is_zero_where_repeated_padding_holds_the_last_action() -> None:
    dataset = dataset_of(12, schema=NO_CAMERA)
    repeated = chunks_of(dataset)[10]
    zero = chunks_of(dataset, CONFIG.model_copy(update={"padding": "zero"}))[10]
    assert repeated.is_pad.tolist() == zero.is_pad.tolist() == [False, False, True, True, True]
    assert (zero.actions[2:] == 0).all()
    assert torch.equal(zero.actions[:2], repeated.actions[:2])
    assert torch.equal(repeated.actions[2:], repeated.actions[1].expand(3, -1))


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    weights=st.lists(st.floats(0.05, 10), min_size=1, max_size=4),
    start=st.integers(0, 5000),
)
def test_a_mixture_keeps_its_shares_and_every_dataset_its_own_order(
    seed: int, weights: list[float], start: int
) -> None:
    draws = np.arange(3000)
    which, inside = mixed(seed, draws, weights)
    for number, weight in enumerate(weights):
        mine = which == number
        assert inside[mine].tolist() == list(range(int(mine.sum()))), "no draw is skipped"
        for block in range(3):
            count = int(mine[block * 1000 : (block + 1) * 1000].sum())
            assert abs(count - 1000 * weight / sum(weights)) <= 1
    some = draws_of_step(start, 7)
    for part, whole in zip(mixed(seed, some % 3000, weights), (which, inside), strict=True):
        np.testing.assert_array_equal(part, whole[some % 3000])


def test_a_batch_of_a_mixture_holds_samples_of_each_dataset_by_its_share() -> None:
    ours = dataset_of(20, schema=NO_CAMERA, seed=1)
    theirs = dataset_of(15, schema=NO_CAMERA, seed=2)
    config = CONFIG.model_copy(update={"batch_size": 50})
    mixture = Mixture([chunks_of(ours, config), chunks_of(theirs, config)], [0.7, 0.3], config)
    assert len(mixture) == 35
    batches = mixture.batches()
    seen = [next(batches) for _ in range(20)]
    states = torch.cat([b.state for b in seen])
    known = torch.from_numpy(theirs.read("qpos", 0))
    share = (states[:, None] == known[None]).all(-1).any(-1).float().mean()
    assert float(share) == pytest.approx(0.3)
    again = Mixture([chunks_of(ours, config), chunks_of(theirs, config)], [0.7, 0.3], config)
    late = next(again.batches(start_step=12))
    assert torch.equal(late.state, seen[12].state)
    assert torch.equal(late.actions, seen[12].actions)


def test_a_co_trained_run_says_so_resumes_to_the_same_bits_and_refuses_another_share(
    tmp_path: Path,
) -> None:
    ours = dataset_of(12, 9, 7, val=1, schema=NO_CAMERA, seed=1)
    theirs = dataset_of(10, 8, schema=NO_CAMERA, seed=2)

    def run(out: str, steps: int, weight: float = 0.25, *, resume: bool = False) -> Path:
        config = CONFIG.model_copy(update={"steps": steps})
        result = train(
            ours, out=tmp_path / out, config=config, model=TINY, cotrain=[(theirs, weight)],
            resume=resume,
        )  # fmt: skip
        return result.last

    whole = run("whole", 6)
    (other,) = load(whole).dataset.cotrained
    assert (other.content_hash, other.weight) == (theirs.version.content_hash, 0.25)
    run("parts", 3)
    with pytest.raises(ConflictError, match="cotrained"):
        run("parts", 6, 0.5, resume=True)
    parts = run("parts", 6, resume=True)
    a, b = load_weights(load(whole)), load_weights(load(parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
    alone = train(ours, out=tmp_path / "alone", config=CONFIG, model=TINY).last
    c = load_weights(load(alone))
    assert not all(torch.equal(a[name], c[name]) for name in a)


@pytest.mark.parametrize("weight", [0.0, -0.1, 1.0, 1.5])
def test_a_share_that_leaves_nothing_is_refused(tmp_path: Path, weight: float) -> None:
    ours = dataset_of(12, 9, 7, val=1, schema=NO_CAMERA)
    with pytest.raises(InputError, match="shares"):
        train(ours, out=tmp_path / "r", config=CONFIG, model=TINY, cotrain=[(ours, weight)])


def test_a_dataset_of_another_rate_is_not_co_trained(tmp_path: Path) -> None:
    ours = dataset_of(12, 9, 7, val=1, schema=NO_CAMERA)
    slow = dataset_of(12, schema=NO_CAMERA.model_copy(update={"fps": 10.0}))
    with pytest.raises(InputError, match=r"rate_hz is 10\.0 there and 20\.0 here"):
        train(ours, out=tmp_path / "r", config=CONFIG, model=TINY, cotrain=[(slow, 0.5)])
