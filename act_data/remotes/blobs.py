"""The blobs of a remote as a push sees them: what is there, what is sent, and how much that is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from threading import Lock

from act_data.remotes.address import blob_key, manifest_key
from act_data.remotes.remote import Remote


class Blobs:
    """Sends what is missing, each blob once. For threads.

    What is there is asked for by folder, of which there are 256, and not blob by blob.
    """

    def __init__(self, remote: Remote, *, dry_run: bool) -> None:
        self._remote = remote
        self._dry_run = dry_run
        self._there: dict[str, Mapping[str, int]] = {}
        self._seen: set[str] = set()
        self._lock = Lock()
        self.bytes = 0
        self.sent_bytes = 0
        self.sent_blobs = 0
        self.present_blobs = 0

    def has(self, digest: str, size: int) -> bool:
        """Whether the remote has this blob, whole."""
        folder, _, name = blob_key(digest).rpartition("/")
        with self._lock:
            there = self._there.get(folder)
        if there is None:
            there = self._remote.sizes(folder)
            with self._lock:
                self._there[folder] = there
        return there.get(name) == size

    def known(self, digest: str, size: int) -> bool:
        """As `has`; counts a blob that is there."""
        there = self.has(digest, size)
        with self._lock:
            if there and digest not in self._seen:
                self._seen.add(digest)
                self.bytes += size
                self.present_blobs += 1
        return there

    def send(self, digest: str, data: bytes) -> None:
        """Make the remote have this blob."""
        with self._lock:
            if digest in self._seen:
                return
            self._seen.add(digest)
        present = self.has(digest, len(data))
        if not present and not self._dry_run:
            self._remote.write(blob_key(digest), data)
        with self._lock:
            self.bytes += len(data)
            self.sent_bytes += 0 if present else len(data)
            self.sent_blobs += not present
            self.present_blobs += present

    def send_manifest(self, data: bytes) -> tuple[str, int]:
        """Make the remote have this manifest; gives its digest and size."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if not self._dry_run:
            self._remote.write(manifest_key(digest), data)
        return digest, len(data)
