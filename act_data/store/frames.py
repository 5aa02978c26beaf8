"""One frame of a chunked array as bytes, and back: the codecs inside a shard."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numcodecs import Blosc, Zstd, blosc
from numpy.typing import NDArray

from act_data.errors import DataError, InputError, StoreError
from act_data.records import Feature
from act_data.store import jpeg
from act_data.types import Value

blosc.use_threads = False  # its thread pool does not survive a fork; zarr sets the same

ZSTD_LEVEL = 1
BLOSC_LEVEL = 3
MAX_STEP_BYTES = 1 << 28  # 256 MiB: a forged shape must not decide how much memory is taken


def check_feature(feature: Feature) -> None:
    """Whether this store can hold `feature`.

    Raises:
        InputError: Names the array, the value and what is possible.
    """
    where = f"array {feature.name!r}"
    size = int(np.prod([int(n) for n in feature.shape], dtype=object)) * item_bytes(feature)
    if any(n < 1 for n in feature.shape) or size > MAX_STEP_BYTES:
        raise InputError(
            f"{where} has steps of shape {feature.shape}",
            hint=f"Every dimension is at least 1, and a step at most {MAX_STEP_BYTES} bytes.",
        )
    if feature.codec == "none":
        return
    if feature.dtype not in ("uint8", "uint16") or len(feature.shape) not in (2, 3):
        raise InputError(
            f"{where} of {feature.dtype} {feature.shape} has the codec {feature.codec!r}",
            hint="Only images (uint8) and depth (uint16) have a codec; others take 'none'.",
        )
    if feature.codec == "jpeg" and (feature.dtype != "uint8" or feature.shape[2:] != (3,)):
        raise InputError(
            f"{where} of {feature.dtype} {feature.shape} cannot be JPEG",
            hint="JPEG holds uint8 (H, W, 3); use 'blosc', 'zstd' or 'raw'.",
        )
    if not 1 <= feature.quality <= 100:
        raise InputError(f"{where} has JPEG quality {feature.quality}", hint="Use 1 to 100.")


def item_bytes(feature: Feature) -> int:
    """Bytes of one element."""
    return np.dtype(feature.dtype).itemsize


def step_bytes(feature: Feature) -> int:
    """Bytes of one decoded step."""
    return int(np.prod(feature.shape, dtype=np.int64)) * item_bytes(feature)


def stored_dtype(feature: Feature) -> np.dtype[np.generic]:
    """The element type on disk, little endian."""
    return np.dtype(feature.dtype).newbyteorder("<")


def encoder(feature: Feature) -> Callable[[Value], bytes]:
    """What turns a step of `feature` into its row, or its inner chunk without checksum.

    Raises:
        DataError: (the encoder) The value does not fit the feature, or is a damaged picture file.
    """
    shape, dtype, stored = feature.shape, np.dtype(feature.dtype), stored_dtype(feature)
    codec = {"zstd": Zstd(level=ZSTD_LEVEL), "blosc": _blosc(feature)}.get(feature.codec)

    def checked(value: Value) -> NDArray[np.generic]:
        array = jpeg.pixels(value)
        if array.shape != shape or array.dtype != dtype:
            raise _misfit(array, feature)
        return array

    def picture(value: Value) -> bytes:
        return jpeg.stored(checked(value) if isinstance(value, np.ndarray) else value, feature)

    def compressed(value: Value) -> bytes:
        assert codec is not None
        return bytes(codec.encode(np.ascontiguousarray(checked(value), dtype=stored)))

    def plain(value: Value) -> bytes:
        return checked(value).astype(stored, copy=False).tobytes()

    if feature.codec == "jpeg":
        return picture
    return plain if codec is None else compressed


def check_value(value: NDArray[np.generic], feature: Feature) -> None:
    """Whether `value` is one step of `feature`; DataError names what differs."""
    if value.shape != feature.shape or value.dtype != feature.dtype:
        raise _misfit(value, feature)


def decode(data: NDArray[np.uint8], feature: Feature, out: NDArray[np.generic]) -> None:
    """Decode the inner chunk `data` (without checksum) into `out`, one step of `feature`.

    Raises:
        StoreError: It is damaged, or does not hold exactly one step.
    """
    wanted = out.nbytes
    if feature.codec == "jpeg":
        try:
            jpeg.decode(data.data, out.view(np.uint8))
        except DataError as e:
            raise StoreError(f"does not decode: {e}") from e
        return
    declared = {"zstd": zstd_size, "blosc": blosc_size}.get(feature.codec, len)(data)
    if declared != wanted:
        raise StoreError(f"holds {declared} bytes of pixels where {wanted} are expected")
    codec = {"zstd": Zstd(), "blosc": Blosc()}.get(feature.codec)
    flat = out.reshape(-1).view(np.uint8)
    if codec is None:
        flat[:] = data
    else:
        try:
            codec.decode(data, out=flat)
        except (RuntimeError, ValueError) as e:
            raise StoreError(f"does not decode: {e}") from e
    if sys.byteorder == "big":
        out.byteswap(inplace=True)


def _misfit(value: NDArray[np.generic], feature: Feature) -> DataError:
    return DataError(
        f"array {feature.name!r} has a step of shape {value.shape} and type {value.dtype}; "
        f"the dataset holds shape {feature.shape} and type {feature.dtype}"
    )


def _blosc(feature: Feature) -> Blosc:
    return Blosc("zstd", clevel=BLOSC_LEVEL, shuffle=Blosc.BITSHUFFLE, typesize=item_bytes(feature))


def blosc_size(data: NDArray[np.uint8]) -> int:
    """Decoded size that a blosc frame declares; -1 when it is not one (c-blosc README_HEADER)."""
    if len(data) < 16 or int.from_bytes(data[12:16].tobytes(), "little") != len(data):
        return -1
    return int.from_bytes(data[4:8].tobytes(), "little")


def zstd_size(data: NDArray[np.uint8]) -> int:
    """Decoded size that a zstd frame declares; -1 without one (RFC 8878, section 3.1.1.1)."""
    head = data[:18].tobytes()
    if len(head) < 6 or head[:4] != b"\x28\xb5\x2f\xfd":
        return -1
    flags = head[4]
    single = bool(flags & 0x20)
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[flags & 3]
    width = (1 if single else 0, 2, 4, 8)[flags >> 6]
    if width == 0:
        return -1
    return int.from_bytes(head[at : at + width], "little") + (256 if width == 2 else 0)
