"""A follower in a process of its own, spoken to by a test."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.ros1_graph import PATIENCE_S, PYTHON

HERE = Path(__file__).parent


class FollowerProcess:
    """A context manager. Args: ros: 1 or 2. environment: Of its node."""

    def __init__(self, ros: int, folder: Path, environment: Mapping[str, str]) -> None:
        self._log = folder / f"follower_{ros}.jsonl"
        python = PYTHON if ros == 1 else sys.executable
        self._process = subprocess.Popen(
            [python, str(HERE / f"ros{ros}_follower.py"), "follower", str(self._log)],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def tell(self, do: str, **more: Any) -> dict[str, Any]:
        """What it answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def state(self) -> dict[str, Any]:
        """Where it is, and how many commands came."""
        return self.tell("state")

    def heard(self) -> list[dict[str, Any]]:
        """Every command so far: {"at": monotonic ns, "what": "left", "values": [...]}."""
        whole, _, _ = self._log.read_text().rpartition("\n")  # it may be writing the next one
        return [json.loads(line) for line in whole.splitlines()]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the follower ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
