"""Which episodes a version holds, brought into the index: only what differs is read and written."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from act_data.errors import ActError
from act_data.interfaces import DatasetReader
from act_data.records import EpisodeEntry
from act_data.registry.episode_row import episode_row, identity, source_row
from act_data.registry.tables import OPEN, episode, source, version_episode

log = logging.getLogger(__name__)

T = TypeVar("T")

_BATCH = 2_000  # rows in memory, and variables of one statement


class Held(NamedTuple):
    """One episode of the newest indexed version."""

    key: int
    place: int
    said: tuple[str, ...]


class Changes(NamedTuple):
    """What a version does to the one before it, in episodes."""

    added: int
    removed: int


class EpisodeIndex:
    """The episodes of one dataset, version after version, inside one write transaction."""

    def __init__(self, db: sa.Connection, dataset: int) -> None:
        """Start from what the newest version in the index holds."""
        self._db = db
        self._dataset = dataset
        ranges = version_episode.c
        rows = db.execute(
            sa.select(ranges.place, ranges.split, episode.c.id, episode.c.uid, episode.c.hash)
            .join(episode, episode.c.id == ranges.episode)
            .where(ranges.dataset == dataset, ranges.until == OPEN)
        )
        self._held = {row.uid: Held(row.id, row.place, (row.hash, row.split)) for row in rows}
        self._next = _after(db, episode.c.id)
        self._next_source = _after(db, source.c.id)
        self._next_place = _after(db, ranges.place, ranges.dataset == dataset)
        sources = db.execute(
            sa.select(source.c.id, source.c.sha256, source.c.name).where(
                source.c.dataset == dataset
            )
        )
        self._sources: dict[tuple[str, str], int] = {
            (row.sha256, row.name): row.id for row in sources
        }

    def add(self, reader: DatasetReader) -> Changes:
        """Index the version of `reader`, which follows the newest one that is indexed."""
        number, before = reader.version.number, self._held
        kept: dict[str, Held] = {}
        opened: list[tuple[EpisodeEntry, int]] = []
        last, moved = 0, False
        for entry in reader.episodes:
            held = before.get(entry.uid)
            # Behind one that came or moved there is no place that would keep the order.
            moved = moved or held is None or held.place <= last
            last = self._new_place() if moved or held is None else held.place
            if not moved and held is not None and held.said == _said(entry):
                kept[entry.uid] = held
            else:
                opened.append((entry, last))
        self._close([held.key for uid, held in before.items() if uid not in kept], number)
        self._held = kept
        for some in _batches(opened):
            self._open(reader, some, number)
        return Changes(
            added=sum(entry.uid not in before for entry, _ in opened),
            removed=sum(uid not in self._held for uid in before),
        )

    def _close(self, keys: Sequence[int], number: int) -> None:
        ranges = version_episode.c
        for some in _batches(keys):
            self._db.execute(
                sa.update(version_episode)
                .where(ranges.episode.in_(some), ranges.until == OPEN)
                .values(until=number)
            )

    def _open(
        self, reader: DatasetReader, places: Sequence[tuple[EpisodeEntry, int]], number: int
    ) -> None:
        known = self._known([entry.uid for entry, _ in places])
        rows = [self._row(reader, e) for e, _ in places if (e.uid, e.hash) not in known]
        if rows:
            self._db.execute(sa.insert(episode), rows)
        known |= {(row["uid"], row["hash"]): row["id"] for row in rows}
        ranges = []
        for entry, place in places:
            held = Held(known[entry.uid, entry.hash], place, _said(entry))
            self._held[entry.uid] = held
            ranges.append(
                {
                    "dataset": self._dataset,
                    "episode": held.key,
                    "since": number,
                    "until": OPEN,
                    "place": place,
                    "split": entry.split,
                }
            )
        self._db.execute(sa.insert(version_episode), ranges)

    def _new_place(self) -> int:
        place = self._next_place
        self._next_place += 1
        return place

    def _known(self, uids: Sequence[str]) -> dict[tuple[str, str], int]:
        """Rows of episodes that are in the index already: some version before held them."""
        asked = sa.select(episode.c.uid, episode.c.hash, episode.c.id).where(
            episode.c.dataset == self._dataset, episode.c.uid.in_(uids)
        )
        return {(row.uid, row.hash): row.id for row in self._db.execute(asked)}

    def _row(self, reader: DatasetReader, entry: EpisodeEntry) -> dict[str, Any]:
        row = {"id": self._next, "dataset": self._dataset}
        self._next += 1
        try:
            record = reader.episode(entry.uid)
        except ActError as e:  # it is still listed; `verify` tells the extent of the damage
            log.warning("episode %s is indexed without its facts: %s", entry.uid, e)
            return row | identity(entry)
        row |= episode_row(reader.schema, entry, record, self._db.dialect.name)
        return row | {"source": self._source(source_row(record.info.source))}

    def _source(self, row: dict[str, Any]) -> int:
        key = (row["sha256"], row["name"])
        if key not in self._sources:
            values = {"id": self._next_source, "dataset": self._dataset, **row}
            self._db.execute(sa.insert(source).values(values))
            self._sources[key] = self._next_source
            self._next_source += 1
        return self._sources[key]


def _said(entry: EpisodeEntry) -> tuple[str, ...]:
    """What, when it changes, ends the range of an episode."""
    return (entry.hash, entry.split)


def _batches(of: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(of), _BATCH):
        yield of[start : start + _BATCH]


def _after(db: sa.Connection, column: sa.Column[int], *where: sa.ColumnElement[bool]) -> int:
    greatest = db.execute(sa.select(sa.func.max(column)).where(*where)).scalar_one()
    return 1 if greatest is None else int(greatest) + 1
