"""Ingest on several processes, killed or interrupted: they end together, and nothing is half there.

The installed command in a session of its own, so that all of its processes can be counted.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.commands import BIN, done, listing, run
from tests.cli.test_crash import committed_hdf5, content, finished_zarr
from tests.small_robot import bag, entries, robot_file

BAGS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of the small robot, long enough to be interrupted."""
    folder = tmp_path_factory.mktemp("many")
    robot_file(folder)
    for n in range(BAGS):
        bag(folder, f"{n}", entries(150 + 40 * n, phase=n, size=(48, 64)))
    return folder


def command(folder: Path, out: Path) -> list[str]:
    names = [str(folder / f"{n}.bag") for n in range(BAGS)]
    robot = str(folder / "small.yaml")
    return ["ingest", *names, "--out", str(out), "--robot", robot, "--jobs", "2",
            "--max-timesteps", "50"]  # fmt: skip


def started(folder: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [BIN / "act-data", *command(folder, out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def session(leader: int) -> list[int]:
    """The processes of a session that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, _, _, number = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(number) == leader and state != "Z":
                found.append(int(entry.name))
    return found


def all_ended(leader: int, seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not session(leader):
            return True
        time.sleep(0.01)
    return False


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def working(out: Path) -> int:
    """Episodes that are on their way, or wait to be adopted."""
    if out.suffix == ".zarr":
        return len(list(out.with_name(f".{out.name}.partial").glob("*.*")))
    return len(list(out.glob(".*"))) if out.is_dir() else 0


@pytest.mark.parametrize("name", ["ds.zarr", "ds"])
def test_a_killed_ingest_takes_its_processes_with_it_and_the_next_completes_it(
    folder: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / name
    rng = random.Random(0)
    assert run("act-data", *command(folder, tmp_path / f"whole_{name}")).code == 0
    before: dict[str, str] = {}
    for _ in range(3):
        process = started(folder, out)
        wait_for(lambda: working(out) > 0, process)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.communicate()
        assert all_ended(process.pid), "a process works on without the one that began it"
        now = finished_zarr(out) if out.suffix else committed_hdf5(out)
        assert before.items() <= now.items(), "what was finished was changed or lost"
        before = now
    done(run("act-data", *command(folder, out)))
    assert before.items() <= (finished_zarr(out) if out.suffix else committed_hdf5(out)).items()
    assert content(out) == content(tmp_path / f"whole_{name}")
    assert listing(out) == listing(tmp_path / f"whole_{name}")
    assert {p.name for p in tmp_path.iterdir()} <= {name, f"whole_{name}", "registry.db"}


def test_ctrl_c_ends_all_processes_and_keeps_what_was_finished(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ds.zarr"
    process = started(folder, out)
    wait_for(lambda: any(out.parent.glob(".ds.zarr.partial/*.ready")), process)
    os.killpg(process.pid, signal.SIGINT)  # a terminal tells every process
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    assert stderr.strip() == "stopped by the keyboard; what was finished is kept"
    assert all_ended(process.pid)
    assert not list(tmp_path.glob(".*"))
    assert finished_zarr(out)
    assert "already there" in done(run("act-data", *command(folder, out)))
    shutil.rmtree(out)


def test_a_killed_worker_is_told_in_two_lines(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "ds.zarr"
    process = started(folder, out)
    wait_for(lambda: working(out) > 0, process)
    (first, *_) = [p for p in out.with_name(".ds.zarr.partial").glob("*.*")
                   if p.suffix[1:].isdecimal()]  # fmt: skip
    os.kill(int(first.suffix[1:]), signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stdout == ""
    assert stderr.startswith("error: a process was killed")
    assert "hint:  Use fewer --jobs." in stderr
    assert "Traceback" not in stderr
    assert all_ended(process.pid)
    assert not list(tmp_path.glob(".*"))
