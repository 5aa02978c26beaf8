"""A policy behind a websocket: the door to `websockets`.

One port speaks our protocol, openpi's, and HTTP for /healthz and /metrics. What a peer can make the
server hold is bounded before it is read: connections, sessions, the size of a message (from the
contract), its fragments, and what a peer that does not listen leaves in the send buffer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from time import monotonic

from act_data.errors import InputError, NotFoundError
from act_model import runtime as runtimes
from act_model.contract import blank_observation
from act_model.runtime import RuntimeName
from act_model.serve import wire
from act_model.serve.access import Access
from act_model.serve.dialects import SUBPROTOCOL, OpenpiDialect, OwnDialect
from act_model.serve.metrics import Metrics
from act_model.serve.records import ServeReport
from act_model.serve.seat import Seat
from act_model.serve.session import ClosedError, Served, Session
from act_model.serve.shared import shared
from act_model.serve.worker import Worker

try:
    from uvloop import run
except ImportError:
    from asyncio import run  # type: ignore[assignment]

try:
    from websockets.asyncio.server import Server, ServerConnection, serve
    from websockets.datastructures import Headers
    from websockets.exceptions import ConnectionClosed
    from websockets.frames import CloseCode
    from websockets.http11 import Request, Response
    from websockets.typing import Subprotocol

    from act_model.serve.client import keep_freed_memory
except ImportError as e:
    _missing: ImportError | None = e
    ServerConnection = object  # type: ignore[assignment,misc]
else:
    _missing = None

MAX_CONNECTIONS = 32  # of TCP
MAX_SESSIONS = 8
_MAX_FRAGMENTS = 1024
_MAX_UNSENT = 2 * 2**20
_OPEN_S, _PING_S, _CLOSE_S = 5.0, 5.0, 1.0
_STUCK_S = 30.0  # a prediction that takes longer makes /healthz say so


def serve_policy(
    folder: Path,
    access: Access,
    *,
    runtime: RuntimeName = "torch",
    device: str = "auto",
    ready: Callable[[str], None] = lambda url: None,
) -> ServeReport:
    """Serve the checkpoint in `folder` until SIGTERM or SIGINT.

    Args:
        ready: Gets the address when the policy has predicted once and the port is open.

    Raises:
        NotFoundError: There is no checkpoint, or a package is not installed.
        InputError: The port is taken, or there is no such device.
        StoreError: The checkpoint is damaged.
    """
    wire.require_msgpack()
    if _missing is not None:
        raise NotFoundError(
            f"serving needs the packages msgpack and websockets: {_missing}",
            hint="pip install 'act-toolkit[serve]'",
        )
    keep_freed_memory()
    policy = runtimes.load(folder, runtime, device)
    policy.predict(blank_observation(policy.contract))
    return run(_run(folder, policy, access, runtime, ready))


async def _run(
    folder: Path,
    policy: runtimes.Runtime,
    access: Access,
    runtime: RuntimeName,
    ready: Callable[[str], None],
) -> ServeReport:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    worker = Worker(policy)
    server = PolicyServer(policy, access, worker)
    began = monotonic()
    try:
        async with server.listening() as listening:
            taken = next(iter(listening.sockets)).getsockname()
            url = access.url(0 if access.path is not None else taken[1])
            ready(url)
            await stop.wait()
    except OSError as e:
        raise InputError(
            f"cannot listen at {access.path or f'{access.host}:{access.port}'}: {e.strerror or e}",
            hint="Another server may be there: stop it, or --bind another port.",
        ) from e
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)  # uvloop leaves them to a loop that is closed
        worker.close()
        if access.path is not None:
            access.path.unlink(missing_ok=True)
    metrics = server.metrics
    return ServeReport(
        checkpoint=str(folder),
        step=policy.checkpoint.step,
        runtime=runtime,
        url=url,
        seconds=monotonic() - began,
        sessions=metrics.accepted,
        turned_away=metrics.turned_away,
        malformed=metrics.malformed,
        requests=dict(metrics.outcomes),
        mean_infer_ms=metrics.mean_infer_ms,
    )


class PolicyServer:
    """Sessions of a policy; `listening` opens the port.

    Attributes:
        metrics: What was counted so far.
    """

    def __init__(self, policy: runtimes.Runtime, access: Access, worker: Worker) -> None:
        contract, step = policy.contract, policy.checkpoint.step
        self.metrics = Metrics()
        self._access = access
        self._worker = worker
        self._served = Served(contract=contract, worker=worker, seat=Seat(), metrics=self.metrics)
        self._step = step
        self._openpi = OpenpiDialect(contract, step=step)
        self._max_bytes = wire.max_bytes(contract)
        self._open = 0

    def listening(self) -> AbstractAsyncContextManager[Server]:
        """The port, open while the block runs.

        Raises:
            OSError: When it is entered: the port is taken, or the address is not this machine's.
        """
        server, access = self, self._access

        class Bounded(ServerConnection):
            """A connection that is cut when there are too many, or when its peer never reads."""

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                server._open += 1
                super().connection_made(transport)
                if server._open > MAX_CONNECTIONS:
                    server.metrics.turned_away += 1
                    self.transport.abort()

            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                if self.transport.get_write_buffer_size() > _MAX_UNSENT:
                    self.transport.abort()

            def connection_lost(self, exc: Exception | None) -> None:
                server._open -= 1
                super().connection_lost(exc)

        return serve(
            self._connected,
            *(() if access.path is not None else (access.host, access.port)),
            sock=None if access.path is None else _socket_at(access.path),
            ssl=access.tls,
            create_connection=Bounded,
            origins=[None],  # a page in a browser on this machine is no robot
            compression=None,
            select_subprotocol=_subprotocol,
            process_request=self._requested,
            server_header=None,
            max_size=self._max_bytes,
            max_queue=4,
            open_timeout=_OPEN_S,
            ping_interval=_PING_S,
            ping_timeout=_PING_S,
            close_timeout=_CLOSE_S,
            logger=_logger(),
        )

    def _requested(self, connection: ServerConnection, request: Request) -> Response | None:
        """The answer to what is not a session; None: go on to open one."""
        path = request.path.partition("?")[0]
        if path == "/healthz":
            stuck_s = self._worker.busy_s()
            if stuck_s > _STUCK_S:
                text = f"a prediction has been running for {stuck_s:.0f} s\n"
                return _response(HTTPStatus.SERVICE_UNAVAILABLE, text)
            return _response(HTTPStatus.OK, "ok\n")
        authorization = request.headers.get_all("Authorization")
        if not self._access.lets_in(authorization[0] if len(authorization) == 1 else None):
            self.metrics.turned_away += 1
            return _response(HTTPStatus.UNAUTHORIZED, "a token is needed\n")
        if path == "/metrics":
            return _response(HTTPStatus.OK, self.metrics.text())
        if path != "/":
            return _response(HTTPStatus.NOT_FOUND, "there are /, /healthz and /metrics\n")
        if self.metrics.connections >= MAX_SESSIONS:
            self.metrics.turned_away += 1
            return _response(HTTPStatus.SERVICE_UNAVAILABLE, "too many sessions\n")
        return None

    async def _connected(self, connection: ServerConnection) -> None:
        if self.metrics.connections >= MAX_SESSIONS:  # they came while this one was opening
            await connection.close(CloseCode.TRY_AGAIN_LATER, "too many sessions")
            return
        self.metrics.connections += 1
        self.metrics.accepted += 1
        name = f"session {self.metrics.accepted}"
        socket = _Socket(connection, self._max_bytes)
        try:
            if connection.subprotocol != SUBPROTOCOL:
                await Session(socket, self._openpi, self._served, name=name).run()
                return
            with shared(self._max_bytes) if _is_near(connection) else nullcontext() as segment:
                own = OwnDialect(self._served.contract, step=self._step, segment=segment)
                await Session(socket, own, self._served, name=name).run()
        finally:
            self.metrics.connections -= 1


class _Socket:
    """A websocket whose messages are whole, binary and of few fragments."""

    def __init__(self, connection: ServerConnection, max_bytes: int) -> None:
        self._connection = connection
        self._max_bytes = max_bytes

    async def receive(self) -> bytes:
        parts: list[bytes] = []
        try:
            async for part in self._connection.recv_streaming():
                if isinstance(part, str):
                    raise InputError("a text came", hint="Messages are binary.")
                parts.append(part)
                if len(parts) > _MAX_FRAGMENTS:  # each costs more to keep than it carries
                    raise InputError("a message in too many fragments", hint="Send it whole.")
        except ConnectionClosed as e:
            raise ClosedError from e
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def send(self, message: bytes | str) -> None:
        try:
            await self._connection.send(message)
        except ConnectionClosed as e:
            raise ClosedError from e

    async def close(self, why: str) -> None:
        await self._connection.close(CloseCode.POLICY_VIOLATION, why)


def _is_near(connection: ServerConnection) -> bool:
    """Whether the client may be on this machine: it comes from a loopback address, or a file."""
    peer = connection.remote_address
    return not isinstance(peer, tuple) or ip_address(peer[0]).is_loopback


def _socket_at(path: Path) -> socket.socket:
    """A socket that only this user may connect to; a file that nobody listens at is replaced."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(before)
    return listening


def _subprotocol(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None


def _response(status: HTTPStatus, text: str) -> Response:
    body = text.encode()
    headers = Headers(
        {
            "Connection": "close",
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Length": str(len(body)),
        }
    )
    return Response(status.value, status.phrase, headers, body)


def _logger() -> logging.Logger:
    """What goes wrong here is said; what peers do wrong is only counted, or they fill the log."""
    logger = logging.getLogger("act_model.serve.websockets")
    if not logger.filters:
        logger.addFilter(_of_our_making)
        # From asyncio, for each of the answers to a peer that has hung up.
        logging.getLogger("asyncio").addFilter(
            lambda record: record.msg != "socket.send() raised exception."
        )
    return logger


def _of_our_making(record: logging.LogRecord) -> bool:
    # websockets 17 asserts that nobody hangs up between a request and its answer.
    hung_up = record.exc_info is not None and record.exc_info[0] is AssertionError
    return "handshake" not in str(record.msg) and not hung_up
