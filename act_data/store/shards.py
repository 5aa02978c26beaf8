"""Shards: the encoded frames of an array one after the other, then an index that finds them.

The `sharding_indexed` codec of zarr v3 with its index at the end. A shard holds `slots` inner
chunks of one frame; the index is (offset, size) as two little-endian uint64 per slot, all ones for
an empty slot, followed by its crc32c. Every frame is followed by its own crc32c.
"""

from __future__ import annotations

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from act_data.errors import StoreError
from act_data.records import FileDigest
from act_data.store.files import HashedFile, OpenFile

CRC_BYTES = 4
EMPTY = 2**64 - 1


def crc32c(data: bytes | NDArray[np.uint8]) -> bytes:
    """The checksum as it stands in a file: four bytes, little endian."""
    return int(google_crc32c.value(data)).to_bytes(CRC_BYTES, "little")


class OpenShard(OpenFile):
    """One chunk file, open for reading, with its index once it was read."""

    def __init__(self, root: str, key: str) -> None:
        super().__init__(root, key)
        self.index: NDArray[np.uint64] | None = None


class ShardWriter:
    """One shard, written frame by frame; holds its index in memory and no frame."""

    def __init__(self, file: HashedFile, slots: int) -> None:
        self._file = file
        self._index = np.full((slots, 2), EMPTY, dtype="<u8")
        self._used = 0

    def append(self, frame: bytes) -> None:
        """Put the encoded `frame` into the next slot."""
        offset = self._file.size
        self._file.write(frame)
        self._file.write(crc32c(frame))
        self._index[self._used] = (offset, self._file.size - offset)
        self._used += 1

    def close(self) -> FileDigest:
        """Write the index and force the file onto the disk."""
        index = self._index.tobytes()
        self._file.write(index)
        self._file.write(crc32c(index))
        return self._file.close()


def index_bytes(slots: int) -> int:
    """Size of the index of a shard, its checksum included."""
    return slots * 16 + CRC_BYTES


def read_index(shard: OpenFile, slots: int) -> NDArray[np.uint64]:
    """The index of the open `shard`, (slots, 2): offset and size of a frame.

    Raises:
        StoreError: It is cut short, its checksum does not fit, or it points outside the frames.
    """
    tail = index_bytes(slots)
    frames = shard.size - tail
    if frames < 0:
        raise StoreError(f"has {shard.size} bytes, fewer than the {tail} of its index")
    data = shard.read(frames, tail)
    if len(data) != tail or crc32c(data[:-CRC_BYTES]) != data[-CRC_BYTES:]:
        raise StoreError("has a damaged index: its checksum does not fit")
    index = np.frombuffer(data, dtype="<u8", count=2 * slots).reshape(slots, 2)
    used = index[index[:, 0] != EMPTY]
    # uint64 sums may wrap around, so the sizes are compared before they are added.
    if used.size and (
        (used > frames).any() or (used[:, 0] + used[:, 1] > frames).any() or used[:, 1].min() < 5
    ):
        raise StoreError("has an index that points outside its frames")
    return index.astype(np.uint64)


def read_frame(shard: OpenFile, offset: int, size: int, *, check: bool = True) -> NDArray[np.uint8]:
    """The encoded frame at `offset`, without its checksum.

    Raises:
        StoreError: It is cut short, or its checksum does not fit.
    """
    data = np.frombuffer(shard.read(offset, size), dtype=np.uint8)
    if len(data) != size or (check and crc32c(data[:-CRC_BYTES]) != data[-CRC_BYTES:].tobytes()):
        raise StoreError("is damaged: its checksum does not fit")
    return data[:-CRC_BYTES]
