"""Training samples from a dataset: one observation and the action chunk that followed it.

Low-dimensional arrays of the chosen episodes lie in memory, pictures are read when they are asked
for and stay uint8 (turning them into floats here costs more than decoding three JPEGs).

Shape suffixes: B batch, N cameras, M depth cameras, K action chunk, S state dim, A action dim.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from act_data.errors import DataError, InputError
from act_data.interfaces import DatasetReader
from act_data.records import SYNC_REASON, DatasetSchema, Feature
from act_data.types import Reason, Role
from act_model.buffers import Buffers, received
from act_model.config import TrainConfig
from act_model.sampling import draws_of_step, every_sample, one_per_episode


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One observation and the K actions from its step on, in the units of the dataset.

    Attributes:
        images: One (H, W, 3) uint8 RGB per camera; sizes may differ between cameras.
        depth: One (H, W) uint16 millimetres per depth camera.
        state: (S,) float32.
        actions: (K, A) float32. Rows that are padding hold the nearest action that is none, or
            zeros.
        is_pad: (K,) bool: past the end of the episode, or the action was not validly recorded.
    """

    images: tuple[Tensor, ...]
    depth: tuple[Tensor, ...]
    state: Tensor
    actions: Tensor
    is_pad: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """B samples, collated: the fields of `Sample` with B in front.

    Attributes:
        images: One (B, H, W, 3) uint8 per camera.
        depth: One (B, H, W) uint16 per depth camera.
        state: (B, S) float32.
        actions: (B, K, A) float32.
        is_pad: (B, K) bool.
    """

    images: tuple[Tensor, ...]
    depth: tuple[Tensor, ...]
    state: Tensor
    actions: Tensor
    is_pad: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return Batch(
            images=tuple(image.to(device, non_blocking=True) for image in self.images),
            depth=tuple(depth.to(device, non_blocking=True) for depth in self.depth),
            state=self.state.to(device, non_blocking=True),
            actions=self.actions.to(device, non_blocking=True),
            is_pad=self.is_pad.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Batch:
        """The same batch in memory that a GPU reads by itself. torch's DataLoader asks for it."""
        return Batch(
            images=tuple(image.pin_memory() for image in self.images),
            depth=tuple(depth.pin_memory() for depth in self.depth),
            state=self.state.pin_memory(),
            actions=self.actions.pin_memory(),
            is_pad=self.is_pad.pin_memory(),
        )

    def __reduce__(self) -> tuple[Callable[..., Batch], tuple[object, ...]]:
        if get_worker_info() is None:
            return _batch, (self.images, self.depth, self.state, self.actions, self.is_pad)
        # Pictures lie in shared memory. The rest is so small that a file each would cost more.
        small = (self.state.numpy(), self.actions.numpy(), self.is_pad.numpy())
        return _batch_of_worker, (self.images, self.depth, *small)


def _batch(
    images: tuple[Tensor, ...],
    depth: tuple[Tensor, ...],
    state: Tensor,
    actions: Tensor,
    is_pad: Tensor,
) -> Batch:
    return Batch(images=images, depth=depth, state=state, actions=actions, is_pad=is_pad)


def _batch_of_worker(
    images: tuple[Tensor, ...], depth: tuple[Tensor, ...], *small: NDArray[np.generic]
) -> Batch:
    state, actions, is_pad = (torch.from_numpy(array) for array in small)
    return Batch(
        images=tuple(received(image) for image in images),
        depth=tuple(received(each) for each in depth),
        state=state,
        actions=actions,
        is_pad=is_pad,
    )


def as_it_is(batch: Any) -> Any:
    """The `collate_fn` for `EpisodeChunks`, whose `__getitems__` gives whole batches."""
    return batch


class EpisodeChunks(Dataset[Sample]):
    """Every step of the chosen episodes at which a chunk can start.

    That is each (episode, t) whose state and camera columns were validly synchronised and whose
    chunk holds at least one valid action. Every such step counts the same, however long its
    episode is; with `config.starts` "episodes" each episode gives one random start per epoch, as
    in the original.

    `batches` reads with threads. For torch's own loader, whose workers are processes:
    `DataLoader(chunks, batch_size=8, shuffle=True, num_workers=2, collate_fn=as_it_is)`.

    Args:
        reader: The dataset. Read from several threads when `config.workers` > 1.
        episodes: Positions in `reader.episodes`.
        config: Names of the state and action arrays, batch size, seed, workers.
        chunk_size: K.
        cameras: Image arrays without "images/", in the order of `Batch.images`.
        depth: Depth arrays without "depth/".

    Raises:
        InputError: An array is not in the dataset or has the wrong shape; no episode is given.
        DataError: A valid row holds NaN or infinity, or no row can start a chunk.
    """

    def __init__(
        self,
        reader: DatasetReader,
        episodes: Sequence[int],
        *,
        config: TrainConfig,
        chunk_size: int,
        cameras: Sequence[str] = (),
        depth: Sequence[str] = (),
    ) -> None:
        if not episodes:
            raise InputError(f"{reader.path}: no episode to read", hint="Ingest some first.")
        schema = reader.schema
        state = [vector_of(schema, name) for name in config.state]
        action = [vector_of(schema, name) for name in config.action]
        self._reader = reader
        self._config = config
        self._steps_K = np.arange(chunk_size)
        self._images = [feature_of(schema, f"images/{name}") for name in cameras]
        self._depth = [feature_of(schema, f"depth/{name}") for name in depth]
        # A batch in the hands of the trainer, one for each thread, one that waits. Each worker of
        # a DataLoader has as many: it reads two ahead.
        pictures = len(self._images) + len(self._depth)
        self._buffers = Buffers(pictures * (config.workers + 4))
        self.episodes = tuple(episodes)

        lengths = [reader.episodes[e].length for e in episodes]
        # Row r of the concatenated arrays belongs to the i-th chosen episode, [offset i, i + 1).
        self._offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        seen = _valid(reader, episodes, [*state, *self._images, *self._depth])
        acted = _valid(reader, episodes, action)
        self._state = _load(reader, episodes, state, seen)
        self._action = _hold(_load(reader, episodes, action, acted), acted, self._offsets)
        self._acted = acted

        has_target = _any_ahead(acted, self._offsets, chunk_size)
        self._rows = np.flatnonzero(seen & has_target)
        if len(self._rows) == 0:
            raise DataError(
                f"{reader.path}: no valid step in {len(episodes)} episodes",
                hint="See which stream is missing with `act-data show`.",
            )
        self._episode_of = np.searchsorted(self._offsets, self._rows, side="right") - 1
        # Samples of one episode lie together; episodes without any are left out.
        self._first_of = np.append(np.unique(self._episode_of, return_index=True)[1], len(self))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        batch = self.__getitems__([index])
        return Sample(
            images=tuple(image[0] for image in batch.images),
            depth=tuple(depth[0] for depth in batch.depth),
            state=batch.state[0],
            actions=batch.actions[0],
            is_pad=batch.is_pad[0],
        )

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The samples at `indices` as one batch; each picture is written once, into its place."""
        rows_B = self._rows[np.asarray(indices, dtype=np.int64)]
        owner_B = self._episode_of[np.asarray(indices, dtype=np.int64)]
        rows_BK = rows_B[:, None] + self._steps_K
        last_B1 = self._offsets[owner_B + 1][:, None] - 1
        past_BK = rows_BK > last_B1
        rows_BK = np.minimum(rows_BK, last_B1)
        places = [
            (self.episodes[owner], int(row - self._offsets[owner]))
            for owner, row in zip(owner_B, rows_B, strict=True)
        ]
        actions_BKA, pad_BK = self._action[rows_BK], past_BK | ~self._acted[rows_BK]
        if self._config.padding == "zero":
            actions_BKA[pad_BK] = 0
        return Batch(
            images=tuple(self._pictures(feature, places) for feature in self._images),
            depth=tuple(self._pictures(feature, places) for feature in self._depth),
            state=torch.from_numpy(self._state[rows_B]),
            actions=torch.from_numpy(actions_BKA),
            is_pad=torch.from_numpy(pad_BK),
        )

    def place(self, index: int) -> tuple[int, int]:
        """The (episode, t) of sample `index`; the episode as a position in `reader.episodes`."""
        owner = int(self._episode_of[index])
        return self.episodes[owner], int(self._rows[index] - self._offsets[owner])

    def grid(self, per_episode: int) -> NDArray[np.int64]:
        """Indices of `per_episode` evenly spread starts of each episode: the same ones always."""
        starts = np.searchsorted(self._episode_of, np.arange(len(self.episodes) + 1))
        spread = [
            np.unique(np.linspace(first, stop - 1, per_episode).round().astype(np.int64))
            for first, stop in itertools.pairwise(starts)
            if stop > first
        ]
        return np.concatenate(spread)

    def batches(
        self, start_step: int = 0, mine: Sequence[int] | None = None, *, pinned: bool = False
    ) -> Generator[Batch, None, None]:
        """The batches of training steps `start_step`, `start_step` + 1, ... without end.

        A batch depends on the seed and its step alone, so a run resumes at any step without
        replaying the ones before. With `config.workers` > 0 that many threads read ahead; the
        batches are the same. Close the generator to stop them.

        Args:
            mine: Of the `config.parts` that every batch is cut into, those to give, one after the
                other; None for all of them.
            pinned: In memory from where a GPU can fetch them while the program goes on.
        """
        return read_ahead(self._batch, start_step, self._config, mine, pinned=pinned)

    def drawn(self, draws_B: NDArray[np.int64]) -> Batch:
        """The samples at these running numbers of the endless sequence of draws."""
        seed = self._config.seed
        if self._config.starts == "episodes":
            return self.__getitems__(one_per_episode(seed, draws_B, self._first_of))
        return self.__getitems__(every_sample(seed, draws_B, len(self)))

    def _batch(self, step: int, part: int, parts: int) -> Batch:
        return self.drawn(draws_of_step(step, self._config.batch_size, part, parts))

    def _pictures(self, feature: Feature, places: Sequence[tuple[int, int]]) -> Tensor:
        buffer = self._buffers.take((len(places), *feature.shape), feature.dtype)
        array = buffer.numpy()
        for n, (episode, t) in enumerate(places):
            self._reader.read(feature.name, episode, t, t + 1, out=array[n : n + 1])
        return buffer


def read_ahead(
    make: Callable[[int, int, int], Batch],
    start_step: int,
    config: TrainConfig,
    mine: Sequence[int] | None,
    *,
    pinned: bool,
) -> Generator[Batch, None, None]:
    """The batches that `make` gives for (step, part, parts), from `start_step` on, without end.

    With `config.workers` > 0 that many threads make them ahead. Close the generator to stop them.

    Args:
        mine: Parts of every step; None for all of them.
        pinned: See `EpisodeChunks.batches`.
    """

    def made(step: int, part: int) -> Batch:
        batch = make(step, part, config.parts)
        return batch.pin_memory() if pinned else batch

    parts = range(config.parts) if mine is None else mine
    wanted = ((step, part) for step in itertools.count(start_step) for part in parts)
    workers = config.workers
    if workers == 0:
        for step, part in wanted:
            yield made(step, part)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="act-batch")
    ahead: deque[Future[Batch]] = deque()
    try:
        while True:
            while len(ahead) <= workers:
                ahead.append(pool.submit(made, *next(wanted)))
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def feature_of(schema: DatasetSchema, name: str) -> Feature:
    """The array called `name`.

    Raises:
        InputError: There is none; says which there are.
    """
    try:
        return schema.feature(name)
    except KeyError:
        names = ", ".join(feature.name for feature in schema.features)
        raise InputError(f"the dataset has no array {name!r}", hint=f"It has: {names}.") from None


def vector_of(schema: DatasetSchema, name: str) -> Feature:
    """The array called `name`, which state or action may be made of.

    Raises:
        InputError: There is none, or it is no vector of the robot.
    """
    feature = feature_of(schema, name)
    if len(feature.shape) != 1 or feature.role is Role.SYNC:
        vectors = [f.name for f in schema.features if len(f.shape) == 1 and f.role is not Role.SYNC]
        raise InputError(
            f"array {name!r} ({feature.role.value}) has shape {feature.shape} per step; state and "
            "action are vectors of the robot",
            hint=f"Name some of: {', '.join(vectors)}.",
        )
    return feature


def _valid(
    reader: DatasetReader, episodes: Sequence[int], features: Sequence[Feature]
) -> NDArray[np.bool_]:
    """(rows,) whether every stream behind `features` was validly synchronised."""
    columns = {name for feature in features for name in feature.columns}
    used = [i for i, column in enumerate(reader.schema.columns) if column.name in columns]
    if not used:
        return np.ones(sum(reader.episodes[e].length for e in episodes), dtype=np.bool_)
    reasons = np.concatenate([reader.read(SYNC_REASON, e) for e in episodes])
    return cast(NDArray[np.bool_], (reasons[:, used] == int(Reason.OK)).all(axis=1))


def _load(
    reader: DatasetReader,
    episodes: Sequence[int],
    features: Sequence[Feature],
    valid: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """(rows, D) of `features` side by side, in one piece; a valid row must be finite."""
    width = sum(feature.shape[0] for feature in features)
    loaded = np.empty((len(valid), width), dtype=np.float32)
    start = 0
    for episode in episodes:
        stop = start + reader.episodes[episode].length
        column = 0
        for feature in features:
            part = loaded[start:stop, column : column + feature.shape[0]]
            part[...] = reader.read(feature.name, episode)
            bad = ~np.isfinite(part).all(axis=1) & valid[start:stop]
            if bad.any():
                row = int(bad.argmax())
                raise DataError(
                    f"{reader.path}: {feature.name!r} of episode {episode} holds "
                    f"{part[row].tolist()!r} at row {row}",
                    hint="Leave the episode out, or ingest it again with invalid rows masked.",
                )
            column += feature.shape[0]
        start = stop
    return loaded


def _hold(
    values: NDArray[np.float32], valid: NDArray[np.bool_], offsets: NDArray[np.int64]
) -> NDArray[np.float32]:
    """`values` with each invalid row replaced by the last valid one of its episode, in place.

    Rows before the first valid one take that; an episode without any becomes zeros. Padding is in
    no loss, but it passes through the normalisation and must not be NaN there.
    """
    for start, stop in itertools.pairwise(offsets):
        good = np.flatnonzero(valid[start:stop])
        if len(good) == 0:
            values[start:stop] = 0
        elif len(good) < stop - start:
            source = np.searchsorted(good, np.arange(stop - start), side="right") - 1
            values[start:stop] = values[start:stop][good[np.maximum(source, 0)]]
    return values


def _any_ahead(
    valid: NDArray[np.bool_], offsets: NDArray[np.int64], steps: int
) -> NDArray[np.bool_]:
    """(rows,) whether one of `steps` rows from here on, in the same episode, is valid."""
    count = np.concatenate([[0], np.cumsum(valid)])
    rows = np.arange(len(valid))
    ends = np.repeat(offsets[1:], np.diff(offsets))
    return count[np.minimum(rows + steps, ends)] > count[rows]
