"""The person who records: what they ask for, and what they see."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from queue import Empty, SimpleQueue
from typing import Protocol


class Command(StrEnum):
    """What an operator asks for, at any moment of the session."""

    GO_ON = "go on"  # start at once; end the episode; save it
    SAVE = "save"
    FAILURE = "failure"  # save it, marked as a failed demonstration
    DISCARD = "discard"
    REDO = "redo"  # discard it and record it anew
    QUIT = "quit"  # save it and end the session


class Phase(StrEnum):
    """What the session is doing."""

    WAITING = "waiting"  # for topics of the robot
    READY = "ready"  # for the start
    RECORDING = "recording"
    REVIEW = "review"  # of the episode that ended: save, discard, redo


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicState:
    """One topic at this moment.

    Attributes:
        count: Messages since the phase began.
        rate_hz: Over the last two seconds.
        lost: Messages that arrived faster than they could be written.
        required: The robot cannot do without.
    """

    topic: str
    count: int
    rate_hz: float
    lost: int
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The session at this moment, for a screen.

    Attributes:
        episode: Name of the file that is, was last or will be recorded.
        saved: Episodes kept so far.
        wanted: How many are asked for.
        missing: What is waited for, a line each.
        seconds: Since the phase began; until the start with a countdown.
        ticks: Of the episode, so far; `valid` of them with every required stream.
        steps: Rows that the episode has become.
        fps: Ticks per second over the last two seconds.
        worst_skew_ms: Largest distance of a valid sample from its tick.
        worst_stream: Whose it is.
        bytes: Of the file.
        waiting_bytes: Heard and not yet written.
    """

    phase: Phase
    backend: str = ""
    episode: str = ""
    saved: int = 0
    wanted: int | None = None
    missing: tuple[str, ...] = ()
    countdown_s: float | None = None
    seconds: float = 0.0
    ticks: int = 0
    valid: int = 0
    steps: int = 0
    max_timesteps: int | None = None
    fps: float = 0.0
    worst_skew_ms: float = 0.0
    worst_stream: str = ""
    topics: tuple[TopicState, ...] = ()
    bytes: int = 0
    waiting_bytes: int = 0


class Operator(Protocol):
    """Who records."""

    @property
    def reviews(self) -> bool:
        """Whether they look at each episode before it is kept; else it is saved at once."""

    def asked(self, timeout_s: float) -> Command | None:
        """The next command; None when there is none within `timeout_s`."""

    def show(self, state: State) -> None:
        """Look at the session; called often, from the thread that runs it."""


class Nobody:
    """An `Operator` who is not there: flags decide everything. `say` may still end an episode."""

    reviews = False

    def __init__(self) -> None:
        self._said: SimpleQueue[Command] = SimpleQueue()

    def say(self, command: Command) -> None:
        """Ask for something. From any thread, and from a signal handler."""
        self._said.put(command)

    def asked(self, timeout_s: float) -> Command | None:
        """The next command."""
        try:
            return self._said.get(timeout=timeout_s)
        except Empty:
            return None

    def show(self, state: State) -> None:
        """Nobody looks."""
