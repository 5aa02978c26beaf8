"""Tasks on processes: the same results as in turn, and nobody works on when the run has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from act_data import engines
from act_data.errors import ActError, DataError

ROOT = Path(__file__).parents[2]


def square(shared: int, item: int, advance: engines.Advance) -> tuple[int, int]:
    for done in range(1, item + 1):
        advance(done)
    return shared * item * item, os.getpid()


def refuse(shared: None, item: int, advance: engines.Advance) -> int:
    if item == 2:
        raise DataError("two is one too many", hint="Leave it out.")
    return item


def die(shared: None, item: int, advance: engines.Advance) -> int:
    if item == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return item


def leave_a_trace(shared: str, item: int, advance: engines.Advance) -> int:
    """Writes its process id, then works far too long."""
    Path(shared, f"{item}.pid").write_text(str(os.getpid()))
    time.sleep(60)
    return item


def gone(pids: list[int], seconds: float = 10) -> bool:
    """Whether all processes end soon."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def traces(folder: Path, count: int, seconds: float = 30) -> list[int]:
    """The process ids of so many tasks that have begun."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        texts = [p.read_text() for p in folder.glob("*.pid")]
        if len(texts) >= count and all(texts):
            return [int(text) for text in texts]
        time.sleep(0.02)
    raise AssertionError("the tasks did not begin")


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_item_gets_its_result_and_tells_how_far_it_is(jobs: int) -> None:
    told: dict[int, int] = {}
    items = [3, 1, 4, 1, 5]
    found = dict(engines.run(square, 10, items, jobs=jobs, progress=told.__setitem__))
    assert [found[n][0] for n in range(5)] == [90, 10, 160, 10, 250]
    assert told == dict(enumerate(items))
    pids = {pid for _, pid in found.values()}
    assert (os.getpid() in pids) == (jobs == 1)
    assert len(pids) <= jobs
    assert jobs == 1 or gone(list(pids))


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_a_task_comes_as_it_was_raised(jobs: int) -> None:
    with pytest.raises(DataError, match="two is one too many") as caught:
        list(engines.run(refuse, None, [2, 2, 2], jobs=jobs))
    assert caught.value.hint == "Leave it out."


def test_a_killed_process_is_told_after_what_the_others_had_done() -> None:
    found: list[int] = []

    def collect() -> None:
        found.extend(result for _, result in engines.run(die, None, [1, 1, 1, 2, 3], jobs=2))

    with pytest.raises(engines.LostWorkerError, match="a process was killed") as caught:
        collect()
    assert isinstance(caught.value, ActError)
    assert "--jobs" in caught.value.hint
    assert set(found) <= {1, 3}


def test_closing_the_run_ends_its_processes_at_once(tmp_path: Path) -> None:
    results = engines.run(leave_a_trace, str(tmp_path), [1, 2, 3], jobs=2, progress=stop(tmp_path))
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert time.monotonic() - began < 30
    assert gone(traces(tmp_path, 2))


def stop(folder: Path) -> Callable[[int, int], None]:
    """Presses Ctrl-C from a thread when two tasks have begun."""
    from threading import Thread

    def press() -> None:
        traces(folder, 2)
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=press, daemon=True).start()
    return lambda number, amount: None


def test_processes_end_with_the_one_that_began_them(tmp_path: Path) -> None:
    code = (
        "from act_data import engines; from tests.data import test_engines as t; import sys\n"
        "list(engines.run(t.leave_a_trace, sys.argv[1], [1, 2], jobs=2))"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    workers = traces(tmp_path, 2)
    driver.kill()
    driver.wait()
    assert gone(workers)
