"""What every test may ask for."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.postgres_server import own_schema, running_server
from tests.ros2_graph import needs_ros2, own_domain

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_bags() -> Path:
    """The folder of real recordings with known content, which is not part of the repository."""
    folder = Path(os.environ.get("ACT_TEST_BAGS", ROOT.parent / "shared" / "bags"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}; set ACT_TEST_BAGS to their folder")
    return folder


@pytest.fixture(scope="session")
def ros2_domain() -> Iterator[int]:
    """A ROS 2 domain that nobody else on this machine uses, in the environment of this process."""
    needs_ros2()
    with own_domain() as domain:
        yield domain


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL server that runs as long as the tests do."""
    with running_server() as url:
        yield url


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """URL of an empty database."""
    with own_schema(postgres_server, f"test_{uuid.uuid4().hex}") as url:
        yield url


@pytest.fixture(autouse=True)
def _own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the registry of the person who runs it."""
    monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "registry.db"))


def pytest_configure() -> None:
    """Ctrl-C interrupts, also where the shell started this in the background and had it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--strict-skips", action="store_true", help="A skipped test fails: nothing may be missing."
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("--strict-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {report.longrepr}"
    return report
