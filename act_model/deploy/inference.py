"""From observations to chunks, either at once or in a thread that the control loop never waits for.

    control loop --offer--> one place, the newest wins --> worker --> mailbox --arrived--> loop

Shape suffixes: K action chunk, A action dim.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from act_data.records import StatsRecord
from act_model.config import Contract
from act_model.robot_io import RobotObservation


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An observation on its way to the policy.

    Attributes:
        episode: Which episode of the rollout it belongs to.
        taken_ns: When it was taken, on the rollout's clock.
    """

    observation: RobotObservation
    episode: int
    taken_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A prediction.

    Attributes:
        actions: (K, A).
        latency_ns: What reading the observation and predicting took, in real time.
    """

    request: Request
    actions: NDArray[np.float32]
    latency_ns: int


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
    """Predicts while it is offered: for a simulated clock."""

    def __init__(self, policy: Predictor) -> None:
        self._policy = policy
        self._chunks: list[Chunk] = []

    def offer(self, request: Request) -> None:
        """Predict now."""
        self._chunks.append(_predict(self._policy, request))

    def arrived(self) -> list[Chunk]:
        """What was predicted since the last call."""
        chunks, self._chunks = self._chunks, []
        return chunks

    def close(self) -> bool:
        """Nothing runs."""
        return True


class WorkerInference:
    """Predicts in a thread of its own."""

    _LEAVE_S = 2.0  # a prediction that takes longer to end is left behind

    def __init__(self, policy: Predictor) -> None:
        self._policy = policy
        self._wake = threading.Condition()
        self._request: Request | None = None
        self._stopping = False
        self._mailbox: deque[Chunk] = deque()
        self._error: BaseException | None = None
        # A daemon: a policy that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="act-policy", daemon=True)
        self._thread.start()

    def offer(self, request: Request) -> None:
        """Put `request` where the worker looks next."""
        with self._wake:
            self._request = request
            self._wake.notify()

    def arrived(self) -> list[Chunk]:
        """What is in the mailbox; the worker's error, if it ended with one."""
        chunks = [self._mailbox.popleft() for _ in range(len(self._mailbox))]
        if not chunks and self._error is not None:
            raise self._error
        return chunks

    def close(self) -> bool:
        """Let the worker end; wait for a running prediction for two seconds at most."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(self._LEAVE_S)
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            while (request := self._next()) is not None:
                self._mailbox.append(_predict(self._policy, request))
        except BaseException as error:  # crosses the thread: the control loop raises it again
            self._error = error

    def _next(self) -> Request | None:
        with self._wake:
            while self._request is None and not self._stopping:
                self._wake.wait()
            request, self._request = self._request, None
            return None if self._stopping else request


def _predict(policy: Predictor, request: Request) -> Chunk:
    began_ns = perf_counter_ns()
    actions_KA = policy.predict(request.observation.arrays())
    return Chunk(request=request, actions=actions_KA, latency_ns=perf_counter_ns() - began_ns)
