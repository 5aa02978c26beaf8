"""Publishing on ROS 2 through rclpy, payloads as they are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from act_data.commands.messages import Encoding
from act_data.errors import DataError
from act_data.sources.live.ros2_graph import Ros2Graph

_LAST_S = 1.0  # how long a listener may take to acknowledge what was sent last


class Ros2Publisher:
    """A node that publishes some topics, RELIABLE.

    Args:
        topics: Message type by topic.
        domain_id: None: what ROS_DOMAIN_ID says, else 0.
        depth: As in `open_publisher`.

    Raises:
        NotFoundError: There is no rclpy for this Python.
        InputError: There is no such domain, or no such topic name.
        DataError: ROS 2 does not start, or has no such type installed.
    """

    encoding: Encoding = "cdr"

    def __init__(
        self, topics: Mapping[str, str], *, domain_id: int | None = None, depth: int = 1
    ) -> None:
        self._closed = False
        self._graph = Ros2Graph(domain_id, "act_model")
        try:
            self._publishers: dict[str, Any] = {
                topic: self._graph.publisher(topic, type_, depth=depth)
                for topic, type_ in topics.items()
            }
        except BaseException:
            self._graph.close()
            raise

    @property
    def name(self) -> str:
        """The domain."""
        return self._graph.name

    def publish(self, topic: str, payload: bytes) -> None:
        """Send to all who listen.

        Raises:
            DataError: ROS 2 refuses.
        """
        try:
            self._publishers[topic].publish(payload)
        except RuntimeError as e:  # RCLError is one
            raise DataError(f"{topic}: cannot be published any more: {e}") from e

    def listeners(self, topic: str) -> int:
        """How many subscribe to it now."""
        return int(self._publishers[topic].get_subscription_count())

    def close(self) -> None:
        """Leave the graph once the last messages have arrived: they tell a robot to stand still.

        Calling it again does nothing.
        """
        if self._closed:
            return
        self._closed = True
        with suppress(RuntimeError):  # ROS 2 is gone: there is nobody to wait for
            self._graph.delivered(self._publishers.values(), _LAST_S)
        self._graph.close()
