"""Finding recordings: which files are one recording, and which are several."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from act_data.errors import DataError, NotFoundError
from act_data.sources.chunk_room import ChunkRoom
from act_data.sources.given_types import GivenTypes
from act_data.sources.rosbag_metadata import read_promise
from act_data.sources.salvage import salvaged
from act_data.sources.storage import MAGIC, SIDES, Kind, Storage, readable
from act_data.types import NS_PER_MS

_SUFFIXES: dict[str, Kind] = {".bag": "ros1", ".db3": "db3", ".mcap": "mcap"}
_METADATA = "metadata.yaml"
_SPLIT = re.compile(r"(?P<prefix>.+)_(?P<number>\d+)")

# A recorder opens the next split within milliseconds (0.4 to 5 ms in real recordings of both ROS
# versions); a person needs seconds to start the next demonstration. ROS 1's recorder stamps in
# several threads, so the first stamps of a split may lie just before the last of the one before.
_MAX_GAP_NS = 500 * NS_PER_MS
_MAX_OVERLAP_NS = 10 * NS_PER_MS

# What nodes publish by themselves: a split with nothing else was made before the robot started.
_CHATTER = {"/rosout", "/rosout_agg", "/parameter_events", "/events/write_split"}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a person adds to how recordings are read.

    Attributes:
        types: Definitions for those that carry none.
        recover: Read what can be read of files in whatever state, and account for the rest.
    """

    types: GivenTypes = field(default_factory=GivenTypes)
    recover: bool = False


@dataclass(frozen=True)
class Recording:
    """The storage files that were recorded in one go.

    Attributes:
        name: For people: file name without suffix, or the directory's.
        files: In the order of their numbers.
        metadata: `metadata.yaml` of a rosbag2 directory, where there is one.
        reading: How `open_recording` reads it.
    """

    name: str
    kind: Kind
    files: tuple[Path, ...]
    metadata: Path | None = None
    reading: Reading = field(default_factory=Reading)

    @property
    def read_files(self) -> tuple[Path, ...]:
        """All files that reading takes in: with `recover` what SQLite left beside a database."""
        if self.kind != "db3" or not self.reading.recover:
            return self.files
        beside = (f.with_name(f.name + side) for f in self.files for side in SIDES)
        return (*self.files, *(file for file in beside if file.is_file()))


def find_recordings(paths: Sequence[Path], reading: Reading | None = None) -> list[Recording]:
    """The recordings that `paths` name: files, rosbag2 directories, or folders of recordings.

    Folders are searched to any depth, hidden ones left out, in natural order (2 before 10). The
    splits `<prefix>_<n>` of one recording are joined when their numbers follow each other and
    the next begins within half a second of the last message. Damaged files are found too:
    `open_recording` says what is wrong with them.

    Args:
        reading: What a person adds to how all of them are read.

    Raises:
        NotFoundError: Paths that do not exist (all of them), or that hold no recording.
        DataError: A file that is no recording.
    """
    if not paths:
        raise NotFoundError("no recording was named", hint="Name a bag, or a folder of bags.")
    paths = [Path(p) for p in paths]
    missing = [p for p in paths if not p.exists()]
    if missing:
        raise NotFoundError(
            f"no such file or folder: {', '.join(map(str, missing))}",
            hint="Check the spelling, and whether the disk is mounted.",
        )
    reading = reading or Reading()
    found: list[Recording] = []
    for are_folders, together in groupby(paths, key=Path.is_dir):
        if are_folders:
            for folder in together:
                found += _in_folder(folder, reading)
        else:
            found += _joined([(file, _kind(file)) for file in together], reading)
    once: dict[tuple[Path, ...], Recording] = {}
    for recording in found:
        once.setdefault(tuple(f.resolve() for f in recording.files or ()), recording)
    return [replace(r, name=readable(r.name), reading=reading or Reading()) for r in once.values()]


def open_storage(path: Path, kind: Kind, room: ChunkRoom, *, recover: bool = False) -> Storage:
    """The opened storage file.

    Args:
        recover: Read what can be read of it, in whatever state it is.

    Raises:
        DataError: It is empty or of another kind; without `recover`, also cut, unindexed, damaged.
    """
    if recover:
        return salvaged(path, kind, room)
    if kind == "ros1":
        from act_data.sources.ros1_file import Ros1File

        return Ros1File(path, room)
    if kind == "db3":
        from act_data.sources.db3_file import Db3File

        return Db3File(path)
    from act_data.sources.mcap_file import McapFile

    return McapFile(path, room)


def _sniffed(path: Path) -> Kind | None:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return None
    return next((kind for kind, magic in MAGIC.items() if head.startswith(magic)), None)


def _named(path: Path) -> Kind | None:
    """The kind by the name: x.bag, x.bag.active, x.db3.zstd, ..."""
    inner = path.with_suffix("") if path.suffix in (".active", ".zstd") else path
    return _SUFFIXES.get(inner.suffix)


def _kind(file: Path) -> Kind:
    kind = (_sniffed(file) or _named(file)) if file.is_file() else None
    if kind is None:
        raise DataError(
            f"{file} is not a recording",
            hint="Recordings are ROS 1 .bag, and ROS 2 .db3 and .mcap files.",
        )
    return kind


def _in_folder(folder: Path, reading: Reading) -> list[Recording]:
    found: list[Recording] = []
    others: list[str] = []
    for directory in _directories(folder, set()):
        found += _in_directory(directory, others, reading)
    if not found:
        there = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if others[5:] else "")
        raise NotFoundError(
            f"{folder} holds no recording; it holds {there or 'nothing'}",
            hint="Name a folder with .bag, .db3 or .mcap files.",
        )
    return sorted(found, key=lambda r: [_natural(part) for part in _place(r).parts])


def _directories(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """The folder and those below it, hidden ones left out; a link that leads back up is not."""
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    try:
        entries = sorted(folder.iterdir())
    except PermissionError as e:
        raise DataError(
            f"{folder} cannot be read: {e.strerror}", hint="Ask for permission to read it."
        ) from e
    yield folder
    for entry in entries:
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _directories(entry, seen)


def _in_directory(folder: Path, others: list[str], reading: Reading) -> list[Recording]:
    """The recordings that lie in `folder` itself; other files are named in `others`."""
    files: list[tuple[Path, Kind]] = []
    for entry in sorted(folder.iterdir(), key=lambda p: _natural(p.name)):
        if entry.name.startswith(".") or not entry.is_file():
            continue
        named = _named(entry)
        kind = _sniffed(entry) or named
        # A database without the suffix is somebody else's: SQLite is everywhere.
        if kind is None or (kind == "db3" and named is None) or _is_backup(entry):
            others.append(entry.name)
        else:
            files.append((entry, kind))
    metadata = folder / _METADATA
    promise = read_promise(metadata) if metadata.is_file() else None
    if promise is None:
        return _joined(files, reading)
    found = _joined([f for f in files if f[1] == "ros1"], reading)
    kinds: list[Kind] = [k for k in MAGIC if k != "ros1" and any(kind == k for _, kind in files)]
    if not kinds and promise.files:  # open_recording tells which files are missing
        kinds = [_named(Path(promise.files[0])) or "db3"]
    for kind in kinds:
        own = tuple(file for file, k in files if k == kind)
        listed = kind == (_named(Path(promise.files[0])) if promise.files else kind)
        found.append(Recording(folder.resolve().name, kind, own, metadata if listed else None))
    return found


def _joined(files: Sequence[tuple[Path, Kind]], reading: Reading) -> list[Recording]:
    """One recording for each run of splits, and one for each other file; in order of appearance."""
    by_series: dict[tuple[Path, Kind, str, str], list[tuple[int, Path]]] = {}
    for file, kind in files:
        finished = Path(file.name.removesuffix(".active"))  # a killed recorder's last split
        split = _SPLIT.fullmatch(finished.stem)
        prefix, number = (split["prefix"], int(split["number"])) if split else (file.name, 0)
        by_series.setdefault((file.parent, kind, prefix, finished.suffix), []).append(
            (number, file)
        )
    found: list[Recording] = []
    for (parent, kind, prefix, _), members in by_series.items():
        numbered = sorted(set(members))
        # rosbag2 names its splits after their directory; ROS 1 and people use any prefix.
        by_name = kind != "ros1" and prefix == parent.resolve().name
        for run in _runs(numbered, kind, by_name, reading):
            name = prefix if len(run) > 1 else run[0].name.removesuffix(run[0].suffix)
            for suffix in _SUFFIXES:  # x.bag.active, x.mcap.active, x.db3.zstd
                name = name.removesuffix(suffix)
            found.append(Recording(name, kind, tuple(run)))
    return found


def _runs(
    members: list[tuple[int, Path]], kind: Kind, by_name: bool, reading: Reading
) -> Iterator[list[Path]]:
    """Cut a series of numbered files where a number is missing or the time does not continue."""
    run: list[Path] = []
    last_number, last_ns = 0, None
    for number, file in members:
        if len(members) == 1:
            yield [file]
            return
        try:
            span = _span_ns(file, kind, reading)
        except DataError:  # damaged: stays alone, open_recording says why
            if run:
                yield run
            yield [file]
            run, last_ns = [], None
            continue
        follows = number == last_number + 1 and (
            by_name
            or span is None
            or last_ns is None
            or -_MAX_OVERLAP_NS <= span[0] - last_ns < _MAX_GAP_NS
        )
        if run and not follows:
            yield run
            run, last_ns = [], None
        run.append(file)
        last_number, last_ns = number, span[1] if span else last_ns
    if run:
        yield run


def _span_ns(file: Path, kind: Kind, reading: Reading) -> tuple[int, int] | None:
    """First and last receive time; None for a split without data, whatever nodes logged."""
    try:
        storage = open_storage(file, kind, ChunkRoom())
    except DataError:
        if not reading.recover:
            raise
        storage = open_storage(file, kind, ChunkRoom(), recover=True)
    storage.close()
    filled = {c.topic for c in storage.channels if c.count}
    return storage.span_ns if filled - _CHATTER else None


def _is_backup(file: Path) -> bool:
    """Whether `rosbag reindex` or `rosbag fix` left the file beside the one it made."""
    stem, end, suffix = file.name.rpartition(".orig.")
    return bool(end) and file.with_name(f"{stem}.{suffix}").exists()


def _place(recording: Recording) -> Path:
    if recording.metadata is not None:
        return recording.metadata.parent
    return recording.files[0]


def _natural(name: str) -> list[tuple[int, str]]:
    """A sort key by which 2 comes before 10."""
    parts = re.findall(r"(\d+)|(\D+)", name)
    return [(int(digits or -1), text) for digits, text in parts]
