"""The files of an HDF5 dataset: what they are called, and which of them are part of it.

`name.hdf5` is a dataset of exactly one episode; any other path is a folder of `episode_<i>.hdf5`.

There is no pointer file. Every episode carries the version in which it became visible, and the
files of a new version are renamed into place last one first. So a version exists as soon as its
first file does, and that is one rename: files behind a missing first one are of a commit that
never happened. Version n is the first so many files of the folder, and stays readable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from act_data.errors import StoreError
from act_data.records import EpisodeEntry, VersionRecord
from act_data.store.episodes_of_version import entry_of, version_record
from act_data.store.hdf5.episode_file import EpisodeFile
from act_data.store.hdf5.layout import Commit, Header

_EPISODE = re.compile(r"episode_(0|[1-9][0-9]{0,8})\.hdf5")


@dataclass(frozen=True, slots=True)
class Member:
    """A visible episode: its file, and what the file says about itself."""

    path: Path
    header: Header
    commit: Commit


@dataclass(frozen=True, slots=True)
class Place:
    """The names of the files of the dataset at `path`."""

    path: Path

    @property
    def single(self) -> bool:
        """Whether it holds exactly one episode."""
        return self.path.suffix == ".hdf5"

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.path.parent if self.single else self.path

    def target(self, number: int) -> Path:
        """The visible file of episode `number`."""
        return self.path if self.single else self.path / f"episode_{number}.hdf5"

    def finished(self, uid: str) -> Path:
        """A finished episode that is not visible yet."""
        return self.folder / f"{self._prefix}{uid}.finished"

    def unfinished(self, uid: str) -> Path:
        """An episode that is being written."""
        return self.folder / f"{self._prefix}{uid}.partial"

    def all_finished(self) -> list[Path]:
        """What `finished` names, of all uids."""
        return self._hidden(".finished")

    def all_unfinished(self) -> list[Path]:
        """What `unfinished` names, of all uids."""
        return self._hidden(".partial")

    def visible(self) -> dict[int, Path]:
        """The files that look like episodes, by number."""
        if self.single:
            return {0: self.path} if self.path.is_file() else {}
        numbers = ((_EPISODE.fullmatch(p.name), p) for p in self._entries())
        return {int(match[1]): path for match, path in numbers if match}

    def foreign(self) -> list[Path]:
        """What lies in the folder and is not ours."""
        if self.single:
            return []
        ours = {*self.visible().values(), *self.all_finished(), *self.all_unfinished()}
        return sorted(p for p in self._entries() if p not in ours)

    @property
    def _prefix(self) -> str:
        return f".{self.path.name}." if self.single else "."

    def _hidden(self, suffix: str) -> list[Path]:
        names = ((p.name, p) for p in self._entries())
        return sorted(p for n, p in names if n.startswith(self._prefix) and n.endswith(suffix))

    def _entries(self) -> Iterator[Path]:
        return iter(self.folder.iterdir() if self.folder.is_dir() else ())


def members(place: Place) -> list[Member]:
    """The episodes of all committed versions, in order.

    Raises:
        StoreError: A file is missing, damaged, or of another dataset.
    """
    files = place.visible()
    found: list[Member] = []
    version = 0
    while len(found) in files:
        version += 1
        first = len(found)
        expected = _member(files[first]).commit
        if (expected.version, expected.first) != (version, first) or expected.count < 1:
            raise StoreError(
                f"{str(files[first])!r} says it is number {expected.first} and of version "
                f"{expected.version}; in its place number {first} of version {version} is due",
                hint="Files were renamed, or copied from another dataset: restore their names.",
            )
        for number in range(first, first + expected.count):
            if number not in files:
                raise StoreError(
                    f"{str(place.target(number))!r} is missing; version {version} holds it",
                    hint="Restore the file, or ingest its recording into a new dataset.",
                )
            member = _member(files[number])
            _same_dataset(member, found[0] if found else member, expected)
            found.append(member)
    return found


def left_behind(place: Place, committed: int) -> list[Path]:
    """Visible files behind the last of `committed` episodes: of a commit that never happened."""
    return [path for number, path in sorted(place.visible().items()) if number >= committed]


def version_of(found: list[Member], number: int) -> VersionRecord:
    """Version `number` of the dataset whose episodes are `found`."""
    entries: list[EpisodeEntry] = []
    start = 0
    for member in found:
        if member.commit.version <= number:
            record = member.header.record
            entries.append(entry_of(record, start, member.commit.split))
            start += record.length
    commit = next(m.commit for m in found if m.commit.version == number)
    return version_record(
        found[0].header.dataset_schema,
        number,
        entries,
        created=commit.created,
        message=commit.message,
    )


def _member(path: Path) -> Member:
    with EpisodeFile(path) as file:
        header = file.header
    if header.commit is None:
        raise StoreError(f"{str(path)!r} was never committed", hint="Take it out of the folder.")
    return Member(path, header, header.commit)


def _same_dataset(member: Member, first: Member, expected: Commit) -> None:
    wrong = ""
    if member.header.dataset_uid != first.header.dataset_uid:
        wrong = "is an episode of another dataset"
    elif member.header.dataset_schema != first.header.dataset_schema:
        wrong = "has another schema than the first episode"
    elif member.commit.model_copy(update={"split": expected.split}) != expected:
        wrong = f"is of version {member.commit.version}, its neighbours of {expected.version}"
    if wrong:
        raise StoreError(f"{str(member.path)!r} {wrong}", hint="Restore the files of this dataset.")
