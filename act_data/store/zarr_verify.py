"""Whether every byte of one version of an act-zarr dataset is what was written.

Three layers, each of which finds what the others cannot: documents must be byte for byte what our
own code writes for the payload they carry (and the payload must have its digest); chunk files must
have the size and sha256 of their episode's manifest; and the content that is decoded from them must
have the hash that the version names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from act_data.errors import ActError, StoreError
from act_data.records import EpisodeEntry, EpisodeRecord, Feature, VersionRecord
from act_data.store import frames, layout, shards
from act_data.store.files import digest_of, open_regular, read_whole
from act_data.store.hashing import EpisodeHash, content_hash
from act_data.store.zarr_records import (
    DOCUMENT_BYTES,
    RootRecord,
    episode_uids,
    meta_chunks,
    read_document,
    read_episode,
    read_root,
    read_stats,
    read_version,
)


def problems(root: str, version: VersionRecord) -> list[str]:
    """One sentence per damaged, missing or foreign file of `version` in the real folder `root`."""
    try:
        record = read_root(root)
    except ActError as e:
        return [str(e)]
    return list(_Check(root, record, version).run())


class _Check:
    def __init__(self, root: str, record: RootRecord, version: VersionRecord) -> None:
        self._root = root
        self._record = record
        self._schema = record.dataset_schema
        self._version = version
        self._records: dict[str, EpisodeRecord] = {}

    def run(self) -> Iterator[str]:
        yield from self._payloads()
        for entry in self._version.episodes:
            yield from self._episode(entry)
        yield from self._arrays()
        yield from self._meta()
        yield from self._foreign()
        if content_hash(self._schema, self._version.episodes) != self._version.content_hash:
            yield (
                f"version {self._version.number} does not have the content hash "
                f"{self._version.content_hash!r}"
            )

    # --- documents ----------------------------------------------------------------------------

    def _payloads(self) -> Iterator[str]:
        number = self._version.number
        carried = {"zarr.json": "act", layout.version_key(number): "act_version"}
        if Path(self._root, layout.stats_key(number)).parent.exists():
            carried[layout.stats_key(number)] = "act_stats"
        carried |= {layout.episode_key(e.uid): "act_episode" for e in self._version.episodes}
        for key, name in carried.items():
            yield from self._payload(key, name)
        for key in layout.group_keys(self._schema):
            yield from self._same(key, [layout.render(layout.group())])
        try:
            if read_version(self._root, number, self._record.shard_frames) != self._version:
                yield f"version {number} is not what it was when it was opened"
            stats = read_stats(self._root, number)
            if stats is not None and stats.content_hash != self._version.content_hash:
                yield f"the statistics of version {number} belong to other content"
        except StoreError as e:
            yield str(e)

    def _payload(self, key: str, name: str) -> Iterator[str]:
        try:
            value = layout.payload(read_document(self._root, key), name, repr(key))
        except StoreError as e:
            yield str(e)
        else:
            yield from self._same(key, [layout.render(layout.group(**{name: value}))])

    def _same(self, key: str, wanted: Iterable[bytes]) -> Iterator[str]:
        """Compare the file `key` with the contents that it may have."""
        try:
            found = read_whole(self._root, key, DOCUMENT_BYTES)
        except FileNotFoundError:
            yield f"{key!r} is missing"
        except (OSError, StoreError) as e:
            yield f"{key!r} cannot be read: {e}"
        else:
            if found not in wanted:
                yield f"{key!r} is damaged or was changed by another program"

    def _arrays(self) -> Iterator[str]:
        # A writer that was killed may have announced its rows already: those of all finished
        # episodes, committed or not.
        frames_per_shard = self._record.shard_frames
        ends = [self._record.next_shard]
        for uid in episode_uids(self._root):
            try:
                other = self._records.get(uid) or read_episode(self._root, uid, frames_per_shard)
            except StoreError:
                continue  # reported above when it belongs to this version
            ends.append(layout.shards_of(other.start, other.length, frames_per_shard).stop)
        for feature in self._schema.features:
            documents = [
                layout.render(layout.array(feature, frames_per_shard, end * frames_per_shard))
                for end in (self._record.next_shard, max(ends))
            ]
            yield from self._same(layout.array_key(feature), documents)

    def _meta(self) -> Iterator[str]:
        # Written after the version became visible: they describe the newest version or, when the
        # writer was killed in between, the one before.
        states = [self._entries(self._record.head.version)]
        states.append(self._entries(self._record.head.version - 1))
        for name in layout.META:
            documents, chunks = [], []
            for number, entries in states:
                values = [e.start if name == "episode_start" else e.length for e in entries]
                documents.append(layout.render(layout.meta_array(name, len(values), number)))
                chunks.append(meta_chunks(values))
            key = f"meta/{name}/zarr.json"
            found = list(self._same(key, documents))
            yield from found
            if found:
                continue
            current = read_whole(self._root, key, DOCUMENT_BYTES) == documents[0]
            for n, data in enumerate(chunks[0 if current else 1]):
                newer = chunks[0][n : n + 1]
                yield from self._same(f"meta/{name}/c/{n}", [data, *newer])

    def _entries(self, number: int) -> tuple[int, tuple[EpisodeEntry, ...]]:
        if number == self._version.number:
            return number, self._version.episodes
        if number < 1:
            return 0, ()
        try:
            version = read_version(self._root, number, self._record.shard_frames)
        except StoreError:
            return number, ()  # then the meta arrays differ, which is reported
        return number, version.episodes

    # --- episodes -----------------------------------------------------------------------------

    def _episode(self, entry: EpisodeEntry) -> Iterator[str]:
        frames_per_shard = self._record.shard_frames
        try:
            record = read_episode(self._root, entry.uid, frames_per_shard)
        except StoreError:
            return  # reported with the documents
        self._records[entry.uid] = record
        if (record.start, record.length, record.hash) != (entry.start, entry.length, entry.hash):
            yield f"the record of episode {entry.uid!r} is not the one that the version names"
            return
        span = layout.shards_of(record.start, record.length, frames_per_shard)
        keys = {layout.chunk_key(f, n) for f in self._schema.features for n in span}
        if keys != set(record.files):
            yield f"the manifest of episode {entry.uid!r} does not list its files"
            return
        damaged = False
        for key, wanted in record.files.items():
            try:
                if digest_of(self._root, key) == wanted:
                    continue
                what = f"is damaged: it has not the {wanted.bytes} bytes that were written"
            except FileNotFoundError:
                what = "is missing"
            except (OSError, StoreError) as e:
                what = f"cannot be read: {e}"
            damaged = True
            yield f"{key!r} of episode {entry.uid!r} {what}"
        if not damaged:
            yield from self._content(entry)

    def _content(self, entry: EpisodeEntry) -> Iterator[str]:
        digest = EpisodeHash(self._schema.features)
        try:
            for feature in self._schema.features:
                for data in self._encoded(feature, entry):
                    digest.add(feature.name, data)
        except (OSError, StoreError) as e:
            yield f"episode {entry.uid!r}: {e}"
            return
        if digest.hexdigest(entry.length) != entry.hash:
            yield f"the content of episode {entry.uid!r} does not have the hash {entry.hash!r}"

    def _encoded(self, feature: Feature, entry: EpisodeEntry) -> Iterator[memoryview]:
        """What was hashed when the episode was written, read back from its shards."""
        per_shard = self._record.shard_frames
        left = entry.length
        for number in layout.shards_of(entry.start, entry.length, per_shard):
            fd, size = open_regular(self._root, layout.chunk_key(feature, number))
            rows = min(left, per_shard)
            left -= rows
            try:
                if feature.codec == "none":
                    yield memoryview(os.pread(fd, rows * frames.step_bytes(feature), 0))
                    continue
                for offset, length in shards.read_index(fd, size, per_shard)[:rows]:
                    if int(offset) == shards.EMPTY:
                        raise StoreError(f"a frame of {feature.name!r} is missing")
                    yield shards.read_frame(fd, int(offset), int(length)).data
            finally:
                os.close(fd)

    # --- what does not belong here ------------------------------------------------------------

    def _foreign(self) -> Iterator[str]:
        """Files and links at places where this format has none."""
        arrays = {f"data/{f.name}": f for f in self._schema.features}
        plain = {"zarr.json", *layout.group_keys(self._schema)}
        plain |= {f"{folder}/zarr.json" for folder in arrays}
        for folder, folders, files in os.walk(self._root):
            here = os.path.relpath(folder, self._root).replace(os.sep, "/")
            for name in [*files, *(d for d in folders if Path(folder, d).is_symlink())]:
                key = name if here == "." else f"{here}/{name}"
                if Path(folder, name).is_symlink():
                    yield f"{key!r} is a symbolic link; a dataset holds plain files only"
                elif key not in plain and not _known(key, arrays):
                    yield f"{key!r} is not part of the dataset"


def _known(key: str, arrays: dict[str, Feature]) -> bool:
    parts = key.split("/")
    match parts:
        case ["episodes", _, "zarr.json"]:
            return True
        case ["versions", number, "zarr.json"] | ["versions", number, "stats", "zarr.json"]:
            return number.isdecimal()
        case ["meta", name, "zarr.json"]:
            return name in layout.META
        case ["meta", name, "c", number]:
            return name in layout.META and number.isdecimal()
    folder, _, chunk = key.rpartition("/c/")
    feature = arrays.get(folder)
    number = chunk.split("/")[0]
    return (
        feature is not None and number.isdecimal() and key == layout.chunk_key(feature, int(number))
    )
