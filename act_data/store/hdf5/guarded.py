"""HDF5 files that may have been made, or changed, by anybody. The only door to their objects."""

from __future__ import annotations

import math
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from act_data.errors import StoreError
from act_data.store.bands import Bands, counts

MAX_MEMBERS = 1 << 20  # of a group
_MAX_RATIO = 1000  # deflate makes 1030 of 1; only a bomb comes near it over many megabytes
_RATIO_FROM = 1 << 26
_DEFLATE, _SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE


class GuardedFile:
    """An HDF5 file opened for reading. Whatever it holds, nothing outside it is read.

    Objects are reached through hard links only. An array is checked before its data is touched:
    plain numbers or short text, stored in the file itself, all of it, and not larger than the
    file can hold. Compressed chunks are decompressed here and not by HDF5, which would let one
    grow without limit.

    Close it, or leave its `with` block: as long as one is open, HDF5 gives every other one in
    this process what it remembers of the file, not what the disk holds.

    Raises:
        StoreError: It is missing, not a plain file, or not HDF5.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            info = path.stat()
            if not stat.S_ISREG(info.st_mode):
                raise StoreError(f"{str(path)!r} is not a plain file")
            self.bytes = info.st_size
            self._file = h5py.File(path, "r", locking=False)
        except FileNotFoundError as error:
            raise StoreError(f"{str(path)!r} is missing") from error
        except (OSError, RuntimeError, ValueError) as error:
            raise StoreError(
                f"{str(path)!r} is not a sound HDF5 file: {error}",
                hint="It was cut short or damaged; copy it again, or make it again.",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def members(self, where: str = "") -> list[str]:
        """Names in the group `where` ("" is the root), sorted; links to elsewhere too.

        Raises:
            StoreError: It is not there, no group, or has too many.
        """
        group = self._group(where)
        with self.reads(repr(where or "/")):
            if len(group) > MAX_MEMBERS:
                raise self.error(f"{where!r} has {len(group)} members")
            names = sorted(group)
        for name in names:
            if not name.isprintable():  # nor what is no UTF-8
                raise self.error(f"{where or '/'!r} has a member called {name!r}")
        return names

    def holds(self, where: str) -> bool:
        """Whether there is something at `where`, a link to elsewhere included."""
        at: Any = self._file
        *groups, name = where.split("/")
        with self.reads(repr(where)):
            for part in groups:
                if not self._is_group(at) or part not in at:
                    return False
                at = self._step(at, part, where)
            return self._is_group(at) and name in at

    def is_group(self, where: str) -> bool:
        """Whether a group lies at `where`; StoreError for a link to elsewhere."""
        return self.holds(where) and self._is_group(self._object(where))

    def attribute(self, where: str, name: str, kind: type[Any]) -> Any:
        """The single number or text that the group `where` has as attribute `name`.

        Raises:
            StoreError: It is not there, or of another type than `kind` (str, int, bool).
        """
        found = self.attribute_or_none(where, name, kind)
        if found is None:
            raise self.error(f"has no attribute {name!r}")
        return found

    def attribute_or_none(self, where: str, name: str, kind: type[Any]) -> Any:
        """As `attribute`, None when there is none."""
        group = self._group(where)
        allowed = {str: "", int: "iu", bool: "biu", float: "biuf"}[kind]
        with self.reads(f"attribute {name!r}"):
            if name not in group.attrs:
                return None
            held = group.attrs.get_id(name)
            text = h5py.check_string_dtype(held.dtype) is not None
            fits = held.shape == () and text == (kind is str)
            if not fits or not (text or held.dtype.kind in allowed):
                raise self.error(f"has an attribute {name!r} of type {held.dtype}")
            value = group.attrs[name]
            return kind(value.decode() if isinstance(value, bytes) else value)

    def array(self, where: str) -> GuardedArray:
        """The array at `where`, checked.

        Raises:
            StoreError: It is not there, or nothing that is safe to read; says what and why.
        """
        found = self._object(where)
        if not isinstance(found, h5py.Dataset):
            raise self.error(f"{where!r} is not an array")
        return GuardedArray(self, where, found)

    def error(self, what: str, hint: str = "") -> StoreError:
        """A StoreError about this file."""
        return StoreError(f"{str(self.path)!r}: {what}", hint=hint)

    def reads(self, what: str) -> Reads:
        """A `with` block in which errors of HDF5 become StoreErrors about `what`."""
        return Reads(self.path, what)

    def _group(self, where: str) -> Any:
        group = self._object(where) if where else self._file
        if not self._is_group(group):
            raise self.error(f"{where!r} is not a group")
        return group

    def _object(self, where: str) -> Any:
        """The object at `where`, every step on the way a link inside this file."""
        at: Any = self._file
        for part in where.split("/"):
            with self.reads(repr(where)):
                if not self._is_group(at) or part not in at:
                    raise self.error(f"has no {where!r}")
            at = self._step(at, part, where)
        return at

    def _step(self, group: Any, part: str, where: str) -> Any:
        with self.reads(repr(where)):
            if not isinstance(group.get(part, getlink=True), h5py.HardLink):
                raise self.error(f"{where!r} is a link to somewhere else")
            return group[part]

    @staticmethod
    def _is_group(found: Any) -> bool:
        return isinstance(found, h5py.Group)


class GuardedArray:
    """One array of a `GuardedFile`.

    Attributes:
        where: Its path in the file.
        shape: All of it, time first.
        dtype: As stored.
        filters: Names of the filters of its chunks, in the order in which they were applied.
    """

    def __init__(self, file: GuardedFile, where: str, dataset: Any) -> None:
        self.where = where
        self._file = file
        self._dataset = dataset
        with file.reads(repr(where)):
            self.shape: tuple[int, ...] = dataset.shape or ()
            self.dtype: np.dtype[np.generic] = dataset.dtype
            plan = dataset.id.get_create_plist()
            if plan.get_external_count() or plan.get_layout() == h5py.h5d.VIRTUAL:
                raise file.error(f"the data of {where!r} lies outside the file")
            self._check_type()
            found = [plan.get_filter(i) for i in range(plan.get_nfilters())]
            self.filters = [kept[3].decode(errors="replace") for kept in found]
            self._pipeline: list[int] = [kept[0] for kept in found]
            self._check_size()

    def read(self, start: int, stop: int) -> NDArray[np.generic]:
        """Rows [start, stop).

        Raises:
            StoreError: They are damaged, or their chunks are not what the file declares.
        """
        with self._file.reads(f"rows {start} to {stop} of {self.where!r}"):
            if not self._pipeline:
                rows: NDArray[np.generic] = self._dataset[start:stop]
                return rows
            return self._bands.read(start, stop)

    def _check_type(self) -> None:
        kind, size = self.dtype.kind, self.dtype.itemsize
        if not ((kind in "biuf" and size <= 8) or (kind == "S" and size <= 4096)):
            raise self._file.error(
                f"{self.where!r} holds {self.dtype}, which is not read here",
                hint="Arrays of plain numbers are; variable-length, compound and object types not.",
            )

    def _check_size(self) -> None:
        file, shape = self._file, self.shape
        stored = self._dataset.id.get_storage_size()
        size = math.prod(shape) * self.dtype.itemsize
        if not stored <= file.bytes or (not self._pipeline and size > stored):
            raise self._too_large(size, stored)
        if not self._pipeline:
            return
        if any(kind not in (_DEFLATE, _SHUFFLE) for kind in self._pipeline):
            raise file.error(
                f"{self.where!r} has the filters {self.filters!r}; deflate and shuffle are read",
                hint="`h5repack -f NONE` makes a plain copy.",
            )
        chunks = self._dataset.chunks
        try:
            self._bands = Bands(shape, chunks, self.dtype, self._chunk)
        except ValueError as e:
            raise file.error(
                f"{self.where!r}: {e}", hint="`h5repack -f NONE` makes a plain copy."
            ) from e
        if size > _RATIO_FROM and size > _MAX_RATIO * stored:
            raise self._too_large(size, stored)
        if self._dataset.id.get_num_chunks() != math.prod(counts(shape, chunks)):
            raise self._too_large(size, stored)

    def _too_large(self, size: int, stored: int) -> StoreError:
        return self._file.error(
            f"{self.where!r} promises {size} bytes and keeps {stored} "
            f"in a file of {self._file.bytes}"
        )

    def _chunk(self, place: tuple[int, ...]) -> NDArray[np.generic]:
        if self._dataset.id.get_chunk_info_by_coord(place).size > self._file.bytes:
            raise ValueError("a chunk larger than the file")
        mask, data = self._dataset.id.read_direct_chunk(place)
        size = math.prod(self._dataset.chunks) * self.dtype.itemsize
        for number in reversed(range(len(self._pipeline))):
            if mask & (1 << number):  # not applied to this chunk
                continue
            if self._pipeline[number] == _SHUFFLE:
                data = _unshuffled(data, self.dtype.itemsize)
            else:
                data = _inflated(data, size)
        if len(data) != size:
            raise ValueError(f"a chunk of {len(data)} bytes where {size} are expected")
        return np.frombuffer(data, self.dtype).reshape(self._dataset.chunks)


# Which one it is depends on the kind of object that is damaged.
_DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, zlib.error)


@dataclass(frozen=True, slots=True)
class Reads:
    """Turns what h5py makes of HDF5's own errors into ours.

    A class, because the errors that pass a generator's `contextmanager` refer to themselves in a
    circle (seen with Python 3.12), and would keep the damaged file open until it is collected.
    """

    path: Path
    what: str

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, _DAMAGED):
            raise StoreError(f"{str(self.path)!r}: {self.what} cannot be read: {error}") from error


def _inflated(data: bytes, size: int) -> bytes:
    """What deflate made `data` of, at most one byte more than the `size` that it must be."""
    return zlib.decompressobj().decompress(data, size + 1)


def _unshuffled(data: bytes, item: int) -> bytes:
    count = len(data) // item
    planes = np.frombuffer(data, np.uint8, count * item).reshape(item, count)
    return np.ascontiguousarray(planes.T).tobytes() + data[count * item :]
