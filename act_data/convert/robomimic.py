"""robomimic HDF5 files as a source: one file, a group per demonstration, filter keys as splits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from act_data.convert.foreign import (
    Foreign,
    ForeignArray,
    ForeignEpisode,
    Origin,
    Row,
    digest_of_files,
)
from act_data.convert.hdf5_rows import Decode, rows
from act_data.convert.mapping import is_picture
from act_data.convert.settings import ConvertSettings
from act_data.errors import DataError, StoreError
from act_data.records import SourceRecord, Split
from act_data.store.hdf5 import GuardedFile
from act_data.types import Role

_SPLITS: Mapping[str, Split] = {"train": "train", "valid": "val", "val": "val", "test": "val"}
_LEFT_OUT = {
    "next_obs": "is the observation of the next step",
    "rewards": "is known after the action only",
    "dones": "is known after the action only",
    "states": "is the simulator's own",
}


@dataclass(slots=True)
class _Demo:
    """What one demonstration holds: arrays by their place below its group."""

    length: int = -1
    arrays: dict[str, ForeignArray] = field(default_factory=dict)


def open_robomimic(path: Path, settings: ConvertSettings) -> Foreign:
    """The demonstrations in the file `path`, in the order of their numbers.

    Raises:
        DataError: It holds none, or none that can be read.
    """
    demos: dict[str, _Demo] = {}
    broken: dict[str, str] = {}
    with GuardedFile(path) as file:
        names = sorted(file.members("data"), key=lambda n: [int(d) for d in re.findall(r"\d+", n)])
        for name in names:
            try:
                demos[name] = _scan(file, name)
            except (DataError, StoreError) as e:
                broken[name] = str(e)
        if not demos:
            why = next(iter(broken.values()), "its group 'data' is empty")
            raise DataError(f"no demonstration in {str(path)!r}: {why}")
        first = next(iter(demos))
        model = demos[first].arrays
        for name in [n for n, demo in demos.items() if demo.arrays != model]:
            different = sorted(
                w for w in {**model, **demos[name].arrays}
                if demos[name].arrays.get(w) != model.get(w)
            )  # fmt: skip
            broken[name] = f"{path.name}: {name} is not like {first}: {', '.join(different)}"
            del demos[name]
        splits, notes = _splits(file)
        environment = _environment(file)
        simulated = file.attribute_or_none(f"data/{first}", "model_file", str) is not None
        left_out = {n: _LEFT_OUT[n] for n in file.members(f"data/{first}") if n in _LEFT_OUT}
    digests: list[str] = []

    def origin(name: str) -> Origin:
        if not digests:  # of the whole file, once
            digests.append(digest_of_files([path]))
        source = SourceRecord(
            name=f"{path.stem}/{name}", kind="robomimic", sha256=digests[0], files=(path.name,)
        )
        return Origin(source=source)

    return Foreign(
        kind="robomimic",
        variant=str(environment.get("env_name", "unknown environment")),
        robot=_robot(environment),
        arrays=list(model.values()),
        episodes=[
            ForeignEpisode(
                name=name,
                length=demo.length,
                origin=lambda name=name: origin(name),  # type: ignore[misc]  # bound now
                rows=lambda name=name, demo=demo: _rows(  # type: ignore[misc]
                    path, name, demo, settings
                ),
                task=str(environment.get("env_name", "")),
                split=splits.get(name),
            )
            for name, demo in demos.items()
        ],
        fps=_rate(environment),
        simulated=True if simulated else None,
        left_out=left_out,
        broken=broken,
        notes=notes,
    )


def _scan(file: GuardedFile, name: str) -> _Demo:
    demo = _Demo()
    _add(demo, file, name, "actions", "action", Role.ACTION)
    for key in file.members(f"data/{name}/obs"):
        _add(demo, file, name, f"obs/{key}", key, Role.OBSERVATION)
    return demo


def _add(demo: _Demo, file: GuardedFile, name: str, where: str, key: str, role: Role) -> None:
    array = file.array(f"data/{name}/{where}")
    if not array.shape or not array.shape[0]:
        raise file.error(f"{array.where!r} has no row")
    if demo.length < 0:
        demo.length = array.shape[0]
    if array.shape[0] != demo.length:
        raise file.error(f"{array.where!r} has {array.shape[0]} rows, 'actions' has {demo.length}")
    shape = array.shape[1:]
    picture = is_picture(shape, array.dtype)
    depth = array.dtype == np.uint16 and len(shape) >= 2
    demo.arrays[where] = ForeignArray(
        name=key if role is Role.OBSERVATION else where,
        target=f"images/{key}" if picture else f"depth/{key}" if depth else key,
        role=role,
        shape=shape,
        dtype=array.dtype,
        encoding="raw" if picture or depth else "",
    )


def _rows(path: Path, name: str, demo: _Demo, settings: ConvertSettings) -> Iterator[Row]:
    wanted = {w: a for w, a in demo.arrays.items() if settings.names.get(a.name) != ""}
    numbers = {a.name: f"data/{name}/{w}" for w, a in wanted.items() if not a.encoding}
    pictures: dict[str, tuple[str, Decode]] = {
        a.name: (f"data/{name}/{w}", lambda row, _: row) for w, a in wanted.items() if a.encoding
    }
    return rows(path, numbers, pictures, demo.length)


def _splits(file: GuardedFile) -> tuple[dict[str, Split], list[str]]:
    """Split by demonstration, where filter keys of the usual names are there."""
    found: dict[str, Split] = {}
    notes = []
    for key in file.members("mask") if file.holds("mask") else ():
        if key not in _SPLITS:
            continue
        try:
            array = file.array(f"mask/{key}")
            names = array.read(0, array.shape[0]).tolist()
        except StoreError as e:
            notes.append(f"the split {key!r} cannot be read: {e}")
            continue
        for name in names:
            text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
            found.setdefault(text, _SPLITS[key])
    return (found if set(found.values()) == {"train", "val"} else {}), notes


def _environment(file: GuardedFile) -> Mapping[str, Any]:
    try:
        found = json.loads(file.attribute_or_none("data", "env_args", str) or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _rate(environment: Mapping[str, Any]) -> float | None:
    """`control_freq` of robosuite environments."""
    details = environment.get("env_kwargs")
    rate = details.get("control_freq") if isinstance(details, dict) else None
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 10_000:
        return None
    return float(rate)


def _robot(environment: Mapping[str, Any]) -> str:
    details = environment.get("env_kwargs")
    robots = details.get("robots") if isinstance(details, dict) else None
    names = robots if isinstance(robots, list) else [robots]
    texts = [name for name in names if isinstance(name, str)]
    return "+".join(texts) or "robomimic"
