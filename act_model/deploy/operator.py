"""The person beside the robot: arms it, lets it go on, stops it. By key, file, signal or topic.

Each wish is one attribute that the control tick reads. They are set by signal handlers and by
threads that wait for keys and files, so that the tick waits for nobody.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from act_model.deploy.settings import Stop


@dataclass(frozen=True, slots=True)
class Halt:
    """A wish to stop, and whose. `hint`, if set, is what to do about it."""

    stop: Stop
    cause: str
    hint: str = ""


class Operator:
    """What the person wants. A source of observations may hold it and pull the emergency stop.

    Attributes:
        armed: Commands may be sent.
        halt: The first wish to stop; None: none.
        goes: How often "go on" was said: in step mode each allows one prediction.
    """

    def __init__(self, *, armed: bool = True) -> None:
        self.armed = armed
        self.halt: Halt | None = None
        self.goes = 0

    def go(self) -> None:
        """Arm the robot; in step mode, let it take one step more."""
        self.armed = True
        self.goes += 1

    def stop(self, stop: Stop, cause: str) -> None:
        """Stop the rollout; only the first cause counts."""
        if self.halt is None:
            self.halt = Halt(stop, cause)

    def estop(self, cause: str) -> None:
        """Stop at once."""
        self.stop(Stop.ESTOP, cause)


@contextmanager
def signals(operator: Operator) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop, SIGUSR1 is the emergency stop; only in the main thread.

    A second Ctrl-C is the usual KeyboardInterrupt, for a robot that does not answer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        if operator.halt is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        operator.stop(Stop.INTERRUPTED, signal.Signals(number).name)

    def emergency(number: int, _: FrameType | None) -> None:
        operator.estop(signal.Signals(number).name)

    wanted: dict[int, Callable[[int, FrameType | None], None]] = {
        signal.SIGINT: end,
        signal.SIGTERM: end,
        signal.SIGUSR1: emergency,
    }
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def estop_file(operator: Operator, path: Path | None) -> Iterator[None]:
    """The emergency stop is pulled when a file appears at `path`."""
    if path is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            if path.exists():
                operator.estop(f"the file {path}")
                return

    with _thread(watch, "act-estop-file"):
        try:
            yield
        finally:
            done.set()


@contextmanager
def keys(operator: Operator, say: Callable[[str], None]) -> Iterator[None]:
    """Enter arms, or goes on; any other key is the emergency stop. On a terminal only."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    done_read, done_write = os.pipe()

    def listen() -> None:
        while True:
            ready, _, _ = select.select([terminal, done_read], [], [])
            if done_read in ready:
                return
            key = os.read(terminal, 1)
            if key in (b"\n", b"\r"):
                operator.go()
            elif key:
                operator.estop(f"the key {key.decode(errors='replace')!r}")
                return

    say("Enter arms the robot, or lets it go on; any other key is the emergency stop.")
    tty.setcbreak(terminal)
    try:
        with _thread(listen, "act-keys"):
            try:
                yield
            finally:
                os.write(done_write, b".")
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        os.close(done_read)
        os.close(done_write)


@contextmanager
def _thread(target: Callable[[], None], name: str) -> Iterator[None]:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(1)
