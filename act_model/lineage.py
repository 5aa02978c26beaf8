"""Which checkpoint is meant, what it was trained on, and whether it knows an episode already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from act_data.errors import ActError, InputError, NotFoundError
from act_data.interfaces import DatasetReader
from act_data.records import EpisodeInfo
from act_data.store import location, open_dataset
from act_model.config import DatasetRef
from act_model.run_folder import BEST, LAST

if TYPE_CHECKING:
    from act_data.registry import Registry


def find_checkpoint(folder: Path | None) -> Path:
    """The checkpoint in `folder`, the best one of a run there, or the newest registered one.

    Raises:
        NotFoundError: There is none.
    """
    if folder is None:
        newest = _registry().newest_checkpoint()
        if newest is None:
            raise NotFoundError(
                "no checkpoint is registered", hint="Train one: `act-model train DATASET`."
            )
        return newest
    for name in (BEST, LAST):
        if (folder / name).is_dir():
            return folder / name
    return folder


def dataset_of(trained_on: DatasetRef) -> DatasetReader:
    """The dataset version that a checkpoint was trained on.

    Raises:
        NotFoundError: It is no longer there.
        InputError: Another dataset has taken its place.
    """
    path = location(trained_on.path)
    if not path.exists():  # then it may have been moved, and registered again
        places = [location(d.path) for d in _registry().datasets() if d.uid == trained_on.uid]
        path = next((place for place in places if place.exists()), path)
    if not path.exists():
        raise NotFoundError(
            f"the dataset that the policy was trained on is no longer at {str(path)!r}",
            hint="Name the episode to replay with --source DATASET#NUMBER, or a bag.",
        )
    reader = open_dataset(path, trained_on.version)
    if reader.version.content_hash != trained_on.content_hash:
        raise InputError(
            f"{trained_on.path} is not what the policy was trained on: version "
            f"{trained_on.version} has content {reader.version.content_hash[:12]}, the checkpoint "
            f"names {trained_on.content_hash[:12]}",
            hint="Name the episode to replay with --source DATASET#NUMBER.",
        )
    return reader


def unseen(reader: DatasetReader, trained_on: DatasetRef) -> list[bool | None]:
    """Whether the policy was not trained on an episode, for each of `reader`; None: unknown.

    Another dataset may hold the recordings of the training set under other uids.
    """
    if reader.uid == trained_on.uid:
        return [entry.uid not in trained_on.train for entry in reader.episodes]
    infos = (reader.episode(entry.uid).info for entry in reader.episodes)
    sources = sources_of(trained_on)
    return [None if sources is None else _recording(info) not in sources for info in infos]


def sources_of(trained_on: DatasetRef) -> set[str] | None:
    """Digests of the recordings that the training episodes were made from; None: unknown."""
    try:
        reader = dataset_of(trained_on)
    except ActError:
        return None
    return {_recording(reader.episode(uid).info) for uid in trained_on.train}


def _recording(info: EpisodeInfo) -> str:
    """sha256 of what an episode was recorded as, also where the dataset is a copy of another."""
    origin = info.imported.origin if info.imported is not None else None
    return (origin or info.source).sha256


def _registry() -> Registry:
    # A robot that is starting has no time for what only the registry needs.
    from act_data.registry import Registry

    return Registry()
