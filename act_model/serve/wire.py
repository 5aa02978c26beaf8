"""Arrays and messages as bytes, and back from bytes that nobody vouches for: the door to msgpack.

A message is a map. An array in it is a map of exactly "dtype", "shape" and "data", little-endian
and row by row; only the types that a robot delivers and takes exist. Where client and server share
memory, "at" may say where the data lies instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError, NotFoundError
from act_model.config import Contract
from act_model.contract import blank_observation
from act_model.serve.shared import Segment

try:
    import msgpack
except ImportError as e:
    _missing: ImportError | None = e
else:
    _missing = None

DTYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(name).newbyteorder("<") for name in ("uint8", "uint16", "float32")
}
MAX_NDIM = 4

_HINT = "The client must be of this toolkit's version; docs/serve.md describes the protocol."
_MAX_CONTAINERS = 512  # maps and lists in one message: a picture is one
_MAX_MAP, _MAX_LIST, _MAX_TEXT = 64, 16, 4096
_SLACK = 64 * 1024  # for names and framing
_SHARED = {"dtype", "shape", "at"}


def require_msgpack() -> None:
    """Raise NotFoundError where the package msgpack is not installed."""
    if _missing is not None:
        raise NotFoundError(
            f"serving needs the packages msgpack and websockets: {_missing}",
            hint="pip install 'act-toolkit[serve]'",
        )


def max_bytes(contract: Contract) -> int:
    """The largest message that an observation of `contract` can be.

    States may come as float64, as openpi's clients send them.
    """
    sizes = (
        array.nbytes * (2 if array.dtype == np.float32 else 1)
        for array in blank_observation(contract).values()
    )
    return sum(sizes) + _SLACK


def pack(message: Mapping[Any, object]) -> bytes:
    """`message` as bytes; arrays in it must be maps already."""
    packed: bytes = msgpack.packb(message)
    return packed


def unpack(data: bytes) -> dict[Any, Any]:
    """The map in `data`.

    Memory stays in proportion to `data`: containers, their sizes, texts and depth are bounded, and
    extension types are not read.

    Raises:
        InputError: There is none, or it goes beyond the bounds.
    """
    containers = 0

    def count(container: Any) -> Any:
        nonlocal containers
        containers += 1
        if containers > _MAX_CONTAINERS:
            raise ValueError(f"more than {_MAX_CONTAINERS} maps and lists")
        return container

    try:
        message = msgpack.unpackb(
            data,
            object_hook=count,
            list_hook=count,
            strict_map_key=True,
            max_map_len=_MAX_MAP,
            max_array_len=_MAX_LIST,
            max_str_len=_MAX_TEXT,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as e:  # "too nested" has no message
        raise InputError(f"no message of msgpack: {e or type(e).__name__}", hint=_HINT) from e
    if not isinstance(message, dict):
        raise InputError(f"a message is a map, not {type(message).__name__}", hint=_HINT)
    return message


def map_of(array: NDArray[np.generic]) -> dict[str, object]:
    """An array as a map of plain values."""
    dtype = DTYPES[array.dtype.name]
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "data": np.ascontiguousarray(array, dtype).tobytes(),
    }


def array_of(name: str, value: object, segment: Segment | None = None) -> NDArray[np.generic]:
    """The array in a map, without a copy; it cannot be written.

    Args:
        segment: Where the data of a map with "at" lies. Numbers that must be finite are copied
            from there; pictures, which may be any, stay where they are.

    Raises:
        InputError: It is no array of a type that exists here, or its bytes are not of its shape,
            or not in the segment.
    """
    keys = value.keys() if isinstance(value, dict) else set()
    if not isinstance(value, dict) or keys not in ({"dtype", "shape", "data"}, _SHARED):
        raise InputError(f"{name} is no array: it needs dtype, shape and data", hint=_HINT)
    dtype = DTYPES.get(value["dtype"]) if isinstance(value["dtype"], str) else None
    if dtype is None:
        raise InputError(
            f"{name} has dtype {_short(value['dtype'])}", hint=f"There are: {', '.join(DTYPES)}."
        )
    data = value["data"] if keys != _SHARED else _shared(name, value, dtype, segment)
    return shaped(name, data, dtype, value["shape"])


def _shared(
    name: str, value: dict[Any, Any], dtype: np.dtype[Any], segment: Segment | None
) -> bytes | memoryview:
    at, sides = value["at"], _sides(name, value["shape"])
    if segment is None or type(at) is not int:
        raise InputError(f"{name} lies in no memory that is shared", hint=_HINT)
    try:
        there = segment.read(at, math.prod(sides) * dtype.itemsize)
        return bytes(there) if dtype.kind == "f" else there
    except ValueError as e:
        raise InputError(f"{name} does not lie in the shared memory: {e}", hint=_HINT) from e


def shaped(name: str, data: object, dtype: np.dtype[Any], shape: object) -> NDArray[np.generic]:
    """An array over `data`.

    Raises:
        InputError: `data` are no bytes, or not as many as `shape` needs, or `shape` is none.
    """
    sides = _sides(name, shape)
    needed = math.prod(sides) * dtype.itemsize
    if not isinstance(data, bytes | memoryview) or len(data) != needed:
        found = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise InputError(
            f"{name}: shape {sides} of {dtype.name} has {needed} bytes, and {found} came",
            hint=_HINT,
        )
    return np.frombuffer(data, dtype).reshape(sides)


def _sides(name: str, shape: object) -> list[int]:
    sides = shape if isinstance(shape, list) else None
    if sides is None or len(sides) > MAX_NDIM or not all(type(n) is int and n >= 0 for n in sides):
        raise InputError(f"{name} has shape {_short(shape)}", hint="Send a list of lengths.")
    return sides


def _short(value: object) -> str:
    return repr(value)[:80]
