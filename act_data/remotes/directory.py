"""A remote that is a folder: a disk, a share, a stick."""

from __future__ import annotations

import os
import stat
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from act_data.errors import ConflictError, StoreError
from act_data.remotes.remote import LOCK_WAIT_S
from act_data.store.files import make_folders, read_whole, remove_scratch, write_whole, writing
from act_data.store.lock import WriterLock


class DirectoryRemote:
    """See `Remote`. Follows no link below its folder, and opens nothing but plain files."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.realpath(folder))
        if os.path.lexists(self._folder) and not self._folder.is_dir():
            raise StoreError(f"{str(folder)!r} is not a folder", hint="Name a folder or a URL.")

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._folder)

    def read(self, key: str, limit: int) -> bytes | None:
        """The file `key`; see `Remote`."""
        try:
            return read_whole(str(self._folder), key, limit)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as e:
            raise StoreError(f"{str(self._folder / key)!r} cannot be read: {e.strerror}") from e

    def sizes(self, folder: str) -> Mapping[str, int]:
        """Plain files in `folder`; anything else is not there."""
        try:
            with os.scandir(self._real(folder)) as entries:
                found = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {name: s.st_size for name, s in found.items() if stat.S_ISREG(s.st_mode)}

    def write(self, key: str, data: bytes) -> None:
        """Aside, then renamed."""
        target = self._made(key)
        write_whole(self._folder, key, data, _scratch(target))

    def swap(self, key: str, old: bytes | None, new: bytes) -> bool:
        """Under a lock that the kernel takes from a process that dies."""
        target = self._made(key)
        lock = _lock(target)
        try:
            if self.read(key, max(len(old or b""), 1 << 20)) != old:
                return False
            if old is None:
                return _created(target, new)
            write_whole(self._folder, key, new, _scratch(target))
            return True
        finally:
            lock.release()

    def _made(self, key: str) -> Path:
        """Where `key` lies, its folder made."""
        target = self._folder / key
        with writing(target, 0):
            self._folder.mkdir(parents=True, exist_ok=True)
        make_folders(self._folder, target.parent)
        self._real(key.rpartition("/")[0])
        return target

    def _real(self, folder: str) -> Path:
        place = self._folder / folder
        if os.path.realpath(place) != str(place):
            raise StoreError(
                f"{str(place)!r} is, or lies behind, a symbolic link",
                hint="A remote holds plain folders and files only.",
            )
        return place


def _scratch(target: Path) -> Path:
    return target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex}")


def _created(target: Path, data: bytes) -> bool:
    """Make a file that must not exist yet: a link fails where a rename would replace."""
    scratch = _scratch(target)
    with writing(target, len(data)):
        try:
            with scratch.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(scratch, target)
        except FileExistsError:
            return False
        except PermissionError:  # a file system without links: the lock alone decides
            scratch.replace(target)
        finally:
            remove_scratch(scratch)
    return True


def _lock(target: Path) -> WriterLock:
    end = time.monotonic() + LOCK_WAIT_S
    while True:
        with suppress(ConflictError):
            return WriterLock(target)
        if time.monotonic() > end:
            return WriterLock(target)
        time.sleep(0.05)
