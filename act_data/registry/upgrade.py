"""A registry of format 1 (SQLite, before episodes were indexed) becomes one of today's.

Its names and checkpoints are kept; everything else is read again from the datasets. The old file
stays beside it, as "registry.db.format-1".
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from act_data.errors import ActError
from act_data.registry import tables
from act_data.registry.rows import register
from act_data.store import location, open_dataset

log = logging.getLogger(__name__)


def upgrade(db: sa.Connection, file: Path) -> None:
    """Replace the tables of format 1 inside the transaction of `db`, which writes `file`.

    A dataset that is not where it was, or cannot be read, is left out with a warning.
    """
    kept = file.with_name(f"{file.name}.format-1")
    kept.unlink(missing_ok=True)
    # Read by a connection of its own: nobody writes while `db` does.
    with closing(sqlite3.connect(file)) as old, closing(sqlite3.connect(kept)) as copy:
        old.backup(copy)
    datasets = db.exec_driver_sql("SELECT name, uid, uri FROM dataset ORDER BY id").all()
    checkpoints = db.exec_driver_sql("SELECT * FROM checkpoint ORDER BY id").mappings().all()
    for table in ("alias", "version", "dataset", "checkpoint"):
        db.exec_driver_sql(f"DROP TABLE {table}")
    tables.create(db)
    if checkpoints:
        db.execute(sa.insert(tables.checkpoint), [dict(row) for row in checkpoints])
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
