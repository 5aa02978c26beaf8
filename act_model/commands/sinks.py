"""Sinks by name: "null", "jsonl:FILE", "mcap:FILE[#ROBOT]", "ros1[:MASTER_URI][#ROBOT]" and
"ros2[:DOMAIN][#ROBOT]".

A sink is opened from text and not handed over as an object, because the watchdog opens the same
one again in its own process.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from act_data.errors import DataError, InputError, StoreError
from act_model.commands.interface import Sink
from act_model.config import Contract


def open_sink(text: str, contract: Contract) -> Sink:
    """The sink that `text` names, "KIND" or "KIND:WHERE", for the actions of `contract`.

    Raises:
        InputError: There is no such kind, or it needs a place.
        StoreError, DataError: It cannot be opened.
    """
    kind, where = _parts(text)
    if kind not in _KINDS:
        raise InputError(f"there is no sink {kind!r}", hint=f"Use one of: {', '.join(_KINDS)}.")
    return _KINDS[kind](where, contract)


def robot_of(text: str) -> str | None:
    """The robot that the text of a sink names, where it names one."""
    kind, where = _parts(text)
    return (where.partition("#")[2] or None) if kind in _TOPICS else None


def _parts(text: str) -> tuple[str, str]:
    """Kind and place: "ros1:http://a:11311#robot" as well as "ros1#robot"."""
    kind = text.partition(":")[0].partition("#")[0]
    return kind, text.removeprefix(kind).removeprefix(":")


class NullSink:
    """Takes commands and does nothing."""

    def send(self, action_A: NDArray[np.float32], valid_ns: int) -> None:
        """Nothing."""

    def hold(self) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class JsonSink:
    """A file with one JSON object per command: {"do": "send", "at_ns", "valid_ns", "action"}.

    Lines are appended in one write each, so that the watchdog's may follow those of the control
    tick in the same file. `at_ns` is `time.monotonic_ns`, which all processes share.
    """

    def __init__(self, path: Path) -> None:
        """Append to `path`.

        Raises:
            StoreError: It cannot be written.
        """
        self._path = path
        try:
            self._file: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as e:
            raise StoreError(
                f"{path}: cannot write commands: {e.strerror}", hint="Name another file."
            ) from e

    def send(self, action_A: NDArray[np.float32], valid_ns: int) -> None:
        """Append a line.

        Raises:
            DataError: The disk is full.
        """
        try:
            self._write("send", {"valid_ns": valid_ns, "action": action_A.tolist()})
        except OSError as e:
            raise DataError(f"{self._path}: cannot write commands: {e.strerror}") from e

    def hold(self) -> None:
        """Append a line."""
        self._try("hold")

    def stop(self) -> None:
        """Append a line."""
        self._try("stop")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _try(self, what: str) -> None:
        try:
            self._write(what, {})
        except OSError:
            return  # there is nothing to stop but a file that is full

    def _write(self, what: str, more: Mapping[str, object]) -> None:
        if self._file is not None:
            line = json.dumps({"do": what, "at_ns": time.monotonic_ns(), **more})
            os.write(self._file, line.encode() + b"\n")


def _null(where: str, contract: Contract) -> Sink:
    return NullSink()


def _jsonl(where: str, contract: Contract) -> Sink:
    if not where:
        raise InputError("the sink 'jsonl' names no file", hint="Write jsonl:commands.jsonl.")
    return JsonSink(Path(where))


def _ros(kind: str) -> Callable[[str, Contract], Sink]:
    def opened(where: str, contract: Contract) -> Sink:
        from act_model.commands.topics import topic_sink  # imports message types, which take long

        return topic_sink(kind, where, contract)

    return opened


_TOPICS = ("ros1", "ros2", "mcap")
_KINDS: Mapping[str, Callable[[str, Contract], Sink]] = {
    "null": _null,
    "jsonl": _jsonl,
    **{kind: _ros(kind) for kind in _TOPICS},
}
