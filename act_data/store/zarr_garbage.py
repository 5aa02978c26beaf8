"""What lies in an act-zarr dataset and belongs to no version that is kept; and removing it.

What a kept version names is never touched. What no version ever named may be the work of an ingest
that was interrupted and will go on, so it must be older than a grace time. A record goes before the
shards that it names: a crash leaves shards without a record, which the next run removes, and never
a record without its shards.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from act_data.errors import InputError, StoreError
from act_data.records import EpisodeRecord
from act_data.store import layout
from act_data.store.files import names_in, real_root, sync_folder, writing
from act_data.store.lock import WriterLock
from act_data.store.zarr_folder import ZarrFolder
from act_data.store.zarr_records import RootRecord, read_episode, read_root, read_version

_BESIDE = ("partial", "pull", "stats-*", "facts-*")  # of writers that were killed


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What `collect` removes, or would remove.

    Attributes:
        versions: Those that are dropped now and can no longer be opened.
        episodes: uids whose record goes.
        files: Keys of the shards that go.
        beside: Folders next to the dataset that a killed writer left.
        bytes: Of all of these.
        spared: Episodes, shards and folders that no version ever named, but fresh.
    """

    versions: tuple[int, ...]
    episodes: tuple[str, ...]
    files: tuple[str, ...]
    beside: tuple[str, ...]
    bytes: int
    spared: int


def collect(path: Path, *, drop: Collection[int] = (), grace_s: float, delete: bool) -> Garbage:
    """Find what belongs to no kept version of the dataset at `path`, and remove it if `delete`.

    Args:
        drop: Versions to keep no longer.
        grace_s: How old something that no version ever named must be.

    Raises:
        InputError: The newest version, or one that there is not, is to be dropped.
        ConflictError: Another process is writing the dataset.
        StoreError: A version cannot be read, so nobody knows what it needs; or the disk is failing.
    """
    root = Path(real_root(path))
    lock = WriterLock(root)
    try:
        record = read_root(str(root))
        garbage = _Search(root, record, drop, time.time() - grace_s).run()
        if delete:
            _remove(root, record, garbage)
        return garbage
    finally:
        lock.release()


class _Search:
    def __init__(
        self, root: Path, record: RootRecord, drop: Collection[int], before_s: float
    ) -> None:
        self._root = root
        self._record = record
        self._before_s = before_s
        self._drop = tuple(sorted(set(drop) - set(record.dropped)))
        for number in self._drop:
            if number == record.head.version or number not in record.kept:
                kept = ", ".join(map(str, record.kept[:-1])) or "none"
                raise InputError(
                    f"version {number} cannot be dropped: "
                    + ("it is the newest" if number in record.kept else "there is none"),
                    hint=f"Those that can be: {kept}.",
                )
        self._spared = 0

    def run(self) -> Garbage:
        kept, dropped = self._named()
        needed = {shard for place in kept.values() for shard in self._shards(*place)}
        unneeded = {
            shard for places in dropped.values() for p in places for shard in self._shards(*p)
        }
        episodes = []
        for uid in names_in(str(self._root), "episodes"):
            if uid in kept or uid == "zarr.json":
                continue
            record = self._episode(uid)
            place = (record.start, record.length) if record else None
            if place not in dropped.get(uid, ()) and self._fresh(self._root / "episodes" / uid):
                needed |= set(self._shards(*place)) if place else set()
                continue
            episodes.append(uid)
            unneeded |= set(self._shards(*place)) if place else set()
        files = tuple(self._chunks(needed, unneeded))
        beside = [
            p for kind in _BESIDE for p in self._root.parent.glob(f".{self._root.name}.{kind}")
        ]
        beside = [p for p in sorted(beside) if not self._fresh(p)]
        going = [*(self._root / "episodes" / uid for uid in episodes), *beside]
        size = sum(_size(p) for p in [*going, *(self._root / key for key in files)])
        return Garbage(
            versions=self._drop,
            episodes=tuple(episodes),
            files=files,
            beside=tuple(p.name for p in beside),
            bytes=size,
            spared=self._spared,
        )

    def _named(self) -> tuple[dict[str, tuple[int, int]], dict[str, set[tuple[int, int]]]]:
        """Where the episodes of kept versions lie, and where those of dropped ones do or did."""
        kept: dict[str, tuple[int, int]] = {}
        dropped: dict[str, set[tuple[int, int]]] = {}
        for number in range(1, self._record.head.version + 1):
            version = read_version(str(self._root), number, self._record.shard_frames)
            goes = number in self._drop or number in self._record.dropped
            for entry in version.episodes:
                if goes:
                    dropped.setdefault(entry.uid, set()).add((entry.start, entry.length))
                else:
                    kept[entry.uid] = (entry.start, entry.length)
        return kept, dropped

    def _shards(self, start: int, length: int) -> range:
        return layout.shards_of(start, length, self._record.shard_frames)

    def _episode(self, uid: str) -> EpisodeRecord | None:
        try:
            return read_episode(str(self._root), uid, self._record.shard_frames)
        except StoreError:  # never finished, or damaged: nothing reads it
            return None

    def _chunks(self, needed: set[int], unneeded: set[int]) -> Iterator[str]:
        """Keys of the shards that nobody needs."""
        for feature in self._record.dataset_schema.features:
            folder = self._root / "data" / feature.name / "c"
            for name in names_in(str(self._root), f"data/{feature.name}/c"):
                if not name.isdecimal() or int(name) in needed:
                    continue
                if int(name) in unneeded or not self._fresh(folder / name):
                    yield layout.chunk_key(feature, int(name))

    def _fresh(self, place: Path) -> bool:
        """Whether something in `place` was changed within the grace time; counted as spared."""
        fresh = any(_stamp(p) > self._before_s for p in (place, *place.rglob("*")))
        self._spared += fresh
        return fresh


def _stamp(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(path: Path) -> int:
    files = [p for p in (path, *path.rglob("*")) if p.is_file() and not p.is_symlink()]
    return sum(p.stat().st_size for p in files)


def _remove(root: Path, record: RootRecord, garbage: Garbage) -> None:
    folder = ZarrFolder(root, record)
    if garbage.versions:
        folder.drop(garbage.versions)
    if garbage.episodes:
        with writing(root / "episodes", 0):
            for uid in garbage.episodes:
                place = root / "episodes" / uid
                (place / "zarr.json").unlink(missing_ok=True)
                sync_folder(place)
            for uid in garbage.episodes:
                shutil.rmtree(root / "episodes" / uid)
            sync_folder(root / "episodes")
    for key in garbage.files:
        with writing(root / key, 0):
            place = root / key
            place.unlink(missing_ok=True)
            while place.parent.name != "c":  # c/<n>/0/0/0: the folders of one picture shard
                place = place.parent
                with contextlib.suppress(FileNotFoundError):
                    place.rmdir()
    for name in garbage.beside:
        shutil.rmtree(root.with_name(name), ignore_errors=True)
    with contextlib.suppress(OSError):  # what dropping a version wrote aside
        folder.scratch.rmdir()
