"""The two codecs that plain zarr-python lacks to open our JPEG arrays: `reshape` and `jpeg`.

They are entry points of the installed package, so zarr finds them by itself:

    import zarr

    frames = zarr.open("ds.zarr")["data/images/cam_high"]

Where the package is on the path without being installed, call `register()` first.
`reshape` is a registered zarr extension, `jpeg` a draft of one (zarr-extensions, pull request 66).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Self

import numpy as np
from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON, parse_named_configuration
from zarr.errors import UnknownCodecError
from zarr.registry import get_codec_class, register_codec

from act_data.errors import DataError, InputError
from act_data.store import jpeg

OutputDimension = int | tuple[int, ...]


def register() -> None:
    """Make zarr-python able to open our image arrays; codecs that it knows already stay."""
    for name, codec in (("reshape", ReshapeCodec), ("jpeg", JpegCodec)):
        try:
            get_codec_class(name)
        except (KeyError, UnknownCodecError):  # zarr 3.1 raises the one, zarr 3.4 the other
            register_codec(name, codec)


@dataclass(frozen=True)
class ReshapeCodec(ArrayArrayCodec):
    """Another shape for the same elements in the same order.

    Attributes:
        shape: Per output dimension a size, -1 for what remains, or the input dimensions whose
            sizes are multiplied.
    """

    is_fixed_size = True
    shape: tuple[OutputDimension, ...]

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """The codec that `data`, an entry of an array's `codecs`, describes."""
        _, configuration = parse_named_configuration(data, "reshape")
        shape: Any = configuration.get("shape")
        if not isinstance(shape, Iterable):
            raise InputError(f"the reshape codec has the shape {shape!r}")
        return cls(shape=tuple(d if isinstance(d, int) else tuple(d) for d in shape))

    def to_dict(self) -> dict[str, JSON]:
        """The entry of an array's `codecs` for this codec."""
        shape: list[JSON] = [d if isinstance(d, int) else list(d) for d in self.shape]
        return {"name": "reshape", "configuration": {"shape": shape}}

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that a chunk of `shape` gets."""
        sizes = [d if isinstance(d, int) else prod(shape[i] for i in d) for d in self.shape]
        if sizes.count(-1) == 1:
            rest = prod(n for n in sizes if n != -1)
            sizes[sizes.index(-1)] = prod(shape) // rest if rest else -1
        if any(n < 0 for n in sizes) or prod(sizes) != prod(shape):
            raise InputError(f"a chunk of shape {shape} cannot be reshaped to {self.shape}")
        return tuple(sizes)

    def resolve_metadata(self, chunk_spec: ArraySpec) -> ArraySpec:
        """What the next codec is given."""
        return replace(chunk_spec, shape=self.output_shape(chunk_spec.shape))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """The same number of bytes."""
        return input_byte_length

    def _decode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        return chunk_array.reshape(chunk_spec.shape)

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        return chunk_array.reshape(self.output_shape(chunk_spec.shape))

    async def _decode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        return self._decode_sync(chunk_data, chunk_spec)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        return self._encode_sync(chunk_data, chunk_spec)


@dataclass(frozen=True)
class JpegCodec(ArrayBytesCodec):
    """One (H, W, 3) uint8 RGB chunk as a JPEG file. Decoding depends on the file alone."""

    is_fixed_size = False
    quality: int
    encoded_color_space: str = "ycbcr"
    subsampling: tuple[tuple[int, int], ...] = ((2, 2), (1, 1), (1, 1))

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """The codec that `data`, an entry of an array's `codecs`, describes."""
        _, configuration = parse_named_configuration(data, "jpeg")
        given: dict[str, Any] = dict(configuration)
        if "subsampling" in given:
            given["subsampling"] = tuple((int(h), int(v)) for h, v in given["subsampling"])
        return cls(**given)

    def to_dict(self) -> dict[str, JSON]:
        """The entry of an array's `codecs` for this codec."""
        return {
            "name": "jpeg",
            "configuration": {
                "quality": self.quality,
                "encoded_color_space": self.encoded_color_space,
                "subsampling": [list(factors) for factors in self.subsampling],
            },
        }

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Not known before encoding."""
        raise NotImplementedError

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        out = np.empty(chunk_spec.shape, dtype=np.uint8)
        jpeg.decode(chunk_bytes.to_bytes(), out)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(out)

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        if (self.encoded_color_space, self.subsampling[0]) != ("ycbcr", (2, 2)):
            raise DataError(
                f"cannot encode JPEG as {self.encoded_color_space} {self.subsampling}",
                hint="Only ycbcr with 4:2:0 is written here; every JPEG is read.",
            )
        data = jpeg.encode(chunk_array.as_numpy_array(), self.quality)
        return chunk_spec.prototype.buffer.from_bytes(data)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return self._decode_sync(chunk_data, chunk_spec)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return self._encode_sync(chunk_data, chunk_spec)
