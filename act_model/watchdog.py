"""A process beside the control tick that stops the robot when the tick has fallen silent.

    control tick --beat--> shared memory --> watchdog process --> its own sink: hold, then stop

The tick writes the time into memory that both share, and what a controller was told ahead; nothing
it does can make it wait. The watchdog opens the sink a second time, so it needs nothing of a
process that hangs or is gone. Once it has stepped in, the rollout is over: the tick finds that out
at its next beat and ends.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.errors import ActError, DataError
from act_data.types import NS_PER_MS, NS_PER_S
from act_model.commands import Plan, PlanSink, open_sink
from act_model.config import Contract

_BEAT, _ARMED, _TRIPPED, _ENDED, _TOLD = range(5)
_MOST_ROWS = 2048  # of a plan: more than a second of the fastest control
_MEMORY = Path("/dev/shm")  # a disk that is busy could make a write to a file of it wait
_START_S = 20.0


class Watchdog:
    """The control tick's side of it. A context manager; closes itself with the process."""

    def __init__(
        self, sink: str, contract: Contract, *, silence_ms: float = 100.0, hold_s: float = 1.0
    ) -> None:
        """Start the process; `wait` waits until it watches.

        Args:
            sink: As `open_sink` takes it.
            silence_ms: How long the tick may be silent once commands were sent.
            hold_s: From hold to stop.
        """
        self._plan: Plan | None = None
        with tempfile.TemporaryFile(dir=_MEMORY if _MEMORY.is_dir() else None) as file:
            layout = _layout(contract)
            file.truncate(layout.itemsize)
            memory = mmap.mmap(file.fileno(), layout.itemsize)
            self._shared = np.frombuffer(memory, layout)[0]
            self._words = memoryview(memory).cast("B")[: self._shared["words"].nbytes].cast("q")
            self._words[_BEAT] = time.monotonic_ns()
            job = {
                "sink": sink,
                "contract": contract.model_dump(mode="json"),
                "silence_ms": silence_ms,
                "hold_s": hold_s,
                "memory": file.fileno(),
            }
            self._process = subprocess.Popen(
                [sys.executable, "-m", "act_model.watchdog"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(file.fileno(),),
                start_new_session=True,  # Ctrl-C is for the tick, which then ends it
            )
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
            self._answer = b""
            self._inherited = os.dup(file.fileno())  # alive until the process has it

    def wait(self) -> None:
        """Return when it watches.

        Raises:
            DataError: It did not start, or could not open the sink.
        """
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _START_S)
        self._answer = self._process.stdout.readline() if ready else b""
        if self._answer != b"watching\n":
            said = self._answer.decode(errors="replace").strip() or "nothing"
            self.close()
            raise DataError(
                f"the watchdog does not watch: it said {said}",
                hint="Without one a robot is not moved; see whether the sink can be opened.",
            )

    def beat(self) -> None:
        """The control tick is alive."""
        self._words[_BEAT] = time.monotonic_ns()

    def arm(self) -> None:
        """The robot moves: from now on silence counts."""
        self._words[_ARMED] = 1

    def tell(self, plan: Plan | None) -> None:
        """What a controller follows now, so that it can be recalled.

        Of two places one is written while the other one holds, so that a tick which dies in the
        middle of it leaves the plan before.
        """
        if plan is self._plan:
            return
        self._plan = plan
        number = self._words[_TOLD] + 1
        place = self._shared["plans"][number % 2]
        rows = 0
        if plan is not None:
            rows = min(len(plan.path), _MOST_ROWS)
            place["begin_ns"], place["period_ns"] = plan.begin_ns, plan.period_ns
            place["path"][:rows] = plan.path[:rows]
        place["rows"] = rows
        self._words[_TOLD] = number

    @property
    def tripped(self) -> bool:
        """Whether it has stepped in."""
        return bool(self._words[_TRIPPED])

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def close(self) -> None:
        """The rollout has ended properly: the robot was brought to rest. Ends the process."""
        if self._inherited < 0:
            return
        self._words[_ENDED] = 1
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        os.close(self._inherited)
        self._inherited = -1


def watch() -> int:
    """Watch, in a process of its own: the job is one line of JSON on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Unbuffered: a line in a buffer would be seen by no select.
    job = json.loads(os.fdopen(os.dup(0), "rb", buffering=0).readline())
    contract = Contract.model_validate(job["contract"])
    layout = _layout(contract)
    shared = np.frombuffer(mmap.mmap(job["memory"], layout.itemsize), layout)[0]
    words = shared["words"]
    try:
        sink = open_sink(job["sink"], contract)
    except ActError as error:
        os.write(1, f"{error}\n".encode())
        return 1
    os.write(1, b"watching\n")
    silence_ns = round(job["silence_ms"] * NS_PER_MS)
    pause_s = max(0.001, job["silence_ms"] / 4000)
    while True:
        gone = bool(select.select([0], [], [], pause_s)[0])
        if gone and words[_ENDED]:
            break
        silent = words[_ARMED] and time.monotonic_ns() - words[_BEAT] > silence_ns
        if gone or silent:
            if words[_ARMED]:
                words[_TRIPPED] = 1
                plan = _told(shared)
                if plan is not None and isinstance(sink, PlanSink):
                    with suppress(ActError):  # it is gone: there is nobody to tell
                        sink.recall(plan)
                sink.hold()
                until = time.monotonic_ns() + round(job["hold_s"] * NS_PER_S)
                while not gone and not words[_ENDED] and time.monotonic_ns() < until:
                    gone = bool(select.select([0], [], [], pause_s)[0])
                sink.stop()
            break
    sink.close()
    return 0


def _layout(contract: Contract) -> np.dtype[Any]:
    """Of the memory that is shared: words, and two places for a plan."""
    size = sum(len(vector.names) for vector in contract.action)
    plan = [("rows", "i8"), ("begin_ns", "i8"), ("period_ns", "i8"),
            ("path", "f8", (_MOST_ROWS, size))]  # fmt: skip
    return np.dtype([("words", "i8", 8), ("plans", plan, 2)])


def _told(shared: Any) -> Plan | None:
    place = shared["plans"][shared["words"][_TOLD] % 2]
    rows = int(place["rows"])
    path: NDArray[np.float64] = place["path"][:rows].copy()
    return Plan(path, int(place["begin_ns"]), int(place["period_ns"])) if rows else None


if __name__ == "__main__":
    sys.exit(watch())
