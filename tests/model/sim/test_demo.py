"""`make demo` to its end, with few demonstrations and few steps."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from act_model.run_folder import BEST
from tests.cli.commands import BIN

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("pixels", ["", "1"], ids=["state", "pixels"])
def test_the_demo_goes_from_demonstrations_to_a_success_rate(pixels: str, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    small = {"DEMO_STEPS": "3", "DEMO_DEMOS": "3", "DEMO_TRIALS": "1", "DEMO_JOBS": "1"}
    path = f"{BIN}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", str(ROOT / "examples" / "demo_sim.sh")],
        env=os.environ | small | {"DEMO_DIR": str(out), "DEMO_PIXELS": pixels, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "success in 0 of 1 episodes on seeds 10000 to 10000" in ran.stdout
    assert (out / "run" / BEST / "model.safetensors").is_file()
    page = (out / "report" / "index.html").read_text()
    assert page.count("<circle") == 1
    assert "<video" in page
