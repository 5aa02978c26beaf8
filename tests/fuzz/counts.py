"""The counts of a fuzz run, in a file that outlives a crash of the process that counts."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_COUNTS = struct.Struct("<QQQ")  # executions, RSS after the seeds and largest RSS in KiB
_NAME = "counts"


class Counts:
    """What a run writes down as it goes."""

    def __init__(self, folder: Path) -> None:
        with (folder / _NAME).open("w+b") as file:
            file.truncate(_COUNTS.size)
            self._map = mmap.mmap(file.fileno(), _COUNTS.size)

    def write(self, executions: int, base_kb: int, peak_kb: int) -> None:
        """Replace what was written before."""
        _COUNTS.pack_into(self._map, 0, executions, base_kb, peak_kb)


def read(folder: Path) -> tuple[int, int, int]:
    """Executions, RSS after the seeds and largest RSS (KiB); zeros when nothing was written."""
    path = folder / _NAME
    data = path.read_bytes() if path.exists() else b""
    return _COUNTS.unpack(data) if len(data) == _COUNTS.size else (0, 0, 0)
