"""Pictures: JPEG, PNG and compressedDepth payloads, raw images, and JPEG frames of a dataset."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
from PIL import Image

from act_data.decode import decoder
from act_data.errors import DataError
from act_data.inspect.pictures import PictureLook
from act_data.records import Feature
from act_data.store import jpeg
from act_data.types import EncodedImage, Role, StreamKind, StreamSpec

COMPRESSED = "sensor_msgs/msg/CompressedImage"
_FORMATS = (
    "rgb8; jpeg compressed bgr8",
    "png",
    "16UC1; compressedDepth png",
    "32FC1; compressedDepth",
)
_ENCODINGS = (
    "rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", "16UC1", "32FC1", "yuv422", "yuyv",
    "bayer_rggb8", "bayer_gbrg8", "8UC1", "RGB8", "h264", "",
)  # fmt: skip
_FEATURE = Feature(
    name="images/c", role=Role.OBSERVATION, dtype="uint8", shape=(8, 12, 3), codec="jpeg"
)


def _message(format_: str, data: bytes) -> SimpleNamespace:
    return SimpleNamespace(format=format_, data=np.frombuffer(data, np.uint8))


def compressed(data: bytes) -> None:
    """A CompressedImage as picture, as depth, and as `inspect` looks at it."""
    if not data:
        return
    message = _message(_FORMATS[data[0] % len(_FORMATS)], data[1:])
    calls: list[Callable[[], object]] = [
        *(
            lambda kind=kind: decoder(StreamSpec(name="s", topic="/t", kind=kind))(
                COMPRESSED, message
            )
            for kind in (StreamKind.IMAGE, StreamKind.DEPTH)
        ),
        lambda: PictureLook("/t").seen(COMPRESSED, message),
    ]
    _all(calls)


def raw(data: bytes) -> None:
    """An Image by its numbers: encoding, height, width, step, byte order, and the pixels."""
    if len(data) < 14:
        return
    encoding = _ENCODINGS[data[0] % len(_ENCODINGS)]
    height, width, step = struct.unpack_from("<III", data, 2)
    message = SimpleNamespace(
        height=height, width=width, step=step, encoding=encoding, is_bigendian=data[1] % 2,
        data=np.frombuffer(data, np.uint8, offset=14),
    )  # fmt: skip
    type_ = "sensor_msgs/msg/Image"
    calls: list[Callable[[], object]] = [
        *(
            lambda kind=kind: decoder(StreamSpec(name="s", topic="/t", kind=kind))(type_, message)
            for kind in (StreamKind.IMAGE, StreamKind.DEPTH)
        ),
        lambda: PictureLook("/t").seen(type_, message),
    ]
    _all(calls)


def frame(data: bytes) -> None:
    """A JPEG file on its way into a dataset, and out of one."""
    image = EncodedImage(data=data, shape=_FEATURE.shape)
    _all(
        [
            lambda: jpeg.stored(image, _FEATURE),
            lambda: jpeg.stored(image, _FEATURE, swapped=True),
            lambda: jpeg.decode(data),
        ]
    )


def _all(calls: list[Callable[[], object]]) -> None:
    """Every call, whether or not the one before refuses."""
    for call in calls:
        try:
            call()
        except DataError:
            continue


# --- seeds ------------------------------------------------------------------------------------


def _saved(array: np.ndarray, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, form, **options)
    return file.getvalue()


def files() -> dict[str, bytes]:
    """Small picture files: baseline, progressive and grey JPEG; colour and 16-bit PNG."""
    colour = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
    grey16 = np.arange(96, dtype=np.uint16).reshape(8, 12) * 600
    return {
        "jpeg": _saved(colour, "JPEG"),
        "progressive": _saved(colour, "JPEG", progressive=True),
        "grey": _saved(colour[:, :, 0], "JPEG"),
        "png": _saved(colour, "PNG"),
        "depth": _saved(grey16, "PNG"),
    }


def compressed_seeds() -> list[bytes]:
    """Each file in each format, depth with the header of its transport."""
    found = [bytes([n]) + data for data in files().values() for n in range(len(_FORMATS))]
    depth = files()["depth"]
    return [*found, *(bytes([n]) + struct.pack("<iff", 0, 10.0, 0.1) + depth for n in (2, 3))]


def raw_seeds() -> list[bytes]:
    """A whole picture of each encoding."""
    return [
        bytes([n, 0]) + struct.pack("<III", 2, 4, 16) + bytes(range(32))
        for n in range(len(_ENCODINGS))
    ]


def frame_seeds() -> list[bytes]:
    """JPEG files of three sorts."""
    return [files()[name] for name in ("jpeg", "progressive", "grey")]
