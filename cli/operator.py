"""Who is in front of `act-data record`: keys and a live screen, or lines without a terminal."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from act_data.record import Command, Nobody, Phase, State

from . import console, tables

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEYS: Mapping[str, Command] = {
    "\n": Command.GO_ON,
    "\r": Command.GO_ON,
    " ": Command.GO_ON,
    "s": Command.SAVE,
    "f": Command.FAILURE,
    "d": Command.DISCARD,
    "r": Command.REDO,
    "q": Command.QUIT,
    "\x04": Command.QUIT,  # Ctrl-D
}
_HELP: Mapping[Phase, str] = {
    Phase.WAITING: "q quit",
    Phase.READY: "Enter start   q quit",
    Phase.RECORDING: "Enter end   f end as a failure   d discard   r redo   q save and quit",
    Phase.REVIEW: "Enter or s save   f save as a failure   d discard   r redo   q save and quit",
}
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FRAME_S = 0.2
_LINE_S = 10.0


class Lines(Nobody):
    """Nobody at a keyboard: a line when something changes, and now and then in between."""

    def __init__(self) -> None:
        super().__init__()
        self._last = ""
        self._next = 0.0

    def show(self, state: State) -> None:
        """Say what the session is doing."""
        what = _headline(state, moving=False)
        recording = state.phase is Phase.RECORDING and monotonic() >= self._next
        if what != self._last or recording:
            self._last, self._next = what, monotonic() + _LINE_S
            console.say(_headline(state, moving=state.phase is Phase.RECORDING))


class Terminal(Nobody):
    """A person at a terminal."""

    reviews = True

    def __init__(self, live: Live) -> None:
        super().__init__()
        self._live = live
        self._next = 0.0
        self._phase: Phase | None = None

    def asked(self, timeout_s: float) -> Command | None:
        """The next key that means something, or what a signal asked for."""
        ready, _, _ = select.select([sys.stdin], [], [], timeout_s)
        if not ready:
            return super().asked(0)
        key = os.read(sys.stdin.fileno(), 1).decode("ascii", "replace").lower()
        return Command.QUIT if not key else _KEYS.get(key)

    def show(self, state: State) -> None:
        """Draw the session."""
        if monotonic() < self._next and state.phase is self._phase:
            return
        self._next, self._phase = monotonic() + _FRAME_S, state.phase
        self._live.update(_drawn(state), refresh=True)


@contextmanager
def at_work() -> Iterator[Lines | Terminal]:
    """Whoever is there. A first Ctrl-C, or the end of the terminal, saves and ends; a second stops.

    The terminal is as it was when the block ends.
    """
    if not (sys.stdin.isatty() and console.err.is_terminal):
        lines = Lines()
        with _signals(lines):
            yield lines
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        with Live(console=console.err, auto_refresh=False, transient=True) as live:
            terminal = Terminal(live)
            with _signals(terminal):
                yield terminal
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextmanager
def _signals(person: Nobody) -> Iterator[None]:
    def quit_(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[signal.Signals(number)])
        person.say(Command.QUIT)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        signal.signal(number, quit_)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _headline(state: State, *, moving: bool) -> str:
    """What the session is doing, in a line."""
    many = f"{state.saved} of {state.wanted}" if state.wanted else str(state.saved)
    if state.phase is Phase.WAITING:
        return "waiting for " + ("; ".join(state.missing) or "messages")
    if state.phase is Phase.READY:
        wait = "" if state.countdown_s is None else f", {state.countdown_s:.0f} s"
        return f"ready, {many} saved" + ("; ".join(("", *state.missing)) or wait * moving)
    if not moving:
        return f"{state.phase.value} {state.episode}"
    of = f" of {state.max_timesteps}" if state.max_timesteps else ""
    share = f", {100 * state.valid / state.ticks:.1f} % valid" if state.ticks else ""
    skew = f", worst skew {state.worst_skew_ms:.1f} ms ({state.worst_stream})"
    lost = sum(t.lost for t in state.topics)
    return (
        f"{state.phase.value} {state.episode}: {state.seconds:.1f} s, {state.steps}{of} steps, "
        f"{state.fps:.1f} fps{share}{skew if state.worst_stream else ''}, "
        f"{state.bytes / 1e6:.1f} MB" + (f", {lost} messages LOST" if lost else "")
    )


def _drawn(state: State) -> RenderableType:
    """The session as a screen: what it does, its topics, the keys."""
    style = "bold red" if state.phase is Phase.RECORDING else "bold"
    rows = tables.table("", ["topic"], ["messages", "Hz", "lost"])
    for topic in state.topics:
        silent = topic.required and not topic.rate_hz
        rows.add_row(
            *(Text(topic.topic), str(topic.count), f"{topic.rate_hz:.1f}", str(topic.lost)),
            style="red" if silent or topic.lost else None,
        )
    head = Text(_headline(state, moving=True), style=style)
    return Group(head, rows, Text(_HELP[state.phase], style="dim"))
