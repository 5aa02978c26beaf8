"""Where a registry lies, and which datasets lie at a path."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from act_data.errors import NotFoundError

Place = Path | str  # a SQLite file, or the URL of a database

_EPISODE_FILE = re.compile(r"episode_\d+\.hdf5")


def default_place() -> Place:
    """`ACT_REGISTRY`, a path or a URL; else registry.db in the user's data folder."""
    chosen = os.environ.get("ACT_REGISTRY")
    if not chosen:
        return platformdirs.user_data_path("act", appauthor=False) / "registry.db"
    return chosen if "://" in chosen else Path(chosen).expanduser().absolute()


def find_datasets(path: Path) -> list[Path]:
    """The datasets at or below `path`, absolute, in the order of their names.

    Raises:
        NotFoundError: `path` does not exist.
    """
    if not path.exists():
        raise NotFoundError(f"{path} does not exist", hint="Name a dataset or a folder of some.")
    return list(_search(path.absolute()))


def _search(path: Path) -> Iterator[Path]:
    if path.suffix in (".zarr", ".hdf5"):
        yield path
    elif path.is_dir():
        entries = sorted(p for p in path.iterdir() if not p.name.startswith("."))
        if any(_EPISODE_FILE.fullmatch(p.name) for p in entries):
            yield path
            return
        for entry in entries:
            if not (entry.is_symlink() and entry.is_dir()):  # a link may lead back up
                yield from _search(entry)
