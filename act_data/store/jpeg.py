"""JPEG files: write one, read one, look at its header. The only door to the JPEG library."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from act_data.errors import DataError
from act_data.records import Feature
from act_data.types import EncodedImage, Value

MAX_PIXELS = 1 << 26  # 67 megapixels: no camera of a robot; a forged header could ask for 4 Gi

_SOI, _EOI, _SOS, _DHT, _DQT = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF markers; those three are not
_BARE = {0x01, *range(0xD0, 0xD8)}  # markers without a length


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What a JPEG file says about its picture.

    Attributes:
        components: 1 grey, 3 colour, 4 CMYK.
        baseline: Sequential, 8 bit, Huffman, with its own tables: what every decoder reads.
            Motion-JPEG frames that leave out their tables are not.
    """

    height: int
    width: int
    components: int
    baseline: bool


def header(data: bytes | memoryview) -> JpegHeader:
    """The header of the JPEG file `data`, without decoding it.

    Raises:
        DataError: `data` is not a JPEG file.
    """
    if data[:2] != b"\xff\xd8":
        raise DataError(f"not a JPEG file: it begins with {bytes(data[:4])!r}")
    at, tables = 2, set[int]()
    found: tuple[int, int, int, int, int] | None = None
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _BARE:
            at += 2
            continue
        if marker in (_SOS, _EOI):
            break
        if marker in _FRAMES and at + 10 <= len(data):
            height, width = (
                int.from_bytes(data[at + 5 : at + 7]),
                int.from_bytes(data[at + 7 : at + 9]),
            )
            found = (marker, data[at + 4], height, width, data[at + 9])
        tables.add(marker)
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    if found is None or not found[2] or not found[3]:
        raise DataError(f"a JPEG file of {len(data)} bytes without a frame header")
    marker, precision, height, width, components = found
    whole = {_DHT, _DQT} <= tables
    return JpegHeader(height, width, components, marker == 0xC0 and precision == 8 and whole)


def encode(image: NDArray[np.generic], quality: int) -> bytes:
    """The (H, W, 3) uint8 RGB `image` as a baseline JPEG file, chroma subsampled 4:2:0."""
    pixels = np.ascontiguousarray(image)
    data: bytes = simplejpeg.encode_jpeg(
        pixels, quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return data


def decode(data: bytes | memoryview, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """The picture in the JPEG file `data`, (H, W, 3) uint8 RGB.

    Args:
        out: Where to put it: (H, W, 3) uint8, contiguous. A new array when absent.

    Raises:
        DataError: Not a JPEG file, cut short, too large, or of another size than `out`.
    """
    head = header(data)
    if head.height * head.width > MAX_PIXELS:
        raise DataError(f"a JPEG file that claims {head.height} x {head.width} pixels")
    if out is not None and out.shape != (head.height, head.width, 3):
        raise DataError(
            f"a JPEG picture of {head.height} x {head.width} where {out.shape} is expected"
        )
    try:
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=out)
    except ValueError as e:
        raise DataError(f"a damaged JPEG file of {len(data)} bytes: {e}") from e
    return image


def stored(image: Value, feature: Feature, *, swapped: bool = False) -> bytes:
    """The JPEG file that a dataset keeps for `image`: its own bytes where they will do.

    They do when the file is baseline, has three components in the wanted order, the feature's
    size and an end; otherwise it is decoded and encoded again.

    Args:
        swapped: Whether the dataset keeps red and blue exchanged, as ALOHA's HDF5 does.

    Raises:
        DataError: The file is damaged, or its picture has another size.
    """
    if not isinstance(image, EncodedImage):
        return encode(image[..., ::-1] if swapped else image, feature.quality)
    if fits(image, feature, swapped=swapped):
        return image.data
    head = header(image.data)
    if (head.height, head.width, 3) != feature.shape:
        raise DataError(
            f"array {feature.name!r} has a JPEG picture of {head.height} x {head.width}; "
            f"the dataset holds shape {feature.shape}"
        )
    return stored(pixels(image), feature, swapped=swapped)


def fits(image: EncodedImage, feature: Feature, *, swapped: bool = False) -> bool:
    """Whether `stored` keeps the file as it is; DataError when it is no JPEG file."""
    head = header(image.data)
    same = (head.height, head.width, head.components) == feature.shape
    whole = image.data.rstrip(b"\0").endswith(b"\xff\xd9")
    return same and head.baseline and whole and image.swapped == swapped


def pixels(image: Value) -> NDArray[np.generic]:
    """`image` as an RGB array, decoded when it is a file."""
    if not isinstance(image, EncodedImage):
        return image
    decoded = decode(image.data)
    return np.ascontiguousarray(decoded[..., ::-1]) if image.swapped else decoded


def codec_round_trip(image: Value, feature: Feature) -> NDArray[np.uint8]:
    """What reading `image` back from a dataset would give, without writing one. For uint8 arrays.

    A policy that is fed by a live camera sees through this what it saw in training.
    """
    if feature.codec == "jpeg":
        return decode(stored(image, feature))
    return np.asarray(pixels(image), dtype=np.uint8)
