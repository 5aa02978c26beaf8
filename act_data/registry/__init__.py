"""The index that turns a name into a dataset and proves it unchanged.

The stores are the truth and describe themselves; the index can be thrown away and rebuilt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from act_data.errors import NotFoundError, StoreError
from act_data.interfaces import DatasetReader
from act_data.place import Place, default_place
from act_data.registry import holders, references, tags
from act_data.registry.database import is_damaged, set_aside, transaction
from act_data.registry.in_batches import register_at
from act_data.registry.on_disk import find_datasets
from act_data.registry.rebuild import rebuild
from act_data.registry.records import (
    DatasetLog,
    DatasetTags,
    HeldEpisode,
    HoldingDataset,
    LoggedVersion,
    RegisteredCheckpoint,
    RegisteredDataset,
    RegisteredVersion,
    SearchResult,
    TagMove,
)
from act_data.registry.references import Resolved
from act_data.registry.rows import (
    by_name,
    by_uid,
    compare,
    dataset_of,
    register,
    registered,
    versions_of,
)
from act_data.registry.search import Scope, search
from act_data.registry.tables import checkpoint, dataset
from act_data.store import location, open_dataset

__all__ = [
    "DatasetLog",
    "DatasetTags",
    "HeldEpisode",
    "HoldingDataset",
    "RegisteredCheckpoint",
    "RegisteredDataset",
    "RegisteredVersion",
    "Registry",
    "Resolved",
    "SearchResult",
    "TagMove",
    "TrainedOn",
    "find_datasets",
]


class TrainedOn(Protocol):
    """The exact data of a checkpoint, as far as the registry cares."""

    @property
    def uid(self) -> str:
        """Of the dataset."""

    @property
    def version(self) -> int:
        """Of the dataset."""

    @property
    def content_hash(self) -> str:
        """Of the version."""


class Registry:
    """Datasets by name, their versions, tags and episodes, and the checkpoints trained on them.

    Every call opens the database, does its work in one transaction and closes it: any number of
    processes may use it at once.
    """

    def __init__(self, place: Place | None = None) -> None:
        """Use the SQLite file or the database URL `place`.

        Without one it is what `ACT_REGISTRY` says, else a file in the user's data folder.
        """
        self.place = place if place is not None else default_place()

    def register(self, reader: DatasetReader, name: str | None = None) -> str:
        """Make the version of `reader`, and those before it, known. Gives the dataset's name.

        Again with the same version, it changes nothing. A dataset that was moved keeps its name.
        One that took the place of another on disk takes its place here too. Of the episodes only
        the records of those are read that no version before held.

        Args:
            reader: The version to register.
            name: Wanted name. Without one a known dataset keeps its name and a new one gets
                that of its file without suffix, with "-2", "-3", ... when that is taken.

        Raises:
            InputError: `name` has characters that a reference cannot hold.
            ConflictError: `name` belongs to another dataset.
            StoreError: A version's content is not what was registered under its number.
        """
        return register_at(self.place, reader, name)

    def resolve(self, ref: str) -> Resolved:
        """The version that `ref` means, and where it lies; arguments and errors as `open`."""
        name, reader = self.open(ref)
        return Resolved(
            name=name,
            path=reader.path,
            version=reader.version.number,
            content_hash=reader.version.content_hash,
        )

    def open(self, ref: str) -> tuple[str, DatasetReader]:
        """The dataset that `ref` means, after its content hash was compared, and its name.

        Args:
            ref: "name", "name@3", "name@v3", "name@latest", "name@tag", or a path with or without
                "@3". A registered name comes first; write "./name" for a folder of that name.

        Raises:
            InputError: What follows "@" is no version.
            NotFoundError: No such name, version, tag or path.
            StoreError: The content no longer matches what was registered.
        """
        target, version = references.split(ref)
        with transaction(self.place) as db:
            row = by_name(db, target)
            if row is None:
                if not location(target).exists():
                    raise references.unknown(db, target)
                return references.at_path(db, location(target), version)
            wanted = references.wanted(db, row, version)
        path = location(row["uri"])
        if not path.exists():
            raise NotFoundError(
                f"dataset {target!r} is no longer at {path}",
                hint="If it was moved: `act-data rebuild NEW_PATH`.",
            )
        reader = open_dataset(path, wanted["n"])
        if reader.uid != row["uid"]:
            raise StoreError(
                f"{path} no longer matches {target!r}: it holds another dataset "
                f"(uid {reader.uid!r}, registered {row['uid']!r})",
                hint=f"`act-data rebuild {path}` registers what lies there now.",
            )
        compare(reader, target, wanted["content_hash"])
        return target, reader

    def datasets(self) -> list[RegisteredDataset]:
        """All datasets by name."""
        with transaction(self.place) as db:
            rows = db.execute(registered().order_by(dataset.c.name)).mappings().all()
            return [dataset_of(db, row) for row in rows]

    def show(self, name: str) -> RegisteredDataset:
        """The dataset called `name`.

        Raises:
            NotFoundError: There is none; the message lists the nearest names.
        """
        with transaction(self.place) as db:
            return dataset_of(db, references.named(db, name))

    def log(self, target: str) -> DatasetLog:
        """The versions of the dataset that `target` names, or that lies there.

        Raises:
            NotFoundError: There is none in the registry.
        """
        with transaction(self.place) as db:
            row = references.registered(db, target)
            pointing = tags.tags_of(db, row).tags
            versions = [
                LoggedVersion(
                    number=v["n"],
                    tags=tuple(tag.name for tag in pointing if tag.version == v["n"]),
                    **{name: v[name] for name in LoggedVersion.model_fields if name in v},
                )
                for v in versions_of(db, row["id"]).values()
            ]
        return DatasetLog(name=row["name"], path=row["uri"], versions=tuple(versions[::-1]))

    def tag(self, ref: str, name: str) -> TagMove | None:
        """Point the tag `name` at the version that `ref` means; None when it does already.

        Raises:
            InputError: `name` cannot be a tag.
            NotFoundError: No such dataset or version in the registry.
        """
        target, version = references.split(ref)
        with transaction(self.place, write=True) as db:
            row = references.registered(db, target)
            return tags.move(db, row, name, references.wanted(db, row, version)["n"])

    def untag(self, target: str, name: str) -> TagMove:
        """Take the tag `name` off the dataset that `target` names.

        Raises:
            NotFoundError: No such dataset or tag.
        """
        with transaction(self.place, write=True) as db:
            return tags.remove(db, references.registered(db, target), name)

    def tags(self, target: str) -> DatasetTags:
        """The tags of the dataset that `target` names, and their log.

        Raises:
            NotFoundError: There is no such dataset in the registry.
        """
        with transaction(self.place) as db:
            return tags.tags_of(db, references.registered(db, target))

    def take_tags(self, target: str, logs: Mapping[str, Sequence[TagMove]]) -> None:
        """Make each of `logs`, by tag and the oldest move first, the whole log of its tag.

        Raises:
            NotFoundError: There is no such dataset, or no such version, in the registry.
        """
        with transaction(self.place, write=True) as db:
            row = references.registered(db, target)
            for name, log in logs.items():
                tags.take_log(db, row, name, log)

    def renumber(self, reader: DatasetReader, numbers: Mapping[int, int]) -> str:
        """Read the dataset of `reader` anew, whose versions got other numbers. Gives its name.

        Args:
            numbers: New number by old; tags and their logs go with them.
        """
        with transaction(self.place, write=True) as db:
            row = by_uid(db, reader.uid)
            db.execute(sa.delete(dataset).where(dataset.c.uid == reader.uid))
            name = register(db, reader, None if row is None else row["name"])
            tags.renumber(db, references.named(db, name), numbers)
            return name

    def search(
        self,
        text: str = "",
        *,
        where: str = "",
        within: str | None = None,
        limit: int = 100,
        facets: bool = False,
    ) -> SearchResult:
        """Episodes of the newest version of every dataset, or of one version.

        The index answers: it is not looked whether the datasets are still there.

        Args:
            text: Words that stand in task, operator or notes, all of them; case and accents do not
                count. "pou*" is the beginning of a word, "tea-cup" two words one after the other.
            where: A condition, as `act_data.where` has it.
            within: "name", "name@3", "name@tag", or a path.
            limit: List so many at most; all are counted.
            facets: Count by robot, camera, rate, month and quality, too.

        Raises:
            InputError: `text` has no word, or `where` is no condition.
            NotFoundError: There is no such dataset or version in the registry.
        """
        with transaction(self.place) as db:
            scope = None
            if within is not None:
                target, version = references.split(within)
                row = references.registered(db, target)
                scope = Scope(dataset=row["id"], number=references.wanted(db, row, version)["n"])
            return search(db, text, where, scope, limit=limit, facets=facets)

    def rebuild(self, paths: Sequence[Path]) -> list[str]:
        """Read everything again from the stores, and trust what lies there now.

        Afterwards the registry holds the datasets found in `paths` and those that it knew and
        that still are where they were. Names are kept, tags and checkpoints too; a file that is
        damaged is set aside first (as "registry.db.damaged") and its own are lost.

        Args:
            paths: Datasets, or folders to search for them.

        Returns:
            The names of all datasets.

        Raises:
            NotFoundError: A path does not exist.
            StoreError: A dataset cannot be read. The registry is as it was.
        """
        found = [store for path in paths for store in find_datasets(path)]
        if isinstance(self.place, Path) and is_damaged(self.place):
            set_aside(self.place)
        return rebuild(self.place, found)

    def place_of(self, uid: str) -> HoldingDataset | None:
        """The dataset whose identity is `uid`."""
        with transaction(self.place) as db:
            return holders.place_of(db, uid)

    def made_of(self, recording: str) -> list[HeldEpisode]:
        """Every episode of a recording whose sha256 begins so, in whatever dataset."""
        with transaction(self.place) as db:
            return holders.of_recording(db, recording)

    def called(self, text: str) -> list[HeldEpisode]:
        """Every episode whose uid or hash begins with `text`, in whatever dataset."""
        with transaction(self.place) as db:
            return holders.called(db, text)

    def sharing(self, uid: str) -> list[HoldingDataset]:
        """The other datasets that hold an episode which the dataset `uid` holds."""
        with transaction(self.place) as db:
            return holders.sharing(db, uid)

    def register_checkpoint(self, folder: Path, data: TrainedOn, step: int) -> None:
        """Make the checkpoint in `folder`, trained on `data` for `step` steps, the newest one."""
        row = {
            "folder": str(folder.absolute()),
            "dataset_uid": data.uid,
            "version": data.version,
            "content_hash": data.content_hash,
            "step": step,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with transaction(self.place, write=True) as db:
            db.execute(sa.delete(checkpoint).where(checkpoint.c.folder == row["folder"]))
            db.execute(sa.insert(checkpoint).values(row))

    def checkpoints(self) -> list[RegisteredCheckpoint]:
        """All registered checkpoints, the newest last, whether or not their folder is there."""
        asked = sa.select(checkpoint).order_by(checkpoint.c.id)
        with transaction(self.place) as db:
            rows = db.execute(asked).mappings().all()
        fields = RegisteredCheckpoint.model_fields
        return [RegisteredCheckpoint(**{name: row[name] for name in fields}) for row in rows]

    def newest_checkpoint(self) -> Path | None:
        """The folder registered last that still exists; None when there is none."""
        with transaction(self.place) as db:
            asked = sa.select(checkpoint.c.folder).order_by(checkpoint.c.id.desc())
            folders = db.execute(asked).scalars().all()
        return next((p for folder in folders if (p := Path(folder)).is_dir()), None)
