"""A recording session: wait for the robot, record an episode, save or redo it, and on to the next.

    topics published -> messages of all -> start -> recording -> review -> next episode

Three kinds of threads, each with one thing to do: those of the backend stamp and append to the
inbox; one takes the messages out, writes them to the disk and synchronises them to tell how good
they are; the caller's talks to the operator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Protocol

from act_data.errors import ActError, DataError
from act_data.fitting import AUTO
from act_data.record.episode import Episode
from act_data.record.files import next_file
from act_data.record.operator import Command, Operator, Phase
from act_data.record.robot_here import RobotHere, find_robot, marker_topic
from act_data.record.screen import Screen
from act_data.record.settings import RecordedEpisode, RecordReport, RecordSettings, Verdict
from act_data.robot import load_robot
from act_data.segments import Mark, listeners
from act_data.sources.live import Inbox, LiveBackend, LiveSource
from act_data.types import RobotSpec

POLL_S = 0.05
_LOOK_S = 0.5  # how often it is looked for topics that are not published yet


class Follower(Protocol):
    """Who reads the recordings while they are made."""

    def prepare(self, robot: RobotSpec) -> RobotSpec:
        """The robot is here; the robot as it is to be observed."""

    def begins(self, target: Path) -> None:
        """The recording that becomes `target` has begun."""


class NoFollower:
    """A `Follower` who does nothing."""

    def prepare(self, robot: RobotSpec) -> RobotSpec:
        """The robot as it is."""
        return robot

    def begins(self, target: Path) -> None:
        """Nobody reads it."""


@dataclass(frozen=True, slots=True)
class _Idle:
    """Listening between two episodes: what comes is counted and let go."""

    source: LiveSource
    listening: Future[None]

    @property
    def heard(self) -> Counter[str]:
        """Messages since it began, of all topics."""
        return self.source.counts + self.source.left_out

    @property
    def over(self) -> bool:
        """Whether nothing will come any more."""
        return self.listening.done()


class Session:
    """One session. `run` it once."""

    def __init__(
        self,
        backend: LiveBackend,
        folder: Path,
        settings: RecordSettings,
        operator: Operator,
        follower: Follower,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._backend = backend
        self._folder = folder
        self._settings = settings
        self._operator = operator
        self._follower = follower
        self._threads = threads
        self._inbox = Inbox()
        self._screen = Screen(
            operator,
            self._inbox,
            backend.name,
            wanted=settings.episodes,
            max_timesteps=settings.max_timesteps,
        )
        self._heard: Counter[str] = Counter()
        self._pressed = Event()  # a topic says: start
        self._done: list[RecordedEpisode] = []
        self._error: ActError | None = None
        self._last: Path | None = None

    def run(self) -> RecordReport:
        """Record episodes until there are enough, the operator quits, or the source ends.

        An error ends the session, too; it is in the report once there is an episode.

        Raises:
            DataError: The robot is not here, or nothing came before the first episode.
            StoreError: The first file cannot be made.
        """
        began = monotonic()
        robot = ""
        try:
            here = self._find()
            if here is not None:
                robot = here.robot.name
                here = replace(here, robot=self._follower.prepare(here.robot))
                self._screen.required = frozenset(here.required)
                self._backend.subscribe(here.topics, self._inbox)
                self._record(here)
        except ActError as e:
            if not self._done:
                raise
            self._error = self._error or e
        return RecordReport(
            robot=robot,
            backend=self._backend.name,
            folder=str(self._folder),
            task=self._settings.task or "",
            operator=self._settings.operator or "",
            saved=self._screen.saved,
            episodes=tuple(self._done),
            seconds=monotonic() - began,
            error=str(self._error or ""),
            hint=self._error.hint if self._error else "",
        )

    def _record(self, here: RobotHere) -> None:
        last: Episode | None = None
        while True:
            with self._idle(here) as idle:
                if last is not None and not self._review(last):
                    return
                if not self._all_here(here, idle):
                    return
            with self._idle(here) as idle:
                if not self._started(idle):
                    return
            last = self._take(here, idle.source)

    # --- waiting ------------------------------------------------------------------------------

    def _find(self) -> RobotHere | None:
        """The robot, once all its topics are published; None when the operator gives up."""
        settings = self._settings
        robot = None if settings.robot == AUTO else load_robot(settings.robot)
        self._screen.begin(Phase.WAITING)
        while True:
            try:
                topics = self._backend.topics()
            except DataError as e:  # nobody is there yet who knows
                found: RobotHere | tuple[str, ...] = (str(e),)
            else:
                found = find_robot(robot, settings, topics)
            if isinstance(found, RobotHere):
                return found
            look_again = monotonic() + _LOOK_S
            while monotonic() < look_again:
                self._refuse_late(found)
                self._screen.idle(missing=found)
                if self._operator.asked(POLL_S) is Command.QUIT:
                    return None

    @contextmanager
    def _idle(self, here: RobotHere) -> Iterator[_Idle]:
        """Keep the inbox empty, and hear who says: start."""
        channels = here.channels(self._backend, self._heard)
        source = LiveSource(self._backend, self._inbox, channels)
        starts = [s for s in self._settings.starts if marker_topic(s, channels)]
        listen = listeners(starts, source.topics, (), source.deserialize, self._press)

        def hear() -> None:
            for arrival in source.arrivals():
                if arrival.topic in listen:
                    listen[arrival.topic](source.raw(arrival))

        idle = _Idle(source, self._threads.submit(hear))
        try:
            yield idle
        finally:
            source.stop()
            idle.listening.result()
            self._heard += idle.heard

    def _press(self, mark: Mark) -> None:
        self._pressed.set()

    def _all_here(self, here: RobotHere, idle: _Idle) -> bool:
        """Wait for a message of every required topic; False when the session is over."""
        self._screen.begin(Phase.WAITING)
        while missing := here.missing(self._backend, idle.heard):
            if idle.over:
                if not self._done:
                    raise DataError(
                        f"{self._backend.name} ended before an episode could begin:\n  "
                        + "\n  ".join(missing),
                        hint="Record while all topics of the robot are there.",
                    )
                return False
            self._refuse_late(missing)
            self._screen.idle(idle.source, missing=missing)
            if self._operator.asked(POLL_S) is Command.QUIT:
                return False
        return True

    def _refuse_late(self, missing: tuple[str, ...]) -> None:
        if self._screen.seconds >= self._settings.wait_s:
            raise DataError(
                f"{self._backend.name}: after {self._settings.wait_s:g} s there is still missing:"
                "\n  " + "\n  ".join(missing),
                hint="Start what publishes it, name another --robot, or wait longer (--wait-s).",
            )

    def _started(self, idle: _Idle) -> bool:
        """Wait for the start: a topic or a key, then the countdown; False when it is over."""
        self._screen.begin(Phase.READY)
        command: Command | None = None
        if self._settings.start_by:
            waits_for = (f"{self._settings.start_by}: to start",)
            while not self._pressed.is_set() and command is not Command.GO_ON:
                if command is Command.QUIT or idle.over:
                    return False
                self._screen.idle(idle.source, missing=waits_for)
                command = self._operator.asked(POLL_S)
        self._pressed.clear()
        start = monotonic() + self._settings.countdown_s
        while (left := start - monotonic()) > 0:
            self._screen.idle(idle.source, countdown_s=left)
            command = self._operator.asked(min(POLL_S, left))
            if command is Command.QUIT or idle.over:
                return False
            if command is Command.GO_ON:
                break
        return True

    # --- recording ----------------------------------------------------------------------------

    def _take(self, here: RobotHere, before: LiveSource) -> Episode:
        """Record one episode until something stops it."""
        episode = Episode(
            self._backend,
            self._inbox,
            here,
            here.channels(self._backend, self._heard),
            self._next_file(),
            self._settings,
            self._threads,
            before,
        )
        self._screen.begin(Phase.RECORDING)
        try:
            self._follower.begins(episode.target)
            while not episode.ended:
                self._screen.episode(episode)
                if command := self._operator.asked(POLL_S):
                    episode.stop(command)
            episode.end()
        except BaseException:
            episode.keep()
            raise
        self._heard += episode.source.counts
        return episode

    def _next_file(self) -> Path:
        """A name that nothing in the folder has or had: a follower may still read what it had."""
        self._last = next_file(self._folder, after=self._last)
        return self._last

    def _review(self, episode: Episode) -> bool:
        """Save, discard or redo the episode that has ended; False when it was the last one."""
        self._screen.begin(Phase.REVIEW)
        try:
            command = episode.command
            if command in (None, Command.GO_ON) and self._operator.reviews and not episode.error:
                command = None
                while command is None and not self._pressed.is_set():
                    self._screen.episode(episode)
                    command = self._operator.asked(POLL_S)
            self._done.append(self._decided(episode, command))
        except BaseException:
            episode.keep()
            raise
        self._screen.saved += self._done[-1].verdict is Verdict.SAVED
        self._error = episode.error
        return not (
            episode.error
            or command is Command.QUIT
            or self._screen.saved == self._settings.episodes
        )

    def _decided(self, episode: Episode, command: Command | None) -> RecordedEpisode:
        if command is Command.DISCARD or not episode.source.counts.total():
            return episode.discard(Verdict.DISCARDED)
        if command is Command.REDO:
            return episode.discard(Verdict.REDONE)
        try:
            return episode.save(False if command is Command.FAILURE else None)
        except ActError as e:
            episode.error = e
            return episode.keep()
