"""The message types of a source's topics: from payloads to raw messages, and to objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from act_data.errors import DataError, NotFoundError
from act_data.sources.bounds import MAX_COMPILED_FIELDS, MAX_MESSAGE_BYTES
from act_data.sources.inflate import inflate_zstd
from act_data.sources.message_types import MessageType, header_layout, message_type
from act_data.sources.stamps import HeaderLayout, header_stamp
from act_data.sources.storage import ZSTD_MAGIC, Channel
from act_data.types import RawMessage


class TopicTypes:
    """What the payloads of each topic are, for recordings and live topics alike.

    Attributes:
        compressions: What single messages were compressed with so far.
    """

    def __init__(self, name: str, channels: Mapping[str, Sequence[Channel]]) -> None:
        """Args: name: Of the source, for errors. channels: By topic; one per publisher and file."""
        self.compressions: set[str] = set()
        self._name = name
        self._channels = channels
        self._layouts: dict[str, HeaderLayout | None] = {}
        self._types: dict[str, MessageType] = {}
        self._size = 0

    def raw(self, recv_ns: int, channel: Channel, data: bytes | memoryview) -> RawMessage:
        """The message with stamp and number from its header, undecoded.

        A topic whose type nobody defines is delivered without a stamp; only decoding it fails.

        Raises:
            DataError: It is too long, too short for its header, or not what its encoding says.
        """
        topic = channel.topic
        try:
            if channel.encoding == "cdr" and data[:4] == ZSTD_MAGIC:  # rosbag2's, per message
                data = inflate_zstd(data, MAX_MESSAGE_BYTES)
                self.compressions.add("zstd per message")
            if len(data) > MAX_MESSAGE_BYTES:
                raise ValueError(f"it has {len(data)} bytes, more than {MAX_MESSAGE_BYTES}")
            layout = self._layouts[topic] if topic in self._layouts else self._layout(topic)
            stamp_ns: int | None = None
            seq: int | None = None
            if layout is not None:
                stamp_ns, seq = header_stamp(data, layout)
        except ValueError as e:
            raise self._unfit(topic, channel.type, recv_ns, e) from e
        return RawMessage(
            topic=topic,
            recv_ns=recv_ns,
            stamp_ns=stamp_ns,
            seq=seq,
            type=self._channels[topic][0].type,
            encoding=channel.encoding or "cdr",
            payload=data,
        )

    def deserialize(self, raw: RawMessage) -> Any:
        """The message as rosbags' object: fields as attributes, arrays as numpy.

        Raises:
            DataError: The type is unknown or the payload does not fit it; names topic and time.
        """
        type_ = self._types.get(raw.topic) or self._type(raw.topic)
        try:
            return type_.deserialize(raw.payload)
        except ValueError as e:
            error = self._unfit(raw.topic, raw.type, raw.recv_ns, e)
            if self.channel(raw.topic).definition is None:
                error.hint = (
                    "The recording does not define the type: name the ROS version it is from with "
                    "--typestore."
                )
            raise error from e

    def channel(self, topic: str) -> Channel:
        """The channel that tells the type of `topic`, on which all of its channels agree.

        Raises:
            NotFoundError: There is no such topic.
            DataError: They disagree.
        """
        channels = self._channels.get(topic)
        if not channels:
            raise NotFoundError(f"{self._name} has no topic {topic!r}")
        kinds = sorted({c.type for c in channels})
        texts = {c.definition.text.strip() for c in channels if c.definition}
        if len(kinds) > 1 or len(texts) > 1:
            raise DataError(
                f"{self._name}: topic {topic!r} carries messages of different types: "
                + (", ".join(kinds) if len(kinds) > 1 else f"{kinds[0]} in {len(texts)} versions"),
                hint="Record the publishers of different types on topics of their own.",
            )
        return next((c for c in channels if c.definition), channels[0])

    def _type(self, topic: str) -> MessageType:
        type_ = message_type(self.channel(topic))
        if self._size + type_.size > MAX_COMPILED_FIELDS:
            self._types.clear()
            self._size = 0
        self._types[topic] = type_
        self._size += type_.size
        return type_

    def _layout(self, topic: str) -> HeaderLayout | None:
        try:
            layout = header_layout(self.channel(topic))
        except DataError:  # its publishers disagree: deserialize says so, should anybody ask
            layout = None
        self._layouts[topic] = layout
        return layout

    def _unfit(self, topic: str, type_: str, recv_ns: int, why: ValueError) -> DataError:
        return DataError(
            f"{self._name}: the message of {topic!r} received at {recv_ns} ns is no valid "
            f"{type_}: {why}",
            hint="Leave the topic out, or record again.",
        )
