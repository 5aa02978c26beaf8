"""ALOHA HDF5 recordings as a source: those of act, act-plus-plus, mobile-aloha and cobot_magic.

Which kind a file is, is seen from what it holds. The lengths in `compress_len` are not used: its
rows stand in the order of the recording script's list of cameras, which no file tells. The
padding is zeros and a JPEG file ends with FF D9, so the end is found without them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from act_data.convert.foreign import (
    Foreign,
    ForeignArray,
    ForeignEpisode,
    Origin,
    digest_of_files,
)
from act_data.convert.hdf5_rows import Decode, rows
from act_data.convert.settings import ConvertSettings
from act_data.errors import DataError, InputError, NotFoundError, StoreError
from act_data.records import SourceRecord
from act_data.store import jpeg
from act_data.store.hdf5 import GuardedArray, GuardedFile
from act_data.types import EncodedImage, Role, Value

SUFFIXES = (".hdf5", ".h5")
_OBSERVATIONS, _IMAGES, _DEPTH = "observations", "observations/images", "observations/images_depth"
_NOT_DATA = {"compress_len", "act"}


@dataclass(slots=True)
class _Scan:
    """What one file holds; nothing of it is decoded but one JPEG header per camera."""

    arrays: dict[str, ForeignArray] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    length: int = -1
    simulated: bool | None = None


def open_aloha(path: Path, settings: ConvertSettings) -> Foreign:
    """The recordings at `path`: one file, or a folder of them in the order of their numbers.

    Raises:
        NotFoundError: The folder holds no HDF5 file.
        InputError: Some are simulated and some are not.
        DataError: No file can be read, or one cannot and none may be left out.
    """
    files = [path] if path.is_file() else _in_order(path)
    scans: dict[Path, _Scan] = {}
    broken: dict[str, str] = {}
    for file in files:
        try:
            scans[file] = _scan(file, settings)
        except (DataError, StoreError) as e:
            broken[file.name] = str(e)
    if not scans:
        raise DataError(f"no ALOHA recording at {str(path)!r}: {next(iter(broken.values()))}")
    model = next(iter(scans.values()))
    for file in [f for f, scan in scans.items() if scan.arrays != model.arrays]:
        broken[file.name] = _difference(file, scans.pop(file), next(iter(scans)).name, model)
    kinds = {scan.simulated for scan in scans.values()}
    if len(kinds) > 1 and settings.simulated is None:
        raise InputError(
            f"the files at {str(path)!r} do not agree on their attribute 'sim': {kinds}",
            hint="Say which it is with --sim or --real.",
        )
    compressed = any(array.jpeg for array in model.arrays.values())
    return Foreign(
        kind="aloha_hdf5",
        variant=_variant(model, compressed),
        robot="aloha",
        arrays=list(model.arrays.values()),
        episodes=[_episode(file, scan, settings) for file, scan in scans.items()],
        simulated=kinds.pop() if len(kinds) == 1 else None,
        left_out=model.left_out,
        broken=broken,
        notes=_notes(model, compressed, settings),
    )


def _in_order(folder: Path) -> list[Path]:
    files = [p for p in folder.iterdir() if p.suffix in SUFFIXES and not p.name.startswith(".")]
    if not files:
        raise NotFoundError(f"{str(folder)!r} holds no *.hdf5 file")
    return sorted(files, key=lambda p: [int(n) for n in re.findall(r"\d+", p.stem)] or [0])


def _variant(scan: _Scan, compressed: bool) -> str:
    parts = ["compressed" if compressed else "plain"]
    parts += ["base_action"] if "base_action" in scan.arrays else []
    parts += ["depth"] if any(a.target.startswith("depth/") for a in scan.arrays.values()) else []
    return " + ".join(parts)


def _notes(scan: _Scan, compressed: bool, settings: ConvertSettings) -> list[str]:
    notes = []
    if scan.simulated is None:
        notes.append("no attribute 'sim': taken for a real robot")
    if not scan.simulated:
        notes.append(
            "sim is false: the original programs train on action[t-1] for observation t; here "
            "rows stay as they lie, action[t] beside observation t"
        )
    if compressed:
        swapped = settings.jpeg_colors == "swapped"
        notes.append(
            "JPEG files are taken to have red and blue exchanged, as the original scripts write "
            "them (--jpeg-colors standard if yours do not)"
            if swapped
            else "JPEG files are taken to have standard colours (--jpeg-colors)"
        )
    return notes


def _scan(path: Path, settings: ConvertSettings) -> _Scan:
    scan = _Scan()
    with GuardedFile(path) as file:
        if not file.holds("action") or not file.is_group(_OBSERVATIONS):
            raise DataError(f"{str(path)!r} is no ALOHA recording: no 'action' or 'observations'")
        for name in file.members():
            if name not in _NOT_DATA and name != _OBSERVATIONS:
                _add_numbers(scan, file, name, name)
        for name in file.members(_OBSERVATIONS):
            where = f"{_OBSERVATIONS}/{name}"
            if where not in (_IMAGES, _DEPTH):
                _add_numbers(scan, file, where, name)
        for group, add in ((_IMAGES, _add_pictures), (_DEPTH, _add_depth)):
            for camera in file.members(group) if file.holds(group) else ():
                add(scan, file, f"{group}/{camera}", camera, settings)
        scan.simulated = file.attribute_or_none("", "sim", bool)
    return scan


def _add_numbers(scan: _Scan, file: GuardedFile, where: str, name: str) -> None:
    if file.is_group(where):
        deep = name == "depths"
        scan.left_out[where] = "8-bit depth ends at 255 mm" if deep else "no array of the layout"
        return
    array = file.array(where)
    if len(array.shape) != 2:
        scan.left_out[where] = f"has shape {array.shape}, not (steps, numbers)"
        return
    acts = name.startswith("action") or name == "base_action"
    role = Role.ACTION if acts else Role.OBSERVATION
    _add(scan, file, array, name, role, array.shape[1:], array.dtype)


def _add_pictures(
    scan: _Scan, file: GuardedFile, where: str, camera: str, settings: ConvertSettings
) -> None:
    array = file.array(where)
    name, role = f"images/{camera}", Role.OBSERVATION
    if len(array.shape) == 4:
        _add(scan, file, array, name, role, array.shape[1:], array.dtype, encoding="raw")
        return
    if len(array.shape) != 2 or array.dtype != np.uint8 or not array.shape[0]:
        raise file.error(f"{where!r} is {array.dtype} {array.shape}: neither pictures nor JPEG")
    head = jpeg.header(_unpadded(array.read(0, 1)[0], where))
    _add(
        scan, file, array, name, role, (head.height, head.width, 3), array.dtype,
        encoding="jpeg", jpeg=settings.jpeg_colors,
    )  # fmt: skip


def _add_depth(scan: _Scan, file: GuardedFile, where: str, camera: str, _: ConvertSettings) -> None:
    array = file.array(where)
    if len(array.shape) != 3 or array.dtype != np.uint16:
        scan.left_out[where] = f"{array.dtype} {array.shape[1:]} is no 16-bit depth"
        return
    role, shape = Role.OBSERVATION, array.shape[1:]
    _add(scan, file, array, f"depth/{camera}", role, shape, array.dtype, encoding="raw")


def _add(
    scan: _Scan,
    file: GuardedFile,
    array: GuardedArray,
    name: str,
    role: Role,
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    **pictures: str,
) -> None:
    if scan.length < 0:
        scan.length = array.shape[0]
    if array.shape[0] != scan.length:
        raise file.error(
            f"{array.where!r} has {array.shape[0]} rows, other arrays have {scan.length}"
        )
    if not scan.length:
        raise file.error("has no step")
    scan.arrays[array.where] = ForeignArray(
        name=name,
        target=name,
        role=role,
        shape=shape,
        dtype=dtype,
        lossy=pictures.get("encoding") == "jpeg",
        **pictures,  # type: ignore[arg-type]  # the two fields of that type
    )


def _difference(path: Path, scan: _Scan, model_name: str, model: _Scan) -> str:
    def say(array: ForeignArray | None) -> str:
        return f"{array.dtype} {array.shape} {array.encoding}".strip() if array else "not there"

    wheres = {**model.arrays, **scan.arrays}
    differing = [
        f"{where} is {say(scan.arrays.get(where))}, not {say(model.arrays.get(where))}"
        for where in wheres
        if scan.arrays.get(where) != model.arrays.get(where)
    ]
    return f"{path.name} is not like {model_name}: {'; '.join(differing)}"


def _episode(path: Path, scan: _Scan, settings: ConvertSettings) -> ForeignEpisode:
    wanted = {w: a for w, a in scan.arrays.items() if settings.names.get(a.name) != ""}
    numbers = {a.name: where for where, a in wanted.items() if not a.encoding}
    pictures: Mapping[str, tuple[str, Decode]] = {
        a.name: (where, _decoder(path, where, a)) for where, a in wanted.items() if a.encoding
    }
    return ForeignEpisode(
        name=path.name,
        length=scan.length,
        origin=lambda: Origin(
            source=SourceRecord(
                name=path.stem,
                kind="aloha_hdf5",
                sha256=digest_of_files([path]),
                files=(path.name,),
            )
        ),
        rows=lambda: rows(path, numbers, pictures, scan.length),
        task=settings.task or "",
    )


def _decoder(path: Path, where: str, array: ForeignArray) -> Decode:
    def decode(row: NDArray[np.generic], t: int) -> Value:
        if not array.jpeg:
            return row
        data = _unpadded(row, f"{path.name}: row {t} of {where}")
        return EncodedImage(data=data, shape=array.shape, swapped=array.jpeg == "swapped")

    return decode


def _unpadded(row: NDArray[np.generic], where: str) -> bytes:
    data = row.tobytes().rstrip(b"\0")
    if not (data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9")):
        raise DataError(f"{where} is no whole JPEG file of {len(data)} bytes")
    return data
