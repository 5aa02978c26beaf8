"""Reading an act-zarr dataset at the speed of its decoder, pinned to one version.

Shards are read directly (pread, a cached index, decode into the caller's array): no event loop, no
threads, so a reader survives a fork. Arrays whose codecs are not ours go through zarr-python. In
both cases a missing file is an error, never a frame of zeros.
"""

from __future__ import annotations

import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError, NotFoundError, StoreError
from act_data.records import (
    DatasetSchema,
    Depth,
    EpisodeEntry,
    EpisodeRecord,
    Feature,
    Problem,
    StatsRecord,
    VersionRecord,
)
from act_data.store import frames, layout, shards
from act_data.store.episodes_of_version import (
    array_asked,
    episode_asked,
    places_of,
    refuse_other_place,
    refuse_other_stats,
    rows_asked,
)
from act_data.store.files import real_root, sync_folder, write_whole, writing
from act_data.store.remote import Url, location
from act_data.store.zarr_records import (
    dump,
    foreign_array,
    read_episode,
    read_root,
    read_stats,
    read_version,
)
from act_data.types import EncodedImage

OPEN_SHARDS = 128  # well below the usual limit of 1024 descriptors, also with many readers


class ZarrReader:
    """A `DatasetReader` for act-zarr.

    Args:
        check: Whether the checksum of every frame is compared when it is read (0.03 ms for a
            480x640 JPEG).
        dropped: Open a version that was dropped, too: what it was is known, its episodes may be
            gone.

    Attributes:
        created_by: The program that began the dataset.
    """

    def __init__(
        self,
        path: Path,
        version: int | None = None,
        *,
        check: bool = True,
        dropped: bool = False,
    ) -> None:
        self._path = location(path)
        self._root = real_root(self._path)
        self._check = check
        record = read_root(self._root)
        newest = record.head.version
        number = newest if version is None else version
        if not 1 <= number <= newest:
            raise NotFoundError(
                f"{str(path)!r} has no version {number}"
                if newest
                else f"{str(path)!r} holds no version yet: nothing was committed",
                hint=f"It has 1 to {newest}." if newest else "Finish the ingest first.",
            )
        if number in record.dropped and not dropped:
            raise NotFoundError(
                f"version {number} of {str(path)!r} was dropped: its episodes may be gone",
                hint=f"It has {', '.join(map(str, record.kept))}.",
            )
        self._uid = record.dataset_uid
        self.created_by = record.created_by
        self._schema = record.dataset_schema
        self._shard_frames = record.shard_frames
        self._version = read_version(self._root, number, record.shard_frames)
        self._features = {f.name: f for f in self._schema.features}
        self._foreign: dict[str, layout.Document | None] = {}
        self._shards: OrderedDict[tuple[str, int], shards.OpenShard] = OrderedDict()

    def __reduce__(self) -> tuple[Callable[..., ZarrReader], tuple[Path, int, bool]]:
        return _reopen, (self._path, self._version.number, self._check)

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self._path

    @property
    def uid(self) -> str:
        """Identity of the dataset over all its versions."""
        return self._uid

    @property
    def schema(self) -> DatasetSchema:
        """What every episode looks like."""
        return self._schema

    @property
    def version(self) -> VersionRecord:
        """The version that this reader is pinned to."""
        return self._version

    @property
    def episodes(self) -> Sequence[EpisodeEntry]:
        """The episodes of the version, in order."""
        return self._version.episodes

    def episode(self, uid: str) -> EpisodeRecord:
        """The whole record of one episode, with what the version says about it instead.

        Raises:
            NotFoundError: The version has no such episode.
        """
        episode_asked(self._path, self._version, self._places, uid)
        record = self.written(uid)
        said = self._version.annotations.get(uid)
        if said is None:
            return record
        # Whole, but for what another program left out of it.
        known = {k: v for k, v in said.model_dump().items() if v is not None or k == "success"}
        info = record.info.model_copy(update=known)
        return record.model_copy(update={"info": info})

    def written(self, uid: str) -> EpisodeRecord:
        """The record of one episode as it was written, whichever versions hold it.

        Raises:
            StoreError: It is not there, or damaged.
        """
        return read_episode(self._root, uid, self._shard_frames)

    @cached_property
    def _places(self) -> dict[str, int]:
        return places_of(self._version)

    def read(
        self,
        feature: str,
        episode: int,
        start: int = 0,
        stop: int | None = None,
        *,
        out: NDArray[np.generic] | None = None,
    ) -> NDArray[np.generic]:
        """Rows [start, stop) of `feature` in the `episode`-th episode, (T, *shape), decoded.

        Args:
            out: Where to put them; see `DatasetReader`.

        Raises:
            NotFoundError: There is no such array or episode.
            InputError: The rows are not part of the episode, or `out` is no place for them.
            StoreError: A file is missing, cut or damaged; names array, episode and row.
        """
        spec = array_asked(self._path, self._features, feature)
        rows = rows_asked(self._path, self._version, episode, start, stop)
        if out is not None:
            refuse_other_place(out, spec, len(rows))
        foreign = self._document_of(spec)
        if foreign is not None:
            return self._read_foreign(spec, foreign, episode, rows, out)
        return self._read_own(spec, episode, rows, out)

    def encoded(self, feature: str, episode: int, row: int) -> EncodedImage | None:
        """The JPEG file that `read` would decode; None where the array is not kept as JPEG.

        Raises:
            NotFoundError: There is no such array or episode.
            InputError: The episode has no such row.
            StoreError: A file is missing, cut or damaged.
        """
        spec = array_asked(self._path, self._features, feature)
        rows_asked(self._path, self._version, episode, row, row + 1)
        if spec.codec != "jpeg" or self._document_of(spec) is not None:
            return None
        number, slot = divmod(self.episodes[episode].start + row, self._shard_frames)
        opened = self._shard(spec, number, episode, row)
        assert opened.index is not None  # every array with a codec has one
        offset, size = (int(v) for v in opened.index[slot])
        try:
            if offset == shards.EMPTY:
                raise StoreError("is missing")
            data = shards.read_frame(opened, offset, size)
        except StoreError as e:
            raise self._damaged(spec, episode, row, f"frame {e}") from e
        return EncodedImage(data=data.tobytes(), shape=spec.shape)

    def stats(self) -> StatsRecord | None:
        """The statistics saved with this version, if any."""
        return read_stats(self._root, self._version.number)

    def save_stats(self, stats: StatsRecord) -> None:
        """Keep `stats` with this version, in place of those saved before.

        Raises:
            InputError: They were computed from other content, or the dataset is read by URL.
            StoreError: They cannot be written.
        """
        if isinstance(self._path, Url):
            raise InputError(f"{self._path} is only read", hint="Save them with the original.")
        refuse_other_stats(self._path, self._version, stats)
        root = Path(self._root)
        target = (root / layout.stats_key(self._version.number)).parent
        scratch = root.with_name(f".{root.name}.stats-{os.getpid()}")
        data = layout.render(layout.group(act_stats=dump(stats)))
        with writing(target, len(data)):
            scratch.mkdir(exist_ok=True)
            try:
                write_whole(scratch, "zarr.json", data, scratch / "document")
                if target.exists():
                    (scratch / "zarr.json").replace(target / "zarr.json")
                    sync_folder(target)
                else:
                    scratch.replace(target)
                    sync_folder(target.parent)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)

    def verify(self, depth: Depth = "hash") -> list[Problem]:
        """What is damaged, missing or foreign in this version; see `DatasetReader`."""
        from act_data.store.zarr_verify import problems

        return problems(self._root, self._version, depth)

    # --- our own chains -----------------------------------------------------------------------

    def _read_own(
        self, spec: Feature, episode: int, wanted: range, out: NDArray[np.generic] | None
    ) -> NDArray[np.generic]:
        # Everything is opened and its extent checked before memory is taken for it.
        parts = []
        row, stop = wanted.start, wanted.stop
        while row < stop:
            shard, slot = divmod(self.episodes[episode].start + row, self._shard_frames)
            count = min(self._shard_frames - slot, stop - row)
            parts.append((row, slot, count, self._shard(spec, shard, episode, row)))
            row += count
        if out is None:
            out = np.empty((len(wanted), *spec.shape), dtype=spec.dtype)
        for row, slot, count, opened in parts:
            rows = out[row - wanted.start :][:count]
            if opened.index is None:
                _read_rows(opened, spec, slot, rows)
                continue
            for n in range(count):
                offset, size = (int(v) for v in opened.index[slot + n])
                try:
                    if offset == shards.EMPTY:
                        raise StoreError("is missing")
                    data = shards.read_frame(opened, offset, size, check=self._check)
                    frames.decode(data, spec, rows[n])
                except StoreError as e:
                    raise self._damaged(spec, episode, row + n, f"frame {e}") from e
        return out

    def _shard(self, spec: Feature, number: int, episode: int, row: int) -> shards.OpenShard:
        found = self._shards.pop((spec.name, number), None)
        if found is None:
            key = layout.chunk_key(spec, number)
            try:
                found = self._open(spec, key)
            except FileNotFoundError as e:
                raise self._damaged(spec, episode, row, f"file {key!r} is missing") from e
            except OSError as e:
                raise self._damaged(spec, episode, row, f"file {key!r}: {e.strerror}") from e
            except StoreError as e:
                raise self._damaged(spec, episode, row, f"file {key!r} {e}") from e
        self._shards[spec.name, number] = found
        if len(self._shards) > OPEN_SHARDS:
            self._shards.popitem(last=False)
        return found

    def _open(self, spec: Feature, key: str) -> shards.OpenShard:
        opened = shards.OpenShard(self._root, key)
        if spec.codec != "none":
            opened.index = shards.read_index(opened, self._shard_frames)
        elif opened.size != self._shard_frames * frames.step_bytes(spec):
            raise StoreError(
                f"has {opened.size} bytes, not {self._shard_frames * frames.step_bytes(spec)}"
            )
        return opened

    def _damaged(self, spec: Feature, episode: int, row: int, what: str) -> StoreError:
        entry = self.episodes[episode]
        return StoreError(
            f"array {spec.name!r}, episode {episode} ({entry.uid}), row {row}: {what} "
            f"(in {str(self._path)!r})",
            hint="Run verify on the dataset for the whole extent of the damage.",
        )

    # --- chains of other programs -------------------------------------------------------------

    def _document_of(self, spec: Feature) -> layout.Document | None:
        if spec.name not in self._foreign:
            self._foreign[spec.name] = foreign_array(self._root, spec, self._shard_frames)
        return self._foreign[spec.name]

    def _read_foreign(
        self,
        spec: Feature,
        document: layout.Document,
        episode: int,
        wanted: range,
        out: NDArray[np.generic] | None,
    ) -> NDArray[np.generic]:
        from act_data.store.zarr_foreign import read_rows

        first = self.episodes[episode].start + wanted.start
        if out is None:
            out = np.empty((len(wanted), *spec.shape), dtype=spec.dtype)
        try:
            read_rows(self._root, spec, document, self._shard_frames, first, out)
        except StoreError as e:
            raise self._damaged(spec, episode, wanted.start, str(e)) from e
        return out


def _reopen(path: Path, version: int, check: bool) -> ZarrReader:
    return ZarrReader(path, version, check=check)


def _read_rows(
    opened: shards.OpenShard, spec: Feature, slot: int, out: NDArray[np.generic]
) -> None:
    step = frames.step_bytes(spec)
    data = opened.read(slot * step, len(out) * step)
    out[...] = np.frombuffer(data, dtype=frames.stored_dtype(spec)).reshape(out.shape)
