"""Ingest beside a recorder: a process of its own writes the dataset while recordings grow.

It reads them from the disk, so that a slow encoder only falls behind: it takes no message from the
recorder, no memory, and no time of the interpreter that has to hear the robot.
"""

from __future__ import annotations

import multiprocessing
import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

from act_data.engines import LostWorkerError
from act_data.errors import ActError
from act_data.ingest.live_run import LiveRun
from act_data.ingest.settings import IngestReport, IngestSettings
from act_data.types import RobotSpec

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_Answer = IngestReport | ActError | None


class LiveIngest:
    """Turns recordings into episodes of the dataset at `out` while they are made.

    Nothing here ever stops a recorder: what goes wrong is told by `finish`.
    """

    def __init__(self, robot: RobotSpec, settings: IngestSettings, out: Path) -> None:
        """Start the process. Args: robot: As the settings configured it."""
        context = multiprocessing.get_context("spawn")  # threads and locks do not survive a fork
        self._ended = context.Event()
        self._requests, other = context.Pipe()
        self._process = context.Process(
            target=_work, args=(other, self._ended, robot, settings, out), name="ingest"
        )
        # Ctrl-C and the end of a terminal reach every process of it: they are the recorder's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        other.close()

    def follow(self, target: Path) -> None:
        """The recording that becomes `target` has begun."""
        with suppress(OSError):  # the process has died: `finish` tells
            self._requests.send(target)

    def finish(self) -> IngestReport | None:
        """Wait for the last episode and make all of them visible; None when there is none.

        Nothing is recorded any more when this is called.

        Raises:
            ActError: The dataset could not be written.
        """
        self._ended.set()
        try:
            with suppress(OSError):  # it has ended: then the answer waits
                self._requests.send(None)
            answer: _Answer = self._requests.recv()
        except (OSError, EOFError) as e:
            raise LostWorkerError(
                "the process that writes the dataset was killed",
                hint="Ingest the recordings: they are complete.",
            ) from e
        if isinstance(answer, ActError):
            raise answer
        return answer

    def close(self) -> None:
        """Let the process finish what is there, and end."""
        self._ended.set()
        self._requests.close()
        self._process.join()


def _work(
    requests: Connection, ended: Event, robot: RobotSpec, settings: IngestSettings, out: Path
) -> None:
    """The process: an episode for each path that comes, and the report for None."""
    recorder = multiprocessing.parent_process()
    assert recorder is not None

    def nobody_records() -> bool:
        return ended.is_set() or not recorder.is_alive()

    answer: _Answer
    try:
        with LiveRun(robot, settings, out, nobody_records) as run:
            # A recorder that was killed has left what it had finished: that becomes visible, too.
            with suppress(EOFError):
                while (target := requests.recv()) is not None:
                    run.follow(target)
            answer = run.finish()
    except ActError as e:
        answer = e
    with suppress(OSError):
        requests.send(answer)
