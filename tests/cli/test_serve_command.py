"""act-model serve as a process: how it starts, what it survives, how it stops."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from act_model.serve.client import PolicyClient, UnreachableError
from tests.cli.commands import BIN, refused, run
from tests.model import hostile
from tests.model.memory_dataset import dataset_of, schema_of
from tests.model.small_policy import K, save_checkpoint
from tests.ros1_graph import eventually

OBSERVATION = {
    "qpos": np.zeros(3, np.float32),
    "images/top": np.zeros((32, 48, 3), np.uint8),
    "images/side": np.zeros((24, 40, 3), np.uint8),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    schema = schema_of(cameras={"top": (32, 48), "side": (24, 40)})
    dataset = dataset_of(20, 15, val=1, schema=schema)
    return save_checkpoint(tmp_path_factory.mktemp("run") / "best", dataset)


@dataclass
class Process:
    """A running server; `report` and `log` are there when it has ended."""

    process: subprocess.Popen[str]
    port: int
    report: dict[str, Any] = field(default_factory=dict)
    log: str = ""

    def memory_mib(self, kind: str = "VmRSS") -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{kind}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@contextmanager
def served(folder: Path, end: int = signal.SIGTERM) -> Iterator[Process]:
    """Serve `folder`. What it logs goes to a file: a pipe that nobody reads would stop it."""
    command = [BIN / "act-model", "serve", folder, "--bind", "127.0.0.1:0", "--device", "cpu",
               "--json"]  # fmt: skip
    log = folder.with_name("serve.log")
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        try:
            deadline = time.monotonic() + 90
            while not log.read_text().endswith("\n"):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            first = log.read_text()
            port = re.search(r"at ws://127\.0\.0\.1:(\d+)$", first.strip())
            assert port is not None, first
            running = Process(process, int(port[1]))
            yield running
            process.send_signal(end)
            out, _ = process.communicate(timeout=10)
            running.log = log.read_text().removeprefix(first)
            running.report = json.loads(out)
            assert process.returncode == 0
        finally:
            process.kill()


def test_it_serves_until_it_is_told_to_stop_and_reports(folder: Path) -> None:
    with served(folder) as running:
        client = PolicyClient(f"ws://127.0.0.1:{running.port}", timeout_s=0.5)
        assert client.predict(OBSERVATION).shape == (K, 3)
        began = time.monotonic()
    assert time.monotonic() - began < 8, "an open session does not keep it from stopping"
    assert running.report["requests"] == {
        "done": 1, "expired": 0, "superseded": 0, "refused": 0, "busy": 0, "failed": 0,
    }  # fmt: skip
    assert running.report["sessions"] == 1
    assert running.log == ""
    with pytest.raises(UnreachableError):
        client.predict(OBSERVATION)
    client.close()


def test_what_cannot_be_served_is_told(folder: Path, tmp_path: Path) -> None:
    refused(run("act-model", "serve", folder, "--bind", "0.0.0.0:0"), "token and TLS", code=2)
    refused(run("act-model", "serve", tmp_path / "gone", "--bind", "127.0.0.1:0"), "gone")
    refused(run("act-model", "serve", folder, "--token-file", tmp_path / "none"), "--token-file")
    refused(run("act-model", "serve", folder, "--runtime", "onnx"), "act-model export")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        refused(run("act-model", "serve", folder, "--bind", bind), "cannot listen at", bind, code=2)


def test_thousands_of_malformed_connections_neither_crash_it_nor_make_it_grow(
    folder: Path,
) -> None:
    with served(folder, end=signal.SIGINT) as running:  # Ctrl-C ends it as SIGTERM does
        with PolicyClient(f"ws://127.0.0.1:{running.port}") as client:
            client.predict(OBSERVATION)
        first = [hostile.say(running.port, data) for data in hostile.everything(0, 200)]
        told = b"".join(first)
        assert b"Traceback" not in told
        assert b".py" not in told
        resident, files = running.memory_mib(), running.open_files()
        count = 0
        for data in hostile.everything(1, 1500):
            hostile.say(running.port, data)
            count += 1
        assert count > 1800
        # The allocator keeps some of it: after ten times as many, it was no more than 36 MiB.
        assert running.memory_mib() < resident + 48
        deadline = time.monotonic() + 20  # the last ones may still be on their way out
        while (still_open := running.open_files()) > files + 1:
            assert time.monotonic() < deadline, still_open
            time.sleep(0.1)
        assert b"200 OK" in hostile.say(running.port, b"GET /healthz HTTP/1.1\r\n\r\n")
        with PolicyClient(f"ws://127.0.0.1:{running.port}") as client:
            assert client.predict(OBSERVATION).shape == (K, 3)
    assert running.report["malformed"] > 1000
    assert "Traceback" not in running.log
    assert running.log == ""


def test_peers_that_hold_on_are_bounded_and_let_go(folder: Path) -> None:
    """Half requests, silent sessions and bodies that dribble, more of them than there is room."""
    large = hostile.frame(bytes(60_000))
    with served(folder) as running, ExitStack() as stack:
        base, files = running.memory_mib(), running.open_files()
        for data in (b"", hostile.OWN[:80], hostile.OWN, hostile.OPENPI + large[:50_000]):
            for _ in range(25):
                with suppress(OSError):
                    sock = stack.enter_context(
                        socket.create_connection(("127.0.0.1", running.port), timeout=5)
                    )
                    sock.sendall(data)
        assert running.memory_mib() < base + 20
        eventually(lambda: running.open_files() <= files + 33, "connections pile up")
        deadline = time.monotonic() + 30
        with PolicyClient(f"ws://127.0.0.1:{running.port}", timeout_s=30) as client:
            assert client.predict(OBSERVATION).shape == (K, 3)
        assert time.monotonic() < deadline
    assert running.report["turned_away"] >= 100 - 32 - 8
    assert running.log == ""


def test_a_peer_that_never_reads_is_cut_before_it_fills_the_memory(folder: Path) -> None:
    ping = hostile.frame(bytes(125), opcode=9) * 500
    with served(folder) as running, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(10)
        sock.connect(("127.0.0.1", running.port))
        sock.sendall(hostile.OPENPI)
        base = running.memory_mib()
        sent = 0
        with suppress(ConnectionError):
            while sent < 500 * 2**20:
                sock.sendall(ping)
                sent += len(ping)
        assert sent < 100 * 2**20
        assert running.memory_mib() < base + 20
