"""sensor_msgs/Image as uint8 RGB or uint16 millimetres, by encoding, `step` and byte order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.decode.bayer import demosaic
from act_data.errors import DataError

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]

_COLOUR_BYTES = {
    **dict.fromkeys(("rgb8", "bgr8"), 3),
    **dict.fromkeys(("rgba8", "bgra8"), 4),
    **dict.fromkeys(("mono8", "8uc1"), 1),
    "mono16": 2,
    **dict.fromkeys(("yuv422", "uyvy", "yuv422_yuy2", "yuyv"), 2),
    **{f"bayer_{pattern}8": 1 for pattern in ("rggb", "bggr", "gbrg", "grbg")},
}
_DEPTH_BYTES = {"16uc1": 2, "mono16": 2, "32fc1": 4}
_NAMES = {"8uc1": "8UC1", "16uc1": "16UC1", "32fc1": "32FC1"}


def colour(message: Any, where: str) -> U8:
    """(H, W, 3) RGB, C-contiguous; unpadded rgb8 is a view of the message, all else a copy.

    mono8 and mono16 are repeated over the channels (mono16 by its high byte), alpha is dropped,
    YUV is BT.601 in video range (what cameras send and OpenCV assumes).

    Raises:
        DataError: An encoding that has no colours, or sizes that contradict each other.
    """
    encoding = str(message.encoding).strip().lower()
    rows = _rows(message, _COLOUR_BYTES, encoding, where)
    height, width = int(message.height), int(message.width)
    match encoding:
        case "rgb8":
            return np.ascontiguousarray(rows.reshape(height, width, 3))
        case "bgr8" | "bgra8":
            return _planes(rows.reshape(height, width, -1), (2, 1, 0))
        case "rgba8":
            return _planes(rows.reshape(height, width, 4), (0, 1, 2))
        case "mono8" | "8uc1":
            return np.repeat(rows[:, :, None], 3, axis=2)
        case "mono16":
            high = (_words(rows, "u2", message) >> 8).astype(np.uint8)
            return np.repeat(high[:, :, None], 3, axis=2)
        case "yuv422" | "uyvy":
            return _yuv422(rows, luma=1, where=where)
        case "yuv422_yuy2" | "yuyv":
            return _yuv422(rows, luma=0, where=where)
        case _:
            if height < 2 or width < 2:
                raise DataError(f"{where}: a bayer picture of {width} x {height} has no colours")
            return demosaic(rows, encoding[6:10])


def depth(message: Any, where: str) -> U16:
    """(H, W) uint16 millimetres, 0 where unknown; native unpadded 16-bit data is a view.

    Raises:
        DataError: An encoding that is no depth, or sizes that contradict each other.
    """
    encoding = str(message.encoding).strip().lower()
    rows = _rows(message, _DEPTH_BYTES, encoding, where)
    if encoding == "32fc1":
        return millimetres(_words(rows, "f4", message))
    return np.ascontiguousarray(_words(rows, "u2", message), dtype=np.uint16)


def millimetres(metres: NDArray[np.floating[Any]]) -> U16:
    """Float metres as uint16 millimetres, rounded; what has no such number becomes 0.

    REP 118: float depth is in metres with NaN for unknown, -Inf for too close and +Inf for too
    far; 16-bit depth is in millimetres with 0 for unknown. Beyond 65.535 m is too far.
    """
    with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
        whole = np.rint(metres.astype(np.float64) * 1000.0)
    known = (whole >= 0) & (whole <= np.iinfo(np.uint16).max)  # false for NaN
    return np.where(known, whole, 0.0).astype(np.uint16)


def raw_bytes(data: Any) -> U8:
    """`data` of a message (an array, bytes or a memoryview) as bytes without a copy."""
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(data).view(np.uint8).reshape(-1)
    return np.frombuffer(data, dtype=np.uint8)


def _rows(message: Any, widths: dict[str, int], encoding: str, where: str) -> U8:
    """(H, W * bytes per pixel) without the padding of `step`."""
    if encoding not in widths:
        known = ", ".join(_NAMES.get(name, name) for name in widths)
        raise DataError(
            f"{where}: encoding {message.encoding!r}",
            hint=f"This kind of stream decodes: {known}.",
        )
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = raw_bytes(message.data)
    used = width * widths[encoding]
    if height < 1 or width < 1 or step < used or data.size != step * height:
        raise DataError(
            f"{where}: height {height}, width {width}, encoding {message.encoding!r}, step {step} "
            f"and {data.size} bytes do not fit together",
            hint=f"Expected step >= {used} and step * height bytes of data.",
        )
    return data.reshape(height, step)[:, :used]


def _words(rows: U8, kind: str, message: Any) -> NDArray[Any]:
    return np.ascontiguousarray(rows).view((">" if message.is_bigendian else "<") + kind)


def _planes(picture: U8, order: tuple[int, int, int]) -> U8:
    """Channels of `picture` in `order`. A plane at a time is 5x faster than reversing the axis."""
    out = np.empty((*picture.shape[:2], 3), np.uint8)
    for to, channel in enumerate(order):
        out[:, :, to] = picture[:, :, channel]
    return out


def _yuv422(rows: U8, *, luma: int, where: str) -> U8:
    """RGB of packed 4:2:2; `luma` is the place of Y in its pair (0: YUYV, 1: UYVY)."""
    height, used = rows.shape
    if used % 4:
        raise DataError(f"{where}: width {used // 2} is odd, 4:2:2 pictures have pixels in pairs")
    pairs = rows.reshape(height, used // 4, 4).astype(np.float32)
    y = 1.164383 * (pairs[:, :, luma::2] - 16.0)
    u = pairs[:, :, None, 1 - luma] - 128.0
    v = pairs[:, :, None, 3 - luma] - 128.0
    out = np.empty((height, used // 4, 2, 3), np.uint8)
    for channel, value in enumerate(
        (y + 1.596027 * v, y - 0.391762 * u - 0.812968 * v, y + 2.017232 * u)
    ):
        out[..., channel] = np.clip(np.rint(value), 0, 255)
    return out.reshape(height, used // 2, 3)
