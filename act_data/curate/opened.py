"""The dataset that a curation verb is about: act-zarr, on a disk, and which version of it."""

from __future__ import annotations

from pathlib import Path

from act_data.check import open_ref
from act_data.errors import InputError
from act_data.interfaces import DatasetReader
from act_data.records import VersionOrigin
from act_data.registry import Registry
from act_data.store import Url, open_dataset
from act_data.store.zarr_reader import ZarrReader


def open_zarr(ref: str) -> ZarrReader:
    """The act-zarr dataset that `ref` means, wherever it is read from.

    Raises:
        NotFoundError: There is no such dataset or version.
        InputError: It is a dataset of HDF5 files.
        StoreError: It is damaged, or is not the one that was registered.
    """
    reader = open_ref(ref)
    if not isinstance(reader, ZarrReader):
        path = reader.path
        raise InputError(
            f"{str(path)!r} is HDF5 files: they keep neither versions of their own nor annotations",
            hint="It can be read, shown, compared (diff) and traced (lineage) as it is; for the "
            f"rest make it act-zarr first: act-data convert {path} --out {path.stem}.zarr",
        )
    return reader


def open_newest(ref: str) -> ZarrReader:
    """As `open_zarr`, where a version is to be put on top.

    Raises:
        InputError: `ref` names an older version, or the dataset is behind a URL.
    """
    reader = open_zarr(ref)
    if isinstance(reader.path, Url):
        raise InputError(
            f"{reader.path} is only read",
            hint="Bring it here first: act-data clone, or act-data compact --out.",
        )
    newest = open_dataset(reader.path).version.number
    if reader.version.number != newest:
        raise InputError(
            f"{ref!r} is version {reader.version.number}, and the newest one is {newest}: a new "
            "version is made of the newest",
            hint=f"Leave the version out, or begin with: act-data restore {ref}",
        )
    return reader


def name_of(reader: DatasetReader) -> str:
    """What the registry calls the dataset of `reader`; its file's name when it does not."""
    known = {dataset.uid: dataset.name for dataset in Registry().datasets()}
    return known.get(reader.uid, reader.path.stem)


def origin(reader: DatasetReader) -> VersionOrigin:
    """The version of `reader`, as what is copied from it remembers it."""
    path = reader.path if isinstance(reader.path, Url) else Path(reader.path).absolute()
    return VersionOrigin(
        name=name_of(reader),
        path=str(path),
        uid=reader.uid,
        version=reader.version.number,
        content_hash=reader.version.content_hash,
    )
