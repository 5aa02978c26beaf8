"""The facts of a large version brought into the index before the version is, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from act_data.errors import ConflictError
from act_data.interfaces import DatasetReader
from act_data.place import Place
from act_data.registry import fact_rows
from act_data.registry.database import shown, transaction
from act_data.registry.episode_row import Key, key_of
from act_data.registry.fact_rows import Facts, batches
from act_data.registry.rows import begin, versions
from act_data.registry.tables import dataset, episode


def prepare(
    place: Place, reader: DatasetReader, name: str | None = None, *, refresh: bool = False
) -> None:
    """Write the facts that the versions up to that of `reader` need and that are not there.

    The records are read while nothing is locked. When it was interrupted, what it wrote counts.
    A version of few new episodes is left alone: that is read as fast as it is prepared.

    Args:
        refresh: Read the facts of all versions anew, and correct what is there.
    """
    if not refresh and len(reader.episodes) <= fact_rows.BATCH:
        return
    with transaction(place, write=True) as db:
        begun = begin(db, reader, name, trust=refresh)
        dialect = db.dialect.name
        there = set() if refresh else _keys(db, begun.id)
    numbers = range(1, reader.version.number + 1) if refresh else begun.missing
    for of in versions(reader, numbers):
        keys = [key_of(of.version, entry) for entry in of.episodes]
        new = [e for e, key in zip(of.episodes, keys, strict=True) if key not in there]
        there.update(keys)
        if len(new) <= fact_rows.BATCH and not refresh:
            continue
        for some in batches(new):
            facts = list(fact_rows.read(of, some, dialect))
            with transaction(place, write=True) as db:
                _write(db, place, begun.id, facts, refresh=refresh)


def _write(
    db: sa.Connection, place: Place, key: int, facts: Sequence[Facts], *, refresh: bool
) -> None:
    if db.execute(sa.select(dataset.c.id).where(dataset.c.id == key)).first() is None:
        raise ConflictError(
            f"another process took the dataset out of registry {shown(place)} meanwhile",
            hint="If it is to be in it: run the command again.",
        )
    ids = fact_rows.known(db, key, [f.row["uid"] for f in facts])
    fact_rows.insert(db, key, [f for f in facts if f.key not in ids])
    if refresh:
        fact_rows.refresh(db, key, [f for f in facts if f.key in ids], ids)


def _keys(db: sa.Connection, key: int) -> set[Key]:
    asked = sa.select(episode.c.uid, episode.c.hash, episode.c.said)
    rows = db.execute(asked.where(episode.c.dataset == key))
    return {(row.uid, row.hash, row.said) for row in rows}
