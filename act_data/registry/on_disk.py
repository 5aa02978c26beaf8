"""Which datasets lie at a path."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from act_data.errors import NotFoundError

_EPISODE_FILE = re.compile(r"episode_\d+\.hdf5")


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
