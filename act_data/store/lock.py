"""One writer per dataset: a lock file beside it, which goes when the writer does."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from act_data.errors import ConflictError
from act_data.store.files import writing


class WriterLock:
    """The lock `.<name>.lock` beside a dataset. The kernel holds it, so a dead process has none.

    A killed process leaves the file behind, which locks nobody out and goes with the next writer.
    """

    def __init__(self, dataset: Path) -> None:
        """Take the lock, or say at once that another process has it.

        Args:
            dataset: Where it lies or will lie, links resolved. Its folder exists.

        Raises:
            ConflictError: Another process is writing the dataset.
            StoreError: The lock cannot be made: no permission, or no room.
        """
        self._file = dataset.with_name(f".{dataset.name}.lock")
        self._fd: int | None = None
        with writing(self._file, 0):
            while self._fd is None:
                self._fd = self._locked(dataset)

    @property
    def held(self) -> bool:
        """Whether this process still has it."""
        return self._fd is not None

    def release(self) -> None:
        """Remove the file and let go; a second time, nothing."""
        if self._fd is None:
            return
        # First remove, then unlock: whoever opened the file before finds that it has no name.
        with suppress(OSError):
            self._file.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = None

    def _locked(self, dataset: Path) -> int | None:
        """The locked file; None when its last owner removed it meanwhile, and it locks nothing."""
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            os.close(fd)
            raise ConflictError(
                f"another process is writing {str(dataset)!r}: it holds the lock "
                f"{str(self._file)!r}",
                hint="Wait until it is done; a process that died holds no lock.",
            ) from e
        except BaseException:
            os.close(fd)
            raise
        if os.fstat(fd).st_nlink:
            return fd
        os.close(fd)
        return None
