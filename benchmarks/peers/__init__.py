"""Peers that a benchmark compares with, each in a Python environment of its own.

They never come near the project's own environment: their dependencies fight with it and with each
other. An environment is made once, by pip, in the user's cache folder, and kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

NEWER = ("python3.12", "python3.13", "python3.14")
LEROBOT = ("lerobot[dataset]==0.6.1",)
ACT = (
    "torch==2.11.0",
    "torchvision==0.26.0",
    "einops==0.8.2",
    "ipython==8.38.0",
    "packaging==25.0",
)


def python_with(name: str, packages: Sequence[str], pythons: Sequence[str] = ()) -> Path | None:
    """The Python of the environment `name`, which has `packages`; None where it cannot be had.

    Says on stderr what it makes, and why there is none.

    Args:
        pythons: Which Pythons will do, by the names of their programs; this one, without any.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "act-toolkit" / "peers" / name
    python, complete = folder / "bin" / "python", folder / "complete"
    wanted = "\n".join(packages)
    if complete.is_file() and complete.read_text() == wanted:
        return python
    base = next(_starting(pythons or [sys.executable]), None)
    if base is None:
        _left_out(name, f"none of {', '.join(pythons)} starts here")
        return None
    print(f"{name}: making an environment in {folder} ...", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        [base, "-m", "venv", folder],
        [python, "-m", "pip", "install", "--quiet", *packages],
    ):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode:
            why = (done.stderr or done.stdout).strip().splitlines()
            _left_out(name, why[-1] if why else f"{command[0]} failed")
            return None
    complete.write_text(wanted)
    return python


def _starting(names: Sequence[str]) -> Iterator[str]:
    """Those of `names` that start, from PATH or pyenv, whose shims may stand for nothing."""
    for name in names:
        on_path = shutil.which(name)
        places = [on_path] if on_path else []
        places += [str(p) for p in Path.home().glob(f".pyenv/versions/*/bin/{name}")]
        for found in places:
            if subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
                yield found


def _left_out(name: str, why: str) -> None:
    print(f"{name}: left out, {why}", file=sys.stderr)
