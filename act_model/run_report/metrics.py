"""The metrics of a run as curves of bounded length, from a file that may still grow."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from act_data.errors import NotFoundError, StoreError
from act_model.run_folder import METRICS

MOST_POINTS = 400  # of a curve
_LONGEST_LINE = 1 << 20  # bytes; a validation of a thousand joints has a tenth of it
_MOST_NUMBERS = 4000  # of a line
Numbers = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """A number over the steps of a run, thinned: means over neighbours."""

    steps: Sequence[float]
    values: Sequence[float]


class Curves:
    """Numbers by name over steps; keeps between MOST_POINTS / 2 and MOST_POINTS of them."""

    def __init__(self) -> None:
        self._every = 1
        self._points: list[_Point] = []

    def add(self, step: float, numbers: Numbers) -> None:
        """The numbers of one step, which is later than those before."""
        if self._points and self._points[-1].lines < self._every:
            self._points[-1].add(step, numbers)
            return
        if len(self._points) == MOST_POINTS:
            self._points = [
                one.with_(other)
                for one, other in zip(self._points[::2], self._points[1::2], strict=True)
            ]
            self._every *= 2
        self._points.append(_Point(step))
        self._points[-1].add(step, numbers)

    def __getitem__(self, name: str) -> Curve:
        there = [point for point in self._points if name in point.sums]
        return Curve(
            [point.step for point in there],
            [point.sums[name] / point.counts[name] for point in there],
        )

    @property
    def names(self) -> list[str]:
        """All names, in order of appearance."""
        return list(dict.fromkeys(name for point in self._points for name in point.sums))


@dataclass(slots=True)
class _Point:
    step: float
    lines: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, step: float, numbers: Numbers) -> None:
        self.step = step
        self.lines += 1
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def with_(self, later: _Point) -> _Point:
        both = _Point(later.step, self.lines + later.lines, dict(self.sums), dict(self.counts))
        for name, value in later.sums.items():
            both.sums[name] = both.sums.get(name, 0.0) + value
            both.counts[name] = both.counts.get(name, 0) + later.counts[name]
        return both


@dataclass(slots=True)
class RunMetrics:
    """What the file says.

    Attributes:
        train: Of the steps.
        val: Of the validations.
        step: The last one.
        time: When it ended, seconds since 1970; 0 where no line says so.
        seconds: In all steps together, by what they went to.
        timed: Steps that say it.
        best: The validation with the smallest "l1", and its "step"; empty before the first.
        last: The last validation, and its "step".
        broken: Lines that are no JSON: a kill cut them short.
    """

    train: Curves = field(default_factory=Curves)
    val: Curves = field(default_factory=Curves)
    step: int = 0
    time: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    timed: int = 0
    best: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    broken: int = 0


def read_metrics(run: Path) -> RunMetrics:
    """The metrics of the run in `run`. Memory does not depend on their length.

    Raises:
        NotFoundError: There is no run.
        StoreError: The file cannot be read.
    """
    path = run / METRICS
    if not path.is_file():
        raise NotFoundError(
            f"{run} holds no run: it has no {METRICS}",
            hint="Name the --out folder of `act-model train`.",
        )
    found = RunMetrics()
    try:
        for line in _lines(path):
            _take(found, line)
    except OSError as e:
        raise StoreError(f"{path} cannot be read: {e}", hint="Check the disk.") from e
    return found


def _lines(path: Path) -> Iterator[bytes]:
    """Whole lines; the last one of a file that is being written may not be whole yet."""
    with path.open("rb") as file:
        while line := file.readline(_LONGEST_LINE):
            yield line


def _take(found: RunMetrics, line: bytes) -> None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        found.broken += 1
        return
    if not isinstance(entry, dict):
        found.broken += 1
        return
    numbers = {
        name: float(value)
        for name, value in itertools.islice(entry.items(), _MOST_NUMBERS)
        if isinstance(value, int | float) and abs(value) < 1e300 and math.isfinite(value)
    }
    step = int(numbers.pop("step", 0))
    found.time = max(found.time, numbers.pop("time", 0.0))
    found.step = max(found.step, step)
    if entry.get("kind") == "train":
        found.train.add(step, numbers)
        parts = {n.removeprefix("s/"): v for n, v in numbers.items() if n.startswith("s/")}
        for name, value in parts.items():
            found.seconds[name] = found.seconds.get(name, 0.0) + value
        found.timed += bool(parts)
    elif entry.get("kind") == "val" and "l1" in numbers:
        found.val.add(step, numbers)
        found.last = {"step": step, **numbers}
        if not found.best or numbers["l1"] < found.best["l1"]:
            found.best = found.last
