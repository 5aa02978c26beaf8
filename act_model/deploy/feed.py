"""From a robot to the newest observation: in lock step, read ahead, or in the robot's own time.

The control tick reads one attribute. Whoever observes replaces it as a whole; there is no lock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from act_data.types import NS_PER_MS, NS_PER_S
from act_model.deploy.clock import Clock
from act_model.deploy.settings import Rules
from act_model.deploy.source_clock import Refusal, SourceClock
from act_model.robot_io import RobotIO, RobotObservation


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An observation and its time.

    Attributes:
        number: Running number over the rollout.
        taken_ns: When the robot saw it, on the rollout's clock.
    """

    number: int
    taken_ns: int
    observation: RobotObservation


class Feed(Protocol):
    """Gives the newest observation."""

    def newest(self, deadline_ns: int) -> Seen | None:
        """The newest one at the tick of `deadline_ns`; None before the first. Never waits.

        Raises:
            EndOfFeed: There is no further one.
            Whatever the robot raised.
        """

    @property
    def refused(self) -> Mapping[str, int]:
        """Observations that were not used, by reason."""

    def close(self) -> None:
        """Let go of the robot."""


class EndOfFeed(Exception):  # noqa: N818 - an end, and no error
    """The robot has no further tick."""


class LockstepFeed:
    """Asks once per tick of the policy, when it is due: for simulated time."""

    def __init__(self, robot: RobotIO, start_ns: int) -> None:
        self._robot = robot
        self._start_ns = start_ns
        self._period_ns = NS_PER_S / robot.contract.rate_hz
        self._seen: Seen | None = None
        self._number = 0

    def newest(self, deadline_ns: int) -> Seen | None:
        """What is due at `deadline_ns`; it was taken when it was due."""
        while self._due_ns <= deadline_ns:
            observation = self._robot.observe()
            if observation is None:
                raise EndOfFeed
            self._seen = Seen(number=self._number, taken_ns=self._due_ns, observation=observation)
            self._number += 1
        return self._seen

    @property
    def refused(self) -> Mapping[str, int]:
        """Nothing is."""
        return {}

    def close(self) -> None:
        """Close the robot."""
        self._robot.close()

    @property
    def _due_ns(self) -> int:
        return self._start_ns + round(self._number * self._period_ns)


class AheadFeed:
    """A recording in real time: a thread reads ahead of it, a few observations at most."""

    _AHEAD = 8
    _WAIT_S = 0.002

    def __init__(self, robot: RobotIO) -> None:
        self._robot = robot
        self._start_ns = 0
        self._period_ns = NS_PER_S / robot.contract.rate_hz
        self._ahead: deque[RobotObservation] = deque()
        self._ended = self._closing = False
        self._error: BaseException | None = None
        self._seen: Seen | None = None
        self._number = 0
        self._thread = threading.Thread(target=self._read, name="act-source", daemon=True)
        self._thread.start()

    def start(self, start_ns: int) -> None:
        """The first observation is due at `start_ns`."""
        self._start_ns = start_ns

    def wait(self) -> None:
        """Return when the first observation was read."""
        while not (self._ahead or self._ended or self._error):
            time.sleep(self._WAIT_S)

    def newest(self, deadline_ns: int) -> Seen | None:
        """What is due at `deadline_ns`, if it was read in time."""
        while self._due_ns <= deadline_ns:
            ended, error = self._ended, self._error  # before the deque: they are set after it
            if self._ahead:
                self._seen = Seen(
                    number=self._number,
                    taken_ns=self._due_ns,
                    observation=self._ahead.popleft(),
                )
                self._number += 1
            elif error is not None:
                raise error
            elif ended:
                raise EndOfFeed
            else:
                break
        return self._seen

    @property
    def refused(self) -> Mapping[str, int]:
        """Nothing is."""
        return {}

    def close(self) -> None:
        """Let the thread end and close the robot."""
        self._closing = True
        self._thread.join(2)
        self._robot.close()

    @property
    def _due_ns(self) -> int:
        return self._start_ns + round(self._number * self._period_ns)

    def _read(self) -> None:
        try:
            while not self._closing:
                if len(self._ahead) >= self._AHEAD:
                    time.sleep(self._WAIT_S)
                    continue
                observation = self._robot.observe()
                if observation is None:
                    break
                self._ahead.append(observation)
        except BaseException as error:  # crosses the thread: the control tick raises it again
            self._error = error
        self._ended = True


class LiveFeed:
    """A robot that keeps time: a thread waits for it, and keeps the newest observation only."""

    def __init__(self, robot: RobotIO, clock: Clock, rules: Rules) -> None:
        self._robot = robot
        self._clock = clock
        self._times = SourceClock(round(rules.jump_ms * NS_PER_MS), rules.fresh)
        self._refused = dict.fromkeys((reason.value for reason in Refusal), 0)
        self._seen: Seen | None = None
        self._ended = self._closing = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._listen, name="act-source", daemon=True)
        self._thread.start()

    def newest(self, deadline_ns: int) -> Seen | None:
        """The newest one that has a believable time."""
        if self._error is not None:
            raise self._error
        if self._ended:
            raise EndOfFeed
        return self._seen

    @property
    def refused(self) -> Mapping[str, int]:
        """Observations with the time of another one, or with a time that is not believed."""
        return dict(self._refused)

    def close(self) -> None:
        """Close the robot, which ends the thread."""
        self._closing = True
        self._robot.close()
        self._thread.join(2)

    def _listen(self) -> None:
        number = 0
        try:
            while not self._closing and (observation := self._robot.observe()) is not None:
                if observation.first:
                    self._times.forget()
                taken = self._times.place(observation.tick_ns, self._clock.now_ns())
                if isinstance(taken, Refusal):
                    self._refused[taken.value] += 1
                    continue
                self._seen = Seen(number=number, taken_ns=taken, observation=observation)
                number += 1
        except BaseException as error:  # crosses the thread: the control tick raises it again
            self._error = error
        self._ended = True
