"""Tags that travel with their logs: who moved one last is followed, unless both sides moved it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from act_data.errors import ConflictError, NotFoundError, StoreError
from act_data.records import VersionRecord
from act_data.registry import Registry, TagMove
from act_data.remotes.address import is_tag, ref_key
from act_data.remotes.documents import read_reference, tags_of
from act_data.remotes.records import MAX_MOVES, Move, Reference, TagConflict, TagReference
from act_data.remotes.remote import Remote
from act_data.store import layout
from act_data.store.zarr_records import dump

_ATTEMPTS = 5

Log = tuple[Move, ...]
"""Moves of one tag, the oldest first."""


@dataclass(frozen=True, kw_only=True)
class Agreed:
    """What became of the tags of a dataset.

    Attributes:
        logs: Of the tags that one side has to take over from the other.
    """

    logs: dict[str, Log] = field(default_factory=dict)
    conflicts: list[TagConflict] = field(default_factory=list)


def logs_here(path: Path) -> dict[str, Log]:
    """The log of every tag of the dataset at `path`; none when it is not registered."""
    logs: dict[str, Log] = {}
    with suppress(NotFoundError):
        for move in Registry().tags(str(path)).log:
            values = move.model_dump(exclude={"tag"})
            logs[move.tag] = (Move(**values), *logs.get(move.tag, ()))
    return logs


def read_tags(remote: Remote, name: str, versions: Mapping[int, VersionRecord]) -> dict[str, Log]:
    """The logs of the tags of the dataset `name` that stand for one of `versions`, or for nothing.

    Raises:
        StoreError: One is damaged, or names other content than its version has.
    """
    logs = {}
    for tag in filter(is_tag, tags_of(remote, name)):
        reference, _ = read_reference(remote, name, tag)
        if not isinstance(reference, TagReference):
            continue  # gone since it was listed
        version = versions.get(reference.version)
        if version is None and not reference.taken_off:
            continue  # of a newer version than the one that is brought
        if version is not None and version.content_hash != reference.content_hash:
            raise StoreError(f"'{remote.name}/{ref_key(name, tag)}' names other content")
        logs[tag] = reference.moves
    return logs


def arriving(here: Mapping[str, Log], there: Mapping[str, Log]) -> Agreed:
    """What those here have to learn from those `there`."""
    agreed = Agreed()
    for tag, theirs in there.items():
        mine = here.get(tag, ())
        log = _joined(mine, theirs)
        if log is None:
            agreed.conflicts.append(_conflict(tag, mine, theirs))
        elif log != mine:
            agreed.logs[tag] = log
    return agreed


def take(path: Path, logs: Mapping[str, Log]) -> None:
    """Bring the tags of the registered dataset at `path` up to `logs`."""
    if logs:
        told = {
            tag: [TagMove(tag=tag, **move.model_dump()) for move in log]
            for tag, log in logs.items()
        }
        Registry().take_tags(str(path), told)


def push_tags(
    remote: Remote,
    name: str,
    here: Mapping[str, Log],
    references: Mapping[int, Reference],
    *,
    dry_run: bool,
) -> Agreed:
    """Bring the tags on a remote up to those `here`, each in one swap.

    Args:
        references: Of the versions that the remote holds: tags of others stay here.

    Raises:
        ConflictError: Somebody else moves one all the time.
        StoreError: One there is damaged, or it cannot be written.
    """
    agreed = Agreed()
    for tag, mine in sorted(here.items()):
        for _ in range(_ATTEMPTS):
            there, data = read_reference(remote, name, tag)
            theirs = there.moves if isinstance(there, TagReference) else ()
            log = _joined(mine, theirs)
            if log is None:
                agreed.conflicts.append(_conflict(tag, mine, theirs))
                break
            after = log[-1].after
            reference = there if after is None else references.get(after)
            if log == theirs or reference is None:
                break
            facts = reference.model_dump(include=set(Reference.model_fields))
            document = TagReference(**facts, moves=log[-MAX_MOVES:])
            if dry_run or remote.swap(ref_key(name, tag), data, layout.render(dump(document))):
                agreed.logs[tag] = log
                break
        else:
            raise ConflictError(
                f"'{remote.name}/{ref_key(name, tag)}' changes all the time", hint="Push again."
            )
    return agreed


def _joined(mine: Log, theirs: Log) -> Log | None:
    """The log that holds both; None where each side moved it to where the other has not been."""
    pairs = zip(mine, theirs, strict=False)
    common = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(mine), len(theirs)))
    if common == len(theirs):
        return mine
    if common == len(mine):
        return theirs
    ours, others = mine[common:], theirs[common:]
    passed_here = others[-1].after in {move.after for move in ours}
    passed_there = ours[-1].after in {move.after for move in others}
    if passed_here and passed_there and ours[-1].after != others[-1].after:
        return None
    if passed_there:
        return (*mine[:common], *(m for m in ours if m not in others), *others)
    if passed_here:
        return (*mine[:common], *(m for m in others if m not in ours), *ours)
    return None


def _conflict(tag: str, mine: Sequence[Move], theirs: Sequence[Move]) -> TagConflict:
    last = theirs[-1]
    return TagConflict(
        tag=tag, here=mine[-1].after, there=last.after, who=last.who, moved=last.moved
    )
