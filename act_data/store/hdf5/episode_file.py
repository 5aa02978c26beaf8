"""One episode in an HDF5 file that may have been made, or changed, by anybody."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from act_data.errors import DataError, InputError, StoreError
from act_data.records import DatasetSchema, EpisodeRecord, Feature, Record
from act_data.store import frames, jpeg
from act_data.store.hashing import EpisodeHash
from act_data.store.hdf5.layout import (
    ACT,
    COMMIT,
    COMMIT_BYTES,
    COMPRESS_LEN,
    FORMAT_NAME,
    FORMAT_VERSION,
    Commit,
    Header,
    check_schema,
    chunk_rows,
    jpeg_cameras,
    location,
)
from act_data.store.layout import check_uid

R = TypeVar("R", bound=Record)


class EpisodeFile:
    """An episode file opened for reading. Whatever it holds, nothing outside it is read.

    Every array is checked before its data is touched: a plain dataset reached without soft or
    external links, stored in the file itself without filters, of the shape and type that the
    schema promises, and not larger than the file.

    Close it, or leave its `with` block: as long as one is open, HDF5 gives every other one in
    this process what it remembers of the file, not what the disk holds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            info = path.stat()
            if not stat.S_ISREG(info.st_mode):
                raise StoreError(f"{str(path)!r} is not a plain file")
            self._bytes = info.st_size
            self._file = h5py.File(path, "r", locking=False)
        except FileNotFoundError as error:
            raise StoreError(f"{str(path)!r} is missing") from error
        except (OSError, RuntimeError, ValueError) as error:
            raise StoreError(
                f"{str(path)!r} is not a sound HDF5 file: {error}",
                hint="It was cut short or damaged; copy it again, or ingest its recording again.",
            ) from error
        try:
            self.header = self._read_header()
        except StoreError:
            self.close()
            raise
        self._features: Mapping[str, Feature] = MappingProxyType(
            {f.name: f for f in self.header.dataset_schema.features}
        )
        self._checked: dict[str, Any] = {}
        self._lengths: dict[str, NDArray[np.int64]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, name: str, start: int, stop: int) -> NDArray[np.generic]:
        """Rows [start, stop) of array `name`, decoded.

        Raises:
            StoreError: The array is damaged or not what the schema says.
        """
        feature = self._features[name]
        dataset = self._array(feature)
        with self._reads(f"rows {start} to {stop} of {location(feature)!r}"):
            if feature.codec != "jpeg":
                rows: NDArray[np.generic] = dataset[start:stop]
                return rows.astype(feature.dtype, copy=False)
        out = np.empty((stop - start, *feature.shape), np.uint8)
        swapped = np.empty(feature.shape, np.uint8)
        for i, t in enumerate(range(start, stop)):
            try:
                jpeg.decode(self._jpeg(feature, t), swapped)
            except DataError as error:
                raise self._error(f"row {t} of {location(feature)!r}: {error}") from error
            out[i] = swapped[..., ::-1]
        return out

    def content_hash(self) -> str:
        """The hash of what the file holds now."""
        length = self.header.record.length
        content = EpisodeHash(tuple(self._features.values()))
        for name, feature in self._features.items():
            if feature.codec == "jpeg":
                for t in range(length):
                    content.add(name, self._jpeg(feature, t))
                continue
            step = chunk_rows(feature)
            for start in range(0, length, step):
                rows = self.read(name, start, min(start + step, length))
                content.add(name, rows.astype(frames.stored_dtype(feature)).tobytes())
        return content.hexdigest(length)

    def _jpeg(self, feature: Feature, t: int) -> bytes:
        dataset = self._array(feature)
        with self._reads(f"row {t} of {location(feature)!r}"):
            data: NDArray[np.uint8] = dataset[t, : self._lengths[feature.name][t]]
            return data.tobytes()

    def _array(self, feature: Feature) -> Any:
        if feature.name not in self._checked:
            shape: tuple[int | None, ...] = (self.header.record.length, *feature.shape)
            if feature.codec == "jpeg":
                shape = (self.header.record.length, None)
                self._lengths[feature.name] = self._read_lengths(feature)
            dtype = frames.stored_dtype(feature)
            dataset = self._dataset(location(feature), shape, dtype)
            longest = max(self._lengths.get(feature.name, [0]))
            if feature.codec == "jpeg" and longest > dataset.shape[1]:
                raise self._error(
                    f"{COMPRESS_LEN!r} says {longest} bytes for a picture of "
                    f"{location(feature)!r}, which has room for {dataset.shape[1]}"
                )
            self._checked[feature.name] = dataset
        return self._checked[feature.name]

    def _read_lengths(self, feature: Feature) -> NDArray[np.int64]:
        cameras = jpeg_cameras(self.header.dataset_schema)
        shape = (len(cameras), self.header.record.length)
        dataset = self._dataset(COMPRESS_LEN, shape, np.dtype("<f4"))
        with self._reads(repr(COMPRESS_LEN)):
            lengths: NDArray[np.float32] = dataset[cameras.index(feature.name)]
        if not ((lengths >= 1) & (lengths < 2**31) & (lengths == np.floor(lengths))).all():
            raise self._error(f"{COMPRESS_LEN!r} holds what is no length of a JPEG file")
        return lengths.astype(np.int64)

    def _dataset(
        self, where: str, shape: tuple[int | None, ...], dtype: np.dtype[np.generic]
    ) -> Any:
        found = self._object(where)
        if not isinstance(found, h5py.Dataset):
            raise self._error(f"{where!r} is not an array")
        with self._reads(repr(where)):
            plan = found.id.get_create_plist()
            if plan.get_external_count() or plan.get_layout() == h5py.h5d.VIRTUAL:
                raise self._error(f"the data of {where!r} lies outside the file")
            filters = [plan.get_filter(i)[3].decode() for i in range(plan.get_nfilters())]
            if filters:
                raise self._error(
                    f"{where!r} has the filters {filters!r}; this layout has none",
                    hint="`h5repack -f NONE` makes a plain copy.",
                )
            fits = len(found.shape) == len(shape) and all(
                want in (None, have) for want, have in zip(shape, found.shape, strict=True)
            )
            if not fits or found.dtype != dtype:
                raise self._error(
                    f"{where!r} is {found.dtype} {found.shape}, the schema says {dtype} {shape}"
                )
            stored = found.id.get_storage_size()
        if not found.nbytes <= stored <= self._bytes:
            raise self._error(
                f"{where!r} promises {found.nbytes} bytes and keeps {stored} "
                f"in a file of {self._bytes}"
            )
        return found

    def _object(self, where: str) -> Any:
        """The object at `where`, every step on the way a link inside this file."""
        at: Any = self._file
        for part in where.split("/"):
            with self._reads(repr(where)):
                if not isinstance(at, h5py.Group) or part not in at:
                    raise self._error(f"has no {where!r}")
                link = at.get(part, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise self._error(f"{where!r} is a link to somewhere else")
                at = at[part]
        return at

    def _read_header(self) -> Header:
        group = self._object(ACT)
        if not isinstance(group, h5py.Group):
            raise self._error(f"{ACT!r} is not a group")
        if self._attribute(group, "format", str) != FORMAT_NAME:
            raise self._error("is not a file of this toolkit")
        version = self._attribute(group, "format_version", int)
        if version != FORMAT_VERSION:
            raise self._error(
                f"has format version {version!r}, this version reads {FORMAT_VERSION}",
                hint="Update the toolkit.",
            )
        schema = self._json(group, "schema", DatasetSchema)
        record = self._json(group, "episode", EpisodeRecord)
        try:
            check_schema(schema)
            check_uid(record.uid)
        except InputError as error:
            raise self._error(f"has an impossible schema or uid: {error}") from error
        if record.length < 1:
            raise self._error(f"has an episode of {record.length} steps")
        return Header(
            dataset_uid=self._attribute(group, "dataset_uid", str),
            dataset_schema=schema,
            record=record,
            commit=self._read_commit(),
        )

    def _read_commit(self) -> Commit | None:
        dataset = self._dataset(COMMIT, (COMMIT_BYTES,), np.dtype(np.uint8))
        with self._reads(repr(COMMIT)):
            text: bytes = dataset[:].tobytes().rstrip(b"\0")
        try:
            return Commit.model_validate_json(text)
        except ValidationError:
            return None  # not committed yet, or a crash came before that write was whole

    def _json(self, group: Any, name: str, kind: type[R]) -> R:
        try:
            return kind.model_validate_json(self._attribute(group, name, str))
        except ValidationError as error:
            raise self._error(f"has a damaged attribute {name!r}: {error}") from error

    def _attribute(self, group: Any, name: str, kind: type[Any]) -> Any:
        with self._reads(f"attribute {name!r}"):
            if name not in group.attrs:
                raise self._error(f"has no attribute {name!r}")
            held = group.attrs.get_id(name)
            text = h5py.check_string_dtype(held.dtype) is not None
            if held.shape != () or text != (kind is str) or not (text or held.dtype.kind in "iu"):
                raise self._error(f"has an attribute {name!r} of type {held.dtype}")
            return kind(group.attrs[name])

    def _reads(self, what: str) -> _Reads:
        return _Reads(self._path, what)

    def _error(self, what: str, hint: str = "") -> StoreError:
        return StoreError(f"{str(self._path)!r}: {what}", hint=hint)


@dataclass(frozen=True, slots=True)
class _Reads:
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
        if isinstance(error, OSError | RuntimeError | KeyError | ValueError | TypeError):
            # Which one it is depends on the kind of object that is damaged.
            raise StoreError(f"{str(self.path)!r}: {self.what} cannot be read: {error}") from error
