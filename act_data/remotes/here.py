"""The dataset that lies where a pull is to write, if there is one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from act_data.errors import ConflictError
from act_data.records import EpisodeEntry, EpisodeRecord, VersionRecord
from act_data.remotes.documents import RemoteVersion, first_other
from act_data.store import layout
from act_data.store.files import OpenFile
from act_data.store.zarr_records import (
    episode_uids,
    read_episode,
    read_root,
    read_version,
)


class Here:
    """An act-zarr dataset on this disk.

    Attributes:
        record: Its root.
    """

    def __init__(self, target: Path) -> None:
        self._root = str(target)
        self.record = read_root(self._root)

    @staticmethod
    def at(target: Path) -> Here | None:
        """What lies at `target`; None when nothing does.

        Raises:
            ConflictError: Something else than a dataset.
        """
        if not os.path.lexists(target):
            return None
        if target.is_dir():
            if not any(target.iterdir()):
                return None
            if (target / "zarr.json").is_file():
                return Here(target)
        raise ConflictError(
            f"{str(target)!r} exists and is no act-zarr dataset",
            hint="Name another place with --out.",
        )

    @property
    def newest(self) -> int:
        """Number of its newest version; 0 when it has none."""
        return self.record.head.version

    def version(self, number: int) -> VersionRecord:
        """Its version `number`."""
        return read_version(self._root, number, self.record.shard_frames)

    def refuse_other(self, uid: str, theirs: RemoteVersion | None) -> None:
        """See that it is the dataset `uid` and that its history is that of `theirs`.

        Raises:
            ConflictError: It is another one, or it has versions of its own.
        """
        if self.record.dataset_uid != uid:
            raise ConflictError(
                f"{self._root!r} is another dataset (uid {self.record.dataset_uid!r}, the remote's "
                f"is {uid!r})",
                hint="Name another place with --out.",
            )
        if theirs is None or not self.newest:
            return
        until = min(self.newest, theirs.reference.version)
        number = first_other(self.version, theirs.versions, until)
        if number is not None:
            here, there = self.version(number), theirs.versions[number]
            raise ConflictError(
                f"{self._root!r} has a version {number} of its own (content "
                f"{here.content_hash[:12]}, the remote's {there.content_hash[:12]})",
                hint="Put yours on top of it: the same command with --rebase, and --dry-run to see "
                "what that does.",
            )

    def common(self, theirs: RemoteVersion) -> int:
        """The newest version that this history has in common with that of `theirs`.

        Raises:
            ConflictError: There is none.
        """
        until = min(self.newest, theirs.reference.version)
        other = first_other(self.version, theirs.versions, until)
        if other == 1:
            raise ConflictError(
                f"{self._root!r} has no version in common with the remote's",
                hint="Pull to another place with --out.",
            )
        return until if other is None else other - 1

    def uids(self) -> list[str]:
        """Its finished episodes, in versions or not."""
        return episode_uids(self._root)

    def episode(self, uid: str) -> EpisodeRecord:
        """The record of one of them."""
        return read_episode(self._root, uid, self.record.shard_frames)

    def lies(self, entry: EpisodeEntry) -> bool:
        """Whether the episode is here with all its files, at the place that `entry` says."""
        if not Path(self._root, layout.episode_key(entry.uid)).exists():
            return False
        return _same_place(self.episode(entry.uid), entry) and self.has(entry)

    def files_are_here(self, record: EpisodeRecord) -> bool:
        """Whether every file of an episode is here, with its size."""
        try:
            return all(
                OpenFile(self._root, key).size == digest.bytes
                for key, digest in record.files.items()
            )
        except FileNotFoundError:
            return False

    def has(self, entry: EpisodeEntry) -> bool:
        """Whether the episode is here with all its files."""
        if not Path(self._root, layout.episode_key(entry.uid)).exists():
            return False
        record = self.episode(entry.uid)
        if not _same_place(record, entry):
            raise ConflictError(
                f"{self._root!r} has another episode {entry.uid!r}, not in any version that the "
                "remote has",
                hint="Pull to another place with --out.",
            )
        return self.files_are_here(record)

    def refuse_overlap(self, arriving: Iterable[EpisodeRecord]) -> None:
        """See that no episode that was finished here lies where one that arrives must lie."""
        frames = self.record.shard_frames
        taken: dict[int, str] = {}
        for uid in episode_uids(self._root):
            own = read_episode(self._root, uid, frames)
            taken |= dict.fromkeys(layout.shards_of(own.start, own.length, frames), uid)
        for record in arriving:
            for shard in layout.shards_of(record.start, record.length, frames):
                if taken.get(shard, record.uid) != record.uid:
                    raise ConflictError(
                        f"episode {taken[shard]!r} was finished in {self._root!r} and committed in "
                        f"no version: it lies where {record.uid!r} of the remote must lie",
                        hint="Pull to another place with --out.",
                    )


def _same_place(record: EpisodeRecord, entry: EpisodeEntry) -> bool:
    return (record.start, record.length, record.hash) == (entry.start, entry.length, entry.hash)
