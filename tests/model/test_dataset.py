from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from act_data.errors import DataError, InputError
from act_data.interfaces import DatasetReader
from act_data.records import SYNC_INDEX, SYNC_REASON, SYNC_SKEW, TIMESTAMP
from act_data.store import open_dataset, open_writer
from act_data.types import Reason, Role, StepType, Timestep
from act_model.config import TrainConfig
from act_model.dataset import Batch, EpisodeChunks
from act_model.sampling import draws_of_step, epoch_order, every_sample
from tests.model.memory_dataset import MemoryDataset, dataset_of, episode_of, schema_of

CONFIG = TrainConfig(batch_size=4)
NO_CAMERA = schema_of(cameras={})


def chunks_of(
    dataset: DatasetReader, *episodes: int, chunk_size: int = 5, config: TrainConfig = CONFIG
) -> EpisodeChunks:
    cameras = [f.name.removeprefix("images/") for f in dataset.schema.features if "/" in f.name]
    return EpisodeChunks(
        dataset,
        episodes or range(len(dataset.episodes)),
        config=config,
        chunk_size=chunk_size,
        cameras=[name for name in cameras if not name.startswith("depth")],
        depth=[name.removeprefix("depth/") for name in cameras if name.startswith("depth")],
    )


def with_reason(length: int, rows: list[int], column: int) -> MemoryDataset:
    """One episode whose `column` (0 arm, 1 command) is invalid at `rows`, with NaN there."""
    arrays = episode_of(NO_CAMERA, length, 0)
    arrays[SYNC_REASON][rows, column] = Reason.GAP
    name = ("qpos", "action")[column]
    arrays[name] = arrays[name].copy()
    arrays[name][rows] = np.nan
    return MemoryDataset(NO_CAMERA, [arrays])


def equal(a: Batch, b: Batch) -> bool:
    pairs = [
        *zip(a.images, b.images, strict=True),
        *zip(a.depth, b.depth, strict=True),
        (a.state, b.state),
        (a.actions, b.actions),
        (a.is_pad, b.is_pad),
    ]
    return all(torch.equal(x, y) for x, y in pairs)


def test_a_sample_is_the_observation_and_the_actions_from_its_step_on() -> None:
    dataset = dataset_of(12, 9)
    chunks = chunks_of(dataset)
    assert len(chunks) == 21
    assert chunks.place(14) == (1, 2)
    sample = chunks[14]
    assert torch.equal(sample.state, torch.from_numpy(dataset.read("qpos", 1)[2]))
    assert torch.equal(sample.actions, torch.from_numpy(dataset.read("action", 1)[2:7]))
    assert torch.equal(sample.images[0], torch.from_numpy(dataset.read("images/top", 1)[2]))
    assert sample.images[0].dtype == torch.uint8
    assert not sample.is_pad.any()


def test_past_the_end_of_an_episode_the_last_action_repeats_as_padding() -> None:
    dataset = dataset_of(12, 9, schema=NO_CAMERA)
    sample = chunks_of(dataset)[10]  # two steps before the end of the first episode
    last = torch.from_numpy(dataset.read("action", 0)[11])
    assert sample.is_pad.tolist() == [False, False, True, True, True]
    assert all(torch.equal(row, last) for row in sample.actions[1:])


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    chunk_size=st.integers(1, 15),
    data=st.data(),
)
def test_a_batch_equals_slices_of_the_episodes(
    lengths: list[int], chunk_size: int, data: st.DataObject
) -> None:
    dataset = dataset_of(*lengths, schema=NO_CAMERA)
    chunks = chunks_of(dataset, chunk_size=chunk_size)
    assert len(chunks) == sum(lengths)
    indices = data.draw(st.lists(st.integers(0, len(chunks) - 1), min_size=1, max_size=6))
    batch = chunks.__getitems__(indices)
    for b, index in enumerate(indices):
        episode, t = chunks.place(index)
        true = dataset.read("action", episode)[t : t + chunk_size]
        assert np.array_equal(batch.actions[b, : len(true)], true)
        assert batch.is_pad[b].tolist() == [i >= len(true) for i in range(chunk_size)]


def test_a_batch_does_not_depend_on_who_asks_for_it() -> None:
    chunks = chunks_of(dataset_of(8, schema=schema_of(depth={"top": (32, 48)})))
    batch = chunks.__getitems__([3, 0, 7])
    assert batch.depth[0].dtype == torch.uint16
    for b, index in enumerate([3, 0, 7]):
        sample = chunks[index]
        assert torch.equal(sample.images[0], batch.images[0][b])
        assert torch.equal(sample.depth[0], batch.depth[0][b])
        assert torch.equal(sample.actions, batch.actions[b])


def test_a_batch_that_is_kept_is_never_overwritten_by_the_next_ones() -> None:
    chunks = chunks_of(dataset_of(12, 9))
    kept = [chunks.__getitems__([n]) for n in range(len(chunks))]
    for n, batch in enumerate(kept):
        assert equal(batch, chunks_of(dataset_of(12, 9)).__getitems__([n]))
    places = {batch.images[0].data_ptr() for batch in kept[:3]}
    del batch, kept
    # Nobody looks at it any more.
    assert chunks.__getitems__([0]).images[0].data_ptr() in places


def test_only_the_pictures_of_a_sample_are_read_and_nothing_else_twice() -> None:
    dataset = dataset_of(10, 10)
    chunks = chunks_of(dataset)
    dataset.reads.clear()
    chunks.__getitems__([1, 12])
    assert dataset.reads == [("images/top", 0, 1, 2), ("images/top", 1, 2, 3)]


def test_cameras_of_different_sizes_stay_as_they_are() -> None:
    dataset = dataset_of(4, schema=schema_of(cameras={"top": (32, 48), "wrist": (24, 40)}))
    assert [i.shape for i in chunks_of(dataset).__getitems__([0, 1]).images] == [
        (2, 32, 48, 3),
        (2, 24, 40, 3),
    ]


# --- validity ---------------------------------------------------------------------------------


def test_no_sample_starts_where_the_observation_is_invalid() -> None:
    chunks = chunks_of(with_reason(10, [0, 4, 5], column=0))
    assert [chunks.place(i)[1] for i in range(len(chunks))] == [1, 2, 3, 6, 7, 8, 9]
    assert torch.isfinite(chunks.__getitems__(range(7)).state).all()


def test_an_invalid_action_is_padding_that_holds_the_action_before() -> None:
    dataset = with_reason(10, [0, 4, 5], column=1)
    chunks = chunks_of(dataset)
    batch = chunks.__getitems__([0, 3])
    actions = torch.from_numpy(dataset.read("action", 0))
    assert batch.is_pad.tolist() == [
        [True, False, False, False, True],
        [False, True, True, False, False],
    ]
    assert torch.equal(batch.actions[0], actions[[1, 1, 2, 3, 3]])
    assert torch.equal(batch.actions[1], actions[[3, 3, 3, 6, 7]])


def test_a_start_without_one_valid_action_ahead_teaches_nothing_and_is_left_out() -> None:
    chunks = chunks_of(with_reason(10, [3, 4, 5, 6, 7, 9], column=1), chunk_size=3)
    assert [chunks.place(i)[1] for i in range(len(chunks))] == [0, 1, 2, 6, 7, 8]


def test_a_camera_that_the_policy_does_not_see_invalidates_nothing() -> None:
    schema = schema_of(cameras={"top": (32, 48), "wrist": (24, 40)})
    arrays = episode_of(schema, 6, 0)
    arrays[SYNC_REASON][2, 3] = Reason.DEAD  # the wrist camera
    dataset = MemoryDataset(schema, [arrays])
    both = EpisodeChunks(dataset, [0], config=CONFIG, chunk_size=2, cameras=["top", "wrist"])
    one = EpisodeChunks(dataset, [0], config=CONFIG, chunk_size=2, cameras=["top"])
    assert (len(both), len(one)) == (5, 6)


@pytest.mark.parametrize(("name", "value"), [("qpos", np.nan), ("action", np.inf)])
def test_a_number_that_is_none_in_a_valid_row_is_located(name: str, value: float) -> None:
    arrays = episode_of(NO_CAMERA, 8, 0)
    arrays[name] = arrays[name].copy()
    arrays[name][5, 1] = value
    dataset = MemoryDataset(NO_CAMERA, [episode_of(NO_CAMERA, 8, 1), arrays])
    with pytest.raises(DataError, match=rf"'{name}' of episode 1 holds .*{value}.* at row 5"):
        chunks_of(dataset)


def test_an_episode_without_a_valid_step_says_so() -> None:
    with pytest.raises(DataError, match="no valid step in 1 episodes"):
        chunks_of(with_reason(4, [0, 1, 2, 3], column=0))


def test_an_unknown_array_names_those_that_there_are() -> None:
    config = TrainConfig(state=("qpos", "qvel"))
    with pytest.raises(InputError, match="'qvel'") as e:
        chunks_of(dataset_of(4), config=config)
    assert "qpos, action, images/top" in e.value.hint


def test_a_picture_is_no_state() -> None:
    with pytest.raises(InputError, match=r"'images/top' .* has shape \(32, 48, 3\)"):
        chunks_of(dataset_of(4), config=TrainConfig(state=("images/top",)))


def test_no_episode_is_an_error() -> None:
    with pytest.raises(InputError, match="no episode"):
        EpisodeChunks(dataset_of(4), [], config=CONFIG, chunk_size=2)


# --- order ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(-5, 2**40),
    count=st.integers(1, 50),
    batch_size=st.integers(1, 20),
    epochs=st.integers(1, 3),
)
def test_every_sample_is_drawn_once_before_any_is_drawn_again(
    seed: int, count: int, batch_size: int, epochs: int
) -> None:
    steps = -(-count * epochs // batch_size)
    drawn = np.concatenate(
        [every_sample(seed, draws_of_step(s, batch_size), count) for s in range(steps)]
    )
    for epoch in range(epochs):
        once = drawn[epoch * count : (epoch + 1) * count]
        assert sorted(once.tolist()) == list(range(count))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    assert np.array_equal(epoch_order(1, 2, 100), epoch_order(1, 2, 100))
    assert not np.array_equal(epoch_order(1, 2, 100), epoch_order(1, 3, 100))
    assert not np.array_equal(epoch_order(1, 2, 100), epoch_order(2, 2, 100))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_start_at_any_step_and_are_the_same_however_many_threads_read(
    workers: int,
) -> None:
    dataset = dataset_of(9, 6)
    reference = chunks_of(dataset).batches()
    expected = [next(reference) for _ in range(8)]
    config = TrainConfig(batch_size=4, workers=workers)
    for start in (0, 3):
        batches = chunks_of(dataset, config=config).batches(start)
        for step in range(start, 8):
            assert equal(next(batches), expected[step])
        batches.close()


def test_an_error_in_a_reading_thread_reaches_the_caller() -> None:
    dataset = dataset_of(6)
    chunks = chunks_of(dataset, config=TrainConfig(batch_size=4, workers=2))
    del dataset._arrays[0]["images/top"]
    batches = chunks.batches()
    with pytest.raises(KeyError, match="images/top"):
        next(batches)


def test_the_grid_is_spread_over_each_episode_and_never_leaves_it() -> None:
    chunks = chunks_of(dataset_of(20, 3, 11, schema=NO_CAMERA))
    places = [chunks.place(i) for i in chunks.grid(4)]
    assert places == [
        *((0, t) for t in (0, 6, 13, 19)),
        *((1, t) for t in (0, 1, 2)),
        *((2, t) for t in (0, 3, 7, 10)),
    ]


# --- from disk --------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 3])
def test_a_store_on_disk_gives_the_batches_of_the_same_arrays_in_memory(
    tmp_path: Path, workers: int
) -> None:
    schema = schema_of(depth={"top": (32, 48)})
    memory = dataset_of(9, 6, schema=schema)
    stored = on_disk(tmp_path / "ds.zarr", memory)
    config = TrainConfig(batch_size=4, workers=workers)
    expected, found = (chunks_of(d, config=config).batches() for d in (memory, stored))
    for _ in range(8):
        assert equal(next(found), next(expected))
    for batches in (expected, found):
        batches.close()


def on_disk(path: Path, dataset: MemoryDataset) -> DatasetReader:
    """The same episodes, written by the store and opened again."""
    named = dataset.schema.named
    with open_writer(path, dataset.schema, shard_frames=4) as writer:
        for number, entry in enumerate(dataset.episodes):
            arrays = {f.name: dataset.read(f.name, number) for f in dataset.schema.features}
            episode = writer.episode(entry.uid)
            for t in range(entry.length):
                episode.record(
                    Timestep(
                        step_type=StepType.FIRST if t == 0 else StepType.MID,
                        tick_ns=int(arrays[TIMESTAMP][t]),
                        observation={f.name: arrays[f.name][t] for f in named(Role.OBSERVATION)},
                        action={f.name: arrays[f.name][t] for f in named(Role.ACTION)},
                        skew_ns=arrays[SYNC_SKEW][t],
                        reason=arrays[SYNC_REASON][t],
                        index=arrays[SYNC_INDEX][t],
                    )
                )
            episode.finish(dataset.episode(entry.uid).info)
        writer.commit([entry.uid for entry in dataset.episodes])
    return open_dataset(path)
