"""`--segments FILE`: which stretches of which recordings become episodes, as a CSV or YAML table.

    recording, start, end, task, operator, success, notes

`recording` is a name, a file name or a pattern ("pour_*"). `start` and `end` are seconds from the
first message of the recording, or absolute receive times: nanoseconds since 1970, or ISO 8601 with
its offset. Without them the segment begins or ends with the recording.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from act_data.records import Annotation, Record
from act_data.robot.yaml_lines import Problem, read
from act_data.segments.annotations import error_in, field_problems, text_of
from act_data.segments.segment import Action, Mark
from act_data.sources import Recording
from act_data.types import NS_PER_S

_MAX_BYTES = 8 * 2**20
_MAX_SECONDS = 10**9  # more than 31 years after the start is a mistake
_MIN_NS = 10**15  # twelve days after 1970
_MAX_NS = 2**63 - 1
_MAX_CHARACTERS = 64  # Python refuses to read a number of thousands of digits
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


class SegmentRow(Record):
    """One row of a file of segments."""

    recording: str
    start: str | None = None
    end: str | None = None
    task: str | None = None
    operator: str | None = None
    success: bool | None = None
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """A time in a recording: absolute, or counted from its first message."""

    ns: int
    absolute: bool

    def at(self, origin_ns: int) -> int:
        """Receive time in a recording that begins at `origin_ns`."""
        return self.ns if self.absolute else origin_ns + self.ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """One row, read: [start, end); None is the recording's own."""

    line: int
    pattern: str
    start: Moment | None
    end: Moment | None
    annotation: Annotation


@dataclass(frozen=True)
class Ranges:
    """The rows of a file, in its order."""

    path: Path
    rows: tuple[Range, ...]

    def of(self, recording: Recording) -> Ranges:
        """The rows about `recording`."""
        rows = tuple(row for row in self.rows if _is_about(row.pattern, recording))
        return replace(self, rows=rows)

    def check(self, recordings: Sequence[Recording]) -> None:
        """See that every row is about a recording, and that none overlap as far as can be told.

        Raises:
            InputError: Names file and line.
        """
        names = ", ".join(r.name for r in recordings[:10]) + (", ..." if recordings[10:] else "")
        lost = [
            Problem(row.line, f"no recording is called {row.pattern!r}", f"There is: {names}.")
            for row in self.rows
            if not any(_is_about(row.pattern, recording) for recording in recordings)
        ]
        if lost:
            raise error_in(self.path, lost)
        for recording in recordings:
            own = self.of(recording)
            kinds = {m.absolute for row in own.rows for m in (row.start, row.end) if m is not None}
            if len(kinds) < 2:  # else only the recording's first message tells their order
                own.marks(0)

    def marks(self, origin_ns: int) -> list[Mark]:
        """The marks of rows that are about one recording, which begins at `origin_ns`, in order.

        Raises:
            InputError: Two of them overlap, or one ends before it starts.
        """
        spans = sorted(
            (
                row.start.at(origin_ns) if row.start else origin_ns,
                row.end.at(origin_ns) if row.end else _MAX_NS,
                row.line,
                row,
            )
            for row in self.rows
        )
        marks: list[Mark] = []
        before_ns, before_line = -1, 0
        for start_ns, stop_ns, line, row in spans:
            if start_ns >= stop_ns:
                raise error_in(self.path, [Problem(line, "it ends before it starts")])
            if start_ns < before_ns:
                what = f"it overlaps the segment of line {before_line}"
                way_out = "A recording is read once: cut them apart."
                raise error_in(self.path, [Problem(line, what, way_out)])
            key = f"{start_ns}-{stop_ns if row.end else ''}"
            marks.append(
                Mark(recv_ns=start_ns, action=Action.START, key=key, annotation=row.annotation)
            )
            if row.end:
                marks.append(Mark(recv_ns=stop_ns, action=Action.STOP))
            before_ns, before_line = stop_ns, line
        return marks


def read_ranges(path: Path) -> Ranges:
    """The segments that a `.csv`, `.yaml` or `.json` file lists.

    Raises:
        InputError: It cannot be read, or says what cannot be; all problems with file and line.
    """
    text = text_of(path, _MAX_BYTES)
    problems: list[Problem] = []
    rows: list[Range] = []
    found = _csv_rows(text, problems) if path.suffix == ".csv" else _yaml_rows(text, problems)
    for lines, values in found:
        try:
            row = SegmentRow.model_validate(values)
        except ValidationError as e:
            problems += field_problems(e, partial(_line, lines), SegmentRow)
            continue
        try:
            rows.append(_range(row, lines))
        except _WrongError as e:
            problems.append(e.problem)
    if not problems and not rows:
        problems = [Problem(1, "no segment is listed", "Leave --segments out, or list one.")]
    if problems:
        raise error_in(path, sorted(problems, key=lambda p: p.line))
    return Ranges(path, tuple(rows))


class _WrongError(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.what)
        self.problem = problem


Lines = dict[str, int]
"""The line of each key of a row, and under "" that of the row."""


def _line(lines: Lines, name: str) -> int:
    return lines.get(name, lines[""])


def _csv_rows(text: str, problems: list[Problem]) -> Iterator[tuple[Lines, dict[str, Any]]]:
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            line = reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                twice = sorted({name for name in header if header.count(name) > 1})
                if "recording" not in header or twice:
                    known = ", ".join(SegmentRow.model_fields)
                    what = f"column {twice[0]!r} twice" if twice else "no column 'recording'"
                    problems.append(Problem(line, what, f"The first line names: {known}."))
                    return
                continue
            if len(cells) > len(header):
                problems.append(Problem(line, f"{len(cells)} cells for {len(header)} columns"))
                continue
            values = {name: cell.strip() or None for name, cell in zip(header, cells, strict=False)}
            yield {"": line}, values
    except csv.Error as e:
        problems.append(Problem(reader.line_num, f"not CSV: {e}"))


def _yaml_rows(text: str, problems: list[Problem]) -> Iterator[tuple[Lines, dict[str, Any]]]:
    located, found = read(text)
    problems += found
    if found:
        return
    if not isinstance(located.data, list):
        problems.append(Problem(1, "not a list of segments", "Write `- {recording: ..., ...}`."))
        return
    for number, values in enumerate(located.data):
        line = located.line((number,))
        if not isinstance(values, dict):
            problems.append(Problem(line, f"{values!r} is no segment", "Write `recording: ...`."))
            continue
        lines = {name: located.line((number, name)) for name in values}
        yield {**lines, "": line}, values


def _range(row: SegmentRow, lines: Lines) -> Range:
    start = _moment("start", row.start, lines)
    end = _moment("end", row.end, lines)
    if start and end and start.absolute == end.absolute and start.ns >= end.ns:
        raise _WrongError(
            Problem(lines[""], f"it ends at {row.end}, before it starts at {row.start}")
        )
    said = row.model_dump(include=set(Annotation.model_fields))
    return Range(
        line=lines[""],
        pattern=row.recording,
        start=start,
        end=end,
        annotation=Annotation.model_validate(said),
    )


def _moment(name: str, text: str | None, lines: Lines) -> Moment | None:
    if text is None:
        return None
    if len(text) <= _MAX_CHARACTERS and _NUMBER.fullmatch(text):
        if text.isdecimal() and _MIN_NS <= int(text) <= _MAX_NS:
            return Moment(int(text), absolute=True)
        seconds = float(text)
        if 0 <= seconds < _MAX_SECONDS and math.isfinite(seconds):
            return Moment(round(seconds * NS_PER_S), absolute=False)
    else:
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            when = None
        if when is not None and when.tzinfo is not None and when > _EPOCH:
            return Moment((when - _EPOCH) // timedelta(microseconds=1) * 1000, absolute=True)
    raise _WrongError(
        Problem(
            _line(lines, name),
            f"{name} is {text!r}",
            "Times are seconds from the start of the recording, nanoseconds since 1970, or "
            "ISO 8601 with an offset (2026-01-31T12:00:00.5Z).",
        )
    )


def _is_about(pattern: str, recording: Recording) -> bool:
    names = {recording.name, *(f.name for f in recording.files), *map(str, recording.files)}
    return any(fnmatchcase(name, pattern) for name in names)
