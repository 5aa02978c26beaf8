"""Fast DDS receives with large buffers, unless the user or the kernel has decided otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from act_data.sources.live import fastdds
from act_data.sources.live.fastdds import ENOUGH_BYTES, wide_sockets

CHOICES = (
    "FASTRTPS_DEFAULT_PROFILES_FILE",
    "FASTDDS_DEFAULT_PROFILES_FILE",
    "FASTDDS_BUILTIN_TRANSPORTS",
)


@pytest.fixture(autouse=True)
def _nothing_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in CHOICES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def kernel_allows(number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rmem_max").write_text(number)
    monkeypatch.setattr(fastdds, "_LIMIT", tmp_path / "rmem_max")


def chosen() -> dict[str, str]:
    return {name: os.environ[name] for name in CHOICES if name in os.environ}


def test_the_profile_is_named_while_the_participant_is_made_and_not_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_allows(f"{ENOUGH_BYTES}\n", tmp_path, monkeypatch)
    with wide_sockets() as advice:
        ((_, file),) = chosen().items()
        assert "wide_udp" in Path(file).read_text()
    assert advice == ""
    assert chosen() == {}


@pytest.mark.parametrize(
    "number", [pytest.param("212992", id="debian"), pytest.param("no number", id="unknown")]
)
def test_a_kernel_that_allows_too_little_is_left_alone_and_told(
    number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_allows(number, tmp_path, monkeypatch)
    with wide_sockets() as advice:
        assert chosen() == {}
    assert "sudo sysctl -w net.core.rmem_max=" in advice


@pytest.mark.parametrize("name", CHOICES)
def test_what_the_user_chose_in_the_environment_stays(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_allows(str(ENOUGH_BYTES), tmp_path, monkeypatch)
    monkeypatch.setenv(name, "mine")
    with wide_sockets() as advice:
        assert chosen() == {name: "mine"}
    assert chosen() == {name: "mine"}
    assert advice == ""


def test_what_the_user_chose_in_a_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_allows(str(ENOUGH_BYTES), tmp_path, monkeypatch)
    (tmp_path / "DEFAULT_FASTRTPS_PROFILES.xml").touch()
    with wide_sockets():
        assert chosen() == {}


def test_the_backend_has_the_large_buffers_or_says_why_not(ros2_domain: int) -> None:
    """In a process of its own: Fast DDS reads its profile once."""
    allowed = int(Path("/proc/sys/net/core/rmem_max").read_text())
    code = (
        "import os, socket\n"
        "from act_data.sources.live.ros2 import Ros2Backend\n"
        "backend = Ros2Backend()\n"
        "sizes = []\n"
        "for fd in map(int, os.listdir('/proc/self/fd')):\n"
        "    try: s = socket.socket(fileno=os.dup(fd))\n"
        "    except OSError: continue\n"
        "    if s.type == socket.SOCK_DGRAM:\n"
        "        sizes.append(s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))\n"
        "    s.close()\n"
        "print(max(sizes), *backend.notes())\n"
        "backend.close()"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    largest, *notes = said.stdout.split(maxsplit=1)
    if allowed >= ENOUGH_BYTES:
        assert int(largest) >= 2 * min(allowed, 16 * 2**20)  # the kernel says twice of it
        assert notes == []
    else:
        assert "sudo sysctl -w net.core.rmem_max=" in notes[0]
