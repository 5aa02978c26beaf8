"""Datasets on disk: act-zarr, and the HDF5 layout of ALOHA. The path's suffix decides which."""

from __future__ import annotations

from pathlib import Path

from act_data.errors import InputError, NotFoundError, StoreError
from act_data.interfaces import DatasetReader, DatasetWriter
from act_data.records import DatasetSchema
from act_data.store.remaining import Remaining
from act_data.store.remote import Url, location

__all__ = ["SHARD_FRAMES", "Remaining", "Url", "location", "open_dataset", "open_writer"]

SHARD_FRAMES = 512  # a 500-step episode is one file per camera, 54 MB at 480x640 and quality 95


def open_writer(
    path: Path, schema: DatasetSchema, *, shard_frames: int = SHARD_FRAMES
) -> DatasetWriter:
    """A writer that creates `path`, or continues the dataset there.

    `*.zarr` becomes act-zarr; `*.hdf5` one ALOHA episode; any other path a folder of them.

    Args:
        shard_frames: Steps per storage shard of a new act-zarr dataset; an existing one keeps
            its own.

    Raises:
        InputError: The schema cannot be stored in this format.
        ConflictError: Something else lies at `path`, it has another schema, or another process
            is writing it.
        StoreError: The dataset is damaged, or of a newer format.
    """
    path = location(path)
    if isinstance(path, Url):
        raise InputError(
            f"{str(path)!r} is only read: a dataset is written to a disk",
            hint="Name a path, and copy the finished dataset to where it is to be.",
        )
    if path.suffix == ".zarr":
        from act_data.store.zarr_writer import ZarrWriter

        return ZarrWriter(path, schema, shard_frames=shard_frames)
    from act_data.store.hdf5 import Hdf5Writer

    return Hdf5Writer(path, schema)


def open_dataset(path: Path, version: int | None = None, *, dropped: bool = False) -> DatasetReader:
    """A reader pinned to `version` of the dataset at `path`, to the newest one by default.

    An act-zarr dataset may also lie behind a URL (`location("s3://bucket/ds.zarr")`).

    Args:
        dropped: Also a version that was dropped: what it was is known, its episodes may be gone.

    Raises:
        NotFoundError: Nothing lies at `path`, or the dataset has no such version.
        StoreError: It is not a dataset, is damaged, or of a newer format.
    """
    path = location(path)
    if not path.exists():
        raise NotFoundError(
            f"there is no dataset at {str(path)!r}", hint="Check the path, or ingest one there."
        )
    if isinstance(path, Url) or path.suffix == ".zarr" or (path / "zarr.json").exists():
        from act_data.store.zarr_reader import ZarrReader

        return ZarrReader(path, version, dropped=dropped)
    if path.suffix in (".bag", ".db3", ".mcap"):
        raise StoreError(
            f"{str(path)!r} is a recording, not a dataset",
            hint=f"Make one of it: act-data ingest {path} --out {path.stem}.zarr",
        )
    from act_data.store.hdf5 import Hdf5Reader

    return Hdf5Reader(path, version)
