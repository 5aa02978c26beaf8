"""What the pictures of one topic are, from their headers; one of each sort is decoded."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from act_data.decode import Decoder, decoder
from act_data.decode.jpeg_header import jpeg_header
from act_data.errors import DataError
from act_data.inspect.cards import PictureCard
from act_data.types import StreamKind, StreamSpec

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_SIZE_END = 24  # signature, length and type of IHDR, width, height
_DEPTH_HEADER = 12  # before the PNG, by compressed_depth_image_transport
_DEPTH_ENCODINGS = ("16uc1", "32fc1")
# More sorts than this are one that changes with every message.
_MAX_SORTS = 16

Sort = tuple[str, int, int]  # encoding, height, width


class PictureLook:
    """Encodings and sizes of the pictures of one topic."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._sorts: Counter[Sort] = Counter()
        self._padded = False
        self._kind: StreamKind | None = None
        self._decode: Decoder | None = None

    def seen(self, type_: str, message: Any) -> None:
        """Take in one message.

        Raises:
            DataError: It is no picture that can be decoded.
        """
        compressed = type_.endswith("CompressedImage")
        sort = self._compressed(message) if compressed else self._raw(message)
        if sort not in self._sorts:
            if len(self._sorts) >= _MAX_SORTS:
                raise DataError(f"{self._topic}: its pictures change their size all the time")
            self._try(type_, message, self._kind_of(sort[0]))
        self._sorts[sort] += 1

    def card(self) -> PictureCard:
        """What was found."""
        sorts = [sort for sort, _ in self._sorts.most_common()]
        kind: dict[StreamKind | None, Literal["image", "depth"]] = {
            StreamKind.IMAGE: "image", StreamKind.DEPTH: "depth",
        }  # fmt: skip
        return PictureCard(
            kind=kind.get(self._kind),
            encodings=tuple(dict.fromkeys(encoding for encoding, _, _ in sorts)),
            sizes=tuple(dict.fromkeys((height, width) for _, height, width in sorts)),
            padded=self._padded,
        )

    def _raw(self, message: Any) -> Sort:
        height, width = int(message.height), int(message.width)
        size = len(message.data)
        # The bytes of a pixel are whole, so that padding is what a row has beyond them.
        self._padded = self._padded or bool(width and height and size // height % width)
        return str(message.encoding)[:40], height, width

    def _compressed(self, message: Any) -> Sort:
        data = message.data.tobytes()
        form = " ".join(str(message.format).split())[:40]
        start = 0 if data.startswith(_PNG) else _DEPTH_HEADER
        if data[start:].startswith(_PNG):
            size = data[start : start + _PNG_SIZE_END]
            return form, int.from_bytes(size[20:24], "big"), int.from_bytes(size[16:20], "big")
        try:
            header = jpeg_header(data)
        except ValueError as e:
            raise DataError(f"{self._topic}: format {form!r} is no JPEG or PNG: {e}") from None
        return form, header.height, header.width

    def _kind_of(self, encoding: str) -> StreamKind:
        """16 bits of grey are depth; mono16 is, where the topic says so."""
        name, topic = encoding.lower(), self._topic.lower()
        depth = name.startswith(_DEPTH_ENCODINGS) or "compresseddepth" in name
        depth = depth or topic.endswith("/compresseddepth")
        if depth or (name.startswith("mono16") and "depth" in topic):
            return StreamKind.DEPTH
        return StreamKind.IMAGE

    def _try(self, type_: str, message: Any, kind: StreamKind) -> None:
        """See that a picture of a new sort can be decoded, as the kind that the first one had."""
        if self._kind not in (None, kind):
            raise DataError(f"{self._topic}: pictures and depth take turns on it")
        if self._decode is None:
            self._decode = decoder(StreamSpec(name="look", topic=self._topic, kind=kind))
        self._decode(type_, message)
        self._kind = kind
