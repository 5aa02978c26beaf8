"""Several processes at one dataset: writers that meet or are killed, and readers that stay."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from act_data.store import open_dataset
from tests.data.store.store_worker import contents

ROOT = Path(__file__).parents[3]
PROCESSES = 3


class Process:
    """A worker; started anew after it was killed."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None

    def ask(self, *command: Any) -> Any:
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.data.store.store_worker"],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(command) + "\n")
        self._child.stdin.flush()
        return json.loads(self._child.stdout.readline())

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


@pytest.fixture(scope="module")
def processes() -> Iterator[list[Process]]:
    started = [Process() for _ in range(PROCESSES)]
    yield started
    for process in started:
        process.kill()


who = st.integers(0, PROCESSES - 1)


class SharedDataset(RuleBasedStateMachine):
    """Real processes beside a model of what must be true: who holds the lock, what is committed."""

    processes: list[Process]
    done: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "ds.zarr"
        self.holder: int | None = None
        self.durable: list[str] = []  # finished episodes, committed or not
        self.committed: list[str] = []
        self.versions = 0
        self.pinned: dict[tuple[int, int], list[list[str]]] = {}
        self.uids = 0
        self.keys = 0

    @rule(n=who)
    def open(self, n: int) -> None:
        if self.holder == n:
            return
        answer = self.processes[n].ask("open", str(self.path))
        if self.holder is None:
            assert answer == "open"
            self.holder = n
        else:
            assert answer == {"error": "ConflictError"}, "two writers at once"
            self.done["met"] += 1

    @precondition(lambda self: self.holder is not None)
    @rule(
        episodes=st.integers(0, 2), keep=st.sampled_from([True, True, False]), found=st.booleans()
    )
    def write(self, episodes: int, keep: bool, found: bool) -> None:
        """Finish episodes, and commit them with or without those that a killed writer left."""
        left = [uid for uid in self.durable if uid not in self.committed] if found else []
        new = [f"e{self.uids + n}" for n in range(episodes)]
        for uid in new:
            assert self.processes[self.holder].ask("record", uid, self.uids) == "recorded"
            self.uids += 1
            self.durable.append(uid)
        if keep and left + new:
            self.committed += left + new
            self.versions += 1
            assert self.processes[self.holder].ask("commit", left + new) == self.versions
            self.done["commits"] += 1

    @precondition(lambda self: self.holder is not None)
    @rule(kill=st.booleans())
    def leave(self, kill: bool) -> None:
        if kill:
            self.processes[self.holder].kill()
            gone = {key for key in self.pinned if key[0] == self.holder}
            self.pinned = {key: self.pinned[key] for key in self.pinned if key not in gone}
            self.done["kills"] += 1
        else:
            assert self.processes[self.holder].ask("close") == "closed"
        self.holder = None

    @precondition(lambda self: self.versions > 0)
    @rule(n=who)
    def pin(self, n: int) -> None:
        key = self.keys = self.keys + 1
        assert self.processes[n].ask("pin", str(self.path), key) == self.versions
        self.pinned[n, key] = self.processes[n].ask("read", key)
        assert [uid for uid, _ in self.pinned[n, key]] == self.committed

    @precondition(lambda self: self.pinned)
    @rule(data=st.data())
    def read_again(self, data: st.DataObject) -> None:
        n, key = data.draw(st.sampled_from(sorted(self.pinned)))
        assert self.processes[n].ask("read", key) == self.pinned[n, key], "a pinned version moved"
        self.done["read again"] += 1

    @invariant()
    def nothing_that_was_committed_is_lost(self) -> None:
        if self.versions == 0:
            return
        reader = open_dataset(self.path)
        assert reader.version.number == self.versions
        assert [entry.uid for entry in reader.episodes] == self.committed

    def teardown(self) -> None:
        if self.holder is not None:
            self.processes[self.holder].ask("close")
        if self.versions:
            reader = open_dataset(self.path)
            assert reader.verify() == []
            assert [uid for uid, _ in contents(reader)] == self.committed
        shutil.rmtree(self.folder)


@pytest.mark.timeout(300)
def test_no_commit_is_lost_however_processes_meet_die_and_read(processes: list[Process]) -> None:
    done: Counter[str] = Counter()
    machine = type("Machine", (SharedDataset,), {"processes": processes, "done": done})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    sys.stdout.write(f"{dict(done)}, 0 commits lost\n")
    assert done["commits"] > 15
    assert done["met"] > 20
    assert done["kills"] > 10
