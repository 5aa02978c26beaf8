"""From overlapping action chunks to one action per tick, by absolute time.

Action i of a chunk that was observed at tick t is valid at tick t + i and at no other: whoever asks
late gets the action of the tick it asks for, never one that belongs to the past. Ticks are those of
the policy, counted from the start of the episode; between two of them, where a controller is faster
than the policy, or an observation was not taken on a tick, actions are interpolated in time.

All ways to choose are bounded in time and memory, whatever the length of the rollout: O(K * A) per
chunk, O(A) per tick. They work in the robot's own units; temporal ensembling is a convex
combination and the normaliser is affine, so averaging before or after it is the same.

Shape suffixes: K actions of a chunk, A action dim.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError

Seam = Literal["switch", "crossfade", "align"]


class Chunker(Protocol):
    """Turns chunks into the action of a tick."""

    @property
    def every(self) -> int:
        """Ticks from the observation of one chunk to that of the next, at most."""

    def add(self, tick: float, chunk_KA: NDArray[np.floating], now: float | None = None) -> None:
        """Take the chunk that was predicted from the observation of `tick`.

        Args:
            tick: Later than that of the chunk before.
            chunk_KA: (K, A), finite. It is copied.
            now: The tick from which on it may rule; None: `tick`.

        Raises:
            InputError: A tick that is not later, or another shape.
        """

    def next(self, tick: float) -> NDArray[np.float32] | None:
        """The action of `tick`, (A,), owned by the caller; None where no chunk reaches.

        Ticks before the observation of the newest chunk are over: they give None.
        """

    def wants(self, tick: float, reserve: float = 0.0) -> bool:
        """Whether the observation of `tick` should become a chunk.

        Args:
            reserve: Ticks that the prediction will take: it is wanted early enough that actions
                remain until it is there.
        """

    def reset(self) -> None:
        """Forget everything: a new episode begins."""


class ActionQueue:
    """The newest chunk rules, and after `execute` of its actions a new one is wanted.

    Where a new chunk takes over, its actions differ from those that were to come. `seam` says what
    happens there: "switch" takes the new ones; "crossfade" goes from the old to the new over
    `fade` ticks; "align" shifts the new chunk so that it begins where the old one was, and takes
    the shift back over `fade` ticks. Both ease in and out with the minimum-jerk polynomial.
    """

    def __init__(
        self,
        chunk_size: int,
        action_dim: int,
        *,
        execute: int | None = None,
        seam: Seam = "switch",
        fade: int = 8,
    ) -> None:
        """A queue for chunks of shape (`chunk_size`, `action_dim`).

        Args:
            execute: Actions to take from a chunk before the next is wanted; None: as many as the
                prediction's duration allows. Fewer leave a reserve for a slow policy.
            fade: Ticks of a seam that is not "switch".

        Raises:
            InputError: `execute` outside [1, chunk_size], or a size or `fade` below 1.
        """
        self._every = _interval(
            "execute", chunk_size if execute is None else execute, chunk_size, action_dim
        )
        if fade < 1:
            raise InputError(f"fade is {fade!r} ticks", hint="Use 1 or more.")
        self._seam, self._fade = seam, fade
        self._plan_KA = np.zeros((chunk_size, action_dim), np.float32)
        self._old_KA = np.zeros_like(self._plan_KA)
        self._tick: float | None = None

    @property
    def every(self) -> int:
        """Ticks from the observation of one chunk to that of the next, at most."""
        return self._every

    def add(self, tick: float, chunk_KA: NDArray[np.floating], now: float | None = None) -> None:
        """Replace what is left of the old chunk from `now` on. See `Chunker.add`."""
        _check(tick, self._tick, chunk_KA, self._plan_KA.shape)
        old_tick, self._tick = self._tick, tick
        np.copyto(self._old_KA, self._plan_KA)
        np.copyto(self._plan_KA, chunk_KA, casting="same_kind")
        now = tick if now is None else max(now, tick)
        if self._seam == "switch" or old_tick is None:
            return
        planned_A, wanted_A = _at(self._old_KA, now - old_tick), _at(self._plan_KA, now - tick)
        if planned_A is None or wanted_A is None:
            return  # nothing was to come: there is no seam
        begin = math.floor(now - tick)
        for i in range(begin, min(begin + self._fade + 1, len(self._plan_KA))):
            share = 1 - _ease((tick + i - now) / self._fade)
            if self._seam == "align":
                self._plan_KA[i] += np.float32(share) * (planned_A - wanted_A)
            elif (old_A := _at(self._old_KA, tick + i - old_tick)) is not None:
                self._plan_KA[i] += np.float32(share) * (old_A - self._plan_KA[i])

    def next(self, tick: float) -> NDArray[np.float32] | None:
        """The action of `tick` in the newest chunk. See `Chunker.next`."""
        return None if self._tick is None else _at(self._plan_KA, tick - self._tick)

    def wants(self, tick: float, reserve: float = 0.0) -> bool:
        """True before the first chunk, when `execute` actions are due, or `reserve` are left."""
        return self._tick is None or _due(
            tick - self._tick, self._every, len(self._plan_KA), reserve
        )

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
        self._shifted_KA = np.zeros((chunk_size, action_dim))
        self._tick: int | None = None
        self._observed: float | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays, whatever the length of the rollout."""
        small = self._gain_K.nbytes + self._count_K.nbytes + self._gain_now_K.nbytes
        return small + self._mean_KA.nbytes + self._step_KA.nbytes + self._shifted_KA.nbytes

    @property
    def every(self) -> int:
        """Ticks from the observation of one chunk to that of the next, at most."""
        return self._every

    def add(self, tick: float, chunk_KA: NDArray[np.floating], now: float | None = None) -> None:
        """Move the mean of the K ticks from `tick` on. See `Chunker.add`.

        A chunk that was not observed on a tick is interpolated at the ticks that follow.
        """
        _check(tick, self._observed, chunk_KA, self._mean_KA.shape)
        self._observed = tick
        if tick != math.floor(tick):
            chunk_KA = self._shifted(chunk_KA, math.ceil(tick) - tick)
        tick = math.ceil(tick)
        if self._tick is not None and tick <= self._tick:
            return  # two observations before one tick: the first stands for both
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

    def next(self, tick: float) -> NDArray[np.float32] | None:
        """The mean of all predictions of `tick`. See `Chunker.next`."""
        size = len(self._count_K)
        if self._tick is None or not 0 <= tick - self._tick < size:
            return None
        whole = math.floor(tick)
        action_A: NDArray[np.float64] = self._mean_KA[whole % size]
        share = tick - whole
        if share > 0 and whole + 1 - self._tick < size:
            action_A = action_A + share * (self._mean_KA[(whole + 1) % size] - action_A)
        return action_A.astype(np.float32)

    def wants(self, tick: float, reserve: float = 0.0) -> bool:
        """True before the first chunk, `every` ticks after it, or `reserve` before its end."""
        return self._tick is None or _due(
            tick - self._tick, self._every, len(self._count_K), reserve
        )

    def reset(self) -> None:
        """Forget all predictions."""
        self._tick = None
        self._observed = None

    def _shifted(self, chunk_KA: NDArray[np.floating], by: float) -> NDArray[np.floating]:
        """`chunk_KA` read `by` of a tick later; its last action lasts."""
        np.subtract(chunk_KA[1:], chunk_KA[:-1], out=self._shifted_KA[:-1])
        self._shifted_KA[-1] = 0
        self._shifted_KA *= by
        self._shifted_KA += chunk_KA
        return self._shifted_KA


def _at(chunk_KA: NDArray[np.float32], place: float) -> NDArray[np.float32] | None:
    """Action number `place` of a chunk, between two of them by time; the last one lasts a tick."""
    if not 0 <= place < len(chunk_KA):
        return None
    whole = math.floor(place)
    action_A: NDArray[np.float32] = chunk_KA[whole].copy()
    share = place - whole
    if share > 0 and whole + 1 < len(chunk_KA):
        action_A += np.float32(share) * (chunk_KA[whole + 1] - action_A)
    return action_A


def _ease(x: float) -> float:
    """0 at 0, 1 at 1, with no velocity or acceleration at either end (Flash & Hogan, 1985)."""
    x = min(max(x, 0.0), 1.0)
    return x * x * x * (10 + x * (6 * x - 15))


def _due(age: float, every: int, size: int, reserve: float) -> bool:
    return age >= every or size - age <= reserve


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
    tick: float, newest: float | None, chunk_KA: NDArray[np.floating], shape: tuple[int, ...]
) -> None:
    if newest is not None and tick <= newest:
        raise InputError(f"a chunk of tick {tick} came after that of tick {newest}")
    if chunk_KA.shape != shape:
        raise InputError(f"a chunk has shape {chunk_KA.shape}, {shape} was announced")
