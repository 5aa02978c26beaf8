"""The facts of episodes as rows of the index: read from the dataset, written in batches.

Reading the records of 200,000 episodes takes many times as long as writing their rows. So the rows
of a large version come first, in transactions of their own, between which others have their turn;
nobody sees them before the version that holds them is there.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from act_data.errors import ActError
from act_data.interfaces import DatasetReader
from act_data.records import EpisodeEntry
from act_data.registry.episode_row import Key, episode_row, identity, key_of, source_row
from act_data.registry.tables import episode, source

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 2_000  # rows in memory, and variables of one statement


class Overtaken(Exception):  # noqa: N818  # no error: what was begun is begun again
    """Another process has changed what this one goes on from."""


class Facts(NamedTuple):
    """The row of one episode, not yet in the index, and the recording it names."""

    row: dict[str, Any]
    source: tuple[str, str, str] | None

    @property
    def key(self) -> Key:
        """Of the row."""
        return self.row["uid"], self.row["hash"], self.row["said"]


def batches(of: Sequence[T]) -> Iterator[Sequence[T]]:
    """Pieces that one statement takes."""
    for start in range(0, len(of), BATCH):
        yield of[start : start + BATCH]


def known(db: sa.Connection, dataset: int, uids: Collection[str]) -> dict[Key, int]:
    """Ids of the rows that there are for the episodes `uids`, at most a batch of them."""
    asked = sa.select(episode.c.uid, episode.c.hash, episode.c.said, episode.c.id).where(
        episode.c.dataset == dataset, episode.c.uid.in_(uids)
    )
    return {(row.uid, row.hash, row.said): row.id for row in db.execute(asked)}


def read(reader: DatasetReader, entries: Sequence[EpisodeEntry], dialect: str) -> Iterator[Facts]:
    """The facts of some episodes of the version of `reader`."""
    for entry in entries:
        _, _, said = key_of(reader.version, entry)
        try:
            record = reader.episode(entry.uid)
        except ActError as e:  # it is still listed; `verify` tells the extent of the damage
            log.warning("episode %s is indexed without its facts: %s", entry.uid, e)
            yield Facts(identity(entry, said), None)
            continue
        if record.hash != entry.hash:  # one that was collected, and then ingested again otherwise
            yield Facts(identity(entry, said), None)
            continue
        row = episode_row(reader.schema, entry, said, record, dialect)
        yield Facts(row, source_row(record.info.source))


def complete(
    db: sa.Connection, dataset: int, reader: DatasetReader, entries: Sequence[EpisodeEntry]
) -> None:
    """Read and write the facts of a batch of episodes that are not there."""
    lacking = unknown(db, dataset, reader, entries)
    if lacking:
        insert(db, dataset, list(read(reader, lacking, db.dialect.name)))


def unknown(
    db: sa.Connection, dataset: int, reader: DatasetReader, entries: Sequence[EpisodeEntry]
) -> list[EpisodeEntry]:
    """Those of a batch of episodes whose facts are not there."""
    there = known(db, dataset, [entry.uid for entry in entries])
    return [entry for entry in entries if key_of(reader.version, entry) not in there]


def insert(db: sa.Connection, dataset: int, facts: Sequence[Facts]) -> None:
    """Write these rows, of which none is there."""
    sources = _sources(db, dataset, facts)
    first = after(db, episode.c.id)
    rows = [
        {**f.row, "id": n, "dataset": dataset, "source": f.source and sources[f.source]}
        for n, f in enumerate(facts, first)
    ]
    db.execute(sa.insert(episode), rows)


def refresh(
    db: sa.Connection, dataset: int, facts: Sequence[Facts], ids: Mapping[Key, int]
) -> None:
    """Make the rows `ids` say what `facts` do, where these say anything."""
    told = [f for f in facts if f.source is not None]
    sources = _sources(db, dataset, told)
    wanted = {ids[f.key]: {**f.row, "source": f.source and sources[f.source]} for f in told}
    asked = sa.select(episode).where(episode.c.id.in_(wanted))
    for row in db.execute(asked).mappings().all():
        new = wanted[row["id"]]
        # PostgreSQL gives words back in another order, but they follow from the texts.
        if any(row[name] != value for name, value in new.items() if name != "words"):
            db.execute(sa.update(episode).where(episode.c.id == row["id"]).values(new))


def after(db: sa.Connection, column: sa.Column[int], *where: sa.ColumnElement[bool]) -> int:
    """The number after the greatest in `column`."""
    greatest = db.execute(sa.select(sa.func.max(column)).where(*where)).scalar_one()
    return 1 if greatest is None else int(greatest) + 1


def _sources(
    db: sa.Connection, dataset: int, facts: Sequence[Facts]
) -> dict[tuple[str, str, str], int]:
    """Ids of the recordings that `facts` name; those that are not there are made."""
    named = dict.fromkeys(f.source for f in facts if f.source is not None)
    columns = source.c.sha256, source.c.name, source.c.kind
    asked = sa.select(*columns, source.c.id).where(
        source.c.dataset == dataset, source.c.sha256.in_({sha256 for sha256, _, _ in named})
    )
    ids = {(row.sha256, row.name, row.kind): row.id for row in db.execute(asked)}
    new = [key for key in named if key not in ids]
    if new:
        made = {key: n for n, key in enumerate(new, after(db, source.c.id))}
        rows = [
            {"id": n, "dataset": dataset, "sha256": key[0], "name": key[1], "kind": key[2]}
            for key, n in made.items()
        ]
        db.execute(sa.insert(source), rows)
        ids |= made
    return ids
