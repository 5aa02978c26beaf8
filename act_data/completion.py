"""What the shell offers for a reference: dataset names, and behind "@" versions and tags.

It is asked at every press of a key, so it reads the registry by the bare driver, and offers nothing
where there is none, or one that it cannot read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import LiteralString

from act_data.place import default_place

_PATIENCE_S = 1

_NAMES: LiteralString = (
    "SELECT name FROM dataset WHERE EXISTS"
    " (SELECT 1 FROM version WHERE version.dataset = dataset.id) ORDER BY name"
)
_VERSIONS: LiteralString = (
    "SELECT n FROM version JOIN dataset ON dataset.id = version.dataset"
    " WHERE dataset.name = %s ORDER BY n DESC"
)
_TAGS: LiteralString = (
    "SELECT alias.name FROM alias JOIN dataset ON dataset.uid = alias.dataset_uid"
    " WHERE dataset.name = %s ORDER BY alias.name"
)


def references(begun: str) -> list[str]:
    """The references that begin with what was typed: "po" -> "pour", "pour@" -> "pour@v2", ..."""
    name, at, _ = begun.partition("@")
    if at:
        numbers, tags = _answers((_VERSIONS, _TAGS), (name,))
        said = [*(f"v{n}" for n in numbers), *map(str, tags), *(["latest"] if numbers else [])]
        found = [f"{name}@{version}" for version in said]
    else:
        found = [str(name) for name in _answers((_NAMES,), ())[0]]
    return [reference for reference in found if reference.startswith(begun)]


def _answers(
    statements: Sequence[LiteralString], values: tuple[str, ...]
) -> list[Sequence[object]]:
    """The first column of what each statement answers."""
    place = default_place()
    if isinstance(place, Path):
        return _of_sqlite(place, statements, values)
    return _of_postgresql(place, statements, values)


def _of_sqlite(
    file: Path, statements: Sequence[LiteralString], values: tuple[str, ...]
) -> list[Sequence[object]]:
    try:
        # Only read: a registry that is not there is not made.
        opened = sqlite3.connect(f"{file.as_uri()}?mode=ro", timeout=_PATIENCE_S, uri=True)
        with closing(opened) as db:
            return [
                [row[0] for row in db.execute(statement.replace("%s", "?"), values)]
                for statement in statements
            ]
    except sqlite3.Error:
        return [()] * len(statements)


def _of_postgresql(
    url: str, statements: Sequence[LiteralString], values: tuple[str, ...]
) -> list[Sequence[object]]:
    try:
        import psycopg
    except ModuleNotFoundError:
        return [()] * len(statements)
    try:
        plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
        with psycopg.connect(plain, connect_timeout=_PATIENCE_S) as db:
            return [[row[0] for row in db.execute(statement, values)] for statement in statements]
    except psycopg.Error:
        return [()] * len(statements)
