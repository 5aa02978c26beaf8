"""Every tick's action, raw, filtered and sent: from a ring in memory to a file of JSON lines.

The control tick fills one row of arrays that are there from the start. A thread writes what is
full; in simulated time the tick does it itself. A ring that is full drops rows, and counts them.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from act_data.errors import StoreError
from act_model.deploy.settings import State
from act_model.jsonl import JsonLines
from act_model.safety import Filtered, Intervention

_STATES = tuple(State)
_REASONS = tuple(Intervention)
_BIT = {reason: 1 << i for i, reason in enumerate(_REASONS)}


class Tape:
    """A file that grows by one line per tick. Numbers are exact; NaN and infinity are strings.

    A line: {"episode": 0, "tick": 7, "at_ms": 140.0, "state": "run", "human": false,
    "raw": [...], "filtered": [...], "sent": [...], "demonstrated": [...],
    "interventions": ["position"]}; null where there is none. `at_ms` is the tick's deadline after
    the start of the rollout.
    """

    _ROWS = 4096
    _DRAIN_S = 0.05

    def __init__(self, path: Path, action_dim: int, *, threaded: bool) -> None:
        """Open `path`, and empty it.

        Raises:
            StoreError: It cannot be written.
        """
        self._lines = JsonLines(
            path, content="the action log", hint="Name another file, or leave the log out."
        )
        rows = self._ROWS
        self._numbers = np.zeros((rows, 6), np.int64)  # episode, tick, ns, state, human, reasons
        self._has = np.zeros((rows, 4), np.bool_)  # raw, filtered, sent, demonstrated
        self._raw = np.zeros((rows, action_dim))
        self._filtered = np.zeros((rows, action_dim), np.float32)
        self._demonstrated = np.zeros((rows, action_dim), np.float32)
        self._written = self._read = 0  # one side each
        self.dropped = 0
        self.error: StoreError | None = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        if threaded:
            self._thread = threading.Thread(target=self._drain, name="act-log", daemon=True)
            self._thread.start()

    def put(
        self,
        *,
        episode: int,
        tick: int,
        at_ns: int,
        state: State,
        human: bool,
        filtered: Filtered,
        sent: bool,
        demonstrated: NDArray[np.float32] | None,
    ) -> None:
        """Note a tick.

        Raises:
            StoreError: The disk is full.
        """
        if self.error is not None:
            raise self.error
        if self._written - self._read >= self._ROWS:
            self.dropped += 1
            return
        row = self._written % self._ROWS
        reasons = 0
        for reason in filtered.interventions:
            reasons |= _BIT[reason]
        self._numbers[row] = (episode, tick, at_ns, _STATES.index(state), human, reasons)
        raw = filtered.raw
        has_raw = raw is not None and raw.shape == self._raw.shape[1:]
        self._has[row] = (has_raw, filtered.action is not None, sent, demonstrated is not None)
        if has_raw:
            self._raw[row] = raw
        if filtered.action is not None:
            self._filtered[row] = filtered.action
        if demonstrated is not None:
            self._demonstrated[row] = demonstrated
        self._written += 1
        if self._thread is None:
            self._write()

    def close(self) -> None:
        """Write what is left and close the file.

        Raises:
            StoreError: The disk is full, and a line could not be written.
        """
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        try:
            if self.error is None:
                self._write()
        finally:
            self._lines.close()

    def _drain(self) -> None:
        while not self._done.wait(self._DRAIN_S):
            try:
                self._write()
            except StoreError as error:
                self.error = error
                return

    def _write(self) -> None:
        while self._read < self._written:
            row = self._read % self._ROWS
            episode, tick, at_ns, state, human, reasons = self._numbers[row].tolist()
            raw, filtered, sent, demonstrated = self._has[row].tolist()
            self._lines.write(
                {
                    "episode": episode,
                    "tick": tick,
                    "at_ms": round(at_ns / 1e6, 3),
                    "state": _STATES[state].value,
                    "human": bool(human),
                    "raw": _numbers(self._raw[row]) if raw else None,
                    "filtered": _numbers(self._filtered[row]) if filtered else None,
                    "sent": _numbers(self._filtered[row]) if sent else None,
                    "demonstrated": _numbers(self._demonstrated[row]) if demonstrated else None,
                    "interventions": [r.value for r in _REASONS if reasons & _BIT[r]],
                }
            )
            self._read += 1


def _numbers(action: NDArray[np.floating]) -> list[float | str]:
    values: list[float] = action.tolist()
    return [value if math.isfinite(value) else repr(value) for value in values]
