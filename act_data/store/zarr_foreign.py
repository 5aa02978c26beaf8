"""Reading arrays whose codecs another program chose, through zarr-python.

Slow, one frame at a time (zarr 3.1 takes tens of milliseconds per frame for anything wider), but
open to every codec that is registered. zarr reads a missing chunk as zeros; here it is an error.
"""

from __future__ import annotations

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from act_data.errors import StoreError
from act_data.records import Feature
from act_data.store import codecs, layout, shards, zarr_chains
from act_data.store.remote import is_remote


def read_rows(
    root: str,
    spec: Feature,
    document: layout.Document,
    shard_frames: int,
    first: int,
    out: NDArray[np.generic],
) -> None:
    """Fill `out` with the rows of `spec` from row `first` of the concatenated array.

    Raises:
        StoreError: A chunk is missing or damaged, or the codecs are not known here.
    """
    codecs.register()
    zarr_chains.check_names(document.get("codecs"))
    for number in layout.shards_of(first, len(out), shard_frames) if len(out) else ():
        _check_present(root, spec, document, number, shard_frames, first, first + len(out))
    try:
        array = zarr.open_array(_store(f"{root}/data/{spec.name}"), mode="r", zarr_format=3)
        for n in range(len(out)):
            out[n] = array[first + n]
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError, OSError) as e:
        raise StoreError(f"cannot be read by zarr: {e}") from e


def _store(folder: str) -> Store:
    if is_remote(folder):
        return FsspecStore.from_url(folder, read_only=True)
    return LocalStore(folder, read_only=True)


def _check_present(
    root: str,
    spec: Feature,
    document: layout.Document,
    number: int,
    shard_frames: int,
    first: int,
    stop: int,
) -> None:
    key = layout.chunk_key(spec, number)
    try:
        opened = shards.OpenShard(root, key)
    except FileNotFoundError as e:
        raise StoreError(f"file {key!r} is missing") from e
    outer = document["codecs"][0] if document["codecs"] else {}
    if not isinstance(outer, dict) or outer.get("name") != "sharding_indexed":
        data = np.frombuffer(opened.read(0, opened.size), dtype=np.uint8)
        zarr_chains.check_chunk(data, document["codecs"], spec, shard_frames)
        return
    wanted = layout.array(spec.model_copy(update={"codec": "raw"}), shard_frames, 0)
    ours = wanted["codecs"][0]["configuration"]
    configuration = outer.get("configuration", {})
    if not isinstance(configuration, dict):
        raise StoreError(f"its shards are laid out as {configuration!r}, which is no configuration")
    given = {**configuration, "codecs": ours["codecs"]}
    if given != ours:
        raise StoreError(f"its shards are laid out as {given!r}, which this version cannot check")
    index = shards.read_index(opened, shard_frames)
    rows = range(
        max(first - number * shard_frames, 0), min(stop - number * shard_frames, shard_frames)
    )
    inner = configuration.get("codecs", [])
    for offset, size in index[rows.start : rows.stop]:
        if offset == shards.EMPTY:
            raise StoreError(f"a frame of file {key!r} is missing")
        data = np.frombuffer(opened.read(int(offset), int(size)), dtype=np.uint8)
        zarr_chains.check_chunk(data, inner, spec, 1)
