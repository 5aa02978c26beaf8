"""Everything that the index says of episodes, without the numbers of its own rows."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from act_data.place import Place
from act_data.registry.database import transaction
from act_data.registry.tables import dataset, episode, source, version_episode

RANGES = ("since", "until", "place", "split")


def index_rows(place: Place) -> list[dict[str, Any]]:
    """A row for every range of versions that hold an episode with its facts, in order."""
    own = ("id", "dataset", "source")
    columns = [
        dataset.c.name.label("dataset"),
        *(version_episode.c[name] for name in RANGES),
        *(column for column in episode.c if column.name not in own),
        *(source.c[name].label(f"source_{name}") for name in ("sha256", "name", "kind")),
    ]
    held = (
        sa.select(*columns)
        .join_from(version_episode, episode, episode.c.id == version_episode.c.episode)
        .join(dataset, dataset.c.id == version_episode.c.dataset)
        .outerjoin(source, source.c.id == episode.c.source)
        .order_by(dataset.c.name, version_episode.c.since, version_episode.c.place)
    )
    with transaction(place) as db:
        return [dict(row) for row in db.execute(held).mappings()]


def loose_rows(place: Place) -> tuple[int, int]:
    """Episodes that no version holds, and recordings that no episode names."""
    held = sa.select(version_episode.c.episode)
    named = sa.select(episode.c.source).where(episode.c.source.is_not(None))
    with transaction(place) as db:
        loose = sa.select(sa.func.count()).select_from(episode).where(episode.c.id.not_in(held))
        unnamed = sa.select(sa.func.count()).select_from(source).where(source.c.id.not_in(named))
        return db.execute(loose).scalar_one(), db.execute(unnamed).scalar_one()
