"""Commands into an MCAP file instead of onto topics: what a robot would have been told."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from act_data.commands.messages import Encoding, store_of
from act_data.errors import ActError, DataError, InputError
from act_data.sources.live.inbox import Arrival
from act_data.sources.live.spool import Spool
from act_data.sources.storage import Channel, Definition

_WAITING = 10_000  # messages: seconds of a fast controller, and no more memory than that
_LOOK_S = 0.01


class McapPublisher:
    """A recording of ROS 2 messages that any reader of MCAP opens, `act-data` as well.

    A thread writes, so `publish` never waits for the disk. The file has its name once it is
    closed; after a crash it lies beside it, as `<name>.active`, for `act-data recover`.

    Args:
        path: Of the file, *.mcap.
        topics: Message type by topic.

    Raises:
        InputError: It is no *.mcap.
        ConflictError, StoreError: It exists, or cannot be made.
    """

    encoding: Encoding = "cdr"

    def __init__(self, path: Path, topics: Mapping[str, str]) -> None:
        if path.suffix != ".mcap":
            raise InputError(f"{str(path)!r} is no name of an MCAP", hint="Write mcap:OUT.mcap.")
        channels = [
            Channel(
                id=number,
                topic=topic,
                type=type_,
                encoding="cdr",
                definition=Definition(format="msg", text=store_of("cdr").generate_msgdef(type_)[0]),
                count=0,
            )
            for number, (topic, type_) in enumerate(topics.items())
        ]
        self._path = path
        self._spool: Spool | None = Spool(path, channels, {"source": "commands"})
        self._waiting: deque[Arrival] = deque()
        self._newest_ns = 0
        self._failed: ActError | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, name="act-mcap", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The file."""
        return str(self._path)

    def publish(self, topic: str, payload: bytes) -> None:
        """Keep it for the file.

        Raises:
            DataError: The disk is full, failing, or too slow.
        """
        if self._failed is not None:
            raise DataError(f"{self._path}: cannot write commands: {self._failed}")
        if len(self._waiting) >= _WAITING:
            raise DataError(f"{self._path}: the disk does not keep up with the commands")
        self._newest_ns = max(time.time_ns(), self._newest_ns + 1)  # a clock may be set back
        self._waiting.append(Arrival(self._newest_ns, topic, payload))

    def listeners(self, topic: str) -> int:
        """The file."""
        return 1

    def close(self) -> None:
        """Write what waits and complete the file.

        Raises:
            StoreError: The disk is failing; what was written can be recovered.
        """
        spool, self._spool = self._spool, None
        if spool is None:
            return
        self._closing.set()
        self._thread.join()
        if self._failed is not None:
            spool.keep()
            raise self._failed
        spool.finish({})

    def _write(self) -> None:
        spool = self._spool
        assert spool is not None
        try:
            while True:
                ending = self._closing.wait(_LOOK_S)  # before the deque: nothing follows it
                while self._waiting:
                    spool.write(self._waiting.popleft())
                spool.flush_if_due()
                if ending:
                    return
        except ActError as error:
            self._failed = error
