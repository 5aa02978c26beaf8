"""The files of an episode for another dataset: linked where that is possible, else copied.

Nothing is decoded. A shard never changes once it lies in a dataset, so two datasets on one disk may
share its file; removing one of them leaves the other whole. Datasets with shards of other sizes get
the encoded frames in shards of their own, and these must have the hash of the episode.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from act_data.errors import StoreError
from act_data.records import EpisodeRecord, Feature, FileDigest
from act_data.store import frames, layout
from act_data.store.files import (
    HashedFile,
    OpenFile,
    open_regular,
    real_root,
    remove_scratch,
)
from act_data.store.hashing import EpisodeHash
from act_data.store.remote import is_remote
from act_data.store.zarr_episode import ArrayWriter, Shards
from act_data.store.zarr_episode_check import encoded
from act_data.store.zarr_reader import ZarrReader
from act_data.store.zarr_records import foreign_array, read_episode, read_root

_BLOCK = 1 << 20


@contextmanager
def copied(
    source: ZarrReader, uid: str, shard_frames: int, scratch: Path
) -> Iterator[tuple[EpisodeRecord, Sequence[tuple[Feature, Shards]]]]:
    """Put the shards of episode `uid` of `source` into `scratch`; those left there go at the end.

    Args:
        shard_frames: Of the dataset that they are for.

    Raises:
        StoreError: They are damaged, were rewritten by another program, or cannot be written.
    """
    root = real_root(source.path)
    frames_there = read_root(root).shard_frames
    record = read_episode(root, uid, frames_there)
    for feature in source.schema.features:
        if foreign_array(root, feature, frames_there) is not None:
            raise StoreError(
                f"array {feature.name!r} of {str(source.path)!r} was rewritten by another program",
                hint="Make a dataset of it that is: act-data convert.",
            )
    arrays: list[tuple[Feature, Shards]] = []
    try:
        if frames_there == shard_frames:
            span = layout.shards_of(record.start, record.length, shard_frames)
            for number, feature in enumerate(source.schema.features):
                done: Shards = []
                arrays.append((feature, done))
                for n, shard in enumerate(span):
                    key = layout.chunk_key(feature, shard)
                    target = scratch / f"{number:03d}.{n}"
                    done.append((target, record.files[key]))
                    take(root, key, record.files[key], target)
        else:
            arrays += _sharded_anew(root, source, record, frames_there, shard_frames, scratch)
        yield record, arrays
    finally:
        for _, shards in arrays:
            for path, _ in shards:
                remove_scratch(path)


def take(root: str, key: str, wanted: FileDigest, target: Path) -> None:
    """Make `target` the file `key` of `root`: linked where that is possible, else copied.

    Raises:
        StoreError: It is damaged or missing there, or the disk is full or failing.
    """
    where = f"{root}/{key}"
    try:
        size = OpenFile(root, key).size
    except FileNotFoundError as e:
        raise StoreError(f"{where!r} is missing") from e
    if size != wanted.bytes:
        raise StoreError(f"{where!r} has {size} bytes, not the {wanted.bytes} that were written")
    if not is_remote(root):
        try:
            os.link(where, target, follow_symlinks=False)
        except OSError:
            pass  # another disk, one without links, or too many of them
        else:
            _refuse_exchanged(root, key, target)
            return
    file = HashedFile(target)
    try:
        there = OpenFile(root, key)
        for start in range(0, size, _BLOCK):
            file.write(there.read(start, _BLOCK))
        found = file.close()
    except BaseException:
        file.abandon()
        raise
    if found != wanted:
        remove_scratch(target)
        raise StoreError(f"{where!r} is damaged: it does not have the sha256 of what was written")


def _refuse_exchanged(root: str, key: str, target: Path) -> None:
    """See that what was linked is the plain file that was looked at."""
    fd, _ = open_regular(root, key)
    try:
        same = os.path.samestat(os.fstat(fd), os.lstat(target))
    finally:
        os.close(fd)
    if not same:
        remove_scratch(target)
        raise StoreError(f"{root}/{key} was exchanged while it was read")


def _sharded_anew(
    root: str,
    source: ZarrReader,
    record: EpisodeRecord,
    frames_there: int,
    shard_frames: int,
    scratch: Path,
) -> list[tuple[Feature, Shards]]:
    digest = EpisodeHash(source.schema.features)
    writers = [
        (feature, ArrayWriter(feature, shard_frames, scratch, number, digest))
        for number, feature in enumerate(source.schema.features)
    ]
    with contextlib.ExitStack() as undo:
        for _, writer in writers:
            undo.callback(writer.abandon)
        try:
            for feature, writer in writers:
                for data in encoded(root, feature, record.start, record.length, frames_there):
                    _append(writer, feature, data)
                writer.close()
        except FileNotFoundError as e:
            raise StoreError(f"{e.filename!r} is missing") from e
        if digest.hexdigest(record.length) != record.hash:
            raise StoreError(
                f"the content of episode {record.uid!r} of {root!r} does not have its hash"
            )
        undo.pop_all()
    return [(feature, writer.done) for feature, writer in writers]


def _append(writer: ArrayWriter, feature: Feature, data: NDArray[np.uint8]) -> None:
    """Add one encoded frame, or the rows of a shard of an array that has none."""
    whole = data.tobytes()
    step = frames.step_bytes(feature) if feature.codec == "none" else len(whole)
    for at in range(0, len(whole), step):
        writer.append(whole[at : at + step])
