"""Frames become episodes: trimmed, cut at long gaps, actions shifted; nothing else is changed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

import numpy as np

from act_data.episodes.observer import Observed, Observer
from act_data.errors import DataError
from act_data.records import reason_name
from act_data.types import NS_PER_S, EncodedImage, Frame, RobotSpec, Role, StepType, Timestep

T = TypeVar("T")

# Frames of an invalid run wait until it is known whether the recording goes on after it. A dead
# camera must not fill the memory with the pictures of the others: beyond this, they are kept.
MAX_HELD_BYTES = 128 * 1024 * 1024


class GapPolicy(StrEnum):
    """What becomes of frames in the middle of a recording that are not usable."""

    MASK = "mask"  # their rows stay, the sync columns say why they are not valid
    CUT = "cut"  # a run longer than the limit ends the episode; a new one starts after it
    FAIL = "fail"  # a run longer than the limit is an error


@dataclass(frozen=True, kw_only=True)
class Account:
    """What became of the frames of a recording so far.

    Attributes:
        frames: Frames added.
        usable: Frames in which every required stream was valid and finite.
        rows: Timesteps given out.
        episodes: Of these, the ones that carry FIRST.
        invalid: Frames by column and by the lower-case name of the reason, where not OK.
    """

    frames: int
    usable: int
    rows: int
    episodes: int
    invalid: Mapping[str, Mapping[str, int]]


class Assembler(Generic[T]):
    """Turns frames into timesteps as dm_env has them.

    Of N frames an episode keeps T = N - max(1, action_shift) rows: row t is the observation of
    frame t and the action of frame t + action_shift, and the last observation is seen but has no
    row (dm_env: T + 1 observations, T actions). Columns of the action role in row t are those of
    frame t + action_shift, their skews relative to that frame's tick.

    An episode begins and ends with a usable frame. Frames in between that are not usable stay as
    masked rows, except in runs that `gap` treats otherwise. One exception bounds the memory: with
    MASK, an unusable tail is trimmed only as far as it fits into `MAX_HELD_BYTES`.
    """

    def __init__(
        self,
        robot: RobotSpec,
        observer: Observer[T],
        gap: GapPolicy = GapPolicy.MASK,
        max_gap_ticks: int = 30,
    ) -> None:
        """Args: max_gap_ticks: The longest run of unusable frames that CUT and FAIL let pass."""
        self._observer = observer
        self._gap = gap
        self._max_gap_ticks = max_gap_ticks
        self._fps = robot.fps
        self._shift = robot.action_shift
        self._of_action = np.array([c.role is Role.ACTION for c in observer.columns], dtype=bool)
        self._frames = self._usable = self._rows = self._episodes = 0
        self._invalid: Counter[tuple[int, int]] = Counter()
        self._window: deque[Observed] = deque()  # accepted, not yet a row
        self._run = _Run()
        self._open = False
        self._first = True

    @property
    def account(self) -> Account:
        """The count of frames, rows and reasons so far."""
        invalid: dict[str, dict[str, int]] = {}
        for (column, reason), count in sorted(self._invalid.items()):
            invalid.setdefault(self._observer.columns[column].name, {})[reason_name(reason)] = count
        return Account(
            frames=self._frames,
            usable=self._usable,
            rows=self._rows,
            episodes=self._episodes,
            invalid=invalid,
        )

    def add(self, frame: Frame[T]) -> list[Timestep]:
        """The rows that `frame` completes; one with FIRST opens a new episode.

        Raises:
            DataError: A message does not fit its stream; with FAIL, the frame after a long gap:
                names streams, time and length.
        """
        seen = self._observer.observe(frame)
        self._frames += 1
        self._usable += seen.usable
        for column in np.flatnonzero(seen.reason):
            self._invalid[int(column), int(seen.reason[column])] += 1
        if seen.usable:
            if self._gap is GapPolicy.FAIL and self._run.length > self._max_gap_ticks:
                raise self._gap_error(seen)
            waiting = [*self._run.held, seen]
            self._run, self._open = _Run(), True
            return [row for each in waiting for row in self._accept(each)]
        if not self._open:
            return []
        return self._wait(seen)

    def finish(self) -> list[Timestep]:
        """Close the episode: an unusable tail is dropped. No row is left to give out, so the list
        is empty; frames that follow open a new episode.
        """
        self._close()
        return []

    def _wait(self, seen: Observed) -> list[Timestep]:
        """Hold an unusable frame until the run ends, the policy decides, or too much is held."""
        run = self._run
        run.length += 1
        run.start_ns = seen.tick_ns if run.length == 1 else run.start_ns
        run.reasons.update(
            (self._observer.columns[c].name, reason_name(int(seen.reason[c])))
            for c in np.flatnonzero(seen.reason)
        )
        if self._gap is GapPolicy.MASK:
            run.held_bytes += _size(seen, run.held[-1] if run.held else None)
            run.held.append(seen)
            if run.held_bytes > MAX_HELD_BYTES:
                held, run.held, run.held_bytes = run.held, [], 0
                return [row for each in held for row in self._accept(each)]
        elif run.length <= self._max_gap_ticks:
            run.held.append(seen)
        elif self._gap is GapPolicy.CUT:
            self._close()
        else:
            run.held.clear()  # an error if the recording goes on, else the tail to trim
        return []

    def _accept(self, seen: Observed) -> list[Timestep]:
        self._window.append(seen)
        if len(self._window) <= max(1, self._shift):
            return []
        then = self._window[self._shift]
        now = self._window.popleft()
        row = Timestep(
            step_type=StepType.FIRST if self._first else StepType.MID,
            tick_ns=now.tick_ns,
            observation=now.observation,
            action=then.action,
            skew_ns=np.where(self._of_action, then.skew_ns, now.skew_ns),
            reason=np.where(self._of_action, then.reason, now.reason),
            index=np.where(self._of_action, then.index, now.index),
        )
        self._rows += 1
        self._episodes += self._first
        self._first = False
        return [row]

    def _close(self) -> None:
        self._window.clear()
        self._run = _Run()
        self._open = False
        self._first = True

    def _gap_error(self, seen: Observed) -> DataError:
        start = self._run.start_ns / NS_PER_S
        length = self._run.length / self._fps
        why = ", ".join(f"{c} {r} x{n}" for (c, r), n in self._run.reasons.most_common(5))
        return DataError(
            f"gap of {self._run.length} ticks ({length:.2f} s) from {start:.3f} s "
            f"to tick {seen.tick}, longer than {self._max_gap_ticks}: {why}",
            hint="Cut the episode there, mask the gap, or allow longer ones.",
        )


@dataclass
class _Run:
    """Unusable frames since the last usable one of an open episode."""

    length: int = 0
    start_ns: int = 0
    held: list[Observed] = field(default_factory=list)
    held_bytes: int = 0
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)


def _size(seen: Observed, before: Observed | None) -> int:
    """What it holds beyond the frame before it: a silent camera shows the same picture again."""
    known = {} if before is None else {**before.observation, **before.action}
    return sum(
        len(value.data) if isinstance(value, EncodedImage) else value.nbytes
        for name, value in {**seen.observation, **seen.action}.items()
        if value is not known.get(name)
    )
