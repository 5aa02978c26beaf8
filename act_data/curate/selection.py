"""Which episodes of a version are meant: by number, range, uid, or a condition on their facts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from act_data.errors import InputError, NotFoundError
from act_data.facts import facts_of
from act_data.interfaces import DatasetReader
from act_data.where import matches, parse

_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def selected(reader: DatasetReader, items: Sequence[str], where: str | None) -> list[int]:
    """Places of the episodes that `items` name and for which `where` is true, ascending.

    Args:
        items: Numbers ("3"), ranges with both ends ("0-9"), uids, or the beginning of one uid;
            several in one text with commas between. None of them: all episodes.
        where: See `act_data.where`.

    Raises:
        InputError: Neither is given, or `where` is no condition.
        NotFoundError: An item means no episode, or two.
    """
    if not items and where is None:
        raise InputError(
            "no episode is named", hint="Name numbers (3), ranges (0-9), uids, or a --where."
        )
    places = named(reader, items) if items else set(range(len(reader.episodes)))
    if where is None:
        return sorted(places)
    condition = parse(where)
    return [
        place
        for place in sorted(places)
        if matches(
            condition,
            facts_of(
                reader.schema,
                place,
                reader.episodes[place],
                reader.episode(reader.episodes[place].uid).info,
            ),
        )
    ]


def named(reader: DatasetReader, items: Sequence[str]) -> set[int]:
    """Places of the episodes that `items` name; errors as `selected`."""
    uids = {entry.uid: place for place, entry in enumerate(reader.episodes)}
    places: set[int] = set()
    for item in (part.strip() for text in items for part in text.split(",")):
        span = _RANGE.fullmatch(item)
        if item in uids:
            places.add(uids[item])
        elif span and int(span[1]) <= int(span[2] or span[1]) < len(uids):
            places |= set(range(int(span[1]), int(span[2] or span[1]) + 1))
        else:
            places.add(_begun(reader, uids, item))
    return places


def _begun(reader: DatasetReader, uids: dict[str, int], item: str) -> int:
    found = [uid for uid in uids if len(item) >= 4 and uid.startswith(item)]
    if len(found) == 1:
        return uids[found[0]]
    what = f"{reader.path} version {reader.version.number} has"
    if found:
        raise NotFoundError(
            f"{what} {len(found)} episodes whose uid begins with {item!r}",
            hint=f"Say more of it: {', '.join(found[:5])}.",
        )
    raise NotFoundError(
        f"{what} no episode {item!r}",
        hint=f"It has {len(uids)}, from 0; name numbers, ranges (0-9), uids, or a --where.",
    )
