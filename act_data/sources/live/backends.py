"""Which backend a name means."""

from __future__ import annotations

from pathlib import Path

from act_data.errors import InputError
from act_data.sources.live.backend import LiveBackend
from act_data.sources.live.replay import ReplayBackend

BACKENDS = (
    "ros1",
    "ros1:MASTER_URI",
    "ros2",
    "ros2:DOMAIN",
    "foxglove",
    "foxglove:ws://HOST:PORT",
    "replay:BAG",
)
_BRIDGE = "ws://127.0.0.1:8765"  # where foxglove_bridge listens unless it is told otherwise


def open_backend(name: str, *, speed: float = 1.0) -> LiveBackend:
    """The backend called `name`: one of `BACKENDS`. Close it.

    Args:
        speed: Of a replay.

    Raises:
        InputError: There is no such backend, or no such address.
        NotFoundError: What it needs is not installed, or the recording does not exist.
        DataError: The other side does not answer, or the recording cannot be opened.
    """
    kind, _, where = name.partition(":")
    if kind == "ros1":
        from act_data.sources.live.ros1 import Ros1Backend

        return Ros1Backend(where or None)
    if kind == "ros2" and (not where or where.isdecimal()):
        from act_data.sources.live.ros2 import Ros2Backend  # imports rclpy, which takes long

        return Ros2Backend(domain_id=int(where) if where else None)
    if kind == "foxglove":
        from act_data.sources.live.foxglove import FoxgloveBackend

        return FoxgloveBackend(where or _BRIDGE)
    if kind == "replay" and where:
        return ReplayBackend(Path(where), speed=speed)
    raise InputError(f"no backend {name!r}", hint=f"Use one of: {', '.join(BACKENDS)}.")
