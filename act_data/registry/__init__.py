"""The index that turns a name into a dataset and proves it unchanged.

The stores are the truth and describe themselves; this file can be thrown away and rebuilt.
"""

from __future__ import annotations

import difflib
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from act_data.errors import InputError, NotFoundError, StoreError
from act_data.interfaces import DatasetReader
from act_data.registry.database import default_file, is_damaged, set_aside, transaction
from act_data.registry.rows import (
    LATEST,
    RegisteredDataset,
    RegisteredVersion,
    compare,
    dataset_of,
    register,
    versions_of,
)
from act_data.store import location, open_dataset

__all__ = [
    "RegisteredDataset",
    "RegisteredVersion",
    "Registry",
    "Resolved",
    "TrainedOn",
    "find_datasets",
]

_EPISODE_FILE = re.compile(r"episode_\d+\.hdf5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The dataset version that a reference means; it was there and unchanged when asked."""

    name: str
    path: Path
    version: int
    content_hash: str


class TrainedOn(Protocol):
    """The exact data of a checkpoint, as far as the registry cares."""

    @property
    def uid(self) -> str:
        """Of the dataset."""

    @property
    def version(self) -> int:
        """Of the dataset."""

    @property
    def content_hash(self) -> str:
        """Of the version."""


class Registry:
    """Datasets by name, and the checkpoints trained on them.

    Every call opens the file, does its work in one transaction and closes it: any number of
    processes may use it at once.
    """

    def __init__(self, file: Path | None = None) -> None:
        """Use `file`; without one `ACT_REGISTRY`, else the user's data folder."""
        self.file = file if file is not None else default_file()

    def register(self, reader: DatasetReader, name: str | None = None) -> str:
        """Make the version of `reader`, and those before it, known. Gives the dataset's name.

        Again with the same version, it changes nothing. A dataset that was moved keeps its name.
        One that took the place of another on disk takes its place here too.

        Args:
            reader: The version to register.
            name: Wanted name. Without one a known dataset keeps its name and a new one gets
                that of its file without suffix, with "-2", "-3", ... when that is taken.

        Raises:
            InputError: `name` has characters that a reference cannot hold.
            ConflictError: `name` belongs to another dataset.
            StoreError: A version's content is not what was registered under its number.
        """
        with transaction(self.file) as db:
            return register(db, reader, name)

    def resolve(self, ref: str) -> Resolved:
        """The dataset that `ref` means, after its content hash was compared.

        Args:
            ref: "name", "name@3", "name@v3", "name@latest", or a path with or without "@3". A
                registered name comes first; write "./name" for a folder of that name.

        Raises:
            InputError: What follows "@" is no version.
            NotFoundError: No such name, version or path.
            StoreError: The content no longer matches what was registered.
        """
        target, version = _split(ref)
        try:
            ref.encode()
        except UnicodeEncodeError as e:
            raise NotFoundError(f"{ref!r} is no name: {e}", hint="See `act-data list`.") from None
        with transaction(self.file) as db:
            row = db.execute("SELECT * FROM dataset WHERE name = ?", (target,)).fetchone()
            wanted = None if row is None else _wanted(db, row, version)
            unknown = _unknown(db, target)
        if wanted is None:
            if not location(target).exists():
                raise unknown
            return self._resolve_path(location(target), None if version == LATEST else int(version))
        path = location(row["uri"])
        if not path.exists():
            raise NotFoundError(
                f"dataset {target!r} is no longer at {path}",
                hint="If it was moved: `act-data rebuild NEW_PATH`.",
            )
        reader = open_dataset(path, wanted["n"])
        if reader.uid != row["uid"]:
            raise StoreError(
                f"{path} no longer matches {target!r}: it holds another dataset "
                f"(uid {reader.uid!r}, registered {row['uid']!r})",
                hint=f"`act-data rebuild {path}` registers what lies there now.",
            )
        compare(reader, target, wanted["content_hash"])
        return _resolved(target, reader)

    def _resolve_path(self, path: Path, version: int | None) -> Resolved:
        reader = open_dataset(path, version)
        with transaction(self.file) as db:
            row = db.execute("SELECT * FROM dataset WHERE uid = ?", (reader.uid,)).fetchone()
            known = {} if row is None else versions_of(db, row["id"])
        if row is None:
            return _resolved(path.stem, reader)
        if reader.version.number in known:
            compare(reader, row["name"], known[reader.version.number]["content_hash"])
        return _resolved(row["name"], reader)

    def datasets(self) -> list[RegisteredDataset]:
        """All datasets by name."""
        with transaction(self.file) as db:
            rows = db.execute("SELECT * FROM dataset ORDER BY name").fetchall()
            return [dataset_of(db, row) for row in rows]

    def show(self, name: str) -> RegisteredDataset:
        """The dataset called `name`.

        Raises:
            NotFoundError: There is none; the message lists the nearest names.
        """
        with transaction(self.file) as db:
            row = db.execute("SELECT * FROM dataset WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise _unknown(db, name)
            return dataset_of(db, row)

    def rebuild(self, paths: Sequence[Path]) -> list[str]:
        """Read everything again from the stores, and trust what lies there now.

        Afterwards the registry holds the datasets found in `paths` and those that it knew and
        that still are where they were. Names are kept, checkpoints too; a file that is damaged
        is set aside first (as "registry.db.damaged") and its own names and checkpoints are lost.

        Args:
            paths: Datasets, or folders to search for them.

        Returns:
            The names of all datasets.

        Raises:
            NotFoundError: A path does not exist.
            StoreError: A dataset cannot be read. The registry is as it was.
        """
        found = [store for path in paths for store in find_datasets(path)]
        if is_damaged(self.file):
            set_aside(self.file)
        with transaction(self.file) as db:
            known = db.execute("SELECT name, uid, uri FROM dataset ORDER BY id").fetchall()
            db.execute("DELETE FROM dataset")
            names = {row["uid"]: row["name"] for row in known}
            places = dict.fromkeys([*found, *(location(r["uri"]) for r in known)])
            readers: dict[str, DatasetReader] = {}
            for place in places:
                if place.exists():
                    reader = open_dataset(place)
                    readers.setdefault(reader.uid, reader)
            # Known names first, so that no newcomer takes one.
            for reader in sorted(readers.values(), key=lambda r: r.uid not in names):
                register(db, reader, names.get(reader.uid))
            rows = db.execute("SELECT name FROM dataset ORDER BY name").fetchall()
            return [row["name"] for row in rows]

    def register_checkpoint(self, folder: Path, data: TrainedOn, step: int) -> None:
        """Make the checkpoint in `folder`, trained on `data` for `step` steps, the newest one."""
        with transaction(self.file) as db:
            db.execute(
                "INSERT OR REPLACE INTO checkpoint"
                "(folder, dataset_uid, version, content_hash, step, created)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    str(folder.absolute()),
                    data.uid,
                    data.version,
                    data.content_hash,
                    step,
                    datetime.now(UTC).isoformat(timespec="seconds"),
                ),
            )

    def newest_checkpoint(self) -> Path | None:
        """The folder registered last that still exists; None when there is none."""
        with transaction(self.file) as db:
            rows = db.execute("SELECT folder FROM checkpoint ORDER BY id DESC").fetchall()
        return next((p for row in rows if (p := Path(row["folder"])).is_dir()), None)


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


# --- references ---------------------------------------------------------------------------------


def _split(ref: str) -> tuple[str, str]:
    """Name or path, and version: digits or "latest"."""
    target, at, version = ref.rpartition("@")
    if not at or location(ref).exists():
        return ref, LATEST
    digits = version.removeprefix("v")
    if version == LATEST:
        return target, LATEST
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise InputError(
            f"{ref!r}: {version!r} is no version",
            hint=f"Write {target}@3, {target}@v3 or {target}@latest.",
        )
    return target, digits


def _wanted(db: sqlite3.Connection, row: sqlite3.Row, version: str) -> sqlite3.Row:
    known = versions_of(db, row["id"])
    if version == LATEST:
        alias = "SELECT n FROM alias WHERE dataset = ? AND name = ?"
        number = db.execute(alias, (row["id"], LATEST)).fetchone()["n"]
    else:
        number = int(version)
    found = known.get(number)
    if found is None:
        raise NotFoundError(
            f"dataset {row['name']!r} has no version {number}",
            hint=f"It has {', '.join(map(str, known))}.",
        )
    return found


def _resolved(name: str, reader: DatasetReader) -> Resolved:
    return Resolved(
        name=name,
        path=reader.path,
        version=reader.version.number,
        content_hash=reader.version.content_hash,
    )


def _unknown(db: sqlite3.Connection, target: str) -> NotFoundError:
    if os.sep in target or target.endswith((".zarr", ".hdf5")):
        return NotFoundError(
            f"{target} does not exist", hint="Check the path, or see `act-data list`."
        )
    names = [row["name"] for row in db.execute("SELECT name FROM dataset ORDER BY name")]
    near = difflib.get_close_matches(target, names, n=3, cutoff=0.5)
    return NotFoundError(
        f"no dataset is called {target!r}",
        hint=f"Did you mean {' or '.join(near)}?" if near else "See `act-data list`.",
    )
