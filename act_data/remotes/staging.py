"""Where a pull gathers what arrives, until all of it is there: a hidden folder beside the target.

Files lie in it by their sha256 and nothing else, so that a pull that was cut goes on where it
stopped, and no name that a remote gives is ever a path.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import IO

from act_data.errors import StoreError
from act_data.records import FileDigest
from act_data.remotes.documents import RemoteFile, checked
from act_data.remotes.threads import Stopped
from act_data.store.files import sync_folder, write_synced, writing

_BLOCK = 1 << 20


class Staging:
    """The folder `.<name>.pull` beside a dataset that is to be.

    Args:
        target: Where the dataset will lie. Its folder exists.

    Raises:
        StoreError: Something else lies in its place.
    """

    def __init__(self, target: Path) -> None:
        self.folder = target.with_name(f".{target.name}.pull")
        self._lock = Lock()
        self.fetched_bytes = 0
        self.fetched_blobs = 0
        with writing(self.folder, 0), suppress(FileExistsError):
            self.folder.mkdir(mode=0o700)
        if not stat.S_ISDIR(self.folder.lstat().st_mode):
            raise StoreError(
                f"{str(self.folder)!r} is not a folder of this program", hint="Remove it."
            )

    def document(self, key: str, digest: str, size: int, read: Callable[[], bytes | None]) -> bytes:
        """The content of a small file; from here when it arrived before, else by `read`."""
        place = self.folder / digest.removeprefix("sha256:")
        data = self._arrived(place, size)
        if data is None or f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            data = checked(read(), digest, size, key)
            self._count(size)
            scratch = place.with_suffix(".new")
            with writing(place, size):
                scratch.unlink(missing_ok=True)
                write_synced(scratch, data)
                scratch.replace(place)
        return data

    def file(
        self,
        file: RemoteFile,
        read: Callable[[str, int], bytes],
        advance: Callable[[int], None],
        stopped: Stopped,
    ) -> None:
        """Make `file` lie here, whole and with its sha256.

        Args:
            read: Gives a blob by digest and size, checked.
            advance: Told the bytes of every part that is here.

        Raises:
            StoreError: Its parts together are not what its episode's record says.
        """
        done = self.place(file.digest)
        partial = done.with_suffix(".part")
        if self._is_plain(done) and _digest(done) == file.digest:
            advance(file.digest.bytes)
            return
        with writing(partial, file.digest.bytes), self._opened(partial) as out:
            whole = hashlib.sha256()
            begin = self._resumed(out, file, whole, advance)
            for part in file.parts[begin:]:
                if stopped():
                    return
                data = read(part.digest, part.size)
                out.write(data)
                whole.update(data)
                self._count(part.size)
                advance(part.size)
            out.flush()
            os.fsync(out.fileno())
        if whole.hexdigest() != file.digest.sha256:
            partial.unlink()
            raise StoreError(f"{file.key!r} is damaged: its parts are not the file of its episode")
        with writing(done, 0):
            partial.replace(done)

    def place(self, digest: FileDigest) -> Path:
        """Where a file with this digest lies, or will."""
        return self.folder / digest.sha256

    def reclaim(self, tree: Path, files: Sequence[RemoteFile]) -> None:
        """Take back what a run that died had moved into `tree`, and remove that."""
        if not tree.is_symlink() and tree.is_dir():
            for file in files:
                with suppress(OSError):
                    (tree / file.key).replace(self.place(file.digest))
            shutil.rmtree(tree)
        elif os.path.lexists(tree):
            tree.unlink()

    def move(self, files: Sequence[RemoteFile], tree: Path) -> None:
        """Move `files` to their keys in `tree`; what two of them share is copied."""
        left = {file.digest.sha256: 0 for file in files}
        for file in files:
            left[file.digest.sha256] += 1
        folders = {(tree / file.key).parent for file in files}
        for folder in sorted(folders):
            with writing(folder, 0):
                folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            source, target = self.place(file.digest), tree / file.key
            left[file.digest.sha256] -= 1
            with writing(target, file.digest.bytes):
                if left[file.digest.sha256]:
                    shutil.copyfile(source, target)
                    with target.open("rb") as copy:
                        os.fsync(copy.fileno())
                else:
                    source.replace(target)
        for folder in folders:
            sync_folder(folder)

    def leave(self) -> None:
        """Remove the folder if nothing arrived."""
        with suppress(OSError):
            self.folder.rmdir()

    def remove(self) -> None:
        """Remove the folder and what is left in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _count(self, size: int) -> None:
        with self._lock:
            self.fetched_bytes += size
            self.fetched_blobs += 1

    def _is_plain(self, path: Path) -> bool:
        """Whether there is a file of ours: not a link, and no second name of another file."""
        try:
            info = path.lstat()
        except FileNotFoundError:
            return False
        if stat.S_ISREG(info.st_mode) and info.st_nlink == 1:
            return True
        if stat.S_ISDIR(info.st_mode):
            raise StoreError(f"{str(path)!r} is a folder", hint="Remove it.")
        path.unlink()
        return False

    def _arrived(self, path: Path, size: int) -> bytes | None:
        if not self._is_plain(path) or path.lstat().st_size != size:
            return None
        return path.read_bytes()

    def _opened(self, path: Path) -> IO[bytes]:
        self._is_plain(path)  # removes what is not ours
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        return os.fdopen(fd, "r+b")

    def _resumed(
        self, out: IO[bytes], file: RemoteFile, whole: hashlib._Hash, advance: Callable[[int], None]
    ) -> int:
        """Leaves `out` at the end of the parts that are sound; gives their number."""
        end = 0
        for number, part in enumerate(file.parts):
            data = out.read(part.size)
            if (
                len(data) != part.size
                or f"sha256:{hashlib.sha256(data).hexdigest()}" != part.digest
            ):
                out.seek(end)
                out.truncate()
                return number
            whole.update(data)
            end += part.size
            advance(part.size)
        out.truncate()
        return len(file.parts)


def _digest(path: Path) -> FileDigest:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return FileDigest(bytes=size, sha256=digest.hexdigest())
