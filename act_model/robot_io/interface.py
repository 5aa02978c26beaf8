"""What a robot sees: the seam through which observations reach deployment.

    robot.observe() --> pipeline --> sink.send(action)

A recording observes only. A robot that can be moved, real or simulated, has a sink beside it; one
object may be both. Nothing but a sink ever moves anything, and in replay and shadow there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from act_model.config import Contract

Arrays = Mapping[str, NDArray[np.generic]]


class Mode(StrEnum):
    """What a rollout does to the robot, and in whose time."""

    REPLAY = "replay"  # nothing; simulated time, deterministic
    SHADOW = "shadow"  # nothing; real time, as it would be live
    SIM = "sim"  # moves a simulated robot; simulated time in lock step, deterministic
    STEP = "step"  # moves it; real time, and every prediction waits for a person's go
    LIVE = "live"  # moves it; real time

    @property
    def moves(self) -> bool:
        """Whether commands reach the sink."""
        return self in (Mode.SIM, Mode.STEP, Mode.LIVE)

    @property
    def real_time(self) -> bool:
        """Whether the machine's clock rules, and predictions arrive when they are done."""
        return self in (Mode.SHADOW, Mode.STEP, Mode.LIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotObservation:
    """What a robot saw at one tick.

    Attributes:
        tick: Number of the tick, from 0 at the start of an episode.
        tick_ns: Its time on the robot's clock.
        first: A new episode begins here.
        valid: Every stream that the policy needs was fresh. An observation that is not valid must
            not be predicted from.
        arrays: Gives the arrays by name, as a dataset holds one step. Called by whoever predicts,
            in its thread, so that decoding pictures costs the control tick nothing.
        demonstrated: (A,) float32, what the demonstrator did; None where that is not known.
        measured: (A,) float32, where each commanded element is now, in the unit of its command,
            NaN where that is not known; None: of no element. Of a robot that can be moved it
            decides whether the first command is near and whether the robot follows. Ready before
            the tick: reading it costs nothing.
        taken_over: A person commands at this tick, and `demonstrated` is what they want: the
            robot does it instead of the policy's action, through the same safety filter.
    """

    tick: int
    tick_ns: int
    first: bool
    valid: bool
    arrays: Callable[[], Arrays]
    demonstrated: NDArray[np.float32] | None
    measured: NDArray[np.float32] | None = None
    taken_over: bool = False


class RobotIO(Protocol):
    """Where observations come from: a robot, live, simulated or recorded."""

    @property
    def contract(self) -> Contract:
        """Everything that it offers and takes. Its `chunk_size` has no meaning."""

    @property
    def keeps_time(self) -> bool:
        """Whether `observe` waits for the robot's own next tick.

        True of live topics and of a simulator that runs by itself: `observe` then returns when
        there is something new, `tick_ns` is the time on the robot's clock at which it was seen,
        and it is called in a thread of its own, so that waiting delays no command. False of a
        recording and of a simulator in lock step: `observe` returns at once, and deployment asks
        once per tick.
        """

    def observe(self) -> RobotObservation | None:
        """What it sees at the next tick; None when there is no further tick.

        Raises:
            DataError, StoreError: The recording is damaged, or the robot's topics are gone.
        """

    def close(self) -> None:
        """Let go of it, and let a waiting `observe` return None. Calling it again does nothing."""
