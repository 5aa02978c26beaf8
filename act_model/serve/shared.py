"""Memory that a server shares with a client of its user on its machine.

Pictures that lie there need not go through a socket, and not into a message and out of it again.
The server makes a file in memory for each session, whose name the client learns in the hello; both
map it, and it has lost its name before the first observation. A client may change what lies there
at any time: whatever must stay as it was checked is copied first.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path("/dev/shm")  # a file system in memory, on every Linux
PREFIX = "act-serve-"  # the client opens no other files
NONCE_BYTES = 16


class Segment:
    """A file in memory, this user's alone, that starts with a nonce.

    Attributes:
        path: Until `forget`.
        size: In bytes, the nonce included.
        nonce: By which a client knows that its file of this name is the same one.
    """

    def __init__(self, size: int) -> None:
        """Raises OSError where there is no such file system, or no room in it."""
        self.size = NONCE_BYTES + size
        self.nonce = secrets.token_bytes(NONCE_BYTES)
        file, name = tempfile.mkstemp(prefix=PREFIX, dir=FOLDER)
        self.path = Path(name)
        try:
            # All of it now: a page that is missing later would kill who writes to it.
            os.posix_fallocate(file, 0, self.size)
            self._memory = mmap.mmap(file, self.size)
        except BaseException:
            self.forget()
            raise
        finally:
            os.close(file)
        self._memory[:NONCE_BYTES] = self.nonce

    def read(self, at: int, count: int) -> memoryview:
        """`count` bytes from `at` behind the nonce, which the client may change at any time.

        Raises:
            ValueError: They are not all in it.
        """
        room = self.size - NONCE_BYTES
        if not 0 <= at <= at + count <= room:
            raise ValueError(f"{count} bytes at {at} of {room}")
        return memoryview(self._memory)[NONCE_BYTES + at : NONCE_BYTES + at + count].toreadonly()

    def forget(self) -> None:
        """Take its name away; who has mapped it keeps it."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Take its name away, too; the memory goes with the last who looks at it."""
        self.forget()
        del self._memory


@contextlib.contextmanager
def shared(size: int) -> Iterator[Segment | None]:
    """A segment for the block; None where there cannot be one."""
    try:
        segment = Segment(size)
    except OSError:
        yield None
        return
    with contextlib.closing(segment):
        yield segment
