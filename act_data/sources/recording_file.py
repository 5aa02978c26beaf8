"""A new recording, ROS 1 `.bag` or ROS 2 `.mcap`: it appears whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from act_data.errors import ConflictError, InputError, StoreError
from act_data.sources.mcap_records import RawChannel
from act_data.sources.salvage.mcap_writer import McapWriter
from act_data.sources.salvage.ros1_writer import Ros1Writer
from act_data.sources.storage import Channel, Encoding

ENCODINGS: dict[str, Encoding] = {".bag": "ros1", ".mcap": "cdr"}


class RecordingFile:
    """Messages into a file that has its name once the block ends without an error.

    A context manager. Chunks are compressed with lz4, which both ROS versions read.
    """

    def __init__(self, path: Path, channels: Sequence[Channel]) -> None:
        """Begin the file.

        Args:
            path: Its suffix says which kind: `.bag` takes channels of ROS 1, `.mcap` of ROS 2.
            channels: Their ids are what `write` names.

        Raises:
            ConflictError: There is a file of this name.
            InputError: Another suffix.
            StoreError: It cannot be made.
        """
        if path.suffix not in ENCODINGS:
            raise InputError(f"{str(path)!r} is no recording", hint="Use .mcap or .bag.")
        if path.exists():
            raise ConflictError(f"{str(path)!r} exists", hint="Name another folder, or remove it.")
        self.path = path
        self._scratch = path.with_name(f".{path.name}.partial")
        try:
            self._file = self._scratch.open("wb")
        except OSError as e:
            raise self._refusal(e) from e
        self._mcap: McapWriter | None = None
        self._ros1: Ros1Writer | None = None
        if path.suffix == ".bag":
            self._ros1 = Ros1Writer(self._file, channels, "lz4")
        else:
            raw = {channel.id: _raw(channel) for channel in channels}
            self._mcap = McapWriter(self._file, "ros2", raw, "lz4")

    def write(self, channel: int, recv_ns: int, payload: bytes, *, seq: int = 0) -> None:
        """Append a message; in order of `recv_ns`.

        Raises:
            StoreError: The disk is full or failing.
        """
        try:
            if self._ros1 is not None:
                self._ros1.write(channel, recv_ns, payload)
            if self._mcap is not None:
                self._mcap.write(channel, recv_ns, payload, sequence=seq)
        except OSError as e:
            raise self._refusal(e) from e

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._finish()
        except OSError as e:
            raise self._refusal(e) from e
        finally:
            for writer in (self._ros1, self._mcap):
                if writer is not None:
                    writer.close()
            self._file.close()
            self._scratch.unlink(missing_ok=True)

    def _finish(self) -> None:
        for writer in (self._ros1, self._mcap):
            if writer is not None:
                writer.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._scratch.rename(self.path)

    def _refusal(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write {str(self.path)!r}: {error.strerror or error}",
            hint="Make room on the disk, or name another folder.",
        )


def _raw(channel: Channel) -> RawChannel:
    assert channel.definition is not None
    return RawChannel(
        topic=channel.topic,
        encoding=channel.encoding or "",
        schema=(channel.type, "ros2msg", channel.definition.text.encode()),
        metadata=dict(channel.about),
    )
