"""The database behind the registry: opening it, one transaction at a time, and its faults.

SQLite keeps it in a file, write-ahead logged: readers see the last finished transaction, writers
take turns. In PostgreSQL writers take turns by an advisory lock, for the same reason: what is
written depends on what was read before.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from act_data.errors import ConflictError, InputError, StoreError
from act_data.place import Place
from act_data.registry import tables
from act_data.registry.upgrade import upgrade

_BUSY_S = 30
_LOCK = 0x6163745F72656769  # "act_regi": the advisory lock of writers


@contextmanager
def transaction(place: Place, *, write: bool = False) -> Iterator[sa.Connection]:
    """A connection inside a transaction, which ends with the block: all of it or nothing.

    The tables are made when they are missing. Without `write` it is a snapshot that waits for
    nobody; with it processes take turns, and each waits up to 30 s.

    Raises:
        InputError: `place` is no URL of a database that can hold a registry.
        StoreError: The registry is damaged, newer than this version reads, or out of reach.
        ConflictError: Another process holds it for longer than that.
    """
    with _explained(place):
        if isinstance(place, Path):
            place.parent.mkdir(parents=True, exist_ok=True)
        engine = _engine(place)
        with engine.connect() as db:
            with db.begin():
                found = _format(db)
            if found < tables.FORMAT:
                with _begin(db, write=True):
                    _bring_up(db, place, _format(db))  # unless somebody else was faster
            elif found > tables.FORMAT:
                raise StoreError(
                    f"registry {shown(place)} has format {found}, this version reads "
                    f"{tables.FORMAT}",
                    hint="Update the toolkit, or point ACT_REGISTRY elsewhere.",
                )
            with _begin(db, write=write):
                yield db


def is_damaged(place: Place) -> bool:
    """Whether it is a file and SQLite cannot make sense of it, or finds its pages broken."""
    if isinstance(place, str) or not place.exists():
        return False
    try:
        with closing(sqlite3.connect(place, timeout=_BUSY_S)) as db:
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


def shown(place: Place) -> str:
    """`place` for people, without a password."""
    if isinstance(place, Path):
        return str(place)
    try:
        return sa.make_url(place).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return place.partition("://")[0] + "://..."


# --- opening ------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _engine(place: Place) -> sa.Engine:
    if isinstance(place, Path):
        url = sa.URL.create("sqlite+pysqlite", database=str(place))
        engine = sa.create_engine(
            url, poolclass=sa.NullPool, connect_args={"timeout": _BUSY_S, "isolation_level": None}
        )
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        url = sa.make_url(place)
        if url.drivername not in ("postgresql", "postgresql+psycopg"):
            raise InputError(
                f"a registry cannot lie in {url.drivername!r}",
                hint="ACT_REGISTRY is a file, or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE.",
            )
        url = url.set(drivername="postgresql+psycopg")
        return sa.create_engine(
            url, poolclass=sa.NullPool, connect_args={"connect_timeout": _BUSY_S}
        )
    except sa.exc.ArgumentError as e:
        raise InputError(
            f"ACT_REGISTRY is no URL: {shown(place)}",
            hint="Write postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, or a path.",
        ) from e
    except ModuleNotFoundError as e:
        raise InputError(
            f"registry {shown(place)} is in PostgreSQL, which needs psycopg",
            hint="pip install 'act-toolkit[postgres]'",
        ) from e


@contextmanager
def _begin(db: sa.Connection, *, write: bool) -> Iterator[None]:
    if db.dialect.name == "sqlite":
        with db.execution_options(act_write=write).begin():
            yield
        return
    # A snapshot for readers; writers read what was there when their turn came.
    level = "READ COMMITTED" if write else "REPEATABLE READ"
    with db.execution_options(isolation_level=level).begin():
        if write:
            db.exec_driver_sql(f"SET LOCAL lock_timeout = '{_BUSY_S}s'")
            db.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        yield


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # SQLite does not wait for its busy timeout when the journal mode changes, so two processes
    # that make the file at once would collide here.
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            break
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(db: sa.Connection) -> None:
    write = db.get_execution_options().get("act_write", False)
    db.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _format(db: sa.Connection) -> int:
    """0 where there is no registry yet."""
    if db.dialect.name == "sqlite":
        return int(db.exec_driver_sql("PRAGMA user_version").scalar_one())
    # Asked of the catalogue: to_regclass may answer what was true before the lock was taken.
    if not sa.inspect(db).has_table("registry_format"):
        return 0
    return int(db.exec_driver_sql("SELECT number FROM registry_format").scalar_one())


def _bring_up(db: sa.Connection, place: Place, found: int) -> None:
    if found >= tables.FORMAT:
        return
    if found:
        upgrade(db, place, found)
    else:
        tables.create(db)
    if db.dialect.name == "sqlite":
        db.exec_driver_sql(f"PRAGMA user_version = {tables.FORMAT}")
    elif found:
        db.exec_driver_sql(f"UPDATE registry_format SET number = {tables.FORMAT}")
    else:
        db.exec_driver_sql("CREATE TABLE registry_format(number INTEGER NOT NULL)")
        db.exec_driver_sql(f"INSERT INTO registry_format VALUES ({tables.FORMAT})")


# --- faults -------------------------------------------------------------------------------------


@contextmanager
def _explained(place: Place) -> Iterator[None]:
    """The database's errors as the toolkit's own."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        cause = error.orig if error.orig is not None else error
        raise _explain(place, cause) from error
    except sqlite3.Error as error:  # of the first words with a file, before SQLAlchemy's
        raise _explain(place, error) from error
    except OSError as error:
        raise StoreError(
            f"registry {shown(place)} cannot be used: {error.strerror or error}",
            hint="Check the folder's permissions and free space, or set ACT_REGISTRY.",
        ) from error


def _explain(place: Place, cause: BaseException) -> ConflictError | StoreError:
    where, what = f"registry {shown(place)}", str(cause).strip().partition("\n")[0]
    lock_taken = getattr(cause, "sqlstate", None) == "55P03"  # PostgreSQL: lock_not_available
    if lock_taken or (isinstance(cause, sqlite3.OperationalError) and "locked" in what):
        return ConflictError(
            f"{where} is held by another process ({what})", hint="Wait for it, then try again."
        )
    if isinstance(place, str):
        return StoreError(
            f"{where} cannot be used: {what}",
            hint="Check the server, the database and the URL in ACT_REGISTRY.",
        )
    if isinstance(cause, sqlite3.OperationalError):
        return StoreError(
            f"{where} cannot be used: {what}",
            hint="Check the folder's permissions and free space, or set ACT_REGISTRY.",
        )
    return StoreError(
        f"{where} is damaged: {what}",
        hint="The datasets themselves are not: `act-data rebuild PATH...` makes a new one.",
    )
