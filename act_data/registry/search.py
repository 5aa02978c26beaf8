"""Episodes by words and by a condition on their facts, over all datasets or in one version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY

from act_data.errors import InputError
from act_data.registry import words
from act_data.registry.condition import as_sql, names_in
from act_data.registry.records import (
    Facet,
    FacetValue,
    FoundDataset,
    FoundEpisode,
    SearchResult,
)
from act_data.registry.rows import Row
from act_data.registry.tables import (
    OPEN,
    Text,
    dataset,
    episode,
    episode_words,
    source,
    version,
    version_episode,
)
from act_data.where import parse

# By the name of the fact. `index` is no column: what asks for it numbers the episodes first.
_COLUMNS: Mapping[str, sa.ColumnElement[Any]] = {
    "uid": episode.c.uid,
    "length": episode.c.length,
    "seconds": sa.cast(episode.c.length, sa.Double) / dataset.c.fps,
    "split": version_episode.c.split,
    "task": episode.c.task,
    "operator": episode.c.operator,
    "success": episode.c.success,
    "notes": episode.c.notes,
    "source": sa.func.coalesce(source.c.name, "", type_=Text),
    "source_kind": sa.func.coalesce(source.c.kind, "", type_=Text),
    "robot": dataset.c.robot,
    "rate_hz": dataset.c.fps,
    "cameras": dataset.c.cameras,
    "recorded": episode.c.recorded,
    "skew_p95_ms": episode.c.skew_p95_ms,
    "valid_share": episode.c.valid_share,
}
_QUALITY = (0.99, 0.95, 0.9, 0.5)  # shares of valid ticks, from which on
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """One version of a dataset, by row id and number."""

    dataset: int
    number: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked for: tables joined, and what of them counts."""

    scope: Scope | None
    tables: sa.FromClause
    conditions: Sequence[sa.ColumnElement[bool]]

    def select(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        return sa.select(*columns).select_from(self.tables).where(*self.conditions)


def search(
    db: sa.Connection, text: str, where: str, scope: Scope | None, *, limit: int, facets: bool
) -> SearchResult:
    """The episodes that `text` and `where` mean; see `Registry.search`."""
    asked = _asked(text, where, scope, db.dialect.name)
    groups = _counted(db, asked, facets=facets)
    rows = _datasets(db, scope, {group["dataset"] for group in groups})
    return SearchResult(
        text=text,
        where=where,
        matched=sum(group["episodes"] for group in groups),
        steps=sum(int(group["steps"]) for group in groups),
        datasets=tuple(_found_datasets(groups, rows)),
        episodes=tuple(_found_episodes(db, asked, rows, limit)) if groups and limit else (),
        facets=tuple(_facets(groups, rows)) if facets else (),
    )


def _asked(text: str, where: str, scope: Scope | None, dialect: str) -> _Asked:
    condition = parse(where) if where else None
    columns = dict(_COLUMNS)
    tables = (
        sa.join(dataset, version_episode, version_episode.c.dataset == dataset.c.id)
        .join(episode, episode.c.id == version_episode.c.episode)
        .outerjoin(source, source.c.id == episode.c.source)
    )
    conditions = [_held(scope)]
    if condition is not None:
        if "index" in names_in(condition):
            numbered = _numbered(scope).subquery()
            tables = tables.join(numbered, numbered.c.episode == episode.c.id)
            columns["index"] = numbered.c.number
        conditions.append(as_sql(condition, columns, dialect))
    if text:
        conditions.append(_with_words(text, dialect))
    return _Asked(scope, tables, conditions)


def _held(scope: Scope | None) -> sa.ColumnElement[bool]:
    """What the version of `scope` holds, or the newest version of every dataset."""
    ranges = version_episode.c
    if scope is None:
        return ranges.until == OPEN
    return sa.and_(
        ranges.dataset == scope.dataset,
        ranges.since <= scope.number,
        ranges.until > scope.number,
    )


def _numbered(scope: Scope | None, datasets: Collection[int] = ()) -> sa.Select[Any]:
    """Ids of episodes, and the number that each has in its version."""
    ranges = version_episode.c
    place = sa.func.row_number().over(partition_by=ranges.dataset, order_by=ranges.place)
    asked = sa.select(ranges.episode, (place - 1).label("number")).where(_held(scope))
    return asked.where(ranges.dataset.in_(datasets)) if datasets else asked


def _with_words(text: str, dialect: str) -> sa.ColumnElement[bool]:
    found = words.query(text, dialect)
    if not found:
        raise InputError(f"no word in {text!r}", hint="Name words of task, operator or notes.")
    if dialect == "postgresql":
        return episode.c.words.bool_op("@@")(sa.cast(sa.literal(found, Text), TSQUERY))
    match = sa.literal_column("episode_words", Text).bool_op("MATCH")(sa.literal(found, Text))
    return episode.c.id.in_(sa.select(episode_words.c.rowid).where(match))


# --- answering ----------------------------------------------------------------------------------


def _counted(db: sa.Connection, asked: _Asked, *, facets: bool) -> Sequence[Row]:
    """Matching episodes and steps by dataset; for facets, by month and quality, too."""
    by: list[sa.ColumnElement[Any]] = [dataset.c.id.label("dataset")]
    if facets:
        share = episode.c.valid_share
        least = sa.case(*((share >= at, at) for at in _QUALITY), (share.is_not(None), 0.0))
        by.append(sa.func.substr(episode.c.recorded, 1, 7, type_=Text).label("month"))
        by.append(sa.cast(least, sa.Double).label("quality"))
    counts = sa.func.count().label("episodes"), sa.func.sum(episode.c.length).label("steps")
    # By name: to PostgreSQL the same expression with other parameters is another one.
    groups = asked.select(*by, *counts).group_by(dataset.c.id, *(b.name for b in by[1:]))
    return db.execute(groups).mappings().all()


def _datasets(db: sa.Connection, scope: Scope | None, ids: Collection[int]) -> dict[int, Row]:
    """The rows of the datasets `ids`, each with the `number` of the version that was searched."""
    newest = sa.select(sa.func.max(version.c.n)).where(version.c.dataset == dataset.c.id)
    number = sa.literal(scope.number) if scope is not None else newest.scalar_subquery()
    rows = db.execute(sa.select(dataset, number.label("number"))).mappings()
    return {row["id"]: row for row in rows if row["id"] in ids}


def _found_datasets(groups: Sequence[Row], rows: Mapping[int, Row]) -> list[FoundDataset]:
    """Those that have a match, the one with most of them first."""
    episodes, steps = Counter[int](), Counter[int]()
    for group in groups:
        episodes[group["dataset"]] += group["episodes"]
        steps[group["dataset"]] += int(group["steps"])
    found = [
        FoundDataset(
            ref=f"{row['name']}@v{row['number']}", episodes=episodes[key], steps=steps[key]
        )
        for key, row in rows.items()
    ]
    return sorted(found, key=lambda f: (-f.episodes, f.ref))


def _found_episodes(
    db: sa.Connection, asked: _Asked, rows: Mapping[int, Row], limit: int
) -> Iterator[FoundEpisode]:
    """The first of them, by dataset and place in it."""
    names = ("uid", "length", "split", "task", "operator", "success", "notes", "source",
             "recorded", "valid_share", "skew_p95_ms")  # fmt: skip
    columns = [_COLUMNS[name].label(name) for name in names]
    ids = dataset.c.id.label("dataset"), episode.c.id
    page = asked.select(*ids, *columns).order_by(dataset.c.name, version_episode.c.place)
    found = db.execute(page.limit(limit)).mappings().all()
    numbered = _numbered(asked.scope, {row["dataset"] for row in found}).subquery()
    asked_for = numbered.c.episode.in_([row["id"] for row in found])
    numbers = {n.episode: n.number for n in db.execute(sa.select(numbered).where(asked_for))}
    for row in found:
        of = rows[row["dataset"]]
        yield FoundEpisode(
            ref=f"{of['name']}@v{of['number']}#{numbers[row['id']]}",
            seconds=row["length"] / of["fps"],
            **{name: row[name] for name in names},
        )


def _facets(groups: Sequence[Row], rows: Mapping[int, Row]) -> Iterator[Facet]:
    """How many of the matching episodes have which value."""
    counts: dict[str, Counter[str]] = {
        name: Counter() for name in ("robot", "camera", "rate_hz", "month", "valid_share")
    }
    for group in groups:
        of, count = rows[group["dataset"]], group["episodes"]
        counts["robot"][of["robot"]] += count
        for camera in of["cameras"].split():
            counts["camera"][camera] += count
        counts["rate_hz"][f"{of['fps']:g}"] += count
        counts["month"][group["month"] or UNKNOWN] += count
        quality = group["quality"]
        counts["valid_share"][UNKNOWN if quality is None else f">= {quality:g}"] += count
    for name, counted in counts.items():
        yield Facet(
            name=name,
            values=tuple(
                FacetValue(value=value, episodes=episodes)
                for value, episodes in sorted(counted.items(), key=lambda c: (-c[1], c[0]))
            ),
        )
