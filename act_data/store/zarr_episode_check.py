"""Whether the files of an episode of an act-zarr dataset are what was written.

Layers, each of which finds what the others cannot: chunk files must have the size ("quick") and the
sha256 ("hash") of the episode's manifest; the frames in them must have the hash that the version
names ("hash"), and must decode ("deep"). In a chunk file that is not what it was, the checksums of
its frames tell which rows are to blame.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from act_data.errors import StoreError
from act_data.records import (
    Depth,
    EpisodeEntry,
    Feature,
    FileDigest,
    Problem,
    VersionRecord,
)
from act_data.store import frames, layout, shards
from act_data.store.files import OpenFile, digest_of
from act_data.store.hashing import EpisodeHash
from act_data.store.zarr_records import RootRecord, read_episode


class EpisodeCheck:
    """The checks of one version, in the real folder `root`."""

    def __init__(self, root: str, record: RootRecord, version: VersionRecord, depth: Depth) -> None:
        self._root = root
        self._record = record
        self._schema = record.dataset_schema
        self._version = version
        self._depth = depth

    def check(self, number: int, entry: EpisodeEntry) -> Iterator[Problem]:
        """What is wrong with the `number`-th episode of the version."""
        frames_per_shard = self._record.shard_frames
        try:
            record = read_episode(self._root, entry.uid, frames_per_shard)
        except StoreError:
            return  # its document is reported
        where = f"episode {number} ({entry.uid})"
        if (record.start, record.length, record.hash) != (entry.start, entry.length, entry.hash):
            what = f"the record of {where} is not the one that the version names"
            yield Problem(what=what, episode=entry.uid)
            return
        span = layout.shards_of(record.start, record.length, frames_per_shard)
        places = {layout.chunk_key(f, n): (f, n) for f in self._schema.features for n in span}
        if places.keys() != record.files.keys():
            what = f"the manifest of {where} does not list its files"
            yield Problem(what=what, episode=entry.uid)
            return
        damaged = False
        for key, wanted in record.files.items():
            feature, shard = places[key]
            first = shard * frames_per_shard - record.start
            rows = (first, min(first + frames_per_shard, record.length))
            found = self._file(key, wanted, feature, rows)
            if found is None:
                continue
            damaged = True
            what, rows = found
            last = f" to {rows[1] - 1}" if rows[1] - rows[0] > 1 else ""
            yield Problem(
                what=f"array {feature.name!r}, {where}, row {rows[0]}{last}: {key!r} {what}",
                array=feature.name,
                episode=entry.uid,
                rows=rows,
            )
        if not damaged and self._depth != "quick":
            yield from self._content(where, entry)

    def _file(
        self, key: str, wanted: FileDigest, feature: Feature, rows: tuple[int, int]
    ) -> tuple[str, tuple[int, int]] | None:
        """What is wrong with a chunk file that holds `rows` of its episode, and which of them."""
        try:
            if self._depth == "quick":
                size = OpenFile(self._root, key).size
                found = FileDigest(bytes=size, sha256=wanted.sha256)
            else:
                found = digest_of(self._root, key)
        except FileNotFoundError:
            return "is missing", rows
        except (OSError, StoreError) as e:
            return f"cannot be read: {e}", rows
        if found == wanted:
            return None
        if found.bytes != wanted.bytes:
            return f"has {found.bytes} bytes, not the {wanted.bytes} that were written", rows
        if owner := self._owner(found):
            return f"holds what belongs to {owner!r}", rows
        bad = self._bad_frames(key, feature, rows[1] - rows[0])
        what = "is damaged: it does not have the sha256 of what was written"
        return what, (rows[0] + bad[0], rows[0] + bad[-1] + 1) if bad else rows

    def _owner(self, found: FileDigest) -> str | None:
        """The key of this version under which a file with this digest was written."""
        for entry in self._version.episodes:
            try:
                record = read_episode(self._root, entry.uid, self._record.shard_frames)
            except StoreError:
                continue
            for key, digest in record.files.items():
                if digest == found:
                    return key
        return None

    def _bad_frames(self, key: str, feature: Feature, rows: int) -> list[int]:
        """The frames of a damaged shard whose checksums do not fit; none where there are none."""
        if feature.codec == "none":
            return []
        bad = []
        try:
            opened = shards.OpenShard(self._root, key)
            index = shards.read_index(opened, self._record.shard_frames)
        except (OSError, StoreError):
            return []
        for slot, (offset, size) in enumerate(index[:rows]):
            try:
                shards.read_frame(opened, int(offset), int(size))
            except (OSError, StoreError, OverflowError):
                bad.append(slot)
        return bad

    def _content(self, where: str, entry: EpisodeEntry) -> Iterator[Problem]:
        digest = EpisodeHash(self._schema.features)
        for feature in self._schema.features:
            row = 0
            try:
                rows = encoded(
                    self._root, feature, entry.start, entry.length, self._record.shard_frames
                )
                for data in rows:
                    digest.add(feature.name, data.data)
                    if self._depth == "deep" and feature.codec != "none":
                        frames.decode(data, feature, np.empty(feature.shape, feature.dtype))
                    row += 1
            except (OSError, StoreError) as e:
                yield Problem(
                    what=f"array {feature.name!r}, {where}, row {row}: {e}",
                    array=feature.name,
                    episode=entry.uid,
                    rows=(row, row + 1),
                )
                return
        if digest.hexdigest(entry.length) != entry.hash:
            what = f"the content of {where} does not have the hash {entry.hash!r}"
            yield Problem(what=what, episode=entry.uid)


def encoded(
    root: str, feature: Feature, start: int, length: int, per_shard: int
) -> Iterator[NDArray[np.uint8]]:
    """What was hashed when an episode was written, read back from its shards.

    Args:
        start: Its first row, `length` rows in all.
        per_shard: Steps per shard.

    Raises:
        FileNotFoundError: A shard is missing.
        StoreError: One is damaged.
    """
    left = length
    for number in layout.shards_of(start, length, per_shard):
        opened = shards.OpenShard(root, layout.chunk_key(feature, number))
        rows = min(left, per_shard)
        left -= rows
        if feature.codec == "none":
            step = frames.step_bytes(feature)
            yield np.frombuffer(opened.read(0, rows * step), dtype=np.uint8)
            continue
        for offset, size in shards.read_index(opened, per_shard)[:rows]:
            if int(offset) == shards.EMPTY:
                raise StoreError(f"a frame of {feature.name!r} is missing")
            yield shards.read_frame(opened, int(offset), int(size))
