"""The open sockets of one backend, so that closing it wakes every thread that waits on one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock


class Sockets:
    """A set of sockets that another thread may cut."""

    def __init__(self) -> None:
        self._open: set[socket.socket] = set()
        self._cut = False
        self._lock = Lock()

    @property
    def are_cut(self) -> bool:
        """Whether `cut` was called."""
        return self._cut

    @contextmanager
    def connected(self, host: str, port: int, timeout_s: float) -> Iterator[socket.socket]:
        """A connection to `host`, closed at the end of the block.

        Raises:
            OSError: There is nobody, or the sockets have been cut.
        """
        try:
            connection = socket.create_connection((host, port), timeout_s)
        except OSError as e:
            raise ConnectionError(f"{host}:{port}: {e.strerror or e}") from e
        with self.held(connection) as sock:
            yield sock

    @contextmanager
    def held(self, sock: socket.socket) -> Iterator[socket.socket]:
        """Let `cut` reach `sock` during the block; close it at the end."""
        try:
            with self._lock:
                if self._cut:
                    raise ConnectionAbortedError("closed on this side")
                self._open.add(sock)
            yield sock
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()

    def cut(self) -> None:
        """Wake whoever waits on one of the sockets; nothing can be connected any more."""
        with self._lock:
            self._cut = True
            for sock in self._open:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
