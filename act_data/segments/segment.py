"""Where segments begin and end: marks on the receive clock, in the order in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from act_data.records import Annotation

UNSAID = Annotation()


class Action(StrEnum):
    """What a mark does."""

    START = "start"  # a segment begins, unless one is open
    STOP = "stop"  # the open segment ends
    CUT = "cut"  # the open segment ends and the next one begins
    TOGGLE = "toggle"  # stop if one is open, else start


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened at receive time `recv_ns` and begins or ends a segment.

    Attributes:
        key: Identity of the segment that it begins, where that is not its number.
        annotation: What is known about the segment that it begins.
    """

    recv_ns: int
    action: Action
    key: str = ""
    annotation: Annotation = UNSAID


@dataclass(slots=True, eq=False, kw_only=True)
class Segment:
    """A stretch of a recording, [start_ns, stop_ns) on the receive clock; None where it is open.

    Attributes:
        number: Of the recording's segments, from 0.
        key: Its identity, where that is not its number.
    """

    number: int
    start_ns: int | None
    stop_ns: int | None = None
    key: str = ""
    annotation: Annotation = UNSAID


class Segments:
    """Tells which segment a tick lies in. Marks come in order of time, and so do ticks.

    A segment holds the ticks from the mark that began it on, and none from the one that ended it
    on. So every tick lies in at most one.

    Attributes:
        begun: All segments so far.
    """

    def __init__(self, marks: Iterable[Mark] = (), *, open_at_first: bool = True) -> None:
        """Args: open_at_first: A segment is open from the first tick on, without a mark."""
        self.begun: list[Segment] = []
        self._marks = deque(marks)
        self._open: Segment | None = None
        if open_at_first:
            self._begin(None, "", UNSAID)

    def put(self, mark: Mark) -> None:
        """Take in the next mark; in log order, before the ticks that leave because of it."""
        self._marks.append(mark)

    def at(self, recv_ns: int) -> Segment | None:
        """The segment of a tick whose time is `recv_ns` on the receive clock; None between two."""
        while self._marks and self._marks[0].recv_ns <= recv_ns:
            self._apply(self._marks.popleft())
        return self._open

    @property
    def keys(self) -> list[str]:
        """The keys of the segments that are open or known to come; "" for all without one."""
        begin = [m.key for m in self._marks if m.action is Action.START]
        return list(dict.fromkeys(([self._open.key] if self._open else []) + begin)) or [""]

    @property
    def over(self) -> bool:
        """Whether no segment is open and no mark is known that could begin one."""
        return self._open is None and not self._marks

    def end(self) -> None:
        """No tick will come any more: marks behind the last one are taken in."""
        while self._marks:
            self._apply(self._marks.popleft())

    def _apply(self, mark: Mark) -> None:
        stops = mark.action is not Action.START and self._open is not None
        starts = {
            Action.START: self._open is None,
            Action.STOP: False,
            Action.CUT: self._open is not None,
            Action.TOGGLE: self._open is None,
        }[mark.action]
        if stops and self._open is not None:
            self._open.stop_ns, self._open = mark.recv_ns, None
        if starts:
            self._begin(mark.recv_ns, mark.key, mark.annotation)

    def _begin(self, start_ns: int | None, key: str, annotation: Annotation) -> None:
        self._open = Segment(
            number=len(self.begun), start_ns=start_ns, key=key, annotation=annotation
        )
        self.begun.append(self._open)
