"""Which datasets hold something: a recording, an episode, anything that another dataset holds."""

from __future__ import annotations

import sqlalchemy as sa

from act_data.registry.records import HeldEpisode, HoldingDataset
from act_data.registry.tables import dataset, episode, source

_PLACE = (dataset.c.name, dataset.c.uid, dataset.c.uri)


def place_of(db: sa.Connection, uid: str) -> HoldingDataset | None:
    """The dataset whose identity is `uid`."""
    row = db.execute(sa.select(*_PLACE).where(dataset.c.uid == uid)).one_or_none()
    return None if row is None else HoldingDataset(name=row.name, uid=row.uid, path=row.uri)


def of_recording(db: sa.Connection, begin: str) -> list[HeldEpisode]:
    """Every episode made of a recording whose sha256 begins so."""
    return _held(db, _begins(source.c.sha256, begin))


def called(db: sa.Connection, begin: str) -> list[HeldEpisode]:
    """Every episode whose uid or hash begins so."""
    return _held(db, _begins(episode.c.uid, begin) | _begins(episode.c.hash, begin))


def sharing(db: sa.Connection, uid: str) -> list[HoldingDataset]:
    """The other datasets that hold an episode of the dataset `uid`: its copies, and their copies.

    Cost: a look into an index for each of its episodes.
    """
    other = episode.alias()
    same = (other.c.uid == episode.c.uid) & (other.c.hash == episode.c.hash)
    holding = (
        sa.select(other.c.dataset)
        .select_from(
            dataset.join(episode, episode.c.dataset == dataset.c.id).join(
                other, same & (other.c.dataset != episode.c.dataset)
            )
        )
        .where(dataset.c.uid == uid)
    )
    # Aliased: the outer table must not become one with that of the inner question.
    outer = dataset.alias()
    rows = db.execute(
        sa.select(outer.c.name, outer.c.uid, outer.c.uri)
        .where(outer.c.id.in_(holding))
        .order_by(outer.c.name)
    )
    return [HoldingDataset(name=row.name, uid=row.uid, path=row.uri) for row in rows]


def _held(db: sa.Connection, where: sa.ColumnElement[bool]) -> list[HeldEpisode]:
    rows = db.execute(
        sa.select(
            *_PLACE,
            episode.c.uid.label("episode"),
            episode.c.hash,
            source.c.sha256.label("recording"),
        )
        .select_from(
            episode.join(dataset, dataset.c.id == episode.c.dataset).outerjoin(
                source, source.c.id == episode.c.source
            )
        )
        .where(where)
        .distinct()  # of everything that people said of an episode there is a row
        .order_by(dataset.c.name, episode.c.uid, episode.c.hash)
    ).all()
    return [
        HeldEpisode(
            dataset=HoldingDataset(name=row.name, uid=row.uid, path=row.uri),
            uid=row.episode,
            hash=row.hash,
            recording=row.recording or "",
        )
        for row in rows
    ]


def _begins(column: sa.Column[str], begin: str) -> sa.ColumnElement[bool]:
    """A range, which an index answers; LIKE would read every row."""
    return (column >= begin) & (column < begin[:-1] + chr(ord(begin[-1]) + 1))
