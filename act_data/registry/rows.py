"""What the registry's tables say of datasets, read and written inside one transaction."""

from __future__ import annotations

import re

import sqlalchemy as sa

from act_data.errors import ConflictError, InputError, StoreError
from act_data.interfaces import DatasetReader
from act_data.registry.episodes import EpisodeIndex
from act_data.registry.records import RegisteredDataset, RegisteredVersion
from act_data.registry.tables import dataset, version
from act_data.store import open_dataset

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Row = sa.RowMapping


def by_name(db: sa.Connection, name: str) -> Row | None:
    """The row of the dataset called `name`."""
    return db.execute(sa.select(dataset).where(dataset.c.name == name)).mappings().one_or_none()


def by_uid(db: sa.Connection, uid: str) -> Row | None:
    """The row of the dataset whose identity is `uid`."""
    return db.execute(sa.select(dataset).where(dataset.c.uid == uid)).mappings().one_or_none()


def register(db: sa.Connection, reader: DatasetReader, name: str | None) -> str:
    """Add or complete the rows of `reader`'s dataset; see `Registry.register`."""
    uri = str(reader.path.absolute())
    row = by_uid(db, reader.uid)
    db.execute(sa.delete(dataset).where(dataset.c.uri == uri, dataset.c.uid != reader.uid))
    current = reader.version.number
    known = {} if row is None else versions_of(db, row["id"])
    if row is not None and current in known:
        compare(reader, row["name"], known[current]["content_hash"])
    if row is None:
        chosen = _checked(db, name) if name is not None else _free_name(db, reader.path.stem)
        first = reader if current == 1 else open_dataset(reader.path, 1, dropped=True)
        values = {
            "name": chosen,
            "uid": reader.uid,
            "uri": uri,
            "robot": reader.schema.robot,
            "fps": reader.schema.fps,
            "cameras": " ".join(cameras(reader)),
            "created": first.version.created,
        }
        added = db.execute(sa.insert(dataset).values(values).returning(dataset.c.id))
        key = added.scalar_one()
    else:
        chosen, key = row["name"], row["id"]
        if name is not None and name != chosen:
            chosen = _checked(db, name)
        values = {"name": chosen, "uri": uri}
        db.execute(sa.update(dataset).where(dataset.c.id == key).values(values))
    missing = [n for n in range(1, current + 1) if n not in known]
    if missing:
        index = EpisodeIndex(db, key)
        for number in missing:
            of = reader if number == current else open_dataset(reader.path, number, dropped=True)
            _add_version(db, key, of, index)
    return str(chosen)


def cameras(reader: DatasetReader) -> list[str]:
    """The names of a dataset's cameras, in its order."""
    prefix = "images/"
    names = (feature.name for feature in reader.schema.features)
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def _add_version(db: sa.Connection, key: int, reader: DatasetReader, index: EpisodeIndex) -> None:
    record = reader.version
    changes = index.add(reader)
    values = {
        "dataset": key,
        "n": record.number,
        "parent": record.parent,
        "content_hash": record.content_hash,
        "message": record.message,
        "created": record.created,
        "episodes": len(record.episodes),
        "frames": sum(entry.length for entry in record.episodes),
        "added": changes.added,
        "removed": changes.removed,
    }
    db.execute(sa.insert(version).values(values))


def _checked(db: sa.Connection, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a dataset",
            hint="Use letters, digits, '.', '_' and '-', with a letter or digit first.",
        )
    if by_name(db, name) is not None:
        raise ConflictError(
            f"the name {name!r} belongs to another dataset", hint="Choose another name."
        )
    return name


def _free_name(db: sa.Connection, stem: str) -> str:
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-") or "dataset"
    taken = set(db.execute(sa.select(dataset.c.name)).scalars())
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    return name


def versions_of(db: sa.Connection, key: int) -> dict[int, Row]:
    """The registered versions of the dataset with row id `key`, ascending."""
    asked = sa.select(version).where(version.c.dataset == key).order_by(version.c.n)
    return {row["n"]: row for row in db.execute(asked).mappings()}


def compare(reader: DatasetReader, name: str, registered: str) -> None:
    """Whether `reader`'s version has the content hash that was `registered`; StoreError if not."""
    found = reader.version.content_hash
    if found != registered:
        raise StoreError(
            f"{reader.path} no longer matches {name}@{reader.version.number}: "
            f"its content hash is {found!r}, registered was {registered!r}",
            hint=f"If the change was meant: `act-data rebuild {reader.path}`.",
        )


def dataset_of(db: sa.Connection, row: Row) -> RegisteredDataset:
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
