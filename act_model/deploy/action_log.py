"""Every action of a rollout, one JSON object per line: raw, filtered and demonstrated."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from act_model.jsonl import JsonLines
from act_model.safety import Filtered


class ActionLog:
    """A file that grows by one line per tick. Numbers are exact; NaN and infinity are strings.

    A line: {"episode": 0, "tick": 7, "raw": [...], "filtered": [...], "demonstrated": [...],
    "interventions": ["position"]}; null where there is none.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`, and empty it.

        Raises:
            StoreError: It cannot be written.
        """
        self._lines = JsonLines(
            path,
            content="the action log",
            hint="Name another file, or leave the log out.",
        )

    def write(
        self,
        episode: int,
        tick: int,
        filtered: Filtered,
        demonstrated: NDArray[np.float32] | None,
    ) -> None:
        """Append a line.

        Raises:
            StoreError: The disk is full.
        """
        self._lines.write(
            {
                "episode": episode,
                "tick": tick,
                "raw": _numbers(filtered.raw),
                "filtered": _numbers(filtered.action),
                "demonstrated": _numbers(demonstrated),
                "interventions": [reason.value for reason in filtered.interventions],
            }
        )

    def close(self) -> None:
        """Close the file.

        Raises:
            StoreError: The disk is full, and a line could not be written.
        """
        self._lines.close()


def _numbers(action: NDArray[np.floating] | None) -> list[float | str] | None:
    if action is None:
        return None
    values: list[float] = action.ravel().tolist()
    return [value if math.isfinite(value) else repr(value) for value in values]
