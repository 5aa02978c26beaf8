"""What the registry's tables say of datasets, read and written inside one transaction."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from act_data.errors import ConflictError, InputError, StoreError
from act_data.facts import camera_names
from act_data.interfaces import DatasetReader
from act_data.registry import fact_rows
from act_data.registry.episodes import Plan, Range
from act_data.registry.fact_rows import Overtaken, batches
from act_data.registry.records import RegisteredDataset, RegisteredVersion
from act_data.registry.tables import OPEN, dataset, episode, version, version_episode
from act_data.store import open_dataset

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Row = sa.RowMapping


class Begun(NamedTuple):
    """A dataset with a row, and the versions of it that the index does not hold yet."""

    id: int
    name: str
    missing: Sequence[int]


def registered() -> sa.Select[Any]:
    """The rows of the datasets that have a version; another one is only being registered."""
    return sa.select(dataset).where(sa.exists().where(version.c.dataset == dataset.c.id))


def by_name(db: sa.Connection, name: str) -> Row | None:
    """The row of the dataset called `name`."""
    return db.execute(registered().where(dataset.c.name == name)).mappings().one_or_none()


def by_uid(db: sa.Connection, uid: str) -> Row | None:
    """The row of the dataset whose identity is `uid`."""
    return db.execute(registered().where(dataset.c.uid == uid)).mappings().one_or_none()


def begin(
    db: sa.Connection, reader: DatasetReader, name: str | None, *, trust: bool = False
) -> Begun:
    """Add or complete the row of `reader`'s dataset; see `Registry.register`.

    Args:
        trust: The content of the version need not be what was registered.
    """
    uri = str(reader.path.absolute())
    asked = sa.select(dataset).where(dataset.c.uid == reader.uid)
    row = db.execute(asked).mappings().one_or_none()
    db.execute(sa.delete(dataset).where(dataset.c.uri == uri, dataset.c.uid != reader.uid))
    current = reader.version.number
    known = {} if row is None else versions_of(db, row["id"])
    if row is not None and current in known and not trust:
        compare(reader, row["name"], known[current]["content_hash"])
    chosen = row["name"] if row is not None else None
    if name is not None and name != chosen:
        chosen = _checked(db, name)
    values = {"name": chosen or _free_name(db, reader.path.stem), "uri": uri}
    if not known:
        first = reader if current == 1 else open_dataset(reader.path, 1, dropped=True)
        values |= {
            "robot": reader.schema.robot,
            "fps": reader.schema.fps,
            "cameras": " ".join(camera_names(reader.schema)),
            "created": first.version.created,
        }
    if row is None:
        added = sa.insert(dataset).values(uid=reader.uid, **values).returning(dataset.c.id)
        key = db.execute(added).scalar_one()
    else:
        key = row["id"]
        db.execute(sa.update(dataset).where(dataset.c.id == key).values(values))
    missing = [n for n in range(1, current + 1) if n not in known]
    return Begun(key, values["name"], missing)


def register(db: sa.Connection, reader: DatasetReader, name: str | None = None) -> str:
    """Add or complete all rows of `reader`'s dataset; see `Registry.register`.

    The records of new episodes are read meanwhile, and `db` locks the registry: for few of them.
    """
    begun = begin(db, reader, name)
    if begun.missing:
        plan = started(db, begun.id)
        for of in versions(reader, begun.missing):
            for some in batches(plan.add(of.version)):
                fact_rows.complete(db, begun.id, of, some)
        apply(db, begun.id, plan)
    return begun.name


def started(db: sa.Connection, key: int) -> Plan:
    """A plan that goes on from what the index holds of the dataset with row id `key`."""
    ranges, e = version_episode.c, episode.c
    rows = db.execute(
        sa.select(e.uid, e.hash, e.said, ranges.since, ranges.place, ranges.split)
        .join(episode, e.id == ranges.episode)
        .where(ranges.dataset == key, ranges.until == OPEN)
    )
    held = (Range((r.uid, r.hash, r.said), r.since, r.place, r.split) for r in rows)
    next_place = fact_rows.after(db, ranges.place, ranges.dataset == key)
    return Plan(held, after=_newest(db, key), next_place=next_place)


def apply(db: sa.Connection, key: int, plan: Plan) -> None:
    """Write what was planned for the dataset with row id `key`.

    Raises:
        Overtaken: The index is no longer what the plan goes on from, or lacks facts.
    """
    if _newest(db, key) != plan.after:
        raise Overtaken
    ranges = version_episode.c
    for some in batches(plan.ended):
        ids = fact_rows.known(db, key, [uid for (uid, _, _), _ in some])
        for number in {number for _, number in some}:
            ending = [ids[of] for of, until in some if until == number]
            open_ = ranges.episode.in_(ending), ranges.until == OPEN
            db.execute(sa.update(version_episode).where(*open_).values(until=number))
    for new in batches(list(plan.ranges())):
        ids = fact_rows.known(db, key, [each.key[0] for each, _ in new])
        if not ids.keys() >= {each.key for each, _ in new}:
            raise Overtaken
        rows = [
            {
                "dataset": key,
                "episode": ids[each.key],
                "since": each.since,
                "until": until,
                "place": each.place,
                "split": each.split,
            }
            for each, until in new
        ]
        db.execute(sa.insert(version_episode), rows)
    db.execute(sa.insert(version), [{"dataset": key, **row} for row in plan.versions])


def versions(reader: DatasetReader, numbers: Sequence[int]) -> Iterator[DatasetReader]:
    """The versions `numbers` of the dataset of `reader`, dropped ones too."""
    for n in numbers:
        of_reader = n == reader.version.number
        yield reader if of_reader else open_dataset(reader.path, n, dropped=True)


def _newest(db: sa.Connection, key: int) -> int:
    """The newest version in the index; 0 where there is none."""
    asked = sa.select(sa.func.max(version.c.n)).where(version.c.dataset == key)
    return db.execute(asked).scalar_one() or 0


def _checked(db: sa.Connection, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a dataset",
            hint="Use letters, digits, '.', '_' and '-', with a letter or digit first.",
        )
    if db.execute(sa.select(dataset.c.id).where(dataset.c.name == name)).first() is not None:
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
