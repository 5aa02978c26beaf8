"""The seam of publishing: what ROS 1, ROS 2 and a file have in common, and which a name means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from act_data.commands.messages import Encoding
from act_data.errors import InputError

PUBLISHERS = ("ros1", "ros1:MASTER_URI", "ros2", "ros2:DOMAIN", "mcap:FILE")


class Publisher(Protocol):
    """Topics that are published until it is closed. For one thread."""

    encoding: Encoding
    """How payloads must be written."""

    @property
    def name(self) -> str:
        """For people, e.g. "ros1 http://127.0.0.1:11311"."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Send to all who listen, and return at once. Who cannot keep up misses it.

        Args:
            topic: One of those that were advertised.

        Raises:
            DataError: Nobody can be reached any more.
        """

    def listeners(self, topic: str) -> int:
        """How many subscribe to it now."""

    def close(self) -> None:
        """Publish no more. Every thread has ended when this returns; again, it does nothing."""


def open_publisher(name: str, topics: Mapping[str, str], *, depth: int = 1) -> Publisher:
    """Advertise `topics` on the ROS that `name` means: one of `PUBLISHERS`.

    Args:
        topics: Message type by topic, in the ROS 2 spelling.
        depth: Messages that ROS 2 keeps of each topic for who has not got them. Of commands, only
            the newest counts; of what sensors see, every one.

    Raises:
        InputError: There is no such ROS, or no such address.
        NotFoundError: What it needs is not installed.
        DataError: The master does not answer, or ROS 2 does not start.
        ConflictError, StoreError: The file exists, or cannot be written.
    """
    kind, _, where = name.partition(":")
    if kind == "ros1":
        from act_data.commands.ros1 import Ros1Publisher

        return Ros1Publisher(topics, master_uri=where or None)
    if kind == "ros2" and (not where or where.isdecimal()):
        from act_data.commands.ros2 import Ros2Publisher  # imports rclpy, which takes long

        domain = int(where) if where else None
        return Ros2Publisher(topics, domain_id=domain, depth=depth)
    if kind == "mcap" and where:
        from act_data.commands.mcap import McapPublisher

        return McapPublisher(Path(where), topics)
    raise InputError(f"no publisher {name!r}", hint=f"Use one of: {', '.join(PUBLISHERS)}.")
