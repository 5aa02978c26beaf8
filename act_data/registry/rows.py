"""What the registry's tables hold, read and written inside one transaction."""

from __future__ import annotations

import re
import sqlite3

from act_data.errors import ConflictError, InputError, StoreError
from act_data.interfaces import DatasetReader
from act_data.records import Record
from act_data.store import open_dataset

LATEST = "latest"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RegisteredVersion(Record):
    """One version of a registered dataset."""

    number: int
    content_hash: str
    episodes: int
    frames: int
    created: str


class RegisteredDataset(Record):
    """One dataset of the registry.

    Attributes:
        path: Where it lay when it was registered last.
        created: When its first registered version was made.
        versions: Ascending.
    """

    name: str
    uid: str
    path: str
    robot: str
    fps: float
    created: str
    versions: tuple[RegisteredVersion, ...]


def register(db: sqlite3.Connection, reader: DatasetReader, name: str | None) -> str:
    """Add or complete the rows of `reader`'s dataset; see `Registry.register`."""
    uri = str(reader.path.absolute())
    row = db.execute("SELECT * FROM dataset WHERE uid = ?", (reader.uid,)).fetchone()
    db.execute("DELETE FROM dataset WHERE uri = ? AND uid != ?", (uri, reader.uid))
    known = {} if row is None else versions_of(db, row["id"])
    current = reader.version
    if current.number in known:
        compare(reader, row["name"], known[current.number]["content_hash"])
    versions = {
        n: current if n == current.number else open_dataset(reader.path, n).version
        for n in range(1, current.number + 1)
        if n not in known
    }
    if row is None:
        chosen = _checked(db, name) if name is not None else _free_name(db, reader.path.stem)
        cursor = db.execute(
            "INSERT INTO dataset(name, uid, uri, robot, fps, created) VALUES (?, ?, ?, ?, ?, ?)",
            (chosen, reader.uid, uri, reader.schema.robot, reader.schema.fps, versions[1].created),
        )
        key = cursor.lastrowid
    else:
        chosen, key = row["name"], row["id"]
        if name is not None and name != chosen:
            chosen = _checked(db, name)
        db.execute("UPDATE dataset SET name = ?, uri = ? WHERE id = ?", (chosen, uri, key))
    for number, version in versions.items():
        frames = sum(episode.length for episode in version.episodes)
        db.execute(
            "INSERT INTO version(dataset, n, content_hash, episodes, frames, created)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (key, number, version.content_hash, len(version.episodes), frames, version.created),
        )
    db.execute(
        "INSERT OR REPLACE INTO alias(dataset, name, n)"
        " SELECT ?, ?, max(n) FROM version WHERE dataset = ?",
        (key, LATEST, key),
    )
    return str(chosen)


def _checked(db: sqlite3.Connection, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a dataset",
            hint="Use letters, digits, '.', '_' and '-', with a letter or digit first.",
        )
    if db.execute("SELECT 1 FROM dataset WHERE name = ?", (name,)).fetchone():
        raise ConflictError(
            f"the name {name!r} belongs to another dataset", hint="Choose another name."
        )
    return name


def _free_name(db: sqlite3.Connection, stem: str) -> str:
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-") or "dataset"
    taken = {row["name"] for row in db.execute("SELECT name FROM dataset")}
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    return name


def versions_of(db: sqlite3.Connection, key: int) -> dict[int, sqlite3.Row]:
    """The registered versions of the dataset with row id `key`, ascending."""
    rows = db.execute("SELECT * FROM version WHERE dataset = ? ORDER BY n", (key,))
    return {row["n"]: row for row in rows}


def compare(reader: DatasetReader, name: str, registered: str) -> None:
    """Whether `reader`'s version has the content hash that was `registered`; StoreError if not."""
    found = reader.version.content_hash
    if found != registered:
        raise StoreError(
            f"{reader.path} no longer matches {name}@{reader.version.number}: "
            f"its content hash is {found!r}, registered was {registered!r}",
            hint=f"If the change was meant: `act-data rebuild {reader.path}`.",
        )


def dataset_of(db: sqlite3.Connection, row: sqlite3.Row) -> RegisteredDataset:
    """The dataset of one `row`, with its versions."""
    versions = tuple(
        RegisteredVersion(
            number=v["n"],
            content_hash=v["content_hash"],
            episodes=v["episodes"],
            frames=v["frames"],
            created=v["created"],
        )
        for v in versions_of(db, row["id"]).values()
    )
    return RegisteredDataset(
        name=row["name"],
        uid=row["uid"],
        path=row["uri"],
        robot=row["robot"],
        fps=row["fps"],
        created=row["created"],
        versions=versions,
    )
