"""Which episodes the versions of a dataset hold, as ranges of versions: what the index lacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from act_data.records import EpisodeEntry, VersionRecord
from act_data.registry.episode_row import Key, key_of
from act_data.registry.tables import OPEN


class Range(NamedTuple):
    """Versions from `since` on hold an episode, at this place in their order."""

    key: Key
    since: int
    place: int
    split: str


class Plan:
    """What is to be written so that the index holds more versions; made without locking it.

    Attributes:
        after: The newest version that the index holds; 0 where there is none.
        versions: Rows of `version`, but for their dataset.
        ended: Which ranges of the index end, and with which version.
    """

    def __init__(self, held: Iterable[Range] = (), *, after: int = 0, next_place: int = 1) -> None:
        """Start from the ranges that the version `after` is `held` by."""
        self.after = after
        self.versions: list[dict[str, Any]] = []
        self.ended: list[tuple[Key, int]] = []
        self._open = {uid: each for each in held for uid, _, _ in [each.key]}
        self._closed: list[tuple[Range, int]] = []
        self._next_place = next_place

    def add(self, version: VersionRecord) -> list[EpisodeEntry]:
        """Follow `version`, the next one. Gives the episodes whose range begins with it."""
        before, self._open = self._open, {}
        begun: list[EpisodeEntry] = []
        last, moved = 0, False
        for entry in version.episodes:
            held = before.get(entry.uid)
            key = key_of(version, entry)
            # Behind one that came or moved there is no place that would keep the order.
            moved = moved or held is None or held.place <= last
            last = self._new_place() if moved or held is None else held.place
            if not moved and held is not None and (held.key, held.split) == (key, entry.split):
                self._open[entry.uid] = held
            else:
                self._open[entry.uid] = Range(key, version.number, last, entry.split)
                begun.append(entry)
        for uid, held in before.items():
            if self._open.get(uid) is held:
                continue
            if held.since > self.after:
                self._closed.append((held, version.number))
            else:
                self.ended.append((held.key, version.number))
        self.versions.append(
            {
                "n": version.number,
                "parent": version.parent,
                "content_hash": version.content_hash,
                "message": version.message,
                "created": version.created,
                "episodes": len(version.episodes),
                "frames": sum(entry.length for entry in version.episodes),
                "added": sum(uid not in before for uid in self._open),
                "removed": sum(uid not in self._open for uid in before),
            }
        )
        return begun

    def ranges(self) -> Iterator[tuple[Range, int]]:
        """The new ranges, each with its end."""
        yield from self._closed
        for each in self._open.values():
            if each.since > self.after:
                yield each, OPEN

    def _new_place(self) -> int:
        place = self._next_place
        self._next_place += 1
        return place
