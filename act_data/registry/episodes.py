"""Which episodes a version holds, brought into the index: only what differs is read and written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from act_data.interfaces import DatasetReader
from act_data.records import EpisodeEntry
from act_data.registry import fact_rows
from act_data.registry.episode_row import Key, key_of
from act_data.registry.fact_rows import after, batches
from act_data.registry.tables import OPEN, episode, version_episode


class Held(NamedTuple):
    """One episode of the newest indexed version."""

    id: int
    place: int
    key: Key
    split: str


class Coming(NamedTuple):
    """An episode of the next version whose range begins with it."""

    entry: EpisodeEntry
    place: int
    key: Key


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
        ranges, e = version_episode.c, episode.c
        rows = db.execute(
            sa.select(ranges.place, ranges.split, e.id, e.uid, e.hash, e.said)
            .join(episode, e.id == ranges.episode)
            .where(ranges.dataset == dataset, ranges.until == OPEN)
        )
        self._held = {
            row.uid: Held(row.id, row.place, (row.uid, row.hash, row.said), row.split)
            for row in rows
        }
        self._next_place = after(db, ranges.place, ranges.dataset == dataset)

    def add(self, reader: DatasetReader) -> Changes:
        """Index the version of `reader`, which follows the newest one that is indexed."""
        number, before = reader.version.number, self._held
        kept: dict[str, Held] = {}
        coming: list[Coming] = []
        last, moved = 0, False
        for entry in reader.episodes:
            held = before.get(entry.uid)
            key = key_of(reader.version, entry)
            # Behind one that came or moved there is no place that would keep the order.
            moved = moved or held is None or held.place <= last
            last = self._new_place() if moved or held is None else held.place
            if not moved and held is not None and (held.key, held.split) == (key, entry.split):
                kept[entry.uid] = held
            else:
                coming.append(Coming(entry, last, key))
        self._close([held.id for uid, held in before.items() if uid not in kept], number)
        self._held = kept
        for some in batches(coming):
            self._open(reader, some, number)
        return Changes(
            added=sum(c.entry.uid not in before for c in coming),
            removed=sum(uid not in self._held for uid in before),
        )

    def _close(self, ids: Sequence[int], number: int) -> None:
        ranges = version_episode.c
        for some in batches(ids):
            self._db.execute(
                sa.update(version_episode)
                .where(ranges.episode.in_(some), ranges.until == OPEN)
                .values(until=number)
            )

    def _open(self, reader: DatasetReader, coming: Sequence[Coming], number: int) -> None:
        ids = fact_rows.known(self._db, self._dataset, [c.entry.uid for c in coming])
        unread = [c.entry for c in coming if c.key not in ids]
        if unread:
            facts = list(fact_rows.read(reader, unread, self._db.dialect.name))
            ids |= fact_rows.insert(self._db, self._dataset, facts)
        rows = []
        for entry, place, key in coming:
            self._held[entry.uid] = Held(ids[key], place, key, entry.split)
            rows.append(
                {
                    "dataset": self._dataset,
                    "episode": ids[key],
                    "since": number,
                    "until": OPEN,
                    "place": place,
                    "split": entry.split,
                }
            )
        self._db.execute(sa.insert(version_episode), rows)

    def _new_place(self) -> int:
        place = self._next_place
        self._next_place += 1
        return place
