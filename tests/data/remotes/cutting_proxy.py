"""A TCP proxy that cuts connections after so many bytes, and counts what went through."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from contextlib import suppress

_BLOB = re.compile(rb"(PUT|GET) /[^ ?]*blobs/sha256/../([0-9a-f]{64})[ ?]")
_HEAD = 200  # a request line may come in two pieces


class CuttingProxy:
    """Forwards every connection to `port` on the loopback interface.

    Attributes:
        up: Bytes from clients.
        down: Bytes to clients.
        asked: How often each blob was begun, by (method, digest).
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._left: int | None = None
        self._gone = False
        self._stay_gone = False
        self.cuts = 0
        self.reset()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """Count from zero, and forward everything."""
        with self._lock:
            self.up = self.down = 0
            self.asked: Counter[tuple[str, str]] = Counter()
            self._left, self._gone = None, False

    def cut_after(self, count: int, *, stay_gone: bool) -> None:
        """Cut after `count` bytes more, in both directions together.

        Args:
            stay_gone: All connections, and refuse new ones; otherwise only the one that carries
                the byte.
        """
        with self._lock:
            self._left, self._stay_gone = count, stay_gone

    def heal(self) -> None:
        """Forward everything again."""
        with self._lock:
            self._left, self._gone = None, False

    def close(self) -> None:
        # A listener that is only closed keeps a thread in accept for ever.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._end(list(self._open))
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._gone:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(
                    target=self._forward, args=(source, sink, source is client), daemon=True
                ).start()

    def _forward(self, source: socket.socket, sink: socket.socket, is_up: bool) -> None:
        tail = b""
        while True:
            try:
                data = source.recv(1 << 14)
            except OSError:
                data = b""
            with self._lock:
                allowed = len(data) if self._left is None else min(len(data), self._left)
                if self._left is not None:
                    self._left -= allowed
                cut = allowed < len(data)
                if is_up:
                    self.up += allowed
                    seen = tail + data[:allowed]
                    for method, digest in _BLOB.findall(seen):
                        self.asked[method.decode(), digest.decode()] += 1
                    last = max((m.end() for m in _BLOB.finditer(seen)), default=0)
                    tail = seen[max(last, len(seen) - _HEAD) :]
                else:
                    self.down += allowed
                if cut:
                    self.cuts += 1
                    self._left, self._gone = None, self._stay_gone
            with suppress(OSError):
                if allowed:
                    sink.sendall(data[:allowed])
            if cut or not data:
                everything = list(self._open) if cut and self._stay_gone else [source, sink]
                self._end(everything)
                return

    def _end(self, ends: list[socket.socket]) -> None:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            with self._lock:
                self._open.discard(end)
