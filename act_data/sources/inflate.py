"""The data of a chunk as they lie in a file, and bounded ways to inflate them.

Nothing here trusts a declared size: it is a limit that is checked, never an allocation.
"""

from __future__ import annotations

import bz2
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

import lz4.frame
import zstandard

from act_data.sources.bounds import MAX_CHUNK_BYTES, MAX_WINDOW_BYTES

_PIECE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Where the data of one chunk lie.

    Attributes:
        file: Descriptor; it is only read by position, so that threads may share it.
        compression: "", "bz2", "lz4" or "zstd".
        size: Bytes that they declare to be when inflated.
        cut: The file ends within them: what can be inflated of them is all there is.
    """

    file: int
    offset: int
    length: int
    compression: str
    size: int
    cut: bool = False


def check(stored: Stored) -> None:
    """Raise ValueError for a chunk that declares what cannot be, before anything is read of it."""
    if stored.size > MAX_CHUNK_BYTES:
        raise ValueError(
            f"it claims to inflate to {stored.size} bytes, more than {MAX_CHUNK_BYTES}"
        )
    if not stored.compression and stored.size != stored.length:
        raise ValueError(f"it has {stored.length} bytes and claims {stored.size}")


def inflate(stored: Stored) -> bytes:
    """All of it; ValueError when it is not exactly what it declares, or, cut, more than that."""
    if not stored.compression:
        data = _Slice(stored.file, stored.offset, stored.length).read()
    else:
        data = b"".join(_decoded(stored, stored.size + 1))
    _check_size(stored, len(data))
    return data


def inflate_to(stored: Stored, file: io.BufferedRandom) -> int:
    """Append all of it to `file`, a piece at a time, and say how much; raises as `inflate`."""
    written = sum(file.write(piece) for piece in _decoded(stored, _PIECE))
    _check_size(stored, written)
    return written


def inflate_zstd(data: bytes | memoryview, limit: int) -> bytes:
    """The decompressed bytes; ValueError when they are more than `limit`, or damaged.

    Reads as a stream: the size that the frame itself declares is not trusted.
    """
    try:
        with _zstd().stream_reader(data) as stream:
            raw = stream.read(limit + 1)
    except zstandard.ZstdError as e:
        raise ValueError(str(e)) from e
    if len(raw) > limit:
        raise ValueError(f"zstd data inflates to more than {limit} bytes")
    return raw


def _check_size(stored: Stored, size: int) -> None:
    if size > stored.size:
        raise ValueError(f"it inflates to more than the {stored.size} bytes that it declares")
    if size < stored.size and not stored.cut:
        raise ValueError(f"it ends early: {size} of {stored.size} bytes")


def _decoded(stored: Stored, piece: int) -> Iterator[bytes]:
    """The inflated bytes in pieces, at most one byte more than declared altogether."""
    stream = _stream(_Slice(stored.file, stored.offset, stored.length), stored.compression)
    left = stored.size + 1
    while left and (data := stream.read(min(left, piece))):
        left -= len(data)
        yield data


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _stream(source: _Slice, compression: str) -> _Stream:
    if compression == "zstd":
        return _zstd().stream_reader(cast("IO[bytes]", source), read_size=_PIECE)
    if compression == "lz4":
        return _Stepwise(source, lz4.frame.LZ4FrameDecompressor())
    if compression == "bz2":
        return _Stepwise(source, bz2.BZ2Decompressor())
    raise ValueError(f"it is compressed with {compression!r}")


def _zstd() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)


class _Slice(io.RawIOBase):
    """A part of a file, read by position."""

    def __init__(self, file: int, offset: int, length: int) -> None:
        self._file = file
        self._at = offset
        self._stop = offset + length

    def read(self, size: int = -1) -> bytes:
        left = self._stop - self._at
        data = os.pread(self._file, left if size < 0 else min(size, left), self._at)
        self._at += len(data)
        return data


class _Stepwise:
    """The decompressors of bz2 and lz4, which have one interface, as a stream."""

    def __init__(self, source: _Slice, decompressor: Any) -> None:
        self._source = source
        self._decompressor = decompressor

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end of the data or of the compressed stream."""
        while not self._decompressor.eof:
            more = self._source.read(_PIECE) if self._decompressor.needs_input else b""
            data: bytes = self._decompressor.decompress(more, size)
            if data or not (more or self._decompressor.needs_input is False):
                return data
        return b""
