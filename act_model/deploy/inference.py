"""From observations to chunks, at once or in a thread that the control tick never waits for.

    control tick --offer--> one place, the newest wins --> worker --> mailbox --arrived--> tick

The places are single attributes and deques, each written from one side; a byte in a pipe wakes the
worker. No lock is shared with the control tick.

Shape suffixes: K action chunk, A action dim, P prefix.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError
from act_data.records import StatsRecord
from act_model.config import Contract
from act_model.deploy.clock import Clock
from act_model.deploy.feed import Seen


class Predictor(Protocol):
    """What deployment needs of a policy."""

    @property
    def contract(self) -> Contract:
        """What it needs to see and what it delivers."""

    @property
    def stats(self) -> StatsRecord:
        """Of the data it was trained on."""

    def predict(self, observation: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        """The actions of the next K ticks, (K, A), in the robot's units."""


class PrefixPredictor(Predictor, Protocol):
    """A policy that was trained to continue actions that are already on their way."""

    @property
    def max_prefix(self) -> int:
        """The longest prefix that it was trained with; 0: with none."""

    def predict_after(
        self, observation: Mapping[str, NDArray[np.generic]], prefix_PA: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """As `predict`, where the first P actions are settled: they are `prefix_PA`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An observation on its way to the policy.

    Attributes:
        episode: Which episode of the rollout it belongs to.
        place: Ticks of the policy from the start of the episode to when it was taken.
        offered_ns: When it was offered, on the rollout's clock.
        prefix: (P, A) actions from `place` on that will be executed whatever the policy says.
    """

    seen: Seen
    episode: int
    place: float
    offered_ns: int
    prefix: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A prediction.

    Attributes:
        actions: (K, A), as the policy gave it.
        latency_ns: What reading the observation and predicting took, in real time.
        error: The policy refused the observation: it is not what the contract says.
    """

    request: Request
    actions: NDArray[np.float32]
    latency_ns: int
    error: InputError | None = None


class Inference(Protocol):
    """Takes observations, gives chunks."""

    def offer(self, request: Request) -> None:
        """Predict from `request`; one that was not begun yet is forgotten for it."""

    def arrived(self) -> list[Chunk]:
        """The chunks since the last call, in the order of their observations. Never waits.

        Raises:
            Whatever the policy raised.
        """

    def close(self) -> bool:
        """Stop; False when the policy hangs and was left behind."""


class InlineInference:
    """Predicts while it is offered: for simulated time, in which it takes as long as one says."""

    def __init__(
        self, policy: Predictor, clock: Clock, latency_ns: Callable[[], int] = lambda: 0
    ) -> None:
        """Args: latency_ns: Simulated time from each offer to its chunk."""
        self._policy, self._clock, self._latency_ns = policy, clock, latency_ns
        self._chunks: deque[tuple[int, Chunk]] = deque()
        self._waiting: Request | None = None

    def offer(self, request: Request) -> None:
        """Predict now, or when the prediction before is done."""
        self._deliver()
        if self._chunks and self._chunks[-1][0] > self._clock.now_ns():
            self._waiting = request
            return
        due_ns = self._clock.now_ns() + self._latency_ns()
        self._chunks.append((due_ns, _predict(self._policy, request)))

    def arrived(self) -> list[Chunk]:
        """What is done by now."""
        self._deliver()
        done = []
        while self._chunks and self._chunks[0][0] <= self._clock.now_ns():
            done.append(self._chunks.popleft()[1])
        return done

    def close(self) -> bool:
        """Nothing runs."""
        return True

    def _deliver(self) -> None:
        if self._waiting is None or not self._chunks:
            return
        done_ns = self._chunks[-1][0]
        if done_ns <= self._clock.now_ns():  # the worker was free at `done_ns`, and took it then
            request, self._waiting = self._waiting, None
            self._chunks.append((done_ns + self._latency_ns(), _predict(self._policy, request)))


class WorkerInference:
    """Predicts in a thread of its own."""

    _LEAVE_S = 2.0  # a prediction that takes longer to end is left behind

    def __init__(self, policy: Predictor, abandon: Callable[[], None] | None = None) -> None:
        """Args: abandon: Ends a prediction that hangs; None: nothing can."""
        self._policy = policy
        self._abandon = abandon
        self._request: Request | None = None
        self._stopping = False
        self._mailbox: deque[Chunk] = deque()
        self._error: BaseException | None = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        # A daemon: a policy that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="act-policy", daemon=True)
        self._thread.start()

    def offer(self, request: Request) -> None:
        """Put `request` where the worker looks next."""
        self._request = request
        self._wake()

    def arrived(self) -> list[Chunk]:
        """What is in the mailbox; the worker's error, if it ended with one."""
        if not self._mailbox and self._error is None:
            return []
        chunks = [self._mailbox.popleft() for _ in range(len(self._mailbox))]
        if not chunks and self._error is not None:
            raise self._error
        return chunks

    def close(self) -> bool:
        """Let the worker end; wait for a running prediction for a moment at most."""
        if self._wake_write < 0:
            return True
        self._stopping = True
        self._wake()
        self._thread.join(self._LEAVE_S if self._abandon is None else self._LEAVE_S / 10)
        ended = not self._thread.is_alive()
        if not ended and self._abandon is not None:
            self._abandon()
            self._thread.join(self._LEAVE_S)
        if not self._thread.is_alive():  # a thread that was left behind may still read
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_write = -1
        return ended

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b".")
        except BlockingIOError:
            return  # the pipe is full of reasons to wake up

    def _work(self) -> None:
        try:
            while os.read(self._wake_read, 4096) and not self._stopping:
                request, self._request = self._request, None
                if request is not None:
                    self._mailbox.append(_predict(self._policy, request))
        except BaseException as error:  # crosses the thread: the control tick raises it again
            self._error = error


def _predict(policy: Predictor, request: Request) -> Chunk:
    began_ns = perf_counter_ns()
    actions_KA, error = np.zeros((0, 0), np.float32), None
    observation = request.seen.observation.arrays()
    try:
        if request.prefix is not None:
            actions_KA = cast(PrefixPredictor, policy).predict_after(observation, request.prefix)
        else:
            actions_KA = policy.predict(observation)
    except InputError as refused:
        error = refused
    latency_ns = perf_counter_ns() - began_ns
    return Chunk(request=request, actions=actions_KA, latency_ns=latency_ns, error=error)
