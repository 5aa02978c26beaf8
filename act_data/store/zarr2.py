"""Zarr v2 stores of other programs, as folders or zip files, read chunk by chunk.

zarr-python reads them too, but follows links out of a store, gives zeros for a missing chunk and
inflates whatever a chunk declares. Here the size of a chunk is looked at before it is decoded.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
from numcodecs import LZ4, Blosc, Zstd
from numpy.typing import NDArray

from act_data.errors import InputError, StoreError
from act_data.store import frames
from act_data.store.bands import Bands, Place
from act_data.store.files import read_whole

JPEG2K = "imagecodecs_jpeg2k"
_CHUNK_BYTES = 1 << 29
_DOCUMENT_BYTES = 1 << 20
_ORDERS = {"C": "C", "F": "F"}
_SEPARATORS = {".": ".", "/": "/"}
_SIZ = b"\xff\x4f\xff\x51"  # start of a JPEG 2000 codestream, and of its sizes


class Zarr2Store:
    """A folder, or a zip file that holds one. Close it, or leave its `with` block.

    Raises:
        StoreError: It is no sound zip file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._root = os.path.realpath(path)
        self._zip: zipfile.ZipFile | None = None
        if path.is_file():
            try:
                self._zip = zipfile.ZipFile(path)
            except (zipfile.BadZipFile, OSError, ValueError) as e:
                raise StoreError(f"{str(path)!r} is no sound zip file: {e}") from e

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the zip file."""
        if self._zip is not None:
            self._zip.close()

    def arrays(self, group: str) -> list[str]:
        """Names of the arrays directly in `group`, sorted."""
        if self._zip is not None:
            parts = [name.split("/") for name in self._zip.namelist()]
            wanted = group.split("/")
            return sorted(p[-2] for p in parts if p[-1] == ".zarray" and p[:-2] == wanted)
        folder = Path(self._root, group)
        entries = folder.iterdir() if folder.is_dir() else ()
        return sorted(p.name for p in entries if (p / ".zarray").is_file())

    def files(self) -> list[Path]:
        """All files that it is made of, in an order that does not change."""
        if self._zip is not None:
            return [self.path]
        found = Path(self._root).rglob("*")
        return sorted(p for p in found if p.is_file() and not p.is_symlink())

    def read(self, key: str, limit: int) -> bytes:
        """The content of the file `key`.

        Raises:
            StoreError: It is missing, larger than `limit`, a link, or damaged.
        """
        try:
            if self._zip is None:
                return read_whole(self._root, key, limit)
            info = self._zip.getinfo(key)
            with self._zip.open(info) as file:
                data = file.read(limit + 1) if info.file_size <= limit else b""
            if not 0 < len(data) <= limit and info.file_size:
                raise StoreError(f"{key!r} in {str(self.path)!r} has more than {limit} bytes")
            return data
        except (FileNotFoundError, KeyError) as e:
            raise StoreError(f"{key!r} is missing in {str(self.path)!r}") from e
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError) as e:
            raise StoreError(f"{key!r} in {str(self.path)!r} is damaged: {e}") from e

    def array(self, key: str) -> Zarr2Array:
        """The array `key`; StoreError when it is missing or nothing that is read here."""
        return Zarr2Array(self, key)


class Zarr2Array:
    """One array of a `Zarr2Store`.

    Attributes:
        shape: All of it, time first.
        codec: The id of its compressor; "" for none.
    """

    def __init__(self, store: Zarr2Store, key: str) -> None:
        self.key = key
        self._store = store
        document = self._document()
        try:
            self.shape = _sizes(document["shape"], 0)
            self._chunks = _sizes(document["chunks"], 1)
            self.dtype: np.dtype[np.generic] = np.dtype(str(document["dtype"]))
            compressor = document["compressor"]
            self.codec = "" if compressor is None else str(compressor["id"])
            self._order = _ORDERS[document["order"]]
            self._separator = _SEPARATORS[document.get("dimension_separator", ".")]
            if document["zarr_format"] != 2 or len(self.shape) != len(self._chunks):
                raise ValueError("its format, shape and chunks do not fit")
        except (KeyError, TypeError, ValueError) as e:
            raise self._error(f"is described by what is no zarr v2 document: {e!r}") from e
        if not self.shape or self.dtype.kind not in "biuf" or self.dtype.itemsize > 8:
            raise self._error(f"holds {self.dtype} {self.shape}; arrays of numbers are read")
        if document.get("filters") or self.codec not in _DECODERS:
            raise self._error(
                f"has the codec {self.codec!r} and the filters {document.get('filters')!r}; "
                f"{', '.join(filter(None, _DECODERS))} without filters are read"
            )
        if self.codec == JPEG2K and find_spec("imagecodecs") is None:
            raise InputError(
                f"array {key!r} of {str(store.path)!r} holds JPEG 2000 pictures",
                hint="pip install 'act-toolkit[jpeg2k]'",
            )
        try:
            self._bands = Bands(self.shape, self._chunks, self.dtype, self._chunk)
        except ValueError as e:
            raise self._error(str(e)) from e

    def read(self, start: int, stop: int) -> NDArray[np.generic]:
        """Rows [start, stop).

        Raises:
            StoreError: A chunk is missing or damaged.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise self._error(f"has {self.shape[0]} rows, not {stop}")
        return self._bands.read(start, stop)

    def _document(self) -> Mapping[str, Any]:
        try:
            found = json.loads(self._store.read(f"{self.key}/.zarray", _DOCUMENT_BYTES))
        except (ValueError, RecursionError) as e:
            raise self._error(f"is described by what is no JSON: {e}") from e
        if not isinstance(found, dict):
            raise self._error("is described by what is no JSON object")
        return found

    def _chunk(self, place: Place) -> NDArray[np.generic]:
        numbers = [at // c for at, c in zip(place, self._chunks, strict=True)]
        key = f"{self.key}/{self._separator.join(map(str, numbers))}"
        size = math.prod(self._chunks) * self.dtype.itemsize
        data = self._store.read(key, size + (size >> 3) + 4096)
        try:
            return self._decoded(data, size)
        except (ValueError, RuntimeError, zlib.error, ImportError) as e:
            raise self._error(f"has a damaged chunk {key!r}: {e}") from e

    def _decoded(self, data: bytes, size: int) -> NDArray[np.generic]:
        if self.codec == JPEG2K:
            return _jpeg2k(data, self._chunks).astype(self.dtype, copy=False)
        plain = _DECODERS[self.codec](data, size)
        if len(plain) != size:
            raise ValueError(f"it holds {len(plain)} bytes where {size} are expected")
        flat = np.frombuffer(plain, self.dtype)
        if self._order == "F":
            return flat.reshape(self._chunks[::-1]).transpose()
        return flat.reshape(self._chunks)

    def _error(self, what: str) -> StoreError:
        return StoreError(f"array {self.key!r} of {str(self._store.path)!r} {what}")


def _sizes(values: Any, least: int) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(
        isinstance(v, int) and not isinstance(v, bool) and least <= v < 2**48 for v in values
    ):
        raise ValueError(f"{values!r} is no shape")
    return tuple(values)


def _plain(data: bytes, _: int) -> bytes:
    return data


def _blosc(data: bytes, size: int) -> bytes:
    return _if_declared(Blosc(), data, frames.blosc_size(np.frombuffer(data, np.uint8)), size)


def _zstd(data: bytes, size: int) -> bytes:
    return _if_declared(Zstd(), data, frames.zstd_size(np.frombuffer(data, np.uint8)), size)


def _lz4(data: bytes, size: int) -> bytes:
    declared = int.from_bytes(data[:4], "little") if len(data) >= 4 else -1
    return _if_declared(LZ4(), data, declared, size)


def _if_declared(codec: Any, data: bytes, declared: int, size: int) -> bytes:
    if declared != size:
        raise ValueError(f"it declares {declared} bytes where {size} are expected")
    return bytes(codec.decode(data))


def _zlib(data: bytes, size: int) -> bytes:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(data, size + 1)  # or gzip


def _jpeg2k(data: bytes, chunks: tuple[int, ...]) -> NDArray[np.generic]:
    """One picture, its sizes compared with the chunk's before it is decoded (ISO 15444-1, A.5)."""
    from imagecodecs import jpeg2k_decode

    at = data.find(_SIZ)
    head = data[at + 8 : at + 40]
    if at < 0 or len(head) < 32:
        raise ValueError("it is no JPEG 2000 file")
    width, height, left, top = (int.from_bytes(head[i : i + 4]) for i in range(0, 16, 4))
    parts = int.from_bytes(data[at + 40 : at + 42])
    wanted = tuple(n for n in chunks if n != 1)
    found = tuple(n for n in (height - top, width - left, parts) if n != 1)
    if found != wanted:
        raise ValueError(f"it holds a picture of {found} where {wanted} is expected")
    picture: NDArray[np.generic] = jpeg2k_decode(data)
    return picture.reshape(chunks)


_DECODERS: Mapping[str, Any] = {
    "": _plain,
    "blosc": _blosc,
    "zstd": _zstd,
    "lz4": _lz4,
    "zlib": _zlib,
    "gzip": _zlib,
    JPEG2K: None,
}
