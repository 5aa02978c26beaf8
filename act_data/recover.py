"""Complete recordings out of damaged ones, and an account of what was lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from act_data.errors import ConflictError, DataError, InputError, StoreError
from act_data.records import FileRecovery, RecoveredFile, RecoveryReport, UnreadableFile
from act_data.sources import Reading, find_recordings, readable
from act_data.sources.chunk_room import ChunkRoom
from act_data.sources.salvage import SUFFIX, salvaged
from act_data.sources.salvage.output import write_whole_copy
from act_data.sources.storage import Kind
from act_data.store.files import remove_scratch, sync_folder

Progress = Callable[[int, int], None]


def recover(
    sources: Sequence[Path],
    out: Path,
    reading: Reading | None = None,
    *,
    progress: Progress = lambda done, total: None,
) -> RecoveryReport:
    """Write every complete message of recordings in whatever state as complete recordings.

    Args:
        sources: Bags, folders of one recording, or folders of many; each storage file by itself,
            so that splits stay splits.
        out: `*.bag` (ROS 1) or `*.mcap` (ROS 2) for one file, any other path for a folder. A file
            is there as a whole or not at all.
        reading: Definitions for those that carry none; they are written with them.
        progress: Called with (messages written, messages found) of each file.

    Raises:
        NotFoundError: A path that does not exist, or no recording there.
        InputError: `out` is one file for several, or for one of the other ROS version.
        ConflictError: A file that would be written is there already, or two would have one name.
        DataError: Of no file anything can be read.
        StoreError: `out` cannot be written.
    """
    reading = reading or Reading()
    files = [(f, r.kind) for r in find_recordings(sources) for f in r.files]
    targets = _targets(files, out)
    written: list[RecoveredFile] = []
    unreadable: list[UnreadableFile] = []
    errors: list[DataError] = []
    for (file, kind), target in zip(files, targets, strict=True):
        try:
            recovery = _recover(file, kind, target, reading, progress)
        except DataError as e:
            errors.append(e)
            name = readable(str(file))
            unreadable.append(UnreadableFile(file=name, error=str(e), hint=e.hint))
            continue
        size = target.stat().st_size
        written.append(RecoveredFile(recovery=recovery, out=readable(str(target)), bytes=size))
    if errors and not written:
        raise DataError("\n".join(map(str, errors)), hint=errors[0].hint)
    return RecoveryReport(files=tuple(written), unreadable=tuple(unreadable))


def _targets(files: Sequence[tuple[Path, Kind]], out: Path) -> list[Path]:
    """What each file becomes, checked before anything is read."""
    if out.suffix in SUFFIX.values() and not out.is_dir():
        if len(files) != 1:
            raise InputError(
                f"{str(out)!r} is one file, and there are {len(files)} to recover",
                hint="Name a folder with --out.",
            )
        if out.suffix != SUFFIX[files[0][1]]:
            raise InputError(
                f"{files[0][0]} becomes a {SUFFIX[files[0][1]]} file, and --out is {str(out)!r}",
                hint="Name it otherwise, or name a folder.",
            )
        targets = [out]
    else:
        if out.exists() and not out.is_dir():
            raise ConflictError(f"{str(out)!r} is no folder", hint="Name another one with --out.")
        targets = [out / (_stem(file) + SUFFIX[kind]) for file, kind in files]
    for number, target in enumerate(targets):
        if target.exists():
            raise ConflictError(f"{target} exists", hint="Name another place, or delete it first.")
        if target in targets[:number]:
            first = files[targets.index(target)][0]
            raise ConflictError(
                f"{first} and {files[number][0]} would both become {target}",
                hint="Recover them into folders of their own.",
            )
    return targets


def _stem(file: Path) -> str:
    return Path(file.name.removesuffix(".active")).stem


def _recover(
    file: Path, kind: Kind, target: Path, reading: Reading, progress: Progress
) -> FileRecovery:
    room = ChunkRoom()
    storage = salvaged(file, kind, room)
    fresh = not target.parent.exists()
    try:
        recovery = storage.recovery
        assert recovery is not None  # every salvaged file has one
        scratch = target.with_name(f".{target.name}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with scratch.open("wb") as stream:
                total = recovery.messages
                write_whole_copy(storage, reading.types, stream, lambda done: progress(done, total))
                stream.flush()
                os.fsync(stream.fileno())
            scratch.rename(target)
            sync_folder(target.parent)
        except OSError as e:
            raise StoreError(
                f"cannot write {str(target)!r}: {e.strerror or e}",
                hint="Make room on the disk, or check the permissions, and run it again.",
            ) from e
        finally:
            remove_scratch(scratch)
    finally:
        storage.close()
        room.close()
        if fresh:
            with suppress(OSError):  # not empty: it was written
                target.parent.rmdir()
    return recovery
