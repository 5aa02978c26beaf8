"""A server in a thread, and raw peers that speak to it byte by byte."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray
from websockets.sync.client import ClientConnection, connect

from act_model.policy import Policy
from act_model.runtime import Runtime
from act_model.serve.access import Access, access_of
from act_model.serve.dialects import SUBPROTOCOL
from act_model.serve.metrics import Metrics
from act_model.serve.server import PolicyServer
from act_model.serve.worker import Worker

LOCAL = access_of("127.0.0.1:0", token_file=None, tls_cert=None, tls_key=None)


@dataclass(frozen=True)
class Running:
    port: int
    metrics: Metrics
    url: str


@contextmanager
def serving(policy: Runtime, access: Access = LOCAL) -> Iterator[Running]:
    """The server, in a thread with an event loop of its own."""
    ready, ports, servers, ends = threading.Event(), [], [], []

    async def run() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        ends.append(lambda: loop.call_soon_threadsafe(stop.set))
        worker = Worker(policy)
        server = PolicyServer(policy, access, worker)
        async with server.listening() as listening:
            name = next(iter(listening.sockets)).getsockname()
            ports.append(0 if access.path is not None else name[1])
            servers.append(server)
            ready.set()
            await stop.wait()
        worker.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert ready.wait(10)
        here = f"ws://127.0.0.1:{ports[0]}" if access.path is None else access.url(0)
        yield Running(ports[0], servers[0].metrics, here)
    finally:
        ends[0]()
        thread.join(20)
        assert not thread.is_alive()


@contextmanager
def opened(running: Running, *, own: bool = True, **options: Any) -> Iterator[ClientConnection]:
    """A websocket without a client around it; `own` offers our protocol."""
    protocols = [SUBPROTOCOL] if own else None
    with connect(running.url, subprotocols=protocols, compression=None, proxy=None,
                 close_timeout=1, **options) as connection:  # fmt: skip
        yield connection


def ask(
    connection: ClientConnection, observation: Mapping[str, Any], number: int = 1, **more: Any
) -> None:
    """Send a request of ours."""
    message = {"type": "infer", "id": number, "within_ms": None, "observation": observation}
    connection.send(msgpack.packb(message | more))


def hear(connection: ClientConnection) -> dict[str, Any]:
    """The next message of the server."""
    said: dict[str, Any] = msgpack.unpackb(connection.recv(timeout=10))
    return said


def greet(connection: ClientConnection, name: str = "test") -> dict[str, Any]:
    """Exchange hellos; the server's."""
    hello = hear(connection)
    connection.send(
        msgpack.packb({"type": "hello", "protocol": 1, "contract_digest": None, "client": name})
    )
    return hello


def packed(observation: Mapping[str, NDArray[np.generic]]) -> dict[str, Any]:
    """An observation as our protocol packs it, written down here once more."""
    return {
        name: {"dtype": a.dtype.name, "shape": list(a.shape), "data": a.tobytes()}
        for name, a in observation.items()
    }


def openpi_packed(value: Any) -> Any:
    """As openpi-client's msgpack_numpy packs arrays, written down from its source."""
    if isinstance(value, dict):
        return {key: openpi_packed(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str,
                b"shape": value.shape}  # fmt: skip
    return value


def openpi_unpacked(data: bytes) -> Any:
    """As openpi-client unpacks an answer."""

    def hook(value: dict[Any, Any]) -> Any:
        if b"__ndarray__" in value:
            return np.ndarray(
                buffer=value[b"data"], dtype=np.dtype(value[b"dtype"]), shape=value[b"shape"]
            )
        return value

    return msgpack.unpackb(data, object_hook=hook)


class Slow:
    """A policy that waits until it may go on, and says what it was asked."""

    def __init__(self, policy: Policy) -> None:
        self.checkpoint, self.contract, self.stats = (
            policy.checkpoint, policy.contract, policy.stats,
        )  # fmt: skip
        self._policy = policy
        self.go = threading.Semaphore(0)
        self.asked: list[float] = []
        self.answer: NDArray[np.float32] | Exception | None = None

    def predict(self, observation: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        self.asked.append(float(observation["qpos"][0]))
        assert self.go.acquire(timeout=10)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self._policy.predict(observation) if self.answer is None else self.answer


def until(true: Callable[[], object]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
