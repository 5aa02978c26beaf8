"""The folder of an act-zarr dataset as its one writer changes it: every step whole or not at all.

Order is everything here. A shard is moved in before the record that names it, a version is written
before the root that points to it, and each of them is on the disk before the next one begins.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from act_data.errors import StoreError
from act_data.records import DatasetFacts, EpisodeRecord, Feature, FileDigest, VersionRecord
from act_data.store import layout
from act_data.store.files import make_folders, sync_folder, write_synced, write_whole, writing
from act_data.store.zarr_episode import Shards
from act_data.store.zarr_records import RootRecord, dump, meta_chunks, read_document


class ZarrFolder:
    """One dataset folder.

    Attributes:
        path: The folder itself, links resolved.
        scratch: Beside it, on the same file system; holds whatever is not complete yet.
        record: What `zarr.json` says, or will say once the folder is created.
    """

    def __init__(self, path: Path, record: RootRecord) -> None:
        self.path = path
        self.scratch = path.with_name(f".{path.name}.partial")
        self.record = record

    def clear_scratch(self) -> None:
        """Remove what this writer, or one that was killed, left unfinished."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def make_scratch(self) -> Path:
        """The scratch folder, made if need be."""
        with writing(self.scratch, 0):
            self.scratch.mkdir(exist_ok=True)
        return self.scratch

    def create(self) -> None:
        """Make the dataset without any episode: built aside, then renamed into place."""
        schema = self.record.dataset_schema
        fresh = self.make_scratch() / "new"
        documents = {key: layout.group() for key in layout.group_keys(schema)}
        for feature in schema.features:
            documents[layout.array_key(feature)] = self._array(feature, 0)
        for name in layout.META:
            documents[f"meta/{name}/zarr.json"] = layout.meta_array(name, 0, 0)
        documents["zarr.json"] = layout.group(act=dump(self.record))
        with writing(self.path, 0):
            shutil.rmtree(fresh, ignore_errors=True)
            folders = {fresh, *((fresh / key).parent for key in documents)}
            for folder in sorted(folders):
                folder.mkdir()
            for key, document in documents.items():
                write_synced(fresh / key, layout.render(document))
            for folder in folders:
                sync_folder(folder)
            fresh.replace(self.path)
            sync_folder(self.path.parent)

    @contextmanager
    def moved_in(
        self, uid: str, first: int, arrays: Sequence[tuple[Feature, Shards]]
    ) -> Iterator[Mapping[str, FileDigest]]:
        """Move the shards of episode `uid` to their places from `first` on; yields their manifest.

        If the block fails, or is interrupted, they are moved back, and before that the record is
        removed that `write_episode` may have written: no record ever names shards that are gone.
        """
        files: dict[str, FileDigest] = {}
        places: dict[Path, Path] = {}
        try:
            for feature, shards in arrays:
                for number, (scratch, file) in enumerate(shards, first):
                    key = layout.chunk_key(feature, number)
                    target = self.path / key
                    make_folders(self.path, target.parent)
                    files[key] = file
                    places[target] = scratch
                    with writing(target, file.bytes):
                        scratch.replace(target)
            for folder in sorted({(self.path / key).parent for key in files}):
                with writing(folder, 0):
                    sync_folder(folder)
            yield files
        except BaseException:
            # A disk that fails here, too, leaves them to the next writer, record and all.
            with contextlib.suppress(OSError):
                (self.path / layout.episode_key(uid)).unlink(missing_ok=True)
                for target, scratch in places.items():
                    if target.exists():
                        target.replace(scratch)
            raise

    def write_episode(self, record: EpisodeRecord) -> None:
        """Write the record of an episode: from here on the episode is durable."""
        self._write(layout.episode_key(record.uid), layout.group(act_episode=dump(record)))

    def publish(
        self, version: VersionRecord, record: RootRecord, facts: DatasetFacts | None = None
    ) -> None:
        """Make `version` the newest one: visible at the moment the root is replaced.

        Args:
            facts: What is newly said of it.
        """
        self.describe_arrays(record.rows)
        self._write(layout.version_key(version.number), layout.group(act_version=dump(version)))
        if facts is not None:
            self._write(layout.facts_key(version.number), layout.group(act_facts=dump(facts)))
        self._write("zarr.json", layout.group(act=dump(record)))
        self.record = record
        # For people who only have zarr; if the disk is full now, the next writer makes up for it.
        with contextlib.suppress(StoreError):
            self.describe_version(version)

    def drop(self, versions: Iterable[int]) -> None:
        """Let nobody open these versions any more; what they were stays written."""
        dropped = tuple(sorted({*self.record.dropped, *versions}))
        record = self.record.model_copy(update={"dropped": dropped})
        self._write("zarr.json", layout.group(act=dump(record)))
        self.record = record

    def take_over(
        self, documents: Mapping[str, bytes], version: VersionRecord, record: RootRecord
    ) -> None:
        """Make `version` the newest one, from documents that were written for another folder.

        Args:
            documents: Of episodes and versions, by key, in the order in which they are written.
        """
        for key, data in documents.items():
            write_whole(self.path, key, data, self.make_scratch() / "document")
        self.describe_arrays(record.rows)
        self._write("zarr.json", layout.group(act=dump(record)))
        self.record = record
        self.describe_version(version)

    def describe_arrays(self, rows: int) -> None:
        """Give all array documents `rows` rows.

        Raises:
            StoreError: One of them is damaged, or another program changed it.
        """
        for feature in self.record.dataset_schema.features:
            key = layout.array_key(feature)
            document = read_document(str(self.path), key)
            wanted = self._array(feature, rows)
            if document == wanted:
                continue
            if {**document, "shape": wanted["shape"]} != wanted:
                raise StoreError(
                    f"{str(self.path / key)!r} was changed by another program",
                    hint="Nothing can be appended to this dataset; it may still be read.",
                )
            self._write(key, wanted)

    def describe_version(self, version: VersionRecord) -> None:
        """Make the meta arrays say where the episodes of `version` lie."""
        columns = {
            "episode_start": [e.start for e in version.episodes],
            "episode_length": [e.length for e in version.episodes],
        }
        for name, values in columns.items():
            for chunk, data in enumerate(meta_chunks(values)):
                key = f"meta/{name}/c/{chunk}"
                write_whole(self.path, key, data, self.make_scratch() / "document")
            document = layout.meta_array(name, len(values), version.number)
            self._write(f"meta/{name}/zarr.json", document)

    def remove_leftovers(self, durable: Iterable[EpisodeRecord]) -> None:
        """Delete shards that a killed writer moved in for an episode that it never finished."""
        kept = {key for record in durable for key in record.files}
        for feature in self.record.dataset_schema.features:
            folder = self.path / "data" / feature.name / "c"
            for entry in os.scandir(folder) if folder.is_dir() else ():
                if not entry.name.isdecimal() or int(entry.name) < self.record.next_shard:
                    continue
                if layout.chunk_key(feature, int(entry.name)) in kept:
                    continue
                with writing(Path(entry.path), 0):
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        Path(entry.path).unlink()

    def _array(self, feature: Feature, rows: int) -> layout.Document:
        return layout.array(feature, self.record.shard_frames, rows)

    def _write(self, key: str, document: layout.Document) -> None:
        data = layout.render(document)
        write_whole(self.path, key, data, self.make_scratch() / "document")
