"""From an address to the remote there."""

from __future__ import annotations

from pathlib import Path

from act_data.errors import InputError, without_secrets
from act_data.remotes.directory import DirectoryRemote
from act_data.remotes.objects import ObjectRemote
from act_data.remotes.remote import Remote


def open_remote(address: str) -> Remote:
    """The remote at a folder, an "s3://" address, or any other that fsspec reaches.

    Raises:
        InputError: Nothing is named, or no library for the protocol is installed.
        StoreError: The other side does not answer.
    """
    if not address or "\0" in address:
        raise InputError(f"{address!r} is no remote", hint="Name a folder or a URL.")
    if "://" not in address or address.startswith("file://"):
        return DirectoryRemote(Path(address.removeprefix("file://")))
    return ObjectRemote(address.rstrip("/"), without_secrets(address).rstrip("/"))
