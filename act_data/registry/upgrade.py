"""A registry of an older format becomes one of today's.

Its names, tags and checkpoints are kept; everything else is read again from the datasets. A SQLite
file of the old format stays beside it, as "registry.db.format-1".
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from act_data.errors import ActError
from act_data.place import Place
from act_data.registry import tables
from act_data.registry.rows import register
from act_data.store import location, open_dataset

log = logging.getLogger(__name__)

# What is not in the datasets. Format 1 had no tags: its "alias" was of another shape, and unused.
_KEPT = {
    1: (tables.checkpoint,),
    2: (tables.checkpoint, tables.alias, tables.alias_log),
}
# Those that refer to others first.
_DROPPED = ("episode_words", "version_episode", "episode", "source", "version", "dataset",
            "alias_log", "alias", "checkpoint")  # fmt: skip


def upgrade(db: sa.Connection, place: Place, found: int) -> None:
    """Replace the tables of format `found` inside the transaction of `db`, which writes `place`.

    A dataset that is not where it was, or cannot be read, is left out with a warning.
    """
    if isinstance(place, Path):
        _keep_aside(place, found)
    datasets = db.exec_driver_sql("SELECT name, uid, uri FROM dataset ORDER BY id").all()
    kept = [
        (table, [dict(row) for row in db.execute(sa.select(table)).mappings()])
        for table in _KEPT[found]
    ]
    for name in _DROPPED:
        db.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")
    tables.create(db)
    for table, rows in kept:
        if rows:
            db.execute(sa.insert(table), rows)
    _number_on(db, [table for table, rows in kept if rows])
    for name, uid, uri in datasets:
        try:
            reader = open_dataset(location(uri))
            if reader.uid == uid:
                register(db, reader, name)
                continue
            why = "another dataset lies there"
        except ActError as e:
            why = str(e)
        log.warning("dataset %r is no longer registered: %s; `act-data rebuild PATH`", name, why)


def _keep_aside(file: Path, found: int) -> None:
    kept = file.with_name(f"{file.name}.format-{found}")
    kept.unlink(missing_ok=True)
    # Read by a connection of its own: nobody writes while the upgrade does.
    with closing(sqlite3.connect(file)) as old, closing(sqlite3.connect(kept)) as copy:
        old.backup(copy)


def _number_on(db: sa.Connection, filled: Sequence[sa.Table]) -> None:
    """PostgreSQL does not see by itself that rows came with their numbers."""
    if db.dialect.name != "postgresql":
        return
    for table in filled:
        if "id" in table.c:
            sequence = sa.func.pg_get_serial_sequence(table.name, "id")
            db.execute(sa.select(sa.func.setval(sequence, sa.func.max(table.c.id))))
