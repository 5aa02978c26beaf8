"""A recording played as if its robot were here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from threading import Event, Thread
from time import monotonic

from act_data.errors import DataError, InputError
from act_data.sources.bag import open_recording
from act_data.sources.live.inbox import Inbox
from act_data.sources.recording import find_recordings
from act_data.sources.storage import Channel
from act_data.types import NS_PER_S, TopicInfo


class ReplayBackend:
    """A `LiveBackend` over one recording, once, at `speed` times the pace of its receive times.

    Receive times and header stamps are those of the recording, whatever the speed: the two belong
    together (their distance is the latency of the sensor, and what the clock is chosen by), and
    header stamps lie inside of payloads, which nobody may change. So the episode is the same at
    every speed. When the recording ends, so does the inbox.
    """

    def __init__(self, path: Path, *, speed: float = 1.0) -> None:
        """Open the recording at `path`; it begins to play when it is subscribed to.

        Raises:
            InputError: `speed` is not above 0, or `path` holds several recordings.
            NotFoundError: There is no recording.
            DataError: It cannot be opened.
        """
        if not 0 < speed < float("inf"):
            raise InputError(f"speed is {speed!r}", hint="Give a number above 0.")
        recordings = find_recordings([path])
        if len(recordings) > 1:
            raise InputError(
                f"{str(path)!r} holds {len(recordings)} recordings", hint="Name one of them."
            )
        self._source = open_recording(recordings[0])
        self._speed = speed
        self._topics: frozenset[str] = frozenset()
        self._stop = Event()
        self._thread: Thread | None = None
        self._notes: list[str] = []

    @property
    def name(self) -> str:
        """The recording, and how fast it plays."""
        return f"replay of {self._source.name} x{self._speed:g}"

    def topics(self) -> Mapping[str, TopicInfo]:
        """What the recording holds: like live topics without a promise how many will come."""
        return {
            topic.name: TopicInfo(name=topic.name, type=topic.type)
            for topic in self._source.topics.values()
            if topic.count
        }

    def subscribe(self, topics: Collection[str], inbox: Inbox) -> None:
        """Begin to play. Topics that the recording does not have never appear."""
        self._topics = frozenset(topics) & self._source.topics.keys()
        self._thread = Thread(target=self._play, args=(inbox,), name="replay", daemon=True)
        self._thread.start()

    def channel(self, topic: str) -> Channel | None:
        """Type, encoding and definition, as the recording has them."""
        return self._source.channel(topic) if topic in self._topics else None

    def notes(self) -> tuple[str, ...]:
        """Why the recording ended early, if it did."""
        return tuple(self._notes)

    def close(self) -> None:
        """Stop playing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._source.close()

    def _play(self, inbox: Inbox) -> None:
        try:
            began, first_ns = 0.0, None
            for raw in self._source.messages(self._topics):
                if first_ns is None:
                    began, first_ns = monotonic(), raw.recv_ns
                due = began + (raw.recv_ns - first_ns) / NS_PER_S / self._speed
                if self._stop.wait(max(0.0, due - monotonic())):
                    return
                inbox.put(raw.topic, raw.payload, raw.recv_ns)
        except DataError as e:
            self._notes.append(f"the recording ends early: {e}")
        finally:
            inbox.close()
