"""A real ROS 1 graph on the loopback interface: rosmaster, rospy publishers, rosbag's C++ programs.

Debian's packages (`make system` installs them) run on Debian's own Python; nothing of them is
imported into the tests.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest

from act_data.store import jpeg

PYTHON = "/usr/bin/python3"
RECORD = "/usr/lib/rosbag/record"
PLAY = "/usr/lib/rosbag/play"
PUBLISHER = Path(__file__).with_name("ros1_publisher.py")
PATIENCE_S = 30.0

Topics = Mapping[str, Mapping[str, Any]]  # {"/joints": {"type": "sensor_msgs/JointState"}}


def need_ros1() -> None:
    """Skip the test, with the reason, where Debian's ROS 1 is not installed."""
    missing = [p for p in ("/usr/bin/rosmaster", RECORD, PLAY) if not Path(p).exists()]
    if missing:
        pytest.skip(f"Debian's ROS 1 is not installed (`make system`): no {', '.join(missing)}")


def eventually(condition: Callable[[], object], complaint: str) -> None:
    """Wait until `condition` is true; fail with `complaint` when it does not become so."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{complaint} after {PATIENCE_S:.0f} s"
        time.sleep(0.01)


class Ros1Graph:
    """A master of our own, and programs that know it. A context manager.

    Args:
        folder: For logs.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
            "ROS_MASTER_URI": self.uri,
            "ROS_IP": "127.0.0.1",
            "ROS_LOG_DIR": str(folder),
        }
        self._master: subprocess.Popen[bytes] | None = None

    def start_master(self) -> None:
        """Start rosmaster, always on the same port."""
        assert self._master is None
        self._master = self._start(["/usr/bin/rosmaster", "--core", "-p", str(self.port)])
        eventually(self._answers, "the ROS master does not answer")

    def kill_master(self) -> None:
        """End it as a crash does."""
        assert self._master is not None
        self._master.kill()
        self._master.wait()
        self._master = None

    def restore_master(self) -> None:
        """Start it again if it was killed."""
        if self._master is None:
            self.start_master()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def publisher(self, node: str, topics: Topics) -> Ros1Publisher:
        """A rospy node that has advertised `topics`. A context manager."""
        return Ros1Publisher(node, topics, self.environment)

    @contextmanager
    def recording(self, bag: Path, topics: list[str]) -> Iterator[None]:
        """`rosbag record` runs beside the block and closes its bag at the end."""
        recorder = self._start([RECORD, "-O", str(bag), *topics])
        try:
            yield
        finally:
            recorder.send_signal(signal.SIGINT)
            recorder.wait(PATIENCE_S)

    def play(self, bag: Path, *options: str) -> None:
        """Publish what is in `bag` with `rosbag play`, a roscpp node, until its end."""
        with self._start([PLAY, *options, str(bag)]) as player:
            assert player.wait(PATIENCE_S) == 0

    def __enter__(self) -> Self:
        self.start_master()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._master is not None:
            self._master.terminate()
            self._master.wait(PATIENCE_S)


class Ros1Publisher:
    """One rospy process with the topics it was started with; see ros1_publisher.py."""

    def __init__(self, node: str, topics: Topics, environment: Mapping[str, str]) -> None:
        whole = {topic: {"jpeg": _jpeg()} | dict(options) for topic, options in topics.items()}
        self._process = subprocess.Popen(
            [PYTHON, str(PUBLISHER), node, json.dumps(whole)],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()

    def wait_for_subscribers(self, count: int = 1) -> None:
        """Return when every topic has at least `count` subscribers."""
        eventually(lambda: min(self.subscribers().values()) >= count, "nobody subscribes")

    def subscribers(self) -> dict[str, int]:
        """How many subscribers each topic has, as the publisher sees it."""
        self._tell(do="subscribers")
        counts: dict[str, int] = self._answer()
        return counts

    def publish(self, count: int, hz: float = 100.0) -> dict[str, list[int]]:
        """Publish `count` messages of each topic; their header stamps in ns, by topic."""
        self.begin(count, hz)
        return self.published()

    def begin(self, count: int, hz: float = 100.0) -> None:
        """Start to publish, and return at once."""
        self._tell(do="publish", count=count, hz=hz)

    def published(self) -> dict[str, list[int]]:
        """Wait until what `begin` started is sent; the stamps."""
        stamps: dict[str, list[int]] = self._answer()
        return stamps

    def unpublish(self, topic: str) -> None:
        """Let one topic end."""
        self._tell(do="unpublish", topic=topic)
        self._answer()

    def kill(self) -> None:
        """End the process as a crash does: the master is not told."""
        self._process.kill()
        self._process.communicate()

    def _tell(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the publisher ended"
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            try:
                self._process.communicate(timeout=PATIENCE_S)  # closes stdin: a clean end
            except subprocess.TimeoutExpired:
                self.kill()


@cache
def _jpeg() -> str:
    """A picture of 48x64, in base64."""
    ramp = np.linspace(0, 255, 48 * 64 * 3).astype(np.uint8).reshape(48, 64, 3)
    return base64.b64encode(jpeg.encode(ramp, 95)).decode()
