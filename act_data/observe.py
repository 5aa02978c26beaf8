"""What a robot observes in a source: the one way from messages to frames, for ingest and deploy.

    messages -> Synchronizer -> frames -> Observer (decodes what was picked)

Training data and a deployed policy's input both come from here, with the same streams, policies and
tolerances, so what a policy sees on the robot is what it saw in training.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from act_data.decode import Decoder, decoder, joint_names
from act_data.episodes import Observer
from act_data.errors import InputError
from act_data.interfaces import Source
from act_data.records import SyncReport
from act_data.robot import bind
from act_data.sync import Synchronizer, SyncStream
from act_data.types import (
    NS_PER_MS,
    ArrayPart,
    Frame,
    RawMessage,
    RobotSpec,
    StreamKind,
    TopicInfo,
    Value,
)

LATENCY_NS = 250 * NS_PER_MS

Listener = Callable[[RawMessage], None]
_NOBODY: Mapping[str, Listener] = {}

_CAMERAS = (StreamKind.IMAGE, StreamKind.DEPTH)


class Observation:
    """One robot's view of one source.

    Raw messages are buffered, never pictures: memory is bounded by the data rate times the latency,
    and only the samples that a tick picked are decoded.

    Attributes:
        robot: As given.
        name: Of the source.
        streams: The topic that each stream is read from, by stream name. An optional stream that
            the source does not have is missing here and ABSENT in every frame.
        topics: The topics that are read, each once, in stream order.
        observer: Turns the frames into arrays.
    """

    def __init__(self, source: Source, robot: RobotSpec, *, latency_ns: int = LATENCY_NS) -> None:
        """Find the robot's streams in the source. No message is read.

        Args:
            latency_ns: How long a tick may wait for a late sample.

        Raises:
            DataError: A required stream has no topic in `source`, or one of another type.
        """
        self.robot = robot
        self.name = source.name
        self.streams: dict[str, TopicInfo] = bind(robot, source.topics)
        self.topics: tuple[str, ...] = tuple(dict.fromkeys(t.name for t in self.streams.values()))
        self._source = source
        self._latency_ns = latency_ns
        self._names: dict[str, list[str]] = {topic: [] for topic in self.topics}
        for name, topic in self.streams.items():
            self._names[topic.name].append(name)
        self._synchronizer: Synchronizer[RawMessage] | None = None
        self._decoders = self._new_decoders()
        self.observer: Observer[RawMessage] = Observer(robot, self._decoders)

    def frames(self, listen: Mapping[str, Listener] = _NOBODY) -> Iterator[Frame[RawMessage]]:
        """The frames of the source, in one pass over its messages.

        Args:
            listen: Who hears the messages of which topic, those of the robot or others. Called in
                log order, before the frames are given that leave because of the message.

        Raises:
            DataError: The recording is damaged.
        """
        synchronizer = self._synchronizer = self._new_synchronizer()
        for raw in self._source.messages(tuple(dict.fromkeys((*self.topics, *listen)))):
            if raw.topic in listen:
                listen[raw.topic](raw)
            yield from self.push(raw)
        yield from synchronizer.finish()

    def push(self, raw: RawMessage) -> list[Frame[RawMessage]]:
        """The frames that leave because `raw` came: for whoever hears the messages himself.

        Messages of topics that the robot does not read change nothing.
        """
        if self._synchronizer is None:
            self._synchronizer = self._new_synchronizer()
        return [
            frame
            for name in self._names.get(raw.topic, ())
            for frame in self._synchronizer.push(name, raw.recv_ns, raw.stamp_ns, raw, seq=raw.seq)
        ]

    def advance(self, recv_ns: int) -> list[Frame[RawMessage]]:
        """The frames that leave because it is `recv_ns` on the receive clock, and nothing came."""
        return [] if self._synchronizer is None else self._synchronizer.advance(recv_ns)

    def recv_of(self, tick_ns: int) -> int:
        """The time of a tick on the receive clock, once `frames` has given one."""
        assert self._synchronizer is not None
        return self._synchronizer.recv_of(tick_ns)

    def report(self) -> SyncReport:
        """The account of the frames given so far.

        Raises:
            InputError: `frames` was not called yet.
        """
        if self._synchronizer is None:
            raise InputError("there is no account before the first frame", hint="Read `frames`.")
        report = self._synchronizer.report()
        return report.model_copy(update={"notes": (*self._source.notes, *report.notes)})

    def joints(self) -> dict[str, tuple[str, ...]]:
        """The joint order of every `joint_state` stream, by stream, as far as it is known.

        A stream whose preset declares none has that of the first message that was decoded.
        """
        return {
            part.stream: names
            for part, decode in self._decoders.items()
            if (names := joint_names(decode.decode))
        }

    def _new_synchronizer(self) -> Synchronizer[RawMessage]:
        streams = [
            SyncStream(
                name=stream.name,
                policy=stream.policy,
                tolerance_ns=round(stream.tolerance_ms * NS_PER_MS),
                required=stream.required,
                camera=stream.kind in _CAMERAS,
                topic=self.streams[stream.name].name if stream.name in self.streams else "",
            )
            for stream in self.robot.streams
        ]
        return Synchronizer(
            streams, fps=self.robot.fps, latency_ns=self._latency_ns, clock=self.robot.clock
        )

    def _new_decoders(self) -> dict[ArrayPart, _PartDecoder]:
        """One per part that the source has: the observer leaves arrays without all parts out."""
        messages = {name: _Messages(self._source) for name in self.streams}
        # With the topics that are really read, so that an error names them.
        specs = {
            name: replace(self.robot.stream(name), topic=topic.name)
            for name, topic in self.streams.items()
        }
        return {
            part: _PartDecoder(messages[part.stream], decoder(specs[part.stream], part.field))
            for array in self.robot.arrays
            for part in array.parts
            if part.stream in messages
        }


class _Messages:
    """The newest deserialised messages of one stream.

    The arrays of a robot take several fields of one message (position, velocity, effort), and an
    interpolated pick two messages: each is deserialised once.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._newest: deque[tuple[RawMessage, Any]] = deque(maxlen=2)

    def __call__(self, raw: RawMessage) -> Any:
        for known, message in self._newest:
            if known is raw:
                return message
        message = self._source.deserialize(raw)
        self._newest.append((raw, message))
        return message


class _PartDecoder:
    """From a raw message to the value of one part of an array."""

    def __init__(self, messages: _Messages, decode: Decoder) -> None:
        self._messages = messages
        self.decode = decode

    def __call__(self, raw: RawMessage) -> Value | None:
        return self.decode(raw.type, self._messages(raw))
