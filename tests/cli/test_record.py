"""`act-data record` as its user meets it: flags, signals, keys, a full disk."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from act_data.record import LiveIngestReport, RecordReport, session
from act_data.sources import find_recordings, open_recording
from act_data.sources.live import Arrival, Inbox, Spool
from tests.cli.commands import BIN, done, refused, run, run_installed
from tests.small_robot import bag, entries, robot_file

SECONDS = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A robot and half a minute of it."""
    folder = tmp_path_factory.mktemp("record")
    robot_file(folder)
    bag(folder, "way", entries(30 * SECONDS))
    return folder


def command(folder: Path, out: Path, *more: object, speed: float = 1) -> list[str]:
    words = ["record", "--backend", f"replay:{folder / 'way.bag'}", "--speed", speed]
    return [str(w) for w in (*words, "--robot", folder / "small.yaml", "--out", out, *more)]


def count(path: Path) -> int:
    with open_recording(find_recordings([path])[0]) as source:
        return sum(1 for _ in source.messages(source.topics))


def test_flags_alone_record_episodes_and_the_report_is_one_json_document(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bags"
    flags = ["--task", "pick", "--max-timesteps", 60, "--episodes", 2, "--json"]
    ended = run("act-data", *command(folder, out, *flags, speed=6))
    report = RecordReport.model_validate_json(done(ended))
    assert [e.steps for e in report.episodes] == [60, 60]
    assert [e.file for e in report.episodes] == [str(out / f"episode-00{n}.mcap") for n in (0, 1)]
    assert "recording episode-000" in ended.err
    assert (out / "episode-001.yaml").read_text() == 'task: "pick"\nsteps: 60\n'


def test_people_get_a_line_for_each_episode_and_the_next_command(
    folder: Path, tmp_path: Path
) -> None:
    ended = run("act-data", *command(folder, tmp_path, "--episodes", 1, speed=60))
    assert re.search(r"episode-000 +source_ended +\d{3} +\d\.\d +100 ", done(ended)), ended.out
    assert f"1 episodes -> {tmp_path}" in ended.out
    assert f"act-data ingest {tmp_path} --out ds.zarr" in ended.err


def test_what_was_lost_is_exit_code_3(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Spool.write

    def slowly(self: Spool, arrival: Arrival) -> None:
        time.sleep(0.002)
        write(self, arrival)

    monkeypatch.setattr(Spool, "write", slowly)
    monkeypatch.setattr(session, "Inbox", lambda: Inbox(20_000))
    ended = run("act-data", *command(folder, tmp_path, "--json", speed=20))
    assert ended.code == 3, ended.err
    (episode,) = json.loads(ended.out)["episodes"]
    assert sum(episode["lost"].values()) > 0


@pytest.mark.parametrize(
    ("more", "says", "code"),
    [
        pytest.param(["--backend", "ros3"], "no backend 'ros3'", 2, id="no-such-backend"),
        pytest.param(["--backend", "replay:no.bag"], "no such file", 1, id="no-such-recording"),
        pytest.param(["--robot", "no_such"], "no robot preset", 1, id="no-such-robot"),
        pytest.param(["--stop-by", "a:b:c"], "--stop-by is 'a:b:c'", 2, id="no-topic"),
        pytest.param(["--start-by", "/nose", "--wait-s", "0.2"], "/nose: nobody publishes it", 1,
                     id="a-pedal-that-is-not-there"),
        pytest.param(["--stop-by", "/arm"], "which marks nothing", 1, id="no-pedal"),
        pytest.param(["--robot", "aloha", "--wait-s", "0.2"], "still missing", 1,
                     id="another-robot"),
    ],
)  # fmt: skip
def test_what_cannot_be_recorded_is_refused_and_leaves_nothing(
    folder: Path, tmp_path: Path, more: list[str], says: str, code: int
) -> None:
    out = tmp_path / "bags"
    refused(run("act-data", *command(folder, out, *more)), says, code=code)
    assert not out.exists() or list(out.iterdir()) == []


def wait_until(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for something to happen while a process runs."""
    for _ in range(600):
        if what():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_the_episode_and_ends_the_session(
    folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    active = tmp_path / "episode-000.mcap.active"
    with subprocess.Popen(
        [BIN / "act-data", *command(folder, tmp_path, "--json")],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_until(lambda: active.exists() and active.stat().st_size > 20_000, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    (episode,) = RecordReport.model_validate_json(out).episodes
    assert episode.stop.value == "operator"
    assert count(tmp_path / "episode-000.mcap") == sum(episode.messages.values()) > 10
    assert not active.exists()


@pytest.mark.skipif(not shutil.which("unshare"), reason="unshare, of util-linux, is not there")
def test_a_full_disk_ends_the_session_with_a_whole_recording(folder: Path, tmp_path: Path) -> None:
    bag(tmp_path, "way", entries(300, size=(240, 320)))  # 69 MB in 10 s
    robot_file(tmp_path)
    disk, kept = tmp_path / "disk", tmp_path / "kept.mcap"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=24m tmpfs "$1" && shift && "$@"; code=$?; cp "$K" "$T"; ' \
        "exit $code"  # fmt: skip
    words = command(tmp_path, disk, "--json", speed=8)
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", disk, BIN / "act-data", *words],
        capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
        env={**os.environ, "K": str(disk / "episode-000.mcap"), "T": str(kept)},
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert "the disk is full" in ended.stderr
    assert "hint:" in ended.stderr
    assert "Traceback" not in ended.stderr
    (episode,) = json.loads(ended.stdout)["episodes"]
    assert (episode["verdict"], episode["stop"]) == ("saved", "failed")
    assert count(kept) == sum(episode["messages"].values())
    assert kept.stat().st_size > 20 * 2**20


class Terminal:
    """A terminal with the recorder in it."""

    def __init__(self, words: list[str]) -> None:
        self.shown = ""
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
        self._end, there = pty.openpty()
        self.process = subprocess.Popen(
            [BIN / "act-data", *words],
            stdin=there, stdout=subprocess.PIPE, stderr=there, text=True, env=environment,
        )  # fmt: skip
        os.close(there)

    def read(self, timeout_s: float) -> None:
        """Take in what is shown."""
        if select.select([self._end], [], [], timeout_s)[0]:
            try:
                shown = os.read(self._end, 1 << 16).decode("utf-8", "replace")
            except OSError:  # the other side has gone
                return
            self.shown += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)

    def until(self, pattern: str) -> None:
        """Wait until something is shown; what came before is forgotten."""
        deadline = time.monotonic() + 30
        while not (match := re.search(pattern, self.shown)):
            assert time.monotonic() < deadline, f"no {pattern!r} in: {self.shown[-3000:]}"
            self.read(0.1)
        self.shown = self.shown[match.end() :]

    def press(self, key: str) -> None:
        """Type something."""
        os.write(self._end, key.encode())

    def ended(self) -> str:
        """What the command wrote to stdout."""
        deadline = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read(0.05)
        out, _ = self.process.communicate(timeout=1)
        return out

    def close(self) -> None:
        """Close the terminal."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        os.close(self._end)


@pytest.fixture
def terminal(folder: Path, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(command(folder, tmp_path, "--countdown", 0.4, "--json"))
    yield terminal
    terminal.close()


def test_keys_and_a_live_screen_on_a_terminal(terminal: Terminal, tmp_path: Path) -> None:
    terminal.until(r"ready, 0 saved, \d s")
    terminal.until(r"recording episode-000: [\d.]+ s, \d+ steps, [23]\d\.\d fps, 100\.0 % valid, "
                   r"worst skew \d+\.\d ms \((cam|arm|lead)\), [\d.]+ MB")  # fmt: skip
    terminal.until(r"/cam/image_raw +\d+ +[23]\d\.\d +0")
    terminal.until(r"Enter end   f end as a failure   d discard   r redo   q save and quit")
    terminal.press("x")  # means nothing
    terminal.press("\n")
    terminal.until(r"review episode-000: .* \d+ steps")
    terminal.until(r"Enter or s save")
    terminal.press("r")
    terminal.until(r"ready, 0 saved")
    terminal.until(r"recording episode-001: .* [1-9]\d* steps")
    terminal.press("f")
    terminal.until(r"ready, 1 saved")
    terminal.until(r"recording episode-002: .* [1-9]\d* steps")
    terminal.press("q")
    report = RecordReport.model_validate_json(terminal.ended())
    assert [e.verdict.value for e in report.episodes] == ["redone", "saved", "saved"]
    assert [e.success for e in report.episodes] == [None, False, None]
    assert terminal.process.returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "episode-001.mcap", "episode-001.yaml", "episode-002.mcap",
    ]  # fmt: skip


def test_the_terminal_is_as_it_was_after_an_error(tmp_path: Path, folder: Path) -> None:
    words = command(folder, tmp_path, "--robot", "aloha", "--wait-s", 0.5)
    terminal = Terminal(words)
    try:
        terminal.until("waiting for ")
        terminal.until(r"error: .*still missing")
        terminal.ended()
        assert terminal.process.returncode == 1
    finally:
        terminal.close()


# --- ingest --live ---


def test_episodes_go_into_a_dataset_while_they_are_recorded(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "ds.zarr"
    words = ["ingest", "--live", *command(folder, out, "--episodes", 2, "--max-timesteps", 60,
             "--task", "pick", "--json", speed=6)[1:]]  # fmt: skip
    ended = run_installed("act-data", *words)
    report = LiveIngestReport.model_validate_json(done(ended))
    assert report.ingest is not None
    assert [e.recording for e in report.ingest.episodes] == ["episode-000", "episode-001"]
    assert sorted(p.name for p in (tmp_path / "ds.bags").iterdir()) == [
        "episode-000.mcap", "episode-000.yaml", "episode-001.mcap", "episode-001.yaml",
    ]  # fmt: skip
    again = tmp_path / "again.zarr"
    words = ["ingest", tmp_path / "ds.bags", "--out", again, "--robot", folder / "small.yaml"]
    offline = json.loads(done(run("act-data", *words, "--json")))
    assert offline["content_hash"] == report.ingest.content_hash


def test_people_see_both_accounts(folder: Path, tmp_path: Path) -> None:
    words = ["--spool", tmp_path / "bags", "--episodes", 1, "--max-timesteps", 60]
    command_ = command(folder, tmp_path / "ds.zarr", *words, speed=6)[1:]
    ended = run_installed("act-data", "ingest", "--live", *command_)
    assert "1 episodes -> " in done(ended)
    assert re.search(r"1 new of 1 episodes, 60 steps -> .*ds.zarr", ended.out), ended.out
    assert (tmp_path / "bags" / "episode-000.mcap").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["bags"], "--live and bags are two sources", id="two-sources"),
        pytest.param(["--segments", "x.csv"], "there are none yet with --live", id="segments"),
        pytest.param(["--backend", ""], "--live needs a backend", id="no-backend"),
        pytest.param(["--out", "x.hdf5"], "holds exactly one episode", id="one-file"),
    ],
)
def test_what_cannot_be_ingested_live_is_refused(
    folder: Path, tmp_path: Path, words: list[str], says: str
) -> None:
    out = tmp_path / "ds.zarr"
    live = command(folder, out, *words)[1:]
    refused(run("act-data", "ingest", "--live", *live), says, code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_backend_without_live_is_refused(folder: Path, tmp_path: Path) -> None:
    words = command(folder, tmp_path / "ds.zarr")[1:]
    refused(run("act-data", "ingest", *words), "Add --live", code=2)
