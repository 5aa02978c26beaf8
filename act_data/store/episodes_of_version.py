"""What both formats say about the episodes of a version: which are asked for, and which are new."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from act_data.errors import ConflictError, InputError, NotFoundError
from act_data.records import (
    Annotation,
    DatasetSchema,
    EpisodeEntry,
    EpisodeRecord,
    Feature,
    Split,
    SplitRule,
    StatsRecord,
    VersionOrigin,
    VersionRecord,
)
from act_data.store.hashing import content_hash
from act_data.store.layout import check_uid

# --- reading ----------------------------------------------------------------------------------


def array_asked(path: Path, features: Mapping[str, Feature], name: str) -> Feature:
    """The array `name` of the dataset at `path`.

    Raises:
        NotFoundError: There is none; names those that there are.
    """
    feature = features.get(name)
    if feature is None:
        raise NotFoundError(
            f"{str(path)!r} has no array {name!r}", hint=f"It has {', '.join(features)}."
        )
    return feature


def rows_asked(
    path: Path, version: VersionRecord, episode: int, start: int, stop: int | None
) -> range:
    """Rows [start, stop) of the `episode`-th episode of `version`; all the rest without `stop`.

    Raises:
        NotFoundError: The version has no such episode.
        InputError: The episode does not have these rows.
    """
    if not 0 <= episode < len(version.episodes):
        raise NotFoundError(
            f"{str(path)!r} version {version.number} has no episode {episode}, "
            f"it has {len(version.episodes)}"
        )
    entry = version.episodes[episode]
    stop = entry.length if stop is None else stop
    if not 0 <= start <= stop <= entry.length:
        raise InputError(
            f"rows {start} to {stop} of an episode of {entry.length} rows "
            f"({entry.uid!r} in {str(path)!r})"
        )
    return range(start, stop)


def refuse_other_place(out: NDArray[np.generic], spec: Feature, count: int) -> None:
    """See that `count` rows of `spec` can be put into `out`.

    Raises:
        InputError: It has another shape or type, or is not in C order.
    """
    wanted = (count, *spec.shape)
    if out.shape != wanted or out.dtype != spec.dtype or not out.flags.c_contiguous:
        order = "" if out.flags.c_contiguous else ", not in C order"
        raise InputError(
            f"{count} rows of {spec.name!r} do not go into an array of shape {out.shape} and type "
            f"{out.dtype}{order}",
            hint=f"Give one of shape {wanted} and type {spec.dtype}, in C order.",
        )


def places_of(version: VersionRecord) -> dict[str, int]:
    """The place of every episode in `version`, by uid."""
    return {entry.uid: number for number, entry in enumerate(version.episodes)}


def episode_asked(path: Path, version: VersionRecord, places: Mapping[str, int], uid: str) -> int:
    """The place of the episode `uid` in `version`, whose `places_of` are given.

    Raises:
        NotFoundError: The version has none such.
    """
    if uid not in places:
        raise NotFoundError(f"{str(path)!r} version {version.number} has no episode {uid!r}")
    return places[uid]


def refuse_other_stats(path: Path, version: VersionRecord, stats: StatsRecord) -> None:
    """See that `stats` are of `version`.

    Raises:
        InputError: They were computed from other content.
    """
    if stats.content_hash != version.content_hash:
        raise InputError(
            f"statistics of content {stats.content_hash[:12]!r} do not belong to version "
            f"{version.number} of {str(path)!r}, whose content is {version.content_hash[:12]!r}",
            hint="Compute them from this version.",
        )


# --- writing ----------------------------------------------------------------------------------


def refuse_new_episode(path: Path, uid: str, durable: Collection[str], unfinished: str) -> None:
    """See that an episode `uid` may be begun.

    Args:
        durable: The uids of the finished episodes.
        unfinished: The uid of the episode that is still open; "" when there is none.

    Raises:
        InputError: `uid` cannot be a file name.
        ConflictError: There is one with this uid, or another one is still open.
    """
    check_uid(uid)
    if uid in durable:
        raise ConflictError(
            f"{str(path)!r} has an episode {uid!r} already",
            hint="It is finished: commit it, or record under another uid.",
        )
    if unfinished:
        raise ConflictError(f"episode {unfinished!r} is still open")


def uids_to_add(
    path: Path, uids: Sequence[str], committed: Collection[str], durable: Collection[str]
) -> list[str]:
    """Those of `uids` that the next version adds to the `committed` ones, each once, in order.

    Raises:
        NotFoundError: One of them is not a finished episode.
        InputError: There is neither a committed episode nor one to add.
    """
    new = [uid for uid in dict.fromkeys(uids) if uid not in committed]
    missing = [uid for uid in new if uid not in durable]
    if missing:
        raise NotFoundError(f"{str(path)!r} has no finished episode {missing}")
    if not new and not committed:
        raise InputError(f"{str(path)!r} has no episode to commit")
    return new


def entry_of(record: EpisodeRecord, start: int, split: Split) -> EpisodeEntry:
    """What a version says about the episode of `record`."""
    return EpisodeEntry(
        uid=record.uid, start=start, length=record.length, hash=record.hash, split=split
    )


def version_record(
    schema: DatasetSchema,
    number: int,
    episodes: Sequence[EpisodeEntry],
    *,
    created: str,
    message: str,
    annotations: Mapping[str, Annotation] | None = None,
    split_rule: SplitRule | None = None,
    made_from: Sequence[VersionOrigin] = (),
) -> VersionRecord:
    """Version `number` with these `episodes`; the one before it is its parent."""
    uids = {entry.uid for entry in episodes}
    annotations = {uid: a for uid, a in sorted((annotations or {}).items()) if uid in uids}
    return VersionRecord(
        number=number,
        parent=number - 1 or None,
        created=created,
        message=message,
        episodes=tuple(episodes),
        content_hash=content_hash(schema, episodes, annotations),
        annotations=annotations,
        split_rule=split_rule,
        made_from=tuple(made_from),
    )


def now() -> str:
    """When something was created: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
