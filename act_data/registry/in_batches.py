"""A dataset registered while others have their turn: read first, batch by batch, and shown last.

Reading the records of 200,000 episodes takes many times as long as writing their rows. So their
facts are written in transactions of their own, and nobody sees them before the versions that hold
them are there, which a last transaction writes as they were planned.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import sqlalchemy as sa

from act_data.interfaces import DatasetReader
from act_data.place import Place
from act_data.records import EpisodeEntry
from act_data.registry import fact_rows
from act_data.registry.database import transaction
from act_data.registry.episode_row import Key, key_of
from act_data.registry.episodes import Plan
from act_data.registry.fact_rows import Overtaken, batches
from act_data.registry.rows import apply, begin, register, started, versions
from act_data.registry.tables import dataset


def register_at(place: Place, reader: DatasetReader, name: str | None) -> str:
    """As `rows.register`, in the registry `place`, which is not locked for long.

    When it was interrupted, what it wrote counts.
    """
    while True:
        with transaction(place, write=True) as db:
            if len(reader.episodes) <= fact_rows.BATCH:
                return register(db, reader, name)
            begun = begin(db, reader, name)
            if not begun.missing:
                return begun.name
        with suppress(Overtaken):
            with transaction(place) as db:
                plan = started(db, begun.id)
            for of in versions(reader, begun.missing):
                write_facts(place, begun.id, of, plan.add(of.version))
            with transaction(place, write=True) as db:
                apply(db, begun.id, plan)
            return begun.name


def read_anew(place: Place, reader: DatasetReader) -> Plan:
    """Correct the facts of all versions up to that of `reader`; gives the plan of all of these.

    Raises:
        Overtaken: The dataset was taken out of the registry meanwhile.
    """
    with transaction(place, write=True) as db:
        key = begin(db, reader, None, trust=True).id
    plan = Plan()
    seen: set[Key] = set()
    for of in versions(reader, range(1, reader.version.number + 1)):
        entries = [e for e in plan.add(of.version) if key_of(of.version, e) not in seen]
        seen.update(key_of(of.version, e) for e in entries)
        write_facts(place, key, of, entries, refresh=True)
    return plan


def write_facts(
    place: Place,
    key: int,
    reader: DatasetReader,
    entries: Sequence[EpisodeEntry],
    *,
    refresh: bool = False,
) -> None:
    """Write the facts of `entries` that are not there.

    Args:
        refresh: Read all of them, and correct what is there.

    Raises:
        Overtaken: There is no dataset with the row id `key` any more.
    """
    for some in batches(entries):
        with transaction(place) as db:
            dialect = db.dialect.name
            wanted = some if refresh else fact_rows.unknown(db, key, reader, some)
        if not wanted:
            continue
        facts = list(fact_rows.read(reader, wanted, dialect))
        with transaction(place, write=True) as db:
            if db.execute(sa.select(dataset.c.id).where(dataset.c.id == key)).first() is None:
                raise Overtaken
            ids = fact_rows.known(db, key, [f.row["uid"] for f in facts])
            new = [f for f in facts if f.key not in ids]
            if new:
                fact_rows.insert(db, key, new)
            if refresh:
                fact_rows.refresh(db, key, [f for f in facts if f.key in ids], ids)
