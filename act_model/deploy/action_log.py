"""Every action of a rollout, one JSON object per line: raw, filtered and demonstrated."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import numpy as np
from numpy.typing import NDArray

from act_data.errors import StoreError
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
        self.path = path
        try:
            self._file: TextIO = path.open("w", encoding="utf-8")
        except OSError as e:
            raise self._failed(e) from e

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
        line = {
            "episode": episode,
            "tick": tick,
            "raw": _numbers(filtered.raw),
            "filtered": _numbers(filtered.action),
            "demonstrated": _numbers(demonstrated),
            "interventions": [reason.value for reason in filtered.interventions],
        }
        try:
            self._file.write(json.dumps(line) + "\n")
        except OSError as e:
            raise self._failed(e) from e

    def close(self) -> None:
        """Write what is buffered.

        Raises:
            StoreError: The disk is full.
        """
        try:
            self._file.close()
        except OSError as e:
            raise self._failed(e) from e

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self.path}: cannot write the action log: {error.strerror}",
            hint="Name another file, or leave the log out.",
        )


def _numbers(action: NDArray[np.floating] | None) -> list[float | str] | None:
    if action is None:
        return None
    values: list[float] = action.ravel().tolist()
    return [value if math.isfinite(value) else repr(value) for value in values]
