"""One episode in an HDF5 file that may have been made, or changed, by anybody."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from act_data.errors import DataError, InputError, StoreError
from act_data.records import DatasetSchema, EpisodeRecord, Feature, Record
from act_data.store import frames, jpeg
from act_data.store.hashing import EpisodeHash
from act_data.store.hdf5.guarded import GuardedArray, GuardedFile
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
    """An episode file opened for reading; nothing outside it is read, see `GuardedFile`.

    Every array is checked before its data is touched: it must be of the shape and type that the
    schema promises, and without filters.
    """

    def __init__(self, path: Path) -> None:
        self._file = GuardedFile(path)
        try:
            self.header = self._read_header()
        except StoreError:
            self.close()
            raise
        self._features: Mapping[str, Feature] = MappingProxyType(
            {f.name: f for f in self.header.dataset_schema.features}
        )
        self._checked: dict[str, GuardedArray] = {}
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
        if feature.codec != "jpeg":
            return dataset.read(start, stop).astype(feature.dtype, copy=False)
        out = np.empty((stop - start, *feature.shape), np.uint8)
        swapped = np.empty(feature.shape, np.uint8)
        for i, t in enumerate(range(start, stop)):
            try:
                jpeg.decode(self.encoded(feature, t), swapped)
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
                    content.add(name, self.encoded(feature, t))
                continue
            step = chunk_rows(feature)
            for start in range(0, length, step):
                rows = self.read(name, start, min(start + step, length))
                content.add(name, rows.astype(frames.stored_dtype(feature)).tobytes())
        return content.hexdigest(length)

    def encoded(self, feature: Feature, t: int) -> bytes:
        """The JPEG file that row `t` of `feature` is kept as, red and blue swapped.

        Raises:
            StoreError: The array is damaged or not what the schema says.
        """
        dataset = self._array(feature)
        length = int(self._lengths[feature.name][t])
        return dataset.read(t, t + 1)[0, :length].tobytes()

    def _array(self, feature: Feature) -> GuardedArray:
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
        row = cameras.index(feature.name)
        lengths = cast(NDArray[np.float32], dataset.read(row, row + 1)[0])
        if not ((lengths >= 1) & (lengths < 2**31) & (lengths == np.floor(lengths))).all():
            raise self._error(f"{COMPRESS_LEN!r} holds what is no length of a JPEG file")
        return lengths.astype(np.int64)

    def _dataset(
        self, where: str, shape: tuple[int | None, ...], dtype: np.dtype[np.generic]
    ) -> GuardedArray:
        found = self._file.array(where)
        if found.filters:
            raise self._error(
                f"{where!r} has the filters {found.filters!r}; this layout has none",
                hint="`h5repack -f NONE` makes a plain copy.",
            )
        fits = len(found.shape) == len(shape) and all(
            want in (None, have) for want, have in zip(shape, found.shape, strict=True)
        )
        if not fits or found.dtype != dtype:
            raise self._error(
                f"{where!r} is {found.dtype} {found.shape}, the schema says {dtype} {shape}"
            )
        return found

    def _read_header(self) -> Header:
        if not self._file.holds(ACT):
            raise self._error(f"has no {ACT!r}")
        if not self._file.is_group(ACT):
            raise self._error(f"{ACT!r} is not a group")
        if self._file.attribute(ACT, "format", str) != FORMAT_NAME:
            raise self._error("is not a file of this toolkit")
        version = self._file.attribute(ACT, "format_version", int)
        if version != FORMAT_VERSION:
            raise self._error(
                f"has format version {version!r}, this version reads {FORMAT_VERSION}",
                hint="Update the toolkit.",
            )
        schema = self._json("schema", DatasetSchema)
        record = self._json("episode", EpisodeRecord)
        try:
            check_schema(schema)
            check_uid(record.uid)
        except InputError as error:
            raise self._error(f"has an impossible schema or uid: {error}") from error
        if record.length < 1:
            raise self._error(f"has an episode of {record.length} steps")
        return Header(
            dataset_uid=self._file.attribute(ACT, "dataset_uid", str),
            dataset_schema=schema,
            record=record,
            commit=self._read_commit(),
        )

    def _read_commit(self) -> Commit | None:
        dataset = self._dataset(COMMIT, (COMMIT_BYTES,), np.dtype(np.uint8))
        text = dataset.read(0, COMMIT_BYTES).tobytes().rstrip(b"\0")
        try:
            return Commit.model_validate_json(text)
        except ValidationError:
            return None  # not committed yet, or a crash came before that write was whole

    def _json(self, name: str, kind: type[R]) -> R:
        try:
            return kind.model_validate_json(self._file.attribute(ACT, name, str))
        except ValidationError as error:
            raise self._error(f"has a damaged attribute {name!r}: {error}") from error

    def _error(self, what: str, hint: str = "") -> StoreError:
        return self._file.error(what, hint)
