"""Tags: names that point at a version of a dataset, and the log of where they pointed."""

from __future__ import annotations

import getpass
import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from act_data.errors import InputError, NotFoundError
from act_data.registry.records import DatasetTags, Tag, TagMove
from act_data.registry.rows import Row, versions_of
from act_data.registry.tables import alias, alias_log

LATEST = "latest"

TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_NUMBER = re.compile(r"v?[0-9]+")


def move(db: sa.Connection, dataset: Row, name: str, number: int) -> TagMove | None:
    """Point the tag `name` at version `number`; None when it does already.

    Raises:
        InputError: `name` cannot be a tag.
        NotFoundError: There is no such version.
    """
    if name == LATEST or _NUMBER.fullmatch(name) or not TAG.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be a tag",
            hint="Use letters, digits, '.', '_' and '-', with a letter first; neither a version's "
            f"number nor {LATEST!r}.",
        )
    version = version_of(db, dataset, number)
    before = _found(db, dataset, name)
    content = version["content_hash"]
    if before is not None and (before["n"], before["content_hash"]) == (number, content):
        return None
    key = {"dataset_uid": dataset["uid"], "name": name}
    db.execute(sa.delete(alias).where(*(alias.c[k] == v for k, v in key.items())))
    db.execute(sa.insert(alias).values(**key, n=number, content_hash=content))
    return _logged(db, dataset, name, None if before is None else before["n"], number)


def remove(db: sa.Connection, dataset: Row, name: str) -> TagMove:
    """Take the tag `name` off.

    Raises:
        NotFoundError: There is none.
    """
    found = _found(db, dataset, name)
    if found is None:
        raise no_tag(db, dataset, name)
    db.execute(sa.delete(alias).where(alias.c.dataset_uid == dataset["uid"], alias.c.name == name))
    return _logged(db, dataset, name, found["n"], None)


def take_log(db: sa.Connection, dataset: Row, name: str, log: Sequence[TagMove]) -> None:
    """Make `log`, the oldest move first, the whole log of the tag `name`; it points where it ends.

    Raises:
        NotFoundError: There is no such version.
    """
    key = {"dataset_uid": dataset["uid"], "name": name}
    for table in (alias, alias_log):
        db.execute(sa.delete(table).where(*(table.c[k] == v for k, v in key.items())))
    number = log[-1].after
    if number is not None:
        content = version_of(db, dataset, number)["content_hash"]
        db.execute(sa.insert(alias).values(**key, n=number, content_hash=content))
    moves = [key | move.model_dump(exclude={"tag"}) for move in log]
    db.execute(sa.insert(alias_log), moves)


def renumber(db: sa.Connection, dataset: Row, numbers: Mapping[int, int]) -> None:
    """Write in all logs of a dataset the new number of a version for its old one."""
    logs: dict[str, list[TagMove]] = {}
    for move in tags_of(db, dataset).log[::-1]:
        old = {"before": move.before, "after": move.after}
        new = {k: None if n is None else numbers.get(n, n) for k, n in old.items()}
        logs.setdefault(move.tag, []).append(move.model_copy(update=new))
    for name, log in logs.items():
        if any(m.before in numbers.values() or m.after in numbers.values() for m in log):
            take_log(db, dataset, name, log)


def tags_of(db: sa.Connection, dataset: Row) -> DatasetTags:
    """The tags of a dataset and their log."""
    tags = db.execute(
        sa.select(alias).where(alias.c.dataset_uid == dataset["uid"]).order_by(alias.c.name)
    )
    moves = db.execute(
        sa.select(alias_log)
        .where(alias_log.c.dataset_uid == dataset["uid"])
        .order_by(alias_log.c.id.desc())
    )
    return DatasetTags(
        name=dataset["name"],
        tags=tuple(Tag(name=t.name, version=t.n, content_hash=t.content_hash) for t in tags),
        log=tuple(
            TagMove(tag=m.name, before=m.before, after=m.after, who=m.who, moved=m.moved)
            for m in moves
        ),
    )


def tagged(db: sa.Connection, dataset: Row, name: str) -> Tag:
    """The tag `name` of a dataset.

    Raises:
        NotFoundError: There is none.
    """
    found = _found(db, dataset, name)
    if found is None:
        raise no_tag(db, dataset, name)
    return Tag(name=name, version=found["n"], content_hash=found["content_hash"])


def version_of(db: sa.Connection, dataset: Row, number: int) -> Row:
    """The row of version `number` of a dataset.

    Raises:
        NotFoundError: There is none.
    """
    known = versions_of(db, dataset["id"])
    if number not in known:
        raise NotFoundError(
            f"dataset {dataset['name']!r} has no version {number}",
            hint=f"It has {', '.join(map(str, known))}.",
        )
    return known[number]


def no_tag(db: sa.Connection, dataset: Row, name: str) -> NotFoundError:
    """The error about a tag that is not there."""
    known = [tag.name for tag in tags_of(db, dataset).tags]
    return NotFoundError(
        f"dataset {dataset['name']!r} has no tag {name!r}",
        hint=f"It has {', '.join(known)}."
        if known
        else f"It has none: `act-data tag {dataset['name']}@1 {name}` puts one.",
    )


def _found(db: sa.Connection, dataset: Row, name: str) -> Row | None:
    asked = sa.select(alias).where(alias.c.dataset_uid == dataset["uid"], alias.c.name == name)
    return db.execute(asked).mappings().one_or_none()


def _logged(
    db: sa.Connection, dataset: Row, name: str, before: int | None, after: int | None
) -> TagMove:
    move = TagMove(
        tag=name,
        before=before,
        after=after,
        who=_who(),
        moved=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    values = move.model_dump()
    db.execute(
        sa.insert(alias_log).values(dataset_uid=dataset["uid"], name=values.pop("tag"), **values)
    )
    return move


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for this user
        user = str(os.getuid())
    return f"{user}@{platform.node()}"
