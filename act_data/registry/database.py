"""The SQLite file behind the registry: where it lies, its tables, and what can be wrong with it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import platformdirs

from act_data.errors import ConflictError, StoreError

# Raised with every change of the tables; a file with a greater number is left alone.
SCHEMA_VERSION = 1

_TABLES = """
CREATE TABLE dataset(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, uid TEXT NOT NULL UNIQUE,
    uri TEXT NOT NULL, robot TEXT NOT NULL, fps REAL NOT NULL, created TEXT NOT NULL);
CREATE TABLE version(
    dataset INTEGER NOT NULL REFERENCES dataset ON DELETE CASCADE, n INTEGER NOT NULL,
    content_hash TEXT NOT NULL, episodes INTEGER NOT NULL, frames INTEGER NOT NULL,
    created TEXT NOT NULL, PRIMARY KEY(dataset, n));
CREATE TABLE alias(
    dataset INTEGER NOT NULL REFERENCES dataset ON DELETE CASCADE, name TEXT NOT NULL,
    n INTEGER NOT NULL, PRIMARY KEY(dataset, name));
CREATE TABLE checkpoint(
    id INTEGER PRIMARY KEY AUTOINCREMENT, folder TEXT NOT NULL UNIQUE, dataset_uid TEXT NOT NULL,
    version INTEGER NOT NULL, content_hash TEXT NOT NULL, step INTEGER NOT NULL,
    created TEXT NOT NULL);
"""

_BUSY_S = 30.0


def default_file() -> Path:
    """`ACT_REGISTRY`, else registry.db in the user's data folder."""
    chosen = os.environ.get("ACT_REGISTRY")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return platformdirs.user_data_path("act", appauthor=False) / "registry.db"


@contextmanager
def transaction(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection inside a write transaction, which ends with the block: all of it or nothing.

    The file and its tables are made when they are missing. Processes take turns; each waits up
    to 30 s.

    Raises:
        StoreError: The file is damaged, newer than this version reads, or cannot be written.
        ConflictError: Another process holds it for longer than that.
    """
    with _explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            _prepare(db, file)
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")


def is_damaged(file: Path) -> bool:
    """Whether `file` exists and SQLite cannot make sense of it, or finds its pages broken."""
    if not file.exists():
        return False
    try:
        with closing(sqlite3.connect(file, timeout=_BUSY_S)) as db:
            sound: bool = db.execute("PRAGMA quick_check").fetchone()[0] == "ok"
            return not sound
    except sqlite3.OperationalError:
        return False  # locked or not readable: no reason to throw it away
    except sqlite3.DatabaseError:
        return True


def set_aside(file: Path) -> Path:
    """Move a damaged `file` out of the way, under a name that says so, and give that name."""
    aside = file.with_name(f"{file.name}.damaged")
    with _explained(file):
        file.replace(aside)
        for suffix in ("-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
    return aside


def _prepare(db: sqlite3.Connection, file: Path) -> None:
    _write_ahead(db)
    db.execute("PRAGMA foreign_keys = ON")
    if _schema_version(db) == 0:
        db.execute("BEGIN IMMEDIATE")
        if _schema_version(db) == 0:  # nobody else was faster
            for statement in _TABLES.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    found = _schema_version(db)
    if found != SCHEMA_VERSION:
        raise StoreError(
            f"registry {file} has format {found}, this version reads {SCHEMA_VERSION}",
            hint="Update the toolkit, or point ACT_REGISTRY to another file.",
        )


def _schema_version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _write_ahead(db: sqlite3.Connection) -> None:
    # SQLite does not wait for its busy timeout when the journal mode changes, so two processes
    # that make the file at once would collide here.
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    """SQLite's errors as the toolkit's own."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise ConflictError(
                f"registry {file} is held by another process ({error})",
                hint="Wait for it, then try again.",
            ) from error
        raise StoreError(
            f"registry {file} cannot be used: {error}",
            hint="Check the folder's permissions and free space, or set ACT_REGISTRY.",
        ) from error
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"registry {file} is damaged: {error}",
            hint="The datasets themselves are not: `act-data rebuild PATH...` makes a new one.",
        ) from error
    except OSError as error:
        raise StoreError(
            f"registry {file} cannot be used: {error.strerror or error}",
            hint="Check the folder's permissions and free space, or set ACT_REGISTRY.",
        ) from error
