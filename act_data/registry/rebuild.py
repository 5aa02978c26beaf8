"""The index read again from the datasets: what they say takes the place of what it said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

from act_data.interfaces import DatasetReader
from act_data.place import Place
from act_data.registry.database import transaction
from act_data.registry.fact_rows import Overtaken
from act_data.registry.in_batches import read_anew
from act_data.registry.rows import Row, apply, begin, register
from act_data.registry.tables import dataset, episode, source, version, version_episode
from act_data.store import location, open_dataset


def rebuild(place: Place, found: Sequence[Path]) -> list[str]:
    """Register again what is `found`, and what is known and still there; see `Registry.rebuild`.

    Facts are read and corrected first, while others may write; then all versions are replaced at
    once. What became of a dataset meanwhile is seen in that last step.
    """
    while True:
        with suppress(Overtaken):
            return _rebuilt(place, found)


def _rebuilt(place: Place, found: Sequence[Path]) -> list[str]:
    with transaction(place) as db:
        known = _rows(db)
    readers: dict[str, DatasetReader] = {}
    for path in dict.fromkeys([*found, *(location(row["uri"]) for row in known)]):
        for reader in _opened(path):
            readers.setdefault(reader.uid, reader)
    # Known names first, so that no newcomer takes one.
    uids = {row["uid"] for row in known}
    order = sorted(readers.values(), key=lambda reader: reader.uid not in uids)
    plans = {reader.uid: read_anew(place, reader) for reader in order}
    with transaction(place, write=True) as db:
        for row in _rows(db):
            plan = plans.get(row["uid"])
            if plan is None or _newest(db, row) > plan.versions[-1]["n"]:
                plans.pop(row["uid"], None)
                readers |= {reader.uid: reader for reader in _opened(location(row["uri"]))}
        db.execute(sa.delete(dataset).where(dataset.c.uid.not_in(readers)))
        db.execute(sa.delete(version_episode))
        db.execute(sa.delete(version))
        for reader in readers.values():
            if reader.uid in plans:
                apply(db, begin(db, reader, None).id, plans[reader.uid])
            else:
                register(db, reader)
        held = sa.exists().where(version_episode.c.episode == episode.c.id)
        db.execute(sa.delete(episode).where(~held))
        named = sa.exists().where(episode.c.source == source.c.id)
        db.execute(sa.delete(source).where(~named))
        return [row["name"] for row in _rows(db)]


def _rows(db: sa.Connection) -> Sequence[Row]:
    return db.execute(sa.select(dataset).order_by(dataset.c.name)).mappings().all()


def _newest(db: sa.Connection, row: Row) -> int:
    asked = sa.select(sa.func.max(version.c.n)).where(version.c.dataset == row["id"])
    return db.execute(asked).scalar_one() or 0


def _opened(path: Path) -> Iterator[DatasetReader]:
    """The dataset at `path`, if anything is there."""
    if path.exists():
        yield open_dataset(path)
