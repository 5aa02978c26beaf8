"""Bytes that no version needs any more: listed, and removed when that is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from act_data.curate.opened import open_newest
from act_data.curate.records import GarbageReport
from act_data.errors import InputError
from act_data.registry import Registry
from act_data.store.files import real_root
from act_data.store.zarr_garbage import collect
from act_data.store.zarr_records import read_root

GRACE_HOURS = 24.0


def gc(
    ref: str,
    *,
    drop: Sequence[int] = (),
    keep_versions: int | None = None,
    grace_hours: float = GRACE_HOURS,
    delete: bool = False,
) -> GarbageReport:
    """Find, and with `delete` remove, what belongs to no version that is kept.

    Every version is kept unless it is dropped here. `keep_versions` never drops one that a tag
    names or that a registered checkpoint was trained on; `drop` names it, and that is meant.

    Args:
        drop: Versions by number.
        keep_versions: Drop all but so many of the newest.
        grace_hours: How old must be what no version ever named: an interrupted ingest goes on.

    Raises:
        InputError: The newest version is to be dropped, or one that there is not.
        ConflictError: Another process is writing the dataset.
    """
    if keep_versions is not None and keep_versions < 1:
        raise InputError("no version would be kept", hint="--keep-versions is at least 1.")
    reader = open_newest(ref)
    kept = read_root(real_root(reader.path)).kept
    older = kept[:-keep_versions] if keep_versions is not None else ()
    protected = {n: why for n, why in _needed(reader.uid).items() if n in older and n not in drop}
    going = {*drop, *(n for n in older if n not in protected)}
    found = collect(reader.path, drop=going, grace_s=grace_hours * 3600, delete=delete)
    return GarbageReport(
        dataset=str(reader.path),
        dry_run=not delete,
        versions=found.versions,
        protected=protected,
        episodes=found.episodes,
        files=len(found.files),
        beside=found.beside,
        bytes=found.bytes,
        spared=found.spared,
        grace_hours=grace_hours,
    )


def _needed(uid: str) -> Mapping[int, str]:
    """Versions of the dataset `uid` that something refers to, and what."""
    registry = Registry()
    needed = {
        made.version: f"{made.folder} was trained on it"
        for made in registry.checkpoints()
        if made.dataset_uid == uid and Path(made.folder).is_dir()
    }
    for dataset in registry.datasets():
        if dataset.uid == uid:
            for tag in registry.tags(dataset.name).tags:
                needed[tag.version] = f"it is tagged {tag.name!r}"
    return needed
