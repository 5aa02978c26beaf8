"""What a remote must be able to do: a handful of whole files by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

LOCK_WAIT_S = 30.0


class Remote(Protocol):
    """Files by key ("blobs/sha256/ab/..."), each of them whole or not there. For threads.

    Everything raises StoreError where the other side does not answer, refuses, or holds something
    that is no plain file.
    """

    @property
    def name(self) -> str:
        """Its address, without what is secret in it."""

    def read(self, key: str, limit: int) -> bytes | None:
        """The file `key`; None when there is none.

        Raises:
            StoreError: It has more than `limit` bytes; no more than that is ever read.
        """

    def sizes(self, folder: str) -> Mapping[str, int]:
        """Names and sizes of the files directly in `folder`; empty when there is no such folder."""

    def write(self, key: str, data: bytes) -> None:
        """Make `data` the file `key`: after a crash it is whole or not there."""

    def swap(self, key: str, old: bytes | None, new: bytes) -> bool:
        """Make `new` the file `key` if it is `old` now (None: if there is none); says whether.

        Of any number of processes that try it at once, one succeeds.
        """
