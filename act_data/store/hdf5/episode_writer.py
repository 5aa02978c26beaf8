"""One episode on its way into an HDF5 file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from act_data.errors import DataError, InputError, StoreError
from act_data.records import (
    SYNC_INDEX,
    SYNC_REASON,
    SYNC_SKEW,
    TIMESTAMP,
    DatasetSchema,
    EpisodeInfo,
    EpisodeRecord,
    Feature,
)
from act_data.store import frames, jpeg
from act_data.store.files import writing
from act_data.store.hashing import EpisodeHash
from act_data.store.hdf5.layout import (
    ACT,
    COMMIT,
    COMMIT_BYTES,
    COMPRESS_LEN,
    FORMAT_NAME,
    FORMAT_VERSION,
    Commit,
    chunk_rows,
    jpeg_cameras,
    location,
)
from act_data.types import Role, Timestep, Value

_GROW_ROWS = 64
_MARGIN_BYTES = 1 << 20  # groups, headers and indices of an empty file need 30 kB
_INDEX_BYTES = 512  # of HDF5's own, per chunk; 100 to 200 were seen

_SYNC_VALUES: dict[str, Callable[[Timestep], NDArray[np.generic]]] = {
    TIMESTAMP: lambda step: np.asarray(step.tick_ns, np.int64),
    SYNC_SKEW: lambda step: step.skew_ns,
    SYNC_REASON: lambda step: step.reason,
    SYNC_INDEX: lambda step: step.index,
}


class FileWriter:
    """A new episode file. Frames go to the disk one by one, other rows in blocks of 64.

    JPEG files wait in an unnamed file beside it, since their padding is known at the end only.

    HDF5 does not survive a write that fails: the process crashes later, at the latest when it
    ends. So room is reserved before HDF5 writes into it, and a full disk is found out then.
    """

    def __init__(self, path: Path, schema: DatasetSchema) -> None:
        self._path = path
        self._schema = schema
        self._hash = EpisodeHash(schema.features)
        self._length = 0
        self._blocks: dict[str, list[NDArray[np.generic]]] = {}
        self._spools: dict[str, _Spool] = {}
        self._reserved = 0
        with writing(path, 0):
            self._room = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            self._create()
        except BaseException:
            os.close(self._room)
            path.unlink()
            raise

    @property
    def length(self) -> int:
        """Steps so far."""
        return self._length

    def append(self, step: Timestep) -> None:
        """Add `step`.

        Raises:
            DataError: A value is missing, left over or of another shape or type. Nothing of the
                step was written.
            StoreError: The disk is full, or fails.
        """
        rows = {feature.name: self._row(feature, step) for feature in self._schema.features}
        self._refuse_leftovers(step)
        if self._length % _GROW_ROWS == 0:
            self._flush()
            self._grow(self._length + _GROW_ROWS)
        for name, row in rows.items():
            if isinstance(row, bytes):
                self._hash.add(name, row)
                self._spools[name].append(row, self._path)
            elif name in self._blocks:
                self._blocks[name].append(row.copy())  # the caller may use its own again
            else:
                data = row.tobytes()
                self._hash.add(name, data)
                dataset: Any = self._file[location(self._schema.feature(name))]
                with _writes(self._path):
                    dataset.id.write_direct_chunk((self._length, *(0,) * row.ndim), data)
        self._length += 1

    def finish(self, uid: str, dataset_uid: str, info: EpisodeInfo, created: str) -> EpisodeRecord:
        """Write what is left, and force the file onto the disk."""
        self._flush()
        self._write_jpegs()
        record = EpisodeRecord(
            uid=uid,
            start=0,
            length=self._length,
            hash=self._hash.hexdigest(self._length),
            files={},
            info=info,
            created=created,
        )
        texts = {
            "dataset_uid": dataset_uid,
            "schema": self._schema.model_dump_json(),
            "episode": record.model_dump_json(),
        }
        self._reserve(sum(map(len, texts.values())))
        with _writes(self._path):
            for feature in self._schema.features:
                if feature.codec != "jpeg":
                    self._file[location(feature)].resize(self._length, axis=0)
            group = self._file.require_group(ACT)
            group.attrs["format"] = FORMAT_NAME
            group.attrs["format_version"] = FORMAT_VERSION
            for name, text in texts.items():
                group.attrs[name] = text
            self._file.create_dataset(COMMIT, data=np.zeros(COMMIT_BYTES, np.uint8))
            self._file.flush()
            size: int = self._file.id.get_filesize()
        self._close()
        with writing(self._path, size), self._path.open("r+b") as plain:
            plain.truncate(size)  # give the rest of what was reserved back
            os.fsync(plain.fileno())
        return record

    def abandon(self) -> None:
        """Remove the file."""
        try:
            self._close()
        finally:
            self._path.unlink(missing_ok=True)

    def _create(self) -> None:
        features = self._schema.features
        whole_chunks = sum(
            frames.step_bytes(f) * chunk_rows(f) for f in features if f.codec != "jpeg"
        )
        self._reserve(_MARGIN_BYTES + whole_chunks)
        with _writes(self._path):
            self._file = h5py.File(self._path, "w", locking=False)
        self._reserve(0)  # opening it cut it to nothing
        with _writes(self._path):
            self._file.attrs["sim"] = self._schema.simulated
            self._file.attrs["compress"] = any(f.codec == "jpeg" for f in features)
            for feature in features:
                if feature.codec == "jpeg":
                    self._spools[feature.name] = _Spool(self._path.parent)
                    continue
                if feature.codec == "none":
                    self._blocks[feature.name] = []
                self._file.create_dataset(
                    location(feature),
                    shape=(0, *feature.shape),
                    maxshape=(None, *feature.shape),
                    chunks=(chunk_rows(feature), *feature.shape),
                    dtype=frames.stored_dtype(feature),
                )

    def _close(self) -> None:
        for spool in self._spools.values():
            spool.close()
        if self._room >= 0:
            os.close(self._room)
            self._room = -1
        with _writes(self._path):
            self._file.close()

    def _row(self, feature: Feature, step: Timestep) -> NDArray[np.generic] | bytes:
        if feature.role is Role.SYNC:
            value: Value | None = _SYNC_VALUES[feature.name](step)
        else:
            values = step.action if feature.role is Role.ACTION else step.observation
            value = values.get(feature.name)
        if value is None:
            raise DataError(f"array {feature.name!r} has no value in step {self._length}")
        if feature.codec == "jpeg":
            if isinstance(value, np.ndarray):
                frames.check_value(value, feature)
            return jpeg.stored(value, feature, swapped=True)
        pixels = jpeg.pixels(value)
        frames.check_value(pixels, feature)
        return np.asarray(pixels, frames.stored_dtype(feature))

    def _refuse_leftovers(self, step: Timestep) -> None:
        names = {feature.name for feature in self._schema.features}
        extra = sorted({*step.observation, *step.action} - names)
        if extra:
            raise DataError(f"the dataset has no array {extra[0]!r}; the step has")

    def _grow(self, rows: int) -> None:
        kept = [f for f in self._schema.features if f.codec != "jpeg"]
        step = sum(frames.step_bytes(feature) + _INDEX_BYTES for feature in kept)
        self._reserve(step * (rows - self._length))
        with _writes(self._path):
            for feature in kept:
                self._file[location(feature)].resize(rows, axis=0)

    def _flush(self) -> None:
        for name, block in self._blocks.items():
            if block:
                rows = np.stack(block)
                self._hash.add(name, rows.tobytes())
                with _writes(self._path):
                    dataset = self._file[location(self._schema.feature(name))]
                    dataset[self._length - len(block) : self._length] = rows
                block.clear()

    def _write_jpegs(self) -> None:
        if not self._spools:
            return
        longest = {name: max(spool.lengths) for name, spool in self._spools.items()}
        self._reserve((sum(longest.values()) + _INDEX_BYTES * len(longest)) * self._length)
        cameras = jpeg_cameras(self._schema)
        lengths = np.array([self._spools[name].lengths for name in cameras], np.float32)
        with _writes(self._path):
            for name, spool in self._spools.items():
                padded = longest[name]
                dataset = self._file.create_dataset(
                    location(self._schema.feature(name)),
                    shape=(self._length, padded),
                    chunks=(1, padded),
                    dtype=np.uint8,
                )
                for t, data in enumerate(spool):
                    dataset.id.write_direct_chunk((t, 0), data.ljust(padded, b"\0"))
            self._file.create_dataset(COMPRESS_LEN, data=lengths)

    def _reserve(self, size: int) -> None:
        self._reserved += size
        with writing(self._path, self._reserved):
            os.posix_fallocate(self._room, 0, self._reserved)


class _Spool:
    """JPEG files one after the other, in a file without a name: gone with the process."""

    def __init__(self, folder: Path) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # see close
        self.lengths: list[int] = []

    def append(self, data: bytes, path: Path) -> None:
        with writing(path, len(data)):
            self._file.write(data)
        self.lengths.append(len(data))

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        for length in self.lengths:
            yield self._file.read(length)

    def close(self) -> None:
        # What could not be flushed is about to be deleted.
        with suppress(OSError):
            self._file.close()


def write_commit(path: Path, commit: Commit) -> None:
    """Note in the finished but not yet visible file `path` in which version it will appear.

    Raises:
        InputError: The commit message is too long for its place.
        StoreError: The disk fails.
    """
    text = commit.model_dump_json().encode()
    if len(text) > COMMIT_BYTES:
        raise InputError(
            f"a commit message of {len(commit.message)} characters does not fit",
            hint="Keep it below 3000.",
        )
    with _writes(path), h5py.File(path, "r", locking=False) as file:
        offset: int = file[COMMIT].id.get_offset()
    with writing(path, COMMIT_BYTES), path.open("r+b") as plain:
        os.pwrite(plain.fileno(), text.ljust(COMMIT_BYTES, b"\0"), offset)
        os.fsync(plain.fileno())


@contextmanager
def _writes(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # the two that h5py raises for HDF5's own
        raise StoreError(
            f"cannot write {str(path)!r}: {error}",
            hint="Check the disk, then run it again.",
        ) from error
