"""Files in whatever state: what can be read of them, and an account of what cannot."""

from __future__ import annotations

from pathlib import Path

from act_data.sources.chunk_room import ChunkRoom
from act_data.sources.storage import Kind, Storage

SUFFIX: dict[Kind, str] = {"ros1": ".bag", "db3": ".mcap", "mcap": ".mcap"}


def salvaged(path: Path, kind: Kind, room: ChunkRoom) -> Storage:
    """What can be read of a storage file, as if that were all there ever was of it.

    Scans the whole file once. `recovery` of what it gives back says what was lost.

    Raises:
        DataError: It is empty, of another kind, encrypted, or holds more than any recording.
    """
    if kind == "ros1":
        from act_data.sources.salvage.ros1 import SalvagedRos1

        return SalvagedRos1(path, room)
    if kind == "db3":
        from act_data.sources.salvage.db3 import SalvagedDb3

        return SalvagedDb3(path)
    from act_data.sources.salvage.mcap import SalvagedMcap

    return SalvagedMcap(path, room)
