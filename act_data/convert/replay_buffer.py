"""Replay buffers of diffusion_policy as a source: zarr v2, also zipped, all episodes in a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from act_data.convert.foreign import (
    Foreign,
    ForeignArray,
    ForeignEpisode,
    Origin,
    Row,
    Sync,
    blocks,
    digest_of_files,
)
from act_data.convert.mapping import is_picture
from act_data.convert.settings import ConvertSettings
from act_data.errors import DataError, StoreError
from act_data.records import SourceRecord
from act_data.store.zarr2 import JPEG2K, Zarr2Array, Zarr2Store
from act_data.types import NS_PER_S, Role, Value

_ENDS = "meta/episode_ends"
_STAMP = "timestamp"  # seconds, as the real robot environments of diffusion_policy record them
_MAX_EPISODES = 1 << 24
_NONE = Sync(
    tick_ns=0,
    skew_ns=np.zeros(0, np.int64),
    reason=np.zeros(0, np.uint8),
    index=np.zeros(0, np.int64),
)


def open_replay_buffer(path: Path, settings: ConvertSettings) -> Foreign:
    """The buffer at `path`: a folder, or a zip file.

    Raises:
        InputError: It needs an extra that is not installed.
        DataError: It is damaged, or no buffer.
    """
    store = Zarr2Store(path)
    try:
        ends = _ends(store)
        arrays = {name: store.array(f"data/{name}") for name in store.arrays("data")}
        for name, array in arrays.items():
            if array.shape[0] != ends[-1]:
                raise DataError(
                    f"array {name!r} of {str(path)!r} has {array.shape[0]} rows, its episodes end "
                    f"at {ends[-1]}"
                )
        if "action" not in arrays:
            raise DataError(f"{str(path)!r} has no array 'action': it is no replay buffer")
    except StoreError as e:
        store.close()
        raise DataError(str(e), hint=e.hint) from e
    except BaseException:
        store.close()
        raise
    stamps = arrays.get(_STAMP)
    stamped = stamps is not None and stamps.shape[1:] == () and stamps.dtype == np.float64
    stamped = stamped and _STAMP not in settings.names
    described = [
        _array(name, array) for name, array in arrays.items() if not (stamped and name == _STAMP)
    ]
    wanted = {name: a for name, a in arrays.items() if settings.names.get(name) != ""}
    digests: list[str] = []

    def origin(number: int) -> Origin:
        if not digests:  # of the whole store, once
            digests.append(digest_of_files(store.files()))
        source = SourceRecord(
            name=f"{path.name.split('.')[0]}/{number}",
            kind="replay_buffer",
            sha256=digests[0],
            files=(path.name,),
        )
        return Origin(source=source)

    starts = [0, *ends[:-1]]
    return Foreign(
        kind="replay_buffer",
        variant="zipped" if path.is_file() else "folder",
        robot="replay_buffer",
        arrays=described,
        episodes=[
            ForeignEpisode(
                name=f"episode {n}",
                length=stop - start,
                origin=lambda n=n: origin(n),  # type: ignore[misc]  # bound now
                rows=lambda n=n, start=start, stop=stop: _rows(  # type: ignore[misc]
                    wanted, n, start, stop, stamped
                ),
            )
            for n, (start, stop) in enumerate(zip(starts, ends, strict=True))
        ],
        stamps="recorded" if stamped else "nominal",
        close=store.close,
    )


def _ends(store: Zarr2Store) -> list[int]:
    array = store.array(_ENDS)
    if len(array.shape) != 1 or not 0 < array.shape[0] < _MAX_EPISODES:
        raise DataError(f"{_ENDS} of {str(store.path)!r} has shape {array.shape}")
    ends = array.read(0, array.shape[0])
    if ends.dtype.kind not in "iu" or ends[0] < 1 or (np.diff(ends.astype(np.int64)) < 1).any():
        raise DataError(f"{_ENDS} of {str(store.path)!r} does not grow: {ends[:10].tolist()} ...")
    return [int(end) for end in ends]


def _array(name: str, array: Zarr2Array) -> ForeignArray:
    shape = array.shape[1:]
    picture = is_picture(shape, array.dtype)
    depth = array.dtype == np.uint16 and len(shape) >= 2
    lossy = array.codec == JPEG2K
    return ForeignArray(
        name=name,
        target=f"images/{name}" if picture else f"depth/{name}" if depth else name,
        role=Role.ACTION if name.startswith("action") else Role.OBSERVATION,
        shape=shape,
        dtype=array.dtype,
        encoding=("jpeg2k" if lossy else "raw") if picture or depth else "",
        lossy=lossy,
    )


def _rows(
    arrays: Mapping[str, Zarr2Array], number: int, start: int, stop: int, stamped: bool
) -> Iterator[Row]:
    step = sum(int(np.prod(a.shape[1:])) * a.dtype.itemsize for a in arrays.values())
    before = -np.inf
    for low, high in blocks(stop - start, step):
        block = {name: a.read(start + low, start + high) for name, a in arrays.items()}
        for i in range(high - low):
            values: dict[str, Value] = {name: found[i] for name, found in block.items()}
            if not stamped:
                yield Row(values=values)
                continue
            seconds = float(block[_STAMP][i])
            if not before < seconds < 2**33:
                raise DataError(
                    f"episode {number}, step {low + i}: the timestamp {seconds} does not follow "
                    f"{before}",
                    hint=f"Leave the stamps out with --map {_STAMP}=",
                )
            before = seconds
            yield Row(values=values, sync=replace(_NONE, tick_ns=round(seconds * NS_PER_S)))
