"""Help is instant and complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "zarr", "h5py", "rosbags", "numpy", "pydantic", "numcodecs", "torchvision")


@pytest.mark.parametrize("command", ["data", "model"])
def test_help_does_not_import_the_heavy_libraries(command: str) -> None:
    code = (
        "import sys, json\n"
        f"from act_cli.{command} import app\n"
        "from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert json.loads(output) == []


@pytest.mark.parametrize("command", ["act-data", "act-model"])
def test_help_takes_less_than_half_a_second(command: str) -> None:
    """Processor time, which is what the wall shows on a machine that does nothing else."""
    script = str(Path(sys.executable).with_name(command))
    best = float("inf")
    for _ in range(3):
        child = subprocess.Popen([script, "--help"], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        best = min(best, usage.ru_utime + usage.ru_stime)
    assert best < 0.5


@pytest.mark.parametrize("command", ["data", "model"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    import importlib

    app = importlib.import_module(f"act_cli.{command}").app
    assert app.registered_commands
    for registered in app.registered_commands:
        text = registered.callback.__doc__ or ""
        assert f"Example: act-{command} " in text, registered.callback.__name__
