"""A file of one JSON object per line that grows while a program runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from act_data.errors import StoreError


class JsonLines:
    """Each line is on its way to disk when it was written. Close it, or leave its `with` block.

    Args:
        path: Emptied, unless `keep` is given.
        content: What it holds, for errors: "the action log".
        hint: The way out where it cannot be written.
        keep: Which of the objects that stand there already stay. A line that a kill cut short
            does not.

    Raises:
        StoreError: It cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        content: str,
        hint: str,
        keep: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> None:
        self._path = path
        self._content = content
        self._hint = hint
        try:
            if keep is not None and path.exists():
                scratch = path.with_name(f".{path.name}.partial")
                scratch.write_text("".join(_kept(path, keep)), encoding="utf-8")
                scratch.replace(path)
            mode = "w" if keep is None else "a"
            self._file: IO[str] = path.open(mode, buffering=1, encoding="utf-8")
        except OSError as e:
            raise self._cannot(e) from e

    def write(self, entry: Mapping[str, Any]) -> None:
        """Add a line. Numbers are finite: JSON has no others.

        Raises:
            StoreError: The disk is full.
        """
        line = json.dumps(entry, allow_nan=False)
        try:
            self._file.write(line + "\n")
        except OSError as e:
            raise self._cannot(e) from e

    def close(self) -> None:
        """Close the file.

        Raises:
            StoreError: The disk is full, and a line could not be written.
        """
        try:
            self._file.close()
        except OSError as e:
            raise self._cannot(e) from e

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _cannot(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self._path}: cannot write {self._content}: {error.strerror or error}",
            hint=self._hint,
        )


def _kept(path: Path, keep: Callable[[Mapping[str, Any]], bool]) -> list[str]:
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and keep(entry):
            kept.append(line + "\n")
    return kept
