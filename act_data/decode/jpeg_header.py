"""What a JPEG file says about itself, without decoding it."""

from __future__ import annotations

from dataclasses import dataclass

_STANDALONE = {0x01, *range(0xD0, 0xD9)}  # TEM, RST0-7, SOI: no length follows
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0-15; DHT, JPG and DAC are not
_SCAN, _END = 0xDA, b"\xff\xd9"


@dataclass(frozen=True, kw_only=True)
class JpegHeader:
    """Size and kind of a JPEG picture.

    Attributes:
        components: 1 grey, 3 YCbCr (or RGB), 4 CMYK.
        baseline: Sequential, Huffman coded, 8 bits: what every decoder reads.
    """

    height: int
    width: int
    components: int
    baseline: bool


def jpeg_header(data: bytes) -> JpegHeader:
    """The header of a whole JPEG file (ITU-T T.81, B.2).

    Raises:
        ValueError: It is not a JPEG file, or it is cut; says where.
    """
    if data[:2] != b"\xff\xd8":
        raise ValueError(f"no JPEG: it begins with {data[:4].hex(' ')!r}")
    header: JpegHeader | None = None
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise ValueError(f"no marker at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2  # fill bytes may precede a marker
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2:
            raise ValueError(f"segment of {length} bytes at byte {at}")
        if marker in _FRAMES and header is None:
            frame = data[at + 4 : at + 10]
            if len(frame) < 6:
                break
            header = JpegHeader(
                height=int.from_bytes(frame[1:3], "big"),
                width=int.from_bytes(frame[3:5], "big"),
                components=frame[5],
                baseline=marker == 0xC0 and frame[0] == 8,
            )
        elif marker == _SCAN:
            if header is None or not (header.height and header.width):
                raise ValueError("no picture size before the first scan")
            if data.rfind(_END) < at:
                break
            return header
        at += 2 + length
    raise ValueError(f"cut after {len(data)} bytes")
