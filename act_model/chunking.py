"""From overlapping action chunks to one action per tick, by absolute tick.

Action i of a chunk that was observed at tick t is valid at tick t + i and at no other: whoever asks
late gets the action of the tick it asks for, never one that belongs to the past.

Both ways to choose are bounded in time and memory, whatever the length of the rollout: O(K * A) per
chunk, O(A) per tick. They work in the robot's own units; temporal ensembling is a convex
combination and the normaliser is affine, so averaging before or after it is the same.

Shape suffixes: K actions of a chunk, A action dim.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError


class Chunker(Protocol):
    """Turns chunks into the action of a tick."""

    @property
    def every(self) -> int:
        """Ticks from the observation of one chunk to that of the next."""

    def add(self, tick: int, chunk_KA: NDArray[np.floating]) -> None:
        """Take the chunk that was predicted from the observation of `tick`.

        Args:
            tick: Later than that of the chunk before.
            chunk_KA: (K, A), finite. It is copied.

        Raises:
            InputError: A tick that is not later, or another shape.
        """

    def next(self, tick: int) -> NDArray[np.float32] | None:
        """The action of `tick`, (A,), owned by the caller; None where no chunk reaches.

        Ticks before the observation of the newest chunk are over: they give None.
        """

    def wants(self, tick: int) -> bool:
        """Whether the observation of `tick` should become a chunk."""

    def reset(self) -> None:
        """Forget everything: a new episode begins."""


class ActionQueue:
    """Open loop: the newest chunk rules, and after `execute` of its actions a new one is wanted."""

    def __init__(self, chunk_size: int, action_dim: int, *, execute: int | None = None) -> None:
        """A queue for chunks of shape (`chunk_size`, `action_dim`).

        Args:
            execute: Actions to take from a chunk before the next is wanted; None: all of them.
                Fewer leave a reserve of `chunk_size - execute` ticks for a slow policy.

        Raises:
            InputError: `execute` outside [1, chunk_size], or a size below 1.
        """
        self._every = _interval(
            "execute", chunk_size if execute is None else execute, chunk_size, action_dim
        )
        self._chunk_KA = np.zeros((chunk_size, action_dim), np.float32)
        self._tick: int | None = None

    @property
    def every(self) -> int:
        """Ticks from the observation of one chunk to that of the next."""
        return self._every

    def add(self, tick: int, chunk_KA: NDArray[np.floating]) -> None:
        """Replace what is left of the old chunk. See `Chunker.add`."""
        _check(tick, self._tick, chunk_KA, self._chunk_KA.shape)
        np.copyto(self._chunk_KA, chunk_KA, casting="same_kind")
        self._tick = tick

    def next(self, tick: int) -> NDArray[np.float32] | None:
        """The action of `tick` in the newest chunk. See `Chunker.next`."""
        if self._tick is None or not 0 <= tick - self._tick < len(self._chunk_KA):
            return None
        action_A: NDArray[np.float32] = self._chunk_KA[tick - self._tick].copy()
        return action_A

    def wants(self, tick: int) -> bool:
        """True before the first chunk, and when `execute` of its actions are due."""
        return self._tick is None or tick - self._tick >= self._every

    def reset(self) -> None:
        """Forget the chunk."""
        self._tick = None


class TemporalEnsemble:
    """The weighted mean of every prediction of a tick (Zhao et al., 2023).

    Prediction i of a tick, counted from the OLDEST, weighs w_i = exp(-m * i). With m > 0 the oldest
    counts most, which reacts slowly: at m = 0.01 and K = 100 the mean age of what is executed is
    58 ticks. m < 0 prefers the newest.

    The original keeps every chunk in a table of (T, T + K, A), and takes a row for missing when any
    of its values is exactly 0. Here each of the K ticks that the newest chunk reaches keeps its
    mean so far and the number of its predictions, in a ring; the next prediction moves the mean by
    w_n / (w_0 + ... + w_n). Nothing else needs to be known, no weight can overflow, and no value is
    special.
    """

    def __init__(
        self, chunk_size: int, action_dim: int, *, m: float = 0.01, every: int = 1
    ) -> None:
        """An ensemble of chunks of shape (`chunk_size`, `action_dim`).

        Args:
            m: Decay per prediction, any sign; 0 weighs all alike.
            every: Ticks from one inference to the next.

        Raises:
            InputError: `m` is not finite, `every` outside [1, chunk_size], or a size below 1.
        """
        self._every = _interval("every", every, chunk_size, action_dim)
        if not np.isfinite(m):
            raise InputError(f"m is {m!r}", hint="Use a finite number; the paper uses 0.01.")
        self._gain_K = _gains(m, chunk_size)
        self._mean_KA = np.zeros((chunk_size, action_dim))
        self._count_K = np.zeros(chunk_size, np.intp)
        self._gain_now_K = np.zeros(chunk_size)
        self._step_KA = np.zeros((chunk_size, action_dim))
        self._tick: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays, whatever the length of the rollout."""
        arrays = (self._gain_K, self._mean_KA, self._count_K, self._gain_now_K, self._step_KA)
        return sum(array.nbytes for array in arrays)

    @property
    def every(self) -> int:
        """Ticks from the observation of one chunk to that of the next."""
        return self._every

    def add(self, tick: int, chunk_KA: NDArray[np.floating]) -> None:
        """Move the mean of the K ticks from `tick` on. See `Chunker.add`."""
        _check(tick, self._tick, chunk_KA, self._mean_KA.shape)
        size = len(self._count_K)
        passed = size if self._tick is None else min(tick - self._tick, size)
        self._tick = tick
        head = tick % size
        # The slots of the `passed` oldest ticks become those of the newest, which nothing has
        # predicted yet; in the ring they end where the new head begins.
        first = (head - passed) % size
        self._count_K[first : first + passed] = 0
        self._count_K[: max(0, first + passed - size)] = 0

        np.take(self._gain_K, self._count_K, out=self._gain_now_K, mode="clip")
        split = size - head
        # A first prediction has gain 1 and replaces what an expired tick left: mean + (x - mean)
        # would round, so it is written as it is.
        np.subtract(chunk_KA[:split], self._mean_KA[head:], out=self._step_KA[head:])
        np.subtract(chunk_KA[split:], self._mean_KA[:head], out=self._step_KA[:head])
        np.multiply(self._step_KA, self._gain_now_K[:, None], out=self._step_KA)
        np.add(self._mean_KA, self._step_KA, out=self._mean_KA)
        for i in range(passed):
            self._mean_KA[(first + i) % size] = chunk_KA[size - passed + i]
        self._count_K += 1

    def next(self, tick: int) -> NDArray[np.float32] | None:
        """The mean of all predictions of `tick`. See `Chunker.next`."""
        size = len(self._count_K)
        if self._tick is None or not 0 <= tick - self._tick < size:
            return None
        action_A: NDArray[np.float32] = self._mean_KA[tick % size].astype(np.float32)
        return action_A

    def wants(self, tick: int) -> bool:
        """True before the first chunk, and `every` ticks after the newest."""
        return self._tick is None or tick - self._tick >= self._every

    def reset(self) -> None:
        """Forget all predictions."""
        self._tick = None


def _gains(m: float, size: int) -> NDArray[np.float64]:
    """w_n / (w_0 + ... + w_n) for n < `size`, (size,), without overflow for any m."""
    rank = np.arange(size)
    if m >= 0:
        weight = np.exp(-m * rank)
        return np.asarray(weight / np.cumsum(weight))
    # Divided by w_n: exp(m * (n - i)) <= 1.
    return np.asarray(1.0 / np.cumsum(np.exp(m * rank)))


def _interval(name: str, value: int, chunk_size: int, action_dim: int) -> int:
    if chunk_size < 1 or action_dim < 1:
        raise InputError(f"chunks of shape ({chunk_size!r}, {action_dim!r}) hold no action")
    if not 1 <= value <= chunk_size:
        raise InputError(
            f"{name} is {value!r}, a chunk has {chunk_size} actions",
            hint=f"Use a number from 1 to {chunk_size}.",
        )
    return value


def _check(
    tick: int, newest: int | None, chunk_KA: NDArray[np.floating], shape: tuple[int, ...]
) -> None:
    if newest is not None and tick <= newest:
        raise InputError(f"a chunk of tick {tick} came after that of tick {newest}")
    if chunk_KA.shape != shape:
        raise InputError(f"a chunk has shape {chunk_KA.shape}, {shape} was announced")
