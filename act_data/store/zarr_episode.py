"""One episode on its way into an act-zarr dataset: shards are filled aside, then moved in whole."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from act_data.errors import ConflictError, DataError, StoreError
from act_data.records import (
    SYNC_INDEX,
    SYNC_REASON,
    SYNC_SKEW,
    TIMESTAMP,
    DatasetSchema,
    EpisodeInfo,
    EpisodeRecord,
    Feature,
    FileDigest,
)
from act_data.store import frames
from act_data.store.files import HashedFile, remove_scratch
from act_data.store.hashing import EpisodeHash
from act_data.store.shards import ShardWriter
from act_data.types import Role, Timestep, Value

SYNC: dict[str, Callable[[Timestep], Value]] = {
    TIMESTAMP: lambda step: np.asarray(step.tick_ns, dtype=np.int64),
    SYNC_SKEW: lambda step: step.skew_ns,
    SYNC_REASON: lambda step: step.reason,
    SYNC_INDEX: lambda step: step.index,
}
"""Where the sync arrays of records.py come from."""

Shards = list[tuple[Path, FileDigest]]


_BLOCK_BYTES = 1 << 16


class ArrayWriter:
    """The shards of one array of one episode. Holds no frame, and rows only up to 64 KiB.

    Args:
        content: The hash of the episode, fed with every row and frame.
    """

    def __init__(
        self, feature: Feature, shard_frames: int, scratch: Path, number: int, content: EpisodeHash
    ) -> None:
        self._feature = feature
        self._shard_frames = shard_frames
        self._name = scratch / f"{number:03d}"
        self._content = content
        self._rows = 0
        self._block = bytearray()  # rows of a few bytes, each too small to be hashed by itself
        self._file: HashedFile | None = None
        self._shard: ShardWriter | None = None
        self.encode = frames.encoder(feature)
        self.done: Shards = []

    def append(self, data: bytes) -> None:
        """Add one row, or one encoded frame."""
        if self._file is None:
            self._file = HashedFile(self._name.with_suffix(f".{len(self.done)}"))
            if self._feature.codec != "none":
                self._shard = ShardWriter(self._file, self._shard_frames)
        if self._shard is None:
            self._block += data
            if len(self._block) >= _BLOCK_BYTES:
                self._write_block(self._file)
        else:
            self._shard.append(data)
            self._content.add(self._feature.name, data)
        self._rows += 1
        if self._rows == self._shard_frames:
            self.close()

    def close(self) -> None:
        """Complete the last shard."""
        if self._file is None:
            return
        if self._shard is None:
            self._write_block(self._file)
            # zarr wants whole chunks, whatever the array's shape
            missing = self._shard_frames - self._rows
            self._file.write(bytes(missing * frames.step_bytes(self._feature)))
            digest = self._file.close()
        else:
            digest = self._shard.close()
        self.done.append((self._file.path, digest))
        self._file, self._shard, self._rows = None, None, 0

    def _write_block(self, file: HashedFile) -> None:
        block, self._block = self._block, bytearray()
        file.write(block)
        self._content.add(self._feature.name, block)

    def abandon(self) -> None:
        """Remove every file that is still in the scratch folder."""
        if self._file is not None:
            self._file.abandon()
            self._file = None
        for path, _ in self.done:
            remove_scratch(path)


class ZarrEpisode:
    """An `EpisodeWriter`. Until `finish` nothing of it lies in the dataset."""

    def __init__(
        self,
        uid: str,
        schema: DatasetSchema,
        shard_frames: int,
        scratch: Path,
        keep: Callable[
            [str, int, str, Sequence[tuple[Feature, Shards]], EpisodeInfo], EpisodeRecord
        ],
    ) -> None:
        self.uid = uid
        self.open = True
        self._schema = schema
        self._keep = keep
        self._length = 0
        self._hash = EpisodeHash(schema.features)
        self._arrays = [
            (feature, ArrayWriter(feature, shard_frames, scratch, number, self._hash))
            for number, feature in enumerate(schema.features)
        ]
        self._expected = {f.name for f in schema.features if f.role is not Role.SYNC}

    def record(self, step: Timestep) -> None:
        """Append `step`.

        Raises:
            DataError: It does not fit the schema; the episode stays as it was.
            StoreError: The disk is full or failing; the episode is discarded.
        """
        self._check_open()
        # All of the step is encoded before any of it is written: an episode is never ragged.
        encoded = [(array, self._encode(array, v)) for array, v in self._values(step)]
        try:
            for array, data in encoded:
                array.append(data)
        except StoreError:
            self.discard()
            raise
        self._length += 1

    def finish(self, info: EpisodeInfo) -> EpisodeRecord:
        """Make the episode durable; see `EpisodeWriter`.

        Raises:
            DataError: It has no step.
            StoreError: The disk is full or failing; nothing of the episode remains.
        """
        self._check_open()
        if self._length == 0:
            self.discard()
            raise DataError(f"episode {self.uid!r} has no step")
        with contextlib.ExitStack() as undo:
            undo.callback(self.discard)
            for _, array in self._arrays:
                array.close()
            shards = [(feature, array.done) for feature, array in self._arrays]
            digest = self._hash.hexdigest(self._length)
            record = self._keep(self.uid, self._length, digest, shards, info)
            undo.pop_all()
        self.open = False
        return record

    def discard(self) -> None:
        """Remove what was written; after `finish` it does nothing."""
        if not self.open:
            return
        self.open = False
        for _, array in self._arrays:
            array.abandon()

    def _check_open(self) -> None:
        if not self.open:
            raise ConflictError(f"episode {self.uid!r} is finished or discarded")

    def _values(self, step: Timestep) -> list[tuple[ArrayWriter, Value]]:
        given = {**step.observation, **step.action}
        if given.keys() != self._expected:
            missing = sorted(self._expected - given.keys())
            extra = sorted(given.keys() - self._expected)
            raise DataError(
                f"step {self._length} of episode {self.uid!r} has no array {missing} "
                f"and too many {extra}"
            )
        values: list[tuple[ArrayWriter, Value]] = []
        for feature, array in self._arrays:
            if feature.role is Role.SYNC:
                value = SYNC[feature.name](step)
            else:
                side = step.action if feature.role is Role.ACTION else step.observation
                if feature.name not in side:
                    raise DataError(f"array {feature.name!r} is not part of the {feature.role}")
                value = side[feature.name]
            values.append((array, value))
        return values

    def _encode(self, array: ArrayWriter, value: Value) -> bytes:
        try:
            return array.encode(value)
        except DataError as e:
            raise DataError(f"step {self._length} of episode {self.uid!r}: {e}") from e
