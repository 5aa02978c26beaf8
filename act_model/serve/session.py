"""One connection: messages in, newest first, answers out."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

import numpy as np

from act_data.errors import ActError, InputError
from act_model.config import Contract
from act_model.contract import check_observation
from act_model.serve.dialects import Ask, Dialect, Timing
from act_model.serve.metrics import Metrics
from act_model.serve.seat import Seat
from act_model.serve.worker import Worker

GREET_S = 5.0
_log = logging.getLogger(__name__)


class ClosedError(Exception):
    """The connection is gone."""


class Connection(Protocol):
    """A websocket, as a session needs it."""

    async def receive(self) -> bytes:
        """The next message. Raises ClosedError, or InputError for one that is none of ours."""

    async def send(self, message: bytes | str) -> None:
        """Send it. Raises ClosedError."""

    async def close(self, why: str) -> None:
        """End it because of what the peer did; `why` is sent along."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What all sessions of a server share."""

    contract: Contract
    worker: Worker
    seat: Seat
    metrics: Metrics


class Session:
    """Two tasks: one reads and keeps the newest request only, one predicts and answers."""

    def __init__(
        self, connection: Connection, dialect: Dialect, served: Served, *, name: str
    ) -> None:
        """`name` is that of a client which does not say its own."""
        self._connection = connection
        self._dialect = dialect
        self._served = served
        self._name = name
        self._newest: tuple[Ask, float] | None = None
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        """Serve until either side ends it."""
        try:
            await self._connection.send(self._dialect.hello())
            if self._dialect.greets and not await self._greeted():
                return
            tasks = [asyncio.create_task(self._answer()), asyncio.create_task(self._read())]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                ends = await asyncio.gather(*tasks, return_exceptions=True)
            for end in ends:  # both may have met the end of the connection at once
                if isinstance(end, Exception) and not isinstance(end, ClosedError):
                    raise end
        except ClosedError:
            pass
        finally:
            self._served.seat.leave(self._name)

    async def _greeted(self) -> bool:
        try:
            async with asyncio.timeout(GREET_S):
                message = await self._connection.receive()
            self._name = self._dialect.greeted(message)
        except TimeoutError:
            await self._connection.close("no hello")
            return False
        except InputError as e:
            self._served.metrics.malformed += 1
            await self._refuse(None, "hello", e)
            await self._connection.close("hello")
            return False
        return True

    async def _read(self) -> None:
        while True:
            try:
                message = await self._connection.receive()
                arrived = monotonic()
                ask = self._dialect.ask(message)
            except InputError as e:  # a peer that says such things says nothing else of use
                self._served.metrics.malformed += 1
                await self._refuse(None, "malformed", e)
                await self._connection.close("malformed")
                return
            if self._newest is not None:
                await self._drop(self._newest[0], "superseded", "a newer observation came")
            self._newest = (ask, arrived)
            self._arrived.set()

    async def _answer(self) -> None:
        while True:
            await self._arrived.wait()
            async with self._served.worker.turn():
                self._arrived.clear()
                if self._newest is None:
                    continue
                (ask, arrived), self._newest = self._newest, None
                waited_s = monotonic() - arrived
                if ask.within_s is not None and waited_s > ask.within_s:
                    await self._drop(ask, "expired", f"it waited {waited_s * 1e3:.0f} ms")
                    continue
                if not self._served.seat.taken_by(self._name):
                    await self._drop(ask, "busy", "another client commands this policy")
                    continue
                await self._predict(ask, waited_s)

    async def _predict(self, ask: Ask, waited_s: float) -> None:
        metrics = self._served.metrics
        try:
            check_observation(self._served.contract, ask.observation)
        except InputError as e:
            metrics.outcomes["refused"] += 1
            await self._refuse(ask.number, "observation", e)
            return
        outcome = await self._served.worker.predict(ask.observation)
        actions = outcome.actions
        if actions is None:
            _log.error("the policy failed", exc_info=outcome.error)
            error = ActError("the policy failed", hint="The server's log says why.")
        elif not np.isfinite(actions).all():
            error = ActError("the policy predicted numbers that are not finite")
        else:
            metrics.predicted(outcome.infer_ms)
            metrics.outcomes["done"] += 1
            timing = Timing(queued_ms=waited_s * 1e3, infer_ms=outcome.infer_ms)
            await self._connection.send(self._dialect.answer(ask, actions, timing))
            return
        metrics.outcomes["failed"] += 1
        await self._refuse(ask.number, "policy", error)

    async def _drop(self, ask: Ask, reason: str, message: str) -> None:
        self._served.metrics.outcomes[reason] += 1
        await self._refuse(ask.number, reason, ActError(message))

    async def _refuse(self, number: int | None, reason: str, error: ActError) -> None:
        """Never more than a few hundred characters, and nothing of how the server works."""
        said = self._dialect.refusal(number, reason, str(error)[:500], error.hint[:200])
        await self._connection.send(said)
