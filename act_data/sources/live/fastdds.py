"""How Fast DDS, the usual middleware of ROS 2, receives for a recording."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import as_file, files
from pathlib import Path

ENOUGH_BYTES = 2 * 2**20  # of net.core.rmem_max; with less, shared memory loses fewer messages
_LIMIT = Path("/proc/sys/net/core/rmem_max")

_CHOICES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE",
            "FASTDDS_BUILTIN_TRANSPORTS")  # fmt: skip
_FILES = ("DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml")


@contextmanager
def wide_sockets() -> Iterator[str]:
    """While a participant is made: it shall receive as `fastdds.xml` says.

    Fast DDS reads its profiles once in a process, with the first participant. What the user chose,
    in the environment or in a file of the working directory, stays as it is.

    Yields:
        What people should know about it; "" if there is nothing.
    """
    if any(os.environ.get(name) for name in _CHOICES) or any(Path(f).exists() for f in _FILES):
        yield ""
        return
    limit = _receive_limit()
    if limit < ENOUGH_BYTES:
        yield (
            f"the kernel allows receive buffers of {limit} bytes only, and large messages may be "
            f"lost: sudo sysctl -w net.core.rmem_max={8 * ENOUGH_BYTES} allows more"
        )
        return
    name = "FASTDDS_DEFAULT_PROFILES_FILE" if _is_fastdds_3() else "FASTRTPS_DEFAULT_PROFILES_FILE"
    with as_file(files("act_data.sources.live") / "fastdds.xml") as profiles:
        os.environ[name] = str(profiles)
        try:
            yield ""
        finally:
            del os.environ[name]


def _receive_limit() -> int:
    try:
        return int(_LIMIT.read_text())
    except (OSError, ValueError):  # no Linux, or a container that hides it
        return 0


def _is_fastdds_3() -> bool:
    """Whether this is ROS 2 Kilted (rclpy 9) or later: Jazzy (7) has Fast DDS 2.14."""
    try:
        return int(version("rclpy").split(".")[0]) >= 8
    except (PackageNotFoundError, ValueError):
        return False
