"""sensor_msgs/CompressedImage: JPEG passes through, the rest is decoded with Pillow."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from act_data.decode.image import millimetres, raw_bytes
from act_data.decode.jpeg_header import jpeg_header
from act_data.errors import DataError
from act_data.types import EncodedImage, Value

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 1 << 26  # 8192 x 8192: no robot's camera is larger, a decompression bomb is
_PNG = b"\x89PNG\r\n\x1a\n"
_DECODED = "JPEG and PNG are decoded here; republish other transports as raw images."
_DEPTH_HEADER = struct.Struct("<iff")  # format, depthQuantA, depthQuantB


def compressed_colour(message: Any, where: str) -> Value:
    """A JPEG file as it is, or (H, W, 3) uint8 RGB where the file is something else.

    Only baseline JPEG with three components passes through: every reader decodes it alike. Grey,
    CMYK and progressive files and PNG are decoded here.

    Raises:
        DataError: Neither JPEG nor PNG, cut, or damaged.
    """
    return picture_file(raw_bytes(message.data).tobytes(), f"{where}: format {message.format!r}")


def picture_file(data: bytes, where: str) -> Value:
    """As `compressed_colour`, of the bytes of a PNG or JPEG file."""
    if data.startswith(_PNG):
        picture = _open(data, _png_size(data, where), where)
        if picture.mode.startswith("I"):  # 16 bits of grey: the high byte, as for mono16
            high = (np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8)
            return np.repeat(high[:, :, None], 3, axis=2)
        return np.asarray(picture.convert("RGB"))
    try:
        header = jpeg_header(data)
    except ValueError as e:
        raise DataError(f"{where}: {e}", hint=_DECODED) from None
    if header.baseline and header.components == 3:
        return EncodedImage(data=data, shape=(header.height, header.width, 3))
    return np.asarray(_open(data, (header.height, header.width), where).convert("RGB"))


def compressed_depth(message: Any, where: str) -> NDArray[np.uint16]:
    """(H, W) uint16 millimetres of a 16-bit PNG, with or without compressedDepth's header.

    compressed_depth_image_transport puts 12 bytes before the PNG. For 32FC1 the PNG holds
    inverse depth: metres = A / (value - B), 0 for unknown.

    Raises:
        DataError: Not a 16-bit PNG (RVL, JPEG), cut, or damaged.
    """
    data = raw_bytes(message.data).tobytes()
    a, b = 0.0, 0.0
    if not data.startswith(_PNG) and data[_DEPTH_HEADER.size :].startswith(_PNG):
        _, a, b = _DEPTH_HEADER.unpack_from(data)
        data = data[_DEPTH_HEADER.size :]
    if not data.startswith(_PNG):
        raise _damaged(where, message, "no PNG in it; depth is read from PNG only")
    picture = _open(data, _png_size(data, where), where)
    values = np.asarray(picture)
    if not picture.mode.startswith("I") or values.ndim != 2:
        raise _damaged(where, message, f"PNG of mode {picture.mode!r}, depth has 16 bits of grey")
    values = values.astype(np.uint16)
    if "32FC1" not in str(message.format):
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        metres = a / (values.astype(np.float64) - b)
    return millimetres(np.where(values == 0, np.nan, metres))


def _png_size(data: bytes, where: str) -> tuple[int, int]:
    if len(data) < 24:
        raise DataError(f"{where}: PNG of {len(data)} bytes is cut")
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


def _open(data: bytes, size: tuple[int, int], where: str) -> Image:
    from PIL import Image  # 30 ms that recordings of raw pictures need not pay

    height, width = size
    if height * width > MAX_PIXELS:
        raise DataError(
            f"{where}: a picture of {width} x {height} pixels is larger than any camera"
        )
    try:
        picture = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
        picture.load()
    # All that Pillow's two readers let through for damaged files; none is a class of its own.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as e:
        raise DataError(f"{where}: damaged picture of {len(data)} bytes: {e}") from None
    return picture


def _damaged(where: str, message: Any, what: str) -> DataError:
    return DataError(
        f"{where}: format {message.format!r}: {what}",
        hint=_DECODED,
    )
