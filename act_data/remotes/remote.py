"""What a remote must be able to do: a handful of whole files by name. And how one is opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from act_data.errors import InputError, without_secrets

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


def open_remote(address: str) -> Remote:
    """The remote at a folder, an "s3://" address, or any other that fsspec reaches.

    Raises:
        InputError: Nothing is named, or no library for the protocol is installed.
        StoreError: The other side does not answer.
    """
    if not address or "\0" in address:
        raise InputError(f"{address!r} is no remote", hint="Name a folder or a URL.")
    if "://" not in address or address.startswith("file://"):
        from act_data.remotes.directory import DirectoryRemote

        return DirectoryRemote(Path(address.removeprefix("file://")))
    from act_data.remotes.objects import ObjectRemote

    return ObjectRemote(address.rstrip("/"), without_secrets(address).rstrip("/"))
