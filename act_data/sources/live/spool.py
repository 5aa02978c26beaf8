"""Arrivals into an MCAP file that a kill at any moment leaves readable up to the last second.

A chunk is closed after 1 MiB or half a second and goes to the kernel at once, as one write of
whole records; a thread of its own forces the file onto the disk every second, so that power may
fail too. Nothing is compressed: what makes a recording large is the noise of its pictures, which
no lossless compressor takes away (see benchmarks/README.md).
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import IO, cast

from mcap.writer import CompressionType, Writer

from act_data.errors import ConflictError, StoreError
from act_data.sources.live.inbox import Arrival
from act_data.sources.storage import Channel

ACTIVE = ".active"  # what the name of a file ends with while it is written
METADATA = "act-recording"

CHUNK_BYTES = 2**20
CHUNK_S = 0.5
SYNC_S = 1.0

# The summary must still fit when the disk is full: what it holds without chunks, and per chunk.
_SUMMARY_BYTES = 2**20
_INDEX_BYTES = 128
_INDEX_BYTES_PER_CHANNEL = 16
_MESSAGE_BYTES = 64  # what a message takes beside its payload, its index entry included
_NEVER_BY_ITSELF = 2**62  # chunks are closed here, after a look at the room that is left


class Spool:
    """One recording on its way to the disk: `<target>.active`, and `<target>` once finished.

    One thread writes. A message is readable by others at most `CHUNK_S` after `write`, provided
    that `flush_if_due` is called that often.

    Attributes:
        target: What the file is called when it is finished.
        path: Where it lies now.
        counts: Messages written, by topic.
    """

    def __init__(
        self, target: Path, channels: Collection[Channel], about: Mapping[str, str]
    ) -> None:
        """Begin the file.

        Args:
            channels: One per topic, all of one encoding; with definitions where they are known.
            about: Kept in the file as MCAP metadata.

        Raises:
            ConflictError: There is a file of this name, finished or not.
            StoreError: It cannot be made: no permission, or no room.
        """
        self.target = target
        self.path = target.with_name(target.name + ACTIVE)
        self.counts: Counter[str] = Counter()
        if target.exists():
            raise ConflictError(f"{str(target)!r} exists", hint="Record under another name.")
        with _writing(self.path):
            self._file = _File(self.path)
        self._failed: OSError | None = None
        self._chunks = 0
        self._pending = 0
        self._room = 0
        self._due = monotonic() + CHUNK_S
        self._closing = Event()
        self._syncing = Thread(target=self._sync, name=f"sync {self.path.name}", daemon=True)
        self._syncing.start()
        try:
            with _writing(self.path):
                self._begin(channels, about)
        except BaseException:
            self.discard()
            raise

    @property
    def size(self) -> int:
        """Bytes given to the kernel so far."""
        return self._file.size

    def write(self, arrival: Arrival) -> None:
        """Append one message of a declared topic.

        Raises:
            StoreError: The disk is full or failing. The message is not in the file, all before it
                are; `finish` still works on a full disk.
        """
        size = _MESSAGE_BYTES + len(arrival.payload)
        if self._pending + size + self._reserve > self._room:
            self._look_for_room(size)
        sequence = self.counts[arrival.topic]
        self.counts[arrival.topic] = sequence + 1
        self._writer.add_message(
            self._ids[arrival.topic],
            arrival.recv_ns,
            cast(bytes, arrival.payload),  # a view is as good: it is only copied
            publish_time=arrival.recv_ns,
            sequence=sequence,
        )
        self._pending += size
        if self._pending >= CHUNK_BYTES:
            self.flush()
        else:
            self.flush_if_due()

    def flush_if_due(self) -> None:
        """Give the kernel what has waited for `CHUNK_S`.

        Raises:
            StoreError: The disk is failing.
        """
        if monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Give the kernel all that was written, so that a kill cannot take it any more.

        Raises:
            StoreError: The disk is failing.
        """
        with _writing(self.path):
            if self._failed is not None:
                raise self._failed
            try:
                self._writer.flush()  # type: ignore[no-untyped-call]  # of mcap
                self._room = self._file.room()
            except OSError as e:  # mcap's writer cannot go on after that
                self._failed = e
                raise
        self._chunks += self._pending > 0
        self._pending = 0
        self._due = monotonic() + CHUNK_S

    def finish(self, about: Mapping[str, str]) -> Path:
        """Complete the file, force it onto the disk and give it its name.

        Args:
            about: Further metadata, known only now.

        Raises:
            StoreError: The disk is failing. The file stays where it is, for `act-data recover`.
        """
        try:
            self.flush()
            with _writing(self.path):
                self._writer.add_metadata(METADATA, dict(about))
                self._writer.finish()  # type: ignore[no-untyped-call]  # of mcap
                self._file.sync()
        finally:
            self._close()
        with _writing(self.target):
            self.path.rename(self.target)
            self.path = self.target
            _sync_folder(self.target.parent)
        return self.target

    def keep(self) -> None:
        """Close the file as it is, without a summary: a disk that fails takes no more."""
        self._close()

    def discard(self) -> None:
        """Close and remove the file, whatever state it is in."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _begin(self, channels: Collection[Channel], about: Mapping[str, str]) -> None:
        ros1 = any(channel.encoding == "ros1" for channel in channels)
        self._writer = Writer(
            cast(IO[bytes], self._file),
            chunk_size=_NEVER_BY_ITSELF,
            compression=CompressionType.NONE,
        )
        self._writer.start(profile="ros1" if ros1 else "ros2", library="act-toolkit")
        self._writer.add_metadata(METADATA, dict(about))
        schemas: dict[tuple[str, str, bytes], int] = {}
        self._ids: dict[str, int] = {}
        for channel in channels:
            schema = _schema(channel)
            if schema not in schemas:
                schemas[schema] = self._writer.register_schema(*schema)
            encoding = channel.encoding or ""
            self._ids[channel.topic] = self._writer.register_channel(
                channel.topic, encoding, schemas[schema], dict(channel.about)
            )
        self._room = self._file.room()
        _sync_folder(self.path.parent)

    @property
    def _reserve(self) -> int:
        per_chunk = _INDEX_BYTES + _INDEX_BYTES_PER_CHANNEL * len(self._ids)
        return _SUMMARY_BYTES + (self._chunks + 1) * per_chunk

    def _look_for_room(self, size: int) -> None:
        """See whether a message of `size` still fits, and all that has to come after it."""
        self._room = self._file.room()
        if self._pending + size + self._reserve > self._room:
            raise StoreError(
                f"{str(self.path)!r}: the disk is full, {self._room} bytes are left",
                hint="Make room on the disk, or record to another one (--out).",
            )

    def _sync(self) -> None:
        synced = 0
        while not self._closing.wait(SYNC_S):
            if self._file.size != synced:
                synced = self._file.size
                try:
                    self._file.sync()
                except OSError as e:
                    self._failed = e  # the writing thread raises it
                    return

    def _close(self) -> None:
        self._closing.set()
        self._syncing.join()
        self._file.close()


class _File:
    """A new file that is only appended to, in whole records."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self.size = 0

    def write(self, records: bytes) -> int:
        """Append `records`, all or nothing."""
        view = memoryview(records)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self.size)
            raise
        self.size += len(records)
        return len(records)

    def tell(self) -> int:
        """Where the next record begins."""
        return self.size

    def flush(self) -> None:
        """Nothing waits here."""

    def room(self) -> int:
        """Bytes that the disk has left."""
        disk = os.fstatvfs(self._fd)
        return disk.f_bavail * disk.f_frsize

    def sync(self) -> None:
        """Force what was written onto the disk."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Let go of the file; a second time, nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _schema(channel: Channel) -> tuple[str, str, bytes]:
    """(name, encoding, data) as ROS's own recorders write them."""
    text = channel.definition.text.encode() if channel.definition else b""
    if channel.encoding == "ros1":
        return channel.type.replace("/msg/", "/"), "ros1msg", text
    idl = channel.definition is not None and channel.definition.format == "idl"
    return channel.type, "ros2idl" if idl else "ros2msg", text


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as e:
        raise ConflictError(f"{str(path)!r} exists", hint="Record under another name.") from e
    except OSError as e:
        full = e.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StoreError(
            f"cannot write {str(path)!r}: {e.strerror or e}",
            hint="Make room on the disk, or record to another one (--out)."
            if full
            else "Check the disk and the permissions.",
        ) from e


def _sync_folder(folder: Path) -> None:
    """Force the names in `folder` onto the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
