"""Files that are whole or not there: written aside, flushed to the disk, then renamed.

Every byte of an act-zarr dataset comes through here on its way to the disk, and every file that is
read back is opened here, so that a link cannot lead a reader out of the dataset.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from act_data.errors import StoreError
from act_data.records import FileDigest


@contextmanager
def writing(path: Path, size: int) -> Iterator[None]:
    """Turn a failing write of `size` bytes to `path` into a StoreError that names both."""
    try:
        yield
    except OSError as e:
        what = f"{size} bytes to " if size else ""
        raise StoreError(
            f"cannot write {what}{str(path)!r}: {e.strerror or e}",
            hint="Make room on the disk, or check the permissions, and run it again.",
        ) from e


class HashedFile:
    """A new file that is written from front to back, its sha256 and size taken on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._sha256 = hashlib.sha256()
        with writing(path, 0):
            self._file = path.open("xb", buffering=1 << 16)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`."""
        with writing(self.path, self.size + len(data)):
            self._file.write(data)
        self._sha256.update(data)
        self.size += len(data)

    def close(self) -> FileDigest:
        """Force it onto the disk and say what it is."""
        with writing(self.path, self.size):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return FileDigest(bytes=self.size, sha256=self._sha256.hexdigest())

    def abandon(self) -> None:
        """Close and remove it; does nothing more than that, whatever state it is in."""
        with suppress(OSError):  # what could not be flushed is about to be deleted
            self._file.close()
        remove_scratch(self.path)


def remove_scratch(path: Path) -> None:
    """Remove an unfinished file; on a failing disk it stays, and the next writer clears it away."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Force the names in `folder` onto the disk: without it a rename may be lost."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folders(root: Path, folder: Path) -> None:
    """Make `folder` and what is missing between it and `root`, durably."""
    if folder == root or folder.is_dir():
        return
    make_folders(root, folder.parent)
    with writing(folder, 0):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def write_synced(path: Path, data: bytes) -> None:
    """Make `data` the content of `path` and force it onto the disk, but not yet its name."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_whole(root: Path, key: str, data: bytes, scratch: Path) -> None:
    """Make `data` the content of the file `key` in `root`: old or new after a crash, never half.

    Args:
        scratch: A file name of nobody else's, on the same file system as `root`.
    """
    target = root / key
    make_folders(root, target.parent)
    with writing(target, len(data)):
        try:
            write_synced(scratch, data)
            scratch.replace(target)
        except OSError:
            remove_scratch(scratch)
            raise
        sync_folder(target.parent)


def open_regular(root: str, key: str) -> tuple[int, int]:
    """Descriptor and size of the file `key` in the real folder `root`.

    Raises:
        FileNotFoundError: It is not there.
        StoreError: It is not a plain file, or a link on the way leads elsewhere.
    """
    path = os.path.join(root, key)  # noqa: PTH118  # hot path: opened per shard, strings suffice
    if os.path.realpath(path) != path:
        raise StoreError(
            f"{path!r} is, or lies behind, a symbolic link",
            hint="A dataset holds plain files only; copy it with the links followed.",
        )
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        raise StoreError(f"{path!r} is not a plain file")
    return fd, info.st_size


def read_whole(root: str, key: str, limit: int) -> bytes:
    """The content of the file `key` in `root`.

    Raises:
        FileNotFoundError: It is not there.
        StoreError: It is larger than `limit` bytes, or not a plain file.
    """
    fd, size = open_regular(root, key)
    with os.fdopen(fd, "rb") as file:
        if size > limit:
            raise StoreError(f"{key!r} in {root!r} has {size} bytes, more than {limit}")
        return file.read(limit + 1)


def digest_of(root: str, key: str) -> FileDigest:
    """Size and sha256 of the file `key` in `root`; errors as `open_regular`."""
    fd, size = open_regular(root, key)
    with os.fdopen(fd, "rb", buffering=0) as file:
        return FileDigest(bytes=size, sha256=hashlib.file_digest(file, "sha256").hexdigest())
