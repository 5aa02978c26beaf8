"""Files that are whole or not there: written aside, flushed to the disk, then renamed.

Every byte of an act-zarr dataset comes through here on its way to the disk, and every file that is
read back is opened here, so that a link cannot lead a reader out of the dataset.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import ENOENT
from functools import partial
from pathlib import Path

from act_data.errors import StoreError
from act_data.records import FileDigest
from act_data.store.remote import Url, is_remote, remote_files

_HASH_BYTES = 1 << 20


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


def real_root(path: Path) -> str:
    """The folder of a dataset with its links resolved, or its URL."""
    return str(path) if isinstance(path, Url) else os.path.realpath(path)


class OpenFile:
    """A file of a dataset, open for reading at any place; closed with its last user.

    Raises:
        FileNotFoundError: It is not there.
        StoreError: It is not a plain file, or a link on the way leads elsewhere.
    """

    def __init__(self, root: str, key: str) -> None:
        self._fd = -1
        if is_remote(root):
            files = remote_files(root)
            size = files.size(key)
            if size is None:
                raise FileNotFoundError(ENOENT, os.strerror(ENOENT), f"{root}/{key}")
            self.size = size
            self._fetch: Callable[[int, int], bytes] = partial(files.read, key)
        else:
            self._fd, self.size = open_regular(root, key)

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes from `start`, fewer at the end."""
        return os.pread(self._fd, size, start) if self._fd >= 0 else self._fetch(start, size)

    def __del__(self) -> None:
        # Not by whoever opened it: another thread may still be reading.
        if self._fd >= 0:
            os.close(self._fd)


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
    """The content of the file `key` in `root`, as it is now.

    Raises:
        FileNotFoundError: It is not there.
        StoreError: It is larger than `limit` bytes, or not a plain file.
    """
    if is_remote(root):
        files = remote_files(root)
        size = files.size(key)
        if size is None:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), f"{root}/{key}")
        _refuse_large(root, key, size, limit)
        return files.fetch(key, 0, size)
    fd, size = open_regular(root, key)
    with os.fdopen(fd, "rb") as file:
        _refuse_large(root, key, size, limit)
        return file.read(min(size, limit) + 1)  # all of it: asked for more, room for more is made


def _refuse_large(root: str, key: str, size: int, limit: int) -> None:
    if size > limit:
        raise StoreError(f"{key!r} in {root!r} has {size} bytes, more than {limit}")


def digest_of(root: str, key: str) -> FileDigest:
    """Size and sha256 of the file `key` in `root`; errors as `OpenFile`."""
    file = OpenFile(root, key)
    digest = hashlib.sha256()
    for start in range(0, file.size, _HASH_BYTES):
        digest.update(file.read(start, _HASH_BYTES))
    return FileDigest(bytes=file.size, sha256=digest.hexdigest())


def exists(root: str, key: str) -> bool:
    """Whether there is a file `key` in `root`."""
    if is_remote(root):
        return remote_files(root).size(key) is not None
    return Path(root, key).exists()


def names_in(root: str, folder: str) -> list[str]:
    """What lies in a folder of `root`, in order; nothing when there is no such folder."""
    if is_remote(root):
        return remote_files(root).names(folder)
    place = Path(root, folder)
    return sorted(entry.name for entry in os.scandir(place)) if place.is_dir() else []


_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_HERE = -100  # AT_FDCWD


def exchange(one: Path, other: Path) -> None:
    """Let two folders of one file system swap their names: nobody ever finds either missing.

    Where the system cannot do that in one step, `other` is away for a moment; a crash then leaves
    it as "<one>.before".

    Raises:
        StoreError: The disk is full or failing; both are where they were.
    """
    with writing(other, 0):
        swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        names = (os.fsencode(one), os.fsencode(other))
        if swap is None or swap(_HERE, names[0], _HERE, names[1], _EXCHANGE) != 0:
            before = one.with_name(f"{one.name}.before")
            other.replace(before)
            try:
                one.replace(other)
            except OSError:
                before.replace(other)
                raise
            before.replace(one)
        sync_folder(other.parent)
