"""The files of a folder of recordings: their names, and what lies beside them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from act_data.errors import StoreError
from act_data.segments import Sidecar

# A dash: `<prefix>_<n>` would be the splits of one recording, which are joined.
_NAME = re.compile(r"episode-(\d{3,9})\.(?:mcap|mcap\.active|yaml)")


def open_folder(folder: Path) -> None:
    """Make `folder`, and see that files can be written into it.

    Raises:
        StoreError: It is no folder, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(0, "no permission to write")
    except OSError as e:
        raise StoreError(
            f"cannot record to {str(folder)!r}: {e.strerror}", hint="Name another folder (--out)."
        ) from e


def next_file(folder: Path, after: Path | None = None) -> Path:
    """A name after those of all recordings in `folder`, unfinished ones and sidecars included.

    Args:
        after: One that is not to be used again, whether or not it is still there.
    """
    names = [p.name for p in (*folder.iterdir(), *((after,) if after else ()))]
    numbers = [int(m[1]) for name in names if (m := _NAME.fullmatch(name))]
    return folder / f"episode-{max(numbers, default=-1) + 1:03d}.mcap"


def write_sidecar(recording: Path, sidecar: Sidecar) -> None:
    """Say beside `recording` what a person said about it, where `act-data ingest` reads it.

    Nothing is written where nothing was said.

    Raises:
        StoreError: The disk is full or failing.
    """
    said = sidecar.model_dump(exclude_none=True)
    path = sidecar_path(recording)
    scratch = path.with_name(f".{path.name}.partial")
    try:
        if not said:
            path.unlink(missing_ok=True)
            return
        with scratch.open("w", encoding="utf-8") as file:
            file.writelines(f"{key}: {_yaml(value)}\n" for key, value in said.items())
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as e:
        scratch.unlink(missing_ok=True)
        raise StoreError(f"cannot write {str(path)!r}: {e.strerror}") from e


def sidecar_path(recording: Path) -> Path:
    """Where the annotation of `recording` lies."""
    return recording.with_suffix(".yaml")


def _yaml(value: str | bool | int) -> str:
    if not isinstance(value, str):
        return str(value).lower()
    plain = (c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
    return f'"{"".join(plain)}"'
