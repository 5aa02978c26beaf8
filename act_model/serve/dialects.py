"""What is said over a connection: our own protocol, and the one that openpi's clients speak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError
from act_model.config import Contract
from act_model.serve import wire
from act_model.serve.shared import Segment

PROTOCOL = 1
SUBPROTOCOL = "act-serve.v1"  # a client that offers it speaks ours, any other openpi's
_MAX_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One observation that wants actions.

    Attributes:
        number: The client's own; goes back with the answer.
        observation: By array name; not yet compared with the contract.
        within_s: How long an answer is of use, from when the message came; None: always.
    """

    number: int
    observation: Mapping[str, NDArray[np.generic]]
    within_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What an answer took, in milliseconds."""

    queued_ms: float
    infer_ms: float


class Dialect(Protocol):
    """How one connection says things."""

    greets: bool  # the client says who it is before it asks

    def hello(self) -> bytes:
        """The first message of the server."""

    def greeted(self, message: bytes) -> str:
        """The name of the client. Raises InputError if it cannot be served."""

    def ask(self, message: bytes) -> Ask:
        """What the client wants. Raises InputError if that cannot be told."""

    def answer(self, ask: Ask, actions: NDArray[np.float32], timing: Timing) -> bytes:
        """The actions, (K, A)."""

    def refusal(self, number: int | None, reason: str, message: str, hint: str) -> bytes | str:
        """Why there are none; `reason` is for programs."""


class OwnDialect:
    """Ours, version 1. `docs/serve.md` describes it."""

    greets = True

    def __init__(self, contract: Contract, *, step: int, segment: Segment | None = None) -> None:
        """Args: segment: For a client of this user on this machine; None: it gets none."""
        self._digest = contract.digest()
        self._segment = segment
        self._hello = wire.pack(
            {
                "type": "hello",
                "protocol": PROTOCOL,
                "contract": contract.model_dump(mode="json"),
                "contract_digest": self._digest,
                "step": step,
                "max_bytes": wire.max_bytes(contract),
                "shared": None if segment is None else _place_of(segment),
            }
        )

    def hello(self) -> bytes:
        """Version and contract."""
        return self._hello

    def greeted(self, message: bytes) -> str:
        """The client's name.

        Raises:
            InputError: It speaks another version, or was made for another contract.
        """
        if self._segment is not None:
            self._segment.forget()  # the client has it by now, or cannot have it
        said = _typed(message, "hello", {"protocol", "contract_digest", "client"})
        if said["protocol"] != PROTOCOL:
            raise InputError(
                f"this server speaks version {PROTOCOL}, the client {said['protocol']!r}"[:200],
                hint="Take the client of the server's version.",
            )
        if said["contract_digest"] not in (None, self._digest):
            raise InputError(
                "the client was made for another contract than this policy's",
                hint="Compare the contract in the server's hello with what the robot delivers.",
            )
        name = said["client"]
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME:
            raise InputError("the client has no name", hint=f"Send up to {_MAX_NAME} characters.")
        return name

    def ask(self, message: bytes) -> Ask:
        """The observation in a message of type "infer"."""
        said = _typed(message, "infer", {"id", "within_ms", "observation"})
        number, within_ms, arrays = said["id"], said["within_ms"], said["observation"]
        if type(number) is not int or not 0 <= number < 2**63:
            raise InputError("a request has no id", hint="Count them from 0.")
        if within_ms is not None and not _is_duration(within_ms):
            raise InputError("within_ms is no number of milliseconds", hint="Send 0 to 60000.")
        if not isinstance(arrays, dict) or not all(isinstance(name, str) for name in arrays):
            raise InputError("the observation is no map of arrays", hint="Send them by name.")
        segment = self._segment
        return Ask(
            number=number,
            observation={n: wire.array_of(n, value, segment) for n, value in arrays.items()},
            within_s=None if within_ms is None else within_ms / 1e3,
        )

    def answer(self, ask: Ask, actions: NDArray[np.float32], timing: Timing) -> bytes:
        """The actions as an array of ours."""
        return wire.pack(
            {
                "type": "actions",
                "id": ask.number,
                "actions": wire.map_of(actions),
                "queued_ms": timing.queued_ms,
                "infer_ms": timing.infer_ms,
            }
        )

    def refusal(self, number: int | None, reason: str, message: str, hint: str) -> bytes:
        """A message of type "refused"."""
        said = {"type": "refused", "id": number, "reason": reason}
        return wire.pack(said | {"message": message, "hint": hint})


def _place_of(segment: Segment) -> dict[str, object]:
    return {"path": str(segment.path), "bytes": segment.size, "nonce": segment.nonce}


# openpi names types as numpy does. float64 is what Python's numbers become on a robot.
_OPENPI_DTYPES = {dtype.str: dtype for dtype in wire.DTYPES.values()} | {
    "<f8": np.dtype("<f8"),
    "<i8": np.dtype("<i8"),
    "<i4": np.dtype("<i4"),
    "|b1": np.dtype("|b1"),
}
_OPENPI_DEPTH = 4


class OpenpiDialect:
    """What openpi-client 0.1 speaks (Physical-Intelligence/openpi, packages/openpi-client).

    The server's first message is its metadata; then each message is an observation, and each answer
    a map with "actions", or a text when something is wrong. Arrays are maps with the key
    b"__ndarray__". Names are those of the contract, also as nested maps ({"images": {"top": ...}}),
    below "observation", and "state" for the only state array. Pictures may be channels first,
    numbers float64. What the contract does not name ("prompt") is ignored.
    """

    greets = False

    def __init__(self, contract: Contract, *, step: int) -> None:
        self._contract = contract
        self._hello = wire.pack(
            {
                "server": "act-toolkit",
                "contract": contract.model_dump(mode="json"),
                "contract_digest": contract.digest(),
                "step": step,
            }
        )

    def hello(self) -> bytes:
        """The metadata."""
        return self._hello

    def greeted(self, message: bytes) -> str:
        """Never asked for."""
        raise InputError("openpi's clients do not greet", hint="Send an observation.")

    def ask(self, message: bytes) -> Ask:
        """The observation that the message is."""
        flat: dict[str, NDArray[np.generic]] = {}
        _flatten("", wire.unpack(message), flat, _OPENPI_DEPTH)
        found = {name.removeprefix("observation/"): array for name, array in flat.items()}
        if len(self._contract.state) == 1 and "state" in found:
            found.setdefault(self._contract.state[0].name, found["state"])
        vectors = {v.name for v in self._contract.state}
        for name in vectors & found.keys():
            if found[name].dtype.kind == "f":
                found[name] = found[name].astype(np.float32)
        for camera in self._contract.cameras:
            name, channels_first = f"images/{camera.name}", (3, camera.height, camera.width)
            if name in found and found[name].shape == channels_first:
                found[name] = np.ascontiguousarray(np.moveaxis(found[name], 0, -1))
        return Ask(number=0, observation=found, within_s=None)

    def answer(self, ask: Ask, actions: NDArray[np.float32], timing: Timing) -> bytes:
        """The actions as openpi packs an array."""
        array = {
            b"__ndarray__": True,
            b"data": np.ascontiguousarray(actions, "<f4").tobytes(),
            b"dtype": "<f4",
            b"shape": list(actions.shape),
        }
        return wire.pack({"actions": array, "server_timing": {"infer_ms": timing.infer_ms}})

    def refusal(self, number: int | None, reason: str, message: str, hint: str) -> str:
        """A text: openpi's client raises it."""
        return f"{reason}: {message}. {hint}"


def _typed(message: bytes, kind: str, keys: set[str]) -> dict[str, Any]:
    said = wire.unpack(message)
    if said.get("type") != kind or said.keys() != keys | {"type"}:
        raise InputError(
            f"a message of type {kind!r} was expected", hint=f"It has: {', '.join(sorted(keys))}."
        )
    return said


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 60_000


def _flatten(prefix: str, value: object, flat: dict[str, NDArray[np.generic]], depth: int) -> None:
    """Collect the arrays below `value` by their path; what is no array is left out."""
    if not isinstance(value, dict):
        return
    if b"__ndarray__" in value:
        name = value.get(b"dtype")
        dtype = _OPENPI_DTYPES.get(name) if isinstance(name, str) else None
        if dtype is None:
            raise InputError(
                f"{prefix} has dtype {name!r}"[:200],
                hint=f"There are: {', '.join(_OPENPI_DTYPES)}.",
            )
        flat[prefix] = wire.shaped(prefix, value.get(b"data"), dtype, value.get(b"shape"))
        return
    if depth == 0:
        raise InputError(
            "the observation is nested too deep", hint=f"At most {_OPENPI_DEPTH} maps."
        )
    for key, inner in value.items():
        if isinstance(key, str):
            _flatten(f"{prefix}/{key}" if prefix else key, inner, flat, depth - 1)
