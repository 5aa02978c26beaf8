"""Whether every byte of one version of an act-zarr dataset is what was written.

Documents must be byte for byte what our own code writes for the payload they carry, and the payload
must have its digest; episodes are checked in `zarr_episode_check`; nothing else may lie there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from act_data.errors import ActError, StoreError
from act_data.records import Depth, EpisodeEntry, Feature, Problem, VersionRecord
from act_data.store import layout
from act_data.store.files import names_in, read_whole
from act_data.store.hashing import content_hash
from act_data.store.remote import is_remote
from act_data.store.zarr_episode_check import EpisodeCheck
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


def problems(root: str, version: VersionRecord, depth: Depth) -> list[Problem]:
    """What is damaged, missing or foreign in `version`, which lies in the real folder `root`."""
    try:
        record = read_root(root)
    except ActError as e:
        return [Problem(what=str(e))]
    return list(_Check(root, record, version, depth).run())


class _Check:
    def __init__(self, root: str, record: RootRecord, version: VersionRecord, depth: Depth) -> None:
        self._root = root
        self._depth = depth
        self._record = record
        self._schema = record.dataset_schema
        self._version = version

    def run(self) -> Iterator[Problem]:
        yield from self._told(self._payloads())
        episodes = EpisodeCheck(self._root, self._record, self._version, self._depth)
        for number, entry in enumerate(self._version.episodes):
            yield from episodes.check(number, entry)
        for found in (self._arrays(), self._meta(), self._foreign()):
            yield from self._told(found)
        version = self._version
        computed = content_hash(self._schema, version.episodes, version.annotations)
        if computed != version.content_hash:
            yield Problem(
                what=f"version {self._version.number} does not have the content hash "
                f"{self._version.content_hash!r}"
            )

    def _told(self, sentences: Iterable[str]) -> Iterator[Problem]:
        """Findings about documents; that of an episode's record concerns the episode."""
        records = {repr(layout.episode_key(e.uid)): e.uid for e in self._version.episodes}
        for what in sentences:
            uid = next((uid for key, uid in records.items() if key.strip("'") in what), "")
            yield Problem(what=what, episode=uid)

    # --- documents ----------------------------------------------------------------------------

    def _payloads(self) -> Iterator[str]:
        number = self._version.number
        carried = {"zarr.json": "act", layout.version_key(number): "act_version"}
        version_folder, _, _ = layout.version_key(number).rpartition("/")
        beside = names_in(self._root, version_folder)
        if "stats" in beside:
            carried[layout.stats_key(number)] = "act_stats"
        if "facts" in beside:
            carried[layout.facts_key(number)] = "act_facts"
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
                other = read_episode(self._root, uid, frames_per_shard)
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

    # --- what does not belong here ------------------------------------------------------------

    def _foreign(self) -> Iterator[str]:
        """Files and links at places where this format has none; not looked for behind a URL."""
        if is_remote(self._root):
            return
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
        case ["versions", number, "zarr.json"] | [
            "versions",
            number,
            "stats" | "facts",
            "zarr.json",
        ]:
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
