"""Each file of a folder through `unpickle`, confined, in a fork of one process that has torch.

python unpickle_each.py UNPICKLE.PY FOLDER

Prints {file: [exit code, what it said]}. And what tries to get over each wall behind which it is
read: those have names in `WALLS` instead of files.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile


def _grow() -> object:
    return [os.write(1, bytes(1 << 20)) for _ in range(3)]


def _compute() -> object:
    start = time.process_time()
    while time.process_time() < start + 20:
        pass
    return None


WALLS: dict[str, Callable[[], object]] = {
    "read a file": lambda: open("/etc/hostname").read(),  # noqa: PTH123, SIM115
    "write a file": lambda: open("made", "w"),  # noqa: PTH123, SIM115
    "open a socket": socket.socket,
    "run a program": lambda: os.system("true"),
    "replace itself": lambda: os.execv("/bin/true", ["true"]),
    "fork": os.fork,
    "import": lambda: __import__("wave"),
    "compile": lambda: eval("1 + 1"),
    "kill": lambda: os.kill(os.getppid(), 0),
    "take a descriptor": lambda: os.dup(1),
    "open a pipe": os.pipe,
    "take memory": lambda: bytearray(8 << 30),
    "fill the disk": _grow,
    "compute for long": _compute,
}


def main() -> None:
    unpickle = _loaded(Path(sys.argv[1]))
    unpickle.rehearse()
    found = {}
    for path in sorted(Path(sys.argv[2]).iterdir()):
        found[path.name] = _forked(unpickle.read, path)
    for name, climb in WALLS.items():

        def over(climb: Callable[[], object] = climb) -> None:
            unpickle.confine(64 << 20, 1 << 20, seconds=1)
            try:
                climb()
            except BaseException as e:
                unpickle.refuse(f"{type(e).__name__}: {e}")

        found[name] = _forked(over, Path(os.devnull))
    json.dump(found, sys.stdout)


def _loaded(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("unpickle", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _forked(do: Callable[[], object], stdin: Path) -> tuple[int, str]:
    with stdin.open("rb") as file, TemporaryFile() as out, TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            for descriptor, place in ((file, 0), (out, 1), (err, 2)):
                os.dup2(descriptor.fileno(), place)
            sys.stdin = os.fdopen(0)
            do()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        err.seek(0)
        return code, err.read().decode()


if __name__ == "__main__":
    main()
