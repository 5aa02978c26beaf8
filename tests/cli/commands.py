"""The commands as a user runs them: in this process for speed, or installed ones in their own."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def run(tool: str, *arguments: object) -> Ended:
    """`act-data` or `act-model` in this process. A bug that gets through fails the test here."""
    app = importlib.import_module(f"act_cli.{tool.removeprefix('act-')}").app
    result = CliRunner().invoke(
        app, [os.fspath(a) if isinstance(a, Path) else str(a) for a in arguments]
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError(f"a traceback reached the user of {arguments}") from result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)


def run_installed(tool: str, *arguments: object, prefix: str = "") -> Ended:
    """The installed command in a process of its own.

    Args:
        prefix: Shell commands to run before it, e.g. "ulimit -f 100".
    """
    words = [str(BIN / tool), *map(str, arguments)]
    if prefix:
        words = ["bash", "-c", f'{prefix}; exec "$@"', "bash", *words]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def done(ended: Ended) -> str:
    """What a command that succeeded wrote to stdout."""
    assert ended.code == 0, ended.err
    return ended.out


def refused(ended: Ended, *says: str, code: int = 1) -> str:
    """See that a command failed as it should: two lines on stderr that say it all, nothing else."""
    assert ended.code == code, (ended.code, ended.out, ended.err)
    assert ended.out == "", ended.out
    for what in ("error: ", "hint:  ", *says):
        assert what in ended.err, (what, ended.err)
    assert "Traceback" not in ended.err, ended.err
    return ended.err


def listing(folder: Path) -> list[str]:
    """Everything below `folder`, hidden files too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
