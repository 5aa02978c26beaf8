"""A client of `act-model serve` for the robot's own Python: this one file is all of it.

Needs Python 3.8 or newer with numpy, msgpack and websockets >= 13, and nothing of this toolkit.

    from client import Follower, PolicyClient

    with Follower(PolicyClient("ws://127.0.0.1:8765")) as follower:
        while True:
            action, state = follower.step({"qpos": qpos, "images/top": picture})
            if action is not None:
                send(action)             # when state is "hold": the last one again
            sleep_until_the_next_tick()

Nothing here limits what is sent to the robot; `act-model deploy` does.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import socket
import ssl
import stat
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgpack
import numpy as np
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

PROTOCOL = 1
SUBPROTOCOL = Subprotocol("act-serve.v1")
FIRST_RETRY_S, LAST_RETRY_S = 0.1, 2.0
_DTYPES = {"uint8": "|u1", "uint16": "<u2", "float32": "<f4"}
_MAX_ANSWER = 64 * 2**20
_SHARED_FILES = re.compile(r"/dev/shm/act-serve-\w+")  # nothing else is ever opened
_ALIGNED = 64


class RefusedError(Exception):
    """The server does not do it, and would not do it next time. `reason` is for programs."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class MissedError(Exception):
    """The server did not get to it in time, or works for another client. Ask again."""


class UnreachableError(Exception):
    """The server is not there."""


class PolicyClient:
    """Observations out, actions back, over one connection that is made again when it breaks.

    Attributes:
        contract: What the policy needs and delivers, as the server said it; {} before `connect`.
        step: Training step of the policy.
        infer_ms: What the last prediction itself took on the server.
    """

    def __init__(
        self,
        url: str = "ws://127.0.0.1:8765",
        *,
        token: str | None = None,
        ca_file: str | None = None,
        contract_digest: str | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        """Nothing is contacted yet.

        Args:
            url: "ws://HOST:PORT", "wss://HOST:PORT", or "unix:FILE" on the server's machine.
            token: That of the server.
            ca_file: Certificate that the server's is signed by; None: what the system trusts.
            contract_digest: Refuse a server whose policy has another contract.
            timeout_s: How long `predict` waits, for a connection and for an answer.
        """
        self.contract: dict[str, Any] = {}
        self.step = -1
        self.infer_ms = 0.0
        self._url = url
        self._token = token
        self._ca_file = ca_file
        self._digest = contract_digest
        self._timeout_s = timeout_s
        self._name = uuid.uuid4().hex
        self._number = 0
        self._line: _Line | None = None
        self._shared: np.ndarray | None = None
        self._retry_s = FIRST_RETRY_S
        self._stop = threading.Event()
        keep_freed_memory()

    def connect(self) -> None:
        """Connect, trying again for `timeout_s`, with pauses of 0.1 to 2 s.

        Raises:
            UnreachableError: There is no server.
            RefusedError: It wants a token, speaks another version, or has another contract.
        """
        until = time.monotonic() + self._timeout_s
        if self._line is not None and not self._line.lasts():
            self._drop()
        while self._line is None:
            try:
                self._open()
                self._retry_s = FIRST_RETRY_S
            except (OSError, WebSocketException, ValueError) as e:
                pause_s = min(self._retry_s, max(0.0, until - time.monotonic()))
                self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
                if self._stop.wait(pause_s) or time.monotonic() >= until:
                    raise UnreachableError(f"no server at {self._url}: {e}") from e

    def predict(
        self, observation: Mapping[str, np.ndarray], *, within_ms: float | None = None
    ) -> np.ndarray:
        """The actions of the next K ticks, (K, A) float32 in the robot's units.

        Args:
            observation: By name, as the contract says: "qpos" (D,), "images/<camera>" (H, W, 3)
                uint8 RGB, "depth/<camera>" (H, W) uint16 millimetres.
            within_ms: How long an answer is of use; the server leaves out what it gets to later.

        Raises:
            UnreachableError: The server is not there, or was lost; the next call tries again.
            MissedError: It did not get to it in time, or works for another client.
            RefusedError: The observation does not fit the contract, or the policy failed.
        """
        self.connect()
        line = self._line
        assert line is not None
        self._number += 1
        arrays = _maps_of(observation, self._shared)
        ask = {"type": "infer", "id": self._number, "within_ms": within_ms, "observation": arrays}
        try:
            line.send(msgpack.packb(ask))
            until = time.monotonic() + self._timeout_s
            while True:
                said = _read(line, until - time.monotonic())
                if said.get("id") in (self._number, None):  # others are of calls that gave up
                    break
        except RefusedError:
            self._drop()
            raise
        except (OSError, WebSocketException, ValueError) as e:
            self._drop()
            raise UnreachableError(f"lost {self._url}: {e!r}") from e
        if said["type"] == "actions":
            self.infer_ms = said["infer_ms"]
            return _array_of(said["actions"])
        if said["reason"] in ("expired", "superseded", "busy"):
            raise MissedError(said["message"])
        raise RefusedError(said["reason"], _text(said))

    def close(self) -> None:
        """Let go of the connection, and of attempts to make one."""
        self._stop.set()
        self._drop()

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        headers, secured = {}, None
        if self._token is not None:
            headers["Authorization"] = "Bearer " + self._token
        if self._url.startswith("wss:"):
            secured = ssl.create_default_context(cafile=self._ca_file)
        try:
            line = _Line(self._url, headers, secured, self._timeout_s)
        except InvalidStatus as e:
            if e.response.status_code in (401, 403, 404):
                raise RefusedError("access", f"the server says {e}") from e
            raise
        except ssl.SSLCertVerificationError as e:
            raise RefusedError("access", f"the server's certificate: {e}") from e
        try:
            hello = _read(line, self._timeout_s)
            shared = _shared_memory(hello.get("shared"))
            mine = {"protocol": PROTOCOL, "contract_digest": self._digest, "client": self._name}
            line.send(msgpack.packb(dict(mine, type="hello")))
            if hello.get("type") != "hello" or hello["protocol"] != PROTOCOL:
                raise RefusedError("hello", "the server speaks {!r}".format(hello.get("protocol")))
            if self._digest not in (None, hello["contract_digest"]):
                raise RefusedError("hello", "the server's policy has another contract")
        except BaseException:
            line.close()
            raise
        self.contract, self.step = hello["contract"], hello["step"]
        self._line, self._shared = line, shared

    def _drop(self) -> None:
        line, self._line, self._shared = self._line, None, None
        if line is not None:
            line.close()


class _Line:
    """A websocket read by whoever waits for a message: an answer wakes no thread on its way there.

    The server's pings are answered when somebody reads, or looks whether it `lasts`.
    """

    def __init__(
        self, url: str, headers: dict[str, str], secured: ssl.SSLContext | None, timeout_s: float
    ) -> None:
        """Connect, never through a proxy.

        Raises:
            OSError: Nobody is there, or the certificate is not to be trusted.
            WebSocketException: The server says no, or is another one.
        """
        self._timeout_s = timeout_s
        self._busy = threading.Lock()
        self._messages: deque[bytes] = deque()
        self._parts = b""
        file = url[len("unix:") :] if url.startswith("unix:") else None
        place = parse_uri("ws://localhost/" if file is not None else url)
        self._protocol = ClientProtocol(place, subprotocols=[SUBPROTOCOL], max_size=_MAX_ANSWER)
        if file is not None:
            self._socket = socket.socket(socket.AF_UNIX)
        else:
            self._socket = socket.create_connection((place.host, place.port), timeout_s)
        try:
            self._socket.settimeout(timeout_s)
            if file is not None:
                self._socket.connect(file)
            else:
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            if secured is not None:
                self._socket = secured.wrap_socket(self._socket, server_hostname=place.host)
            self._shake_hands(headers)
        except BaseException:
            self._socket.close()
            raise

    def send(self, message: bytes) -> None:
        """Send it. Raises OSError, WebSocketException."""
        with self._busy:
            self._socket.settimeout(self._timeout_s)
            self._protocol.send_binary(message)
            self._flush()

    def receive(self, within_s: float) -> bytes:
        """The next message. Raises OSError, also where it takes longer; WebSocketException."""
        until = time.monotonic() + within_s
        with self._busy:
            while not self._messages:
                self._socket.settimeout(max(1e-3, until - time.monotonic()))
                if not self._read():
                    raise self._protocol.close_exc
            return self._messages.popleft()

    def lasts(self) -> bool:
        """Whether the server has not hung up while nobody was reading."""
        with self._busy:
            self._socket.settimeout(0)
            try:
                while self._read():
                    pass
            except (BlockingIOError, ssl.SSLWantReadError):
                return self._protocol.state is State.OPEN
            except (OSError, WebSocketException, ValueError):
                pass
            return False

    def close(self) -> None:
        """Hang up. Another thread that sends or waits here gets an error."""
        if self._busy.acquire(blocking=False):
            with contextlib.suppress(OSError, WebSocketException):
                self._socket.settimeout(self._timeout_s)
                self._protocol.send_close()
                self._flush()
        else:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._busy.acquire()
        self._socket.close()
        self._busy.release()

    def _shake_hands(self, headers: dict[str, str]) -> None:
        protocol = self._protocol
        request = protocol.connect()
        request.headers.update(headers)
        protocol.send_request(request)
        self._flush()
        until = time.monotonic() + self._timeout_s
        while protocol.handshake_exc is None and protocol.state is State.CONNECTING:
            self._socket.settimeout(max(1e-3, until - time.monotonic()))
            self._read()
        if protocol.handshake_exc is not None:
            raise protocol.handshake_exc

    def _read(self) -> bool:
        """Take what has come, or wait for something; False at the end of the connection."""
        data = self._socket.recv(65536)
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if not isinstance(event, Frame):
                continue
            if event.opcode is Opcode.TEXT:
                raise ValueError("the server sent a text")
            if event.opcode in (Opcode.BINARY, Opcode.CONT):
                self._parts += event.data
                if event.fin:
                    self._messages.append(bytes(self._parts))
                    self._parts = b""
        self._flush()
        return bool(data)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:  # nothing stands for the end of what is sent
                self._socket.sendall(data)


def keep_freed_memory(megabytes: int = 64) -> bool:
    """Let the allocator keep so much of what is freed; False where it is not glibc's.

    A message of pictures takes buffers of megabytes at each of its stations. glibc gives such ones
    back to the system when they are freed, and to get them again, page by page, takes longer than
    to send them. For the whole process.
    """
    trim_threshold, mmap_threshold, longest = -1, -3, 32 * 2**20  # glibc takes no more
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(trim_threshold, megabytes * 2**20) and mallopt(mmap_threshold, longest))


class _Plan(NamedTuple):
    """Actions (K, A), the first of which is of the time when their observation was taken."""

    actions: np.ndarray
    taken_s: float


class Follower:
    """Runs a client in a thread; a control loop asks for the action of now and never waits.

    Action i of a chunk is for i ticks after its observation was taken, so those that became too old
    on the way are skipped. When there is none for now, because the server is away or late, the last
    action is held.

    Attributes:
        error: Why the last request got no actions; None when it did.
    """

    def __init__(
        self, client: PolicyClient, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """The client is the follower's from now on."""
        self.error: Exception | None = None
        self._client = client
        self._clock = clock
        self._wake = threading.Condition()
        self._newest: tuple[Mapping[str, np.ndarray], float] | None = None
        self._plan: _Plan | None = None
        self._last: np.ndarray | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="act-client", daemon=True)
        self._thread.start()

    def step(self, observation: Mapping[str, np.ndarray]) -> tuple[np.ndarray | None, str]:
        """The action (A,) for this tick and "run", or the last one and "hold"; at first None.

        Args:
            observation: What the robot sees now. It is read later in another thread: give arrays
                that nobody writes to any more.
        """
        now_s = self._clock()
        with self._wake:
            self._newest = (observation, now_s)
            self._wake.notify()
            plan = self._plan
        if plan is not None:
            index = round((now_s - plan.taken_s) * self._client.contract["rate_hz"])
            if index < len(plan.actions):
                self._last = plan.actions[index]
                return self._last, "run"
        return self._last, "hold"

    def close(self) -> None:
        """Let the thread end and close the client."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._client.close()
        self._thread.join(2.0)

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while True:
            with self._wake:
                while self._newest is None and not self._stopping:
                    self._wake.wait()
                if self._stopping or self._newest is None:
                    return
                (observation, taken_s), self._newest = self._newest, None
            try:
                actions = self._client.predict(observation)
            except (UnreachableError, MissedError, RefusedError) as e:
                self.error = e
                if not isinstance(e, UnreachableError):  # which has waited already
                    time.sleep(FIRST_RETRY_S)
                continue
            self.error = None
            with self._wake:
                self._plan = _Plan(actions, taken_s)


def _read(line: _Line, within_s: float) -> dict[str, Any]:
    said = msgpack.unpackb(line.receive(within_s))
    if not isinstance(said, dict) or said.get("type") not in ("hello", "actions", "refused"):
        raise ValueError("the server sent something else")
    if said["type"] == "refused" and said.get("reason") in ("hello", "malformed"):
        raise RefusedError(said["reason"], _text(said))
    return said


def _text(said: dict[str, Any]) -> str:
    return "{}. {}".format(said["message"], said["hint"])


def _shared_memory(offer: Any) -> np.ndarray | None:
    """The file in memory that the server offers, where it is this user's and the server's own."""
    if not isinstance(offer, dict) or not _SHARED_FILES.fullmatch(str(offer.get("path"))):
        return None
    try:
        file = os.open(offer["path"], os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # of another machine, container or user
        return None
    try:
        found, nonce = os.fstat(file), offer["nonce"]
        mine = found.st_uid == os.getuid() and stat.S_ISREG(found.st_mode)
        if not mine or found.st_size != offer["bytes"] or os.pread(file, len(nonce), 0) != nonce:
            return None
        return np.frombuffer(mmap.mmap(file, found.st_size), np.uint8)[len(nonce) :]
    except (KeyError, TypeError, ValueError, OSError):
        return None
    finally:
        os.close(file)


def _maps_of(
    observation: Mapping[str, np.ndarray], shared: np.ndarray | None
) -> dict[str, dict[str, Any]]:
    """Arrays as a message has them; in shared memory, where there is some with room for them."""
    maps: dict[str, dict[str, Any]] = {}
    used = 0
    for name, array in observation.items():
        array = np.asarray(array)
        if array.dtype.kind == "f":  # what Python's numbers become
            array = array.astype("<f4")
        dtype = _DTYPES.get(array.dtype.name)
        if dtype is None:
            raise RefusedError("observation", f"there is no dtype {array.dtype} here")
        data = np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8)
        maps[name] = {"dtype": array.dtype.name, "shape": list(array.shape)}
        if shared is not None and used + data.size <= shared.size:
            shared[used : used + data.size] = data
            maps[name]["at"] = used
            used += -(-data.size // _ALIGNED) * _ALIGNED
        else:
            maps[name]["data"] = data.data  # not a copy
    return maps


def _array_of(value: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(value["data"], _DTYPES[value["dtype"]]).reshape(value["shape"])
