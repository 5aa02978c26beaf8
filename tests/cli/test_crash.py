"""Ingest killed at random moments: what was finished stays, and a second run completes it.

A process that has imported everything forks a child per attempt, which runs the command and is
killed without warning; so many kills fit into little time. The moments are drawn over the time
that the rest of the work takes, measured on this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from act_data.errors import NotFoundError, StoreError
from act_data.store import open_dataset
from tests.cli.commands import done, listing, run, run_installed
from tests.small_robot import bag, entries, robot_file

SERVER = """
import json, os, signal, sys, time
from act_cli.data import app
warm = json.loads(sys.stdin.readline())
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
replies = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for arguments in warm:  # imports, message types, tables: all that every run needs is there now
    try:
        app(arguments)
    except SystemExit as e:
        assert not e.code, arguments
for line in sys.stdin:
    arguments, delay = json.loads(line)
    child = os.fork()
    if not child:
        try:
            app(arguments)
        except SystemExit as e:
            os._exit(e.code or 0)
        except BaseException:
            os._exit(70)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, file=replies, flush=True)
"""

KILLED = -9
BAGS = 5


class Runs:
    """Runs of the command in children of one warm process."""

    def __init__(self, folder: Path, warm: list[list[str]]) -> None:
        environment = {**os.environ, "ACT_REGISTRY": str(folder / "registry.db")}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
        )
        self._say(warm)

    def __call__(self, arguments: list[str], delay: float | None = None) -> int:
        """The exit code; minus 9 when the child was killed after `delay` seconds."""
        self._say([arguments, delay])
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())

    def close(self) -> None:
        """End the process."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(30)
        self._server.stdout.close()

    def _say(self, what: object) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(what) + "\n")
        self._server.stdin.flush()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of the small robot, of different lengths."""
    folder = tmp_path_factory.mktemp("crash")
    robot_file(folder)
    for n in range(BAGS):
        bag(folder, f"{n}", entries(30 + 7 * n, phase=n))
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path) -> Iterator[Runs]:
    """The warm process."""
    runs = Runs(folder, [ingest("warm.zarr", 1), ingest("warm", 1)])
    yield runs
    runs.close()


def ingest(out: str, bags: int = BAGS) -> list[str]:
    """The command line for the first so many recordings."""
    names = [f"{n}.bag" for n in range(bags)]
    return ["ingest", *names, "--out", out, "--robot", "small.yaml"]


def digests(paths: list[Path]) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def finished_zarr(path: Path) -> dict[str, str]:
    """sha256 of every file of every finished episode, committed or not, by its own record."""
    found: list[Path] = []
    for record in path.glob("episodes/*/zarr.json"):
        manifest = json.loads(record.read_bytes())["attributes"]["act_episode"]["files"]
        found += [record, *(path / key for key in manifest)]
    return digests(found)


def committed_hdf5(path: Path) -> dict[str, str]:
    """sha256 of every file of the newest version. One that is only finished will get its place."""
    try:
        episodes = len(open_dataset(path).episodes)
    except (NotFoundError, StoreError):  # nothing was committed yet
        return {}
    return digests([path / f"episode_{n}.hdf5" for n in range(episodes)])


def finished_hdf5(path: Path) -> int:
    names = [p.name for p in path.iterdir()] if path.exists() else []
    return sum(name.endswith((".finished", ".hdf5")) for name in names)


def content(path: Path) -> str | None:
    """Content hash of the newest version, after everything in it was found sound; None without."""
    try:
        reader = open_dataset(path)
    except NotFoundError:
        return None
    assert reader.verify() == []
    return reader.version.content_hash


def opens_plainly(path: Path) -> None:
    """See that zarr alone reads every committed row as the reader does."""
    import zarr

    reader = open_dataset(path)
    group = zarr.open_group(path, mode="r")
    for n, entry in enumerate(reader.episodes):
        for name in ("qpos", "action", "timestamp"):
            array = group[f"data/{name}"]
            assert isinstance(array, zarr.Array)
            plain = array[entry.start : entry.start + entry.length]
            np.testing.assert_array_equal(np.asarray(plain), reader.read(name, n))


def undisturbed(runs: Runs, folder: Path, out: str, *steps: int) -> tuple[str, list[str], float]:
    """Content hash, files and seconds of runs with so many recordings each, that nobody kills."""
    began = time.monotonic()
    for bags in steps:
        assert runs(ingest(out, bags)) == 0
    seconds = (time.monotonic() - began) / len(steps)
    path = folder / out
    hash_ = content(path)
    files = listing(path)
    shutil.rmtree(path)
    assert hash_ is not None
    return hash_, files, seconds


def test_a_zarr_ingest_killed_at_35_moments_loses_nothing_that_was_finished(
    folder: Path, runs: Runs
) -> None:
    path = folder / "ds.zarr"
    rng = random.Random(0)
    at_once = undisturbed(runs, folder, path.name, BAGS)
    in_two = undisturbed(runs, folder, path.name, 2, BAGS)
    kills = completed = with_version = unfinished = 0
    while kills < 35:
        grown = completed % 2 == 1  # every other time there is a version before the first kill
        if grown:
            assert runs(ingest(path.name, 2)) == 0
        hash_, files, seconds = in_two if grown else at_once
        first = before = finished_zarr(path)
        code = KILLED
        while code == KILLED:
            code = runs(ingest(path.name), rng.uniform(0, 0.6 * seconds))
            seconds *= 1.05  # a machine that got busier must still reach the end
            assert code in (0, KILLED)
            kills += code == KILLED
            now = finished_zarr(path)
            assert before.items() <= now.items(), "a finished episode was changed or lost"
            unfinished += (folder / ".ds.zarr.partial").exists()
            before = now
            found = content(path) if path.exists() else None
            if found is not None:
                with_version += code == KILLED
                opens_plainly(path)
            assert found is not None or not grown
        assert runs(ingest(path.name)) == 0
        assert first.items() <= finished_zarr(path).items()
        assert content(path) == hash_
        assert listing(path) == files
        assert not list(folder.glob(".ds.zarr*")), "left beside the dataset"
        shutil.rmtree(path)
        completed += 1
    assert completed >= 2
    assert with_version >= 5, "no kill hit a dataset that had a version"
    assert unfinished >= 5, "no kill hit an episode on its way"


def test_an_hdf5_ingest_killed_at_15_moments_loses_nothing_that_was_committed(
    folder: Path, runs: Runs
) -> None:
    path = folder / "ds"
    rng = random.Random(1)
    at_once = undisturbed(runs, folder, path.name, BAGS)
    in_two = undisturbed(runs, folder, path.name, 2, BAGS)
    kills = completed = with_version = 0
    while kills < 15:
        grown = completed % 2 == 0
        if grown:
            assert runs(ingest(path.name, 2)) == 0
        hash_, files, seconds = in_two if grown else at_once
        before, finished = committed_hdf5(path), finished_hdf5(path)
        code = KILLED
        while code == KILLED:
            code = runs(ingest(path.name), rng.uniform(0, 0.6 * seconds))
            seconds *= 1.05  # a machine that got busier must still reach the end
            assert code in (0, KILLED)
            kills += code == KILLED
            now = committed_hdf5(path)
            assert before.items() <= now.items(), "a committed episode was changed or lost"
            assert finished_hdf5(path) >= finished, "a finished episode was lost"
            before, finished = now, finished_hdf5(path)
            if now:
                with_version += code == KILLED
                assert open_dataset(path).verify() == []
            assert now or not grown
        assert runs(ingest(path.name)) == 0
        assert before.items() <= committed_hdf5(path).items()
        assert content(path) == hash_
        assert listing(path) == files
        assert not list(folder.glob(".ds*")), "left beside the dataset"
        shutil.rmtree(path)
        completed += 1
    assert with_version >= 3, "no kill hit a dataset that had a version"


def test_the_installed_command_is_killed_and_completes(folder: Path, tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("act-data")
    out = tmp_path / "ds.zarr"
    command = ["ingest", *sorted(map(str, folder.glob("*.bag"))), "--out", str(out)]
    command += ["--robot", str(folder / "small.yaml")]
    process = subprocess.Popen(
        [script, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not list(out.glob("episodes/*/zarr.json")):
        time.sleep(0.001)
    process.kill()
    assert process.wait() == KILLED, "it was done before it could be killed"
    before = finished_zarr(out)
    assert before
    ended = run_installed("act-data", *command)
    assert "already there" in done(ended)
    assert before.items() <= finished_zarr(out).items()
    done(run("act-data", "verify", out))
