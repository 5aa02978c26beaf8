"""Codec chains of other programs: which ones are read, and what they may inflate to.

zarr-python looks a codec up by the name that a file gives and inflates a chunk before it compares
shapes: 65 kB become 2 GiB. So names are held against a list, and what a chunk claims to inflate to
is read from its head (gzip has no such claim: it is inflated up to the limit) before zarr sees it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.errors import StoreError
from act_data.records import Feature
from act_data.store import frames

# The core codecs of zarr v3, and the two of ours. None of them runs code from data.
ALLOWED = frozenset(
    {"bytes", "transpose", "sharding_indexed", "crc32c", "gzip", "blosc", "zstd", "reshape", "jpeg"}
)
MAX_CHUNK_BYTES = 1 << 30  # decoded; a chunk of 512 raw 480x640 pictures has half of that
_MAX_NESTING = 4
_GZIP = 16 + zlib.MAX_WBITS


def check_names(codecs: Any, depth: int = 0) -> None:
    """Refuse a chain with a codec that is not on the list.

    Raises:
        StoreError: Names it.
    """
    if not isinstance(codecs, list) or depth > _MAX_NESTING:
        raise StoreError(f"its codecs are {str(codecs)[:100]!r}, which is no chain of codecs")
    for codec in codecs:
        name = codec.get("name") if isinstance(codec, dict) else codec
        if not isinstance(name, str) or name not in ALLOWED:
            raise StoreError(
                f"its codec {str(name)[:100]!r} is not one of those that are read here",
                hint=f"Rewrite the array with some of: {', '.join(sorted(ALLOWED))}.",
            )
        inner = codec.get("configuration") if isinstance(codec, dict) else None
        for key in ("codecs", "index_codecs"):
            if isinstance(inner, dict) and key in inner:
                check_names(inner[key], depth + 1)


def check_chunk(data: NDArray[np.uint8], codecs: Sequence[Any], spec: Feature, rows: int) -> None:
    """Refuse an encoded chunk that would inflate to something else than `rows` steps of `spec`.

    Raises:
        StoreError: Says what it claims and what is expected.
    """
    wanted = rows * frames.step_bytes(spec)
    if wanted > MAX_CHUNK_BYTES:
        raise StoreError(
            f"its chunks hold {wanted} bytes each, more than {MAX_CHUNK_BYTES}",
            hint="Rewrite the array in shards with one frame per chunk.",
        )
    for codec in reversed(codecs):
        name = codec.get("name") if isinstance(codec, dict) else codec
        if name == "crc32c":
            data = data[:-4]
            continue
        if name in ("zstd", "blosc", "gzip"):
            if name == "gzip":
                found = _gzip_size(data, wanted)
            else:
                found = frames.zstd_size(data) if name == "zstd" else frames.blosc_size(data)
            # A checksum may lie inside the compressed part.
            if not wanted <= found <= wanted + 4 * len(codecs):
                size = f"of {found} bytes" if found >= 0 else "without a size, or damaged,"
                raise StoreError(f"holds a {name} chunk {size} where {wanted} are expected")
        return  # what is inside a compressed chunk is bounded by it


def _gzip_size(data: NDArray[np.uint8], limit: int) -> int:
    """Inflated size, as far as it is not much more than `limit`; -1 when it does not inflate."""
    inflate = zlib.decompressobj(_GZIP)
    try:
        return len(inflate.decompress(data.tobytes(), limit + 64))
    except zlib.error:
        return -1
