"""What a reference means: a name or a path, and behind "@" a version or a tag."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from act_data.errors import InputError, NotFoundError, StoreError
from act_data.interfaces import DatasetReader
from act_data.registry.rows import Row, by_name, by_uid, compare, versions_of
from act_data.registry.tables import dataset
from act_data.registry.tags import LATEST, TAG, tagged, version_of
from act_data.store import location, open_dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The dataset version that a reference means; it was there and unchanged when asked."""

    name: str
    path: Path
    version: int
    content_hash: str


def split(ref: str) -> tuple[str, int | str]:
    """Name or path, and version: a number, a tag or "latest".

    Raises:
        InputError: What follows "@" is neither.
        NotFoundError: `ref` is no text.
    """
    try:
        ref.encode()
    except UnicodeEncodeError as e:
        raise NotFoundError(f"{ref!r} is no name: {e}", hint="See `act-data list`.") from None
    target, at, version = ref.rpartition("@")
    if not at or location(ref).exists():
        return ref, LATEST
    digits = version.removeprefix("v")
    if digits.isascii() and digits.isdigit() and len(digits) < 10:
        return target, int(digits)
    if not TAG.fullmatch(version):
        raise InputError(
            f"{ref!r}: {version!r} is no version",
            hint=f"Write {target}@3, {target}@v3, {target}@latest, or {target}@ and a tag.",
        )
    return target, version


def named(db: sa.Connection, name: str) -> Row:
    """The row of the dataset called `name`.

    Raises:
        NotFoundError: There is none; the message lists the nearest names.
    """
    row = by_name(db, name)
    if row is None:
        raise unknown(db, name)
    return row


def registered(db: sa.Connection, target: str) -> Row:
    """The row of the dataset that is called `target`, or lies at the path `target`.

    Raises:
        NotFoundError: There is none in the registry.
    """
    row = by_name(db, target)
    if row is None and location(target).exists():
        row = by_uid(db, open_dataset(location(target)).uid)
        if row is None:
            raise NotFoundError(
                f"{target} is not in the registry",
                hint=f"`act-data rebuild {target}` registers it.",
            )
    if row is None:
        raise unknown(db, target)
    return row


def wanted(db: sa.Connection, row: Row, version: int | str) -> Row:
    """The row of the version that `version` means.

    Raises:
        NotFoundError: There is no such version or tag.
        StoreError: A tag was put on other content than the version has now.
    """
    if version == LATEST:
        return list(versions_of(db, row["id"]).values())[-1]
    if isinstance(version, int):
        return version_of(db, row, version)
    tag = tagged(db, row, version)
    found = version_of(db, row, tag.version)
    if found["content_hash"] != tag.content_hash:
        raise StoreError(
            f"{row['name']}@{version} was put on content {tag.content_hash!r}, and version "
            f"{tag.version} now is {found['content_hash']!r}",
            hint=f"If that is what it should mean: `act-data tag {row['name']}@{tag.version} "
            f"{version}`.",
        )
    return found


def at_path(db: sa.Connection, path: Path, version: int | str) -> tuple[str, DatasetReader]:
    """The version of the dataset at `path`, compared if it is known, and its name.

    Raises:
        NotFoundError: There is no such version, or no such tag.
        StoreError: It is no dataset, or its content is not what was registered.
    """
    number = version if isinstance(version, int) else None
    reader = open_dataset(path, number)
    row = by_uid(db, reader.uid)
    if row is None:
        if isinstance(version, str) and version != LATEST:
            raise NotFoundError(
                f"{path} is not in the registry: it has no tag {version!r}",
                hint=f"`act-data rebuild {path}` registers it.",
            )
        return path.stem, reader
    if isinstance(version, str) and version != LATEST:
        reader = open_dataset(path, wanted(db, row, version)["n"])
    known = versions_of(db, row["id"])
    if reader.version.number in known:
        compare(reader, row["name"], known[reader.version.number]["content_hash"])
    return row["name"], reader


def unknown(db: sa.Connection, target: str) -> NotFoundError:
    """The error about a name or path that is not there; it lists the nearest names."""
    if os.sep in target or target.endswith((".zarr", ".hdf5")):
        return NotFoundError(
            f"{target} does not exist", hint="Check the path, or see `act-data list`."
        )
    names = db.execute(sa.select(dataset.c.name).order_by(dataset.c.name)).scalars().all()
    near = difflib.get_close_matches(target, names, n=3, cutoff=0.5)
    return NotFoundError(
        f"no dataset is called {target!r}",
        hint=f"Did you mean {' or '.join(near)}?" if near else "See `act-data list`.",
    )
