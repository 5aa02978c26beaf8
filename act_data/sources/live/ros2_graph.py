"""A node of our own in the ROS 2 graph of one domain."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterable
from itertools import count
from typing import Any

from act_data.errors import DataError, InputError, NotFoundError
from act_data.sources.live.fastdds import wide_sockets
from act_data.sources.live.ros2_types import message_class
from act_data.types import NS_PER_S

try:
    from rclpy.context import Context
    from rclpy.duration import Duration
    from rclpy.node import Node
    from rclpy.parameter import Parameter
    from rclpy.qos import QoSProfile, ReliabilityPolicy
except ImportError as e:
    _missing: ImportError | None = e
else:
    _missing = None

TOPIC = re.compile(r"(/[A-Za-z_]\w*)+", re.ASCII)

_MAX_DOMAIN = 232  # the ports of higher ones do not exist; Fast DDS exits the process

_numbers = count()


class Ros2Graph:
    """A context and its node, without signal handlers, log files or executors.

    Attributes:
        domain: The domain.
        context: For wait sets.
        node: For topics.
        advice: What would make large messages arrive, for people; "" when nothing is wrong.
    """

    def __init__(self, domain_id: int | None, program: str) -> None:
        """Take part in the graph.

        Args:
            domain_id: None: what ROS_DOMAIN_ID says, else 0.
            program: What the node is called, with a number.

        Raises:
            NotFoundError: There is no rclpy for this Python.
            InputError: There is no such domain.
            DataError: ROS 2 does not start.
        """
        if _missing is not None:
            raise NotFoundError(
                f"ROS 2 topics need rclpy, which Python {platform.python_version()} on "
                f"{platform.machine()} does not have here: {_missing}",
                hint="On x86-64 Linux: pip install 'act-toolkit[ros2]'. Elsewhere source a ROS 2 "
                "installation made for this Python, or listen to a foxglove bridge.",
            )
        self.domain = _domain(domain_id)
        self.context: Any = Context()
        try:
            # Nothing from this program's command line.
            self.context.init(args=[], initialize_logging=False, domain_id=self.domain)
            with wide_sockets() as advice:
                self.node: Any = Node(
                    f"{program}_{os.getpid()}_{next(_numbers)}",
                    context=self.context,
                    use_global_arguments=False,
                    enable_rosout=False,
                    start_parameter_services=False,
                    parameter_overrides=[Parameter("start_type_description_service", value=False)],
                )
        except RuntimeError as e:  # RCLError is one
            self.context.destroy()
            raise DataError(
                f"ROS 2 does not start in domain {self.domain}: {line_of(e)}",
                hint="Check the ROS_* and RMW_* variables of the environment.",
            ) from e
        self.advice = advice

    @property
    def name(self) -> str:
        """The domain, for people."""
        return f"ros2 domain {self.domain}"

    def publisher(self, topic: str, type_: str, *, depth: int) -> Any:
        """rclpy's publisher of `topic`, RELIABLE; its `publish` takes payloads, too.

        Raises:
            InputError: No topic can be called so.
            DataError: The type's package is not installed here.
        """
        if not TOPIC.fullmatch(topic):
            raise InputError(
                f"no ROS 2 topic is called {topic!r}",
                hint="A name is words of letters, digits and _, each after a slash: /arm/command.",
            )
        profile = QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)
        return self.node.create_publisher(message_class(topic, type_), topic, profile)

    def delivered(self, publishers: Iterable[Any], within_s: float) -> bool:
        """Wait until all who listen have what `publishers` sent; False when it takes longer.

        A message is on its way when `publish` returns, and a node that leaves takes it back.
        """
        until = time.monotonic() + within_s
        return all(
            publisher.wait_for_all_acked(
                Duration(nanoseconds=max(0, round((until - time.monotonic()) * NS_PER_S)))
            )
            for publisher in publishers
        )

    def close(self) -> None:
        """Leave the graph."""
        self.node.destroy_node()
        self.context.try_shutdown()
        self.context.destroy()


def line_of(error: Exception) -> str:
    """What an error of rclpy says, in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _domain(asked: int | None) -> int:
    """The domain that was asked for, checked: Fast DDS ends the process at one that is not."""
    said = os.environ.get("ROS_DOMAIN_ID", "") or "0" if asked is None else str(asked)
    if not re.fullmatch(r"\d{1,3}", said, re.ASCII) or int(said) > _MAX_DOMAIN:
        raise InputError(
            f"there is no ROS 2 domain {said!r}",
            hint=f"ROS_DOMAIN_ID is a number from 0 to {_MAX_DOMAIN}, the same on the robot.",
        )
    return int(said)
