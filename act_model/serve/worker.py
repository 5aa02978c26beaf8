"""Inference in a thread of its own, so that the event loop stays free."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic, perf_counter

import numpy as np
from numpy.typing import NDArray

from act_model.runtime import Runtime

_LEAVE_S = 2.0  # a prediction that takes longer to end is left behind

Observation = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one prediction: actions (K, A), or the error that there was instead."""

    actions: NDArray[np.float32] | None
    error: BaseException | None
    infer_ms: float


class Worker:
    """Predicts one observation at a time, in the order in which it was asked."""

    def __init__(self, policy: Runtime) -> None:
        self._policy = policy
        self._turn = asyncio.Lock()
        self._asked: queue.SimpleQueue[tuple[Observation, asyncio.Future[Outcome]] | None] = (
            queue.SimpleQueue()
        )
        self._since: float | None = None
        # A daemon: a policy that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="act-policy", daemon=True)
        self._thread.start()

    def turn(self) -> asyncio.Lock:
        """Held while a prediction is made: whoever waits for it can still change its mind."""
        return self._turn

    async def predict(self, observation: Observation) -> Outcome:
        """What the policy says. Call it holding `turn`."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._since = monotonic()
        self._asked.put((observation, future))
        return await future

    def busy_s(self) -> float:
        """For how long the running prediction has been running; 0 when there is none."""
        since = self._since
        return 0.0 if since is None else monotonic() - since

    def close(self) -> None:
        """Let the thread end; a prediction that runs on is left behind after two seconds."""
        self._asked.put(None)
        self._thread.join(_LEAVE_S)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            observation, future = asked
            began = perf_counter()
            actions, error = None, None
            try:
                actions = self._policy.predict(observation)
            except BaseException as e:  # crosses the thread: who asked decides what it means
                error = e
            taken_ms = (perf_counter() - began) * 1e3
            self._since = None
            outcome = Outcome(actions=actions, error=error, infer_ms=taken_ms)
            loop = future.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_deliver, future, outcome)


def _deliver(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():  # who asked may have gone
        future.set_result(outcome)
