"""What a robot waits for when it is started: every import costs seconds on its computer."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    *("torch", "torchvision", "torch._dynamo", "onnxruntime", "onnx"),
    *("mujoco", "websockets", "sqlalchemy"),
)


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        pytest.param("act_model.launch", (), id="the-process-of-the-control-tick"),
        pytest.param("act_model.watchdog", (), id="the-watchdog"),
        pytest.param("act_model.policy_process", (), id="the-policy-before-it-knows-its-runtime"),
        pytest.param("act_model.policy", ("torch",), id="a-policy-in-torch"),
        pytest.param("act_model.export.onnx_policy", ("onnxruntime",), id="a-policy-in-onnx"),
    ],
)
def test_a_process_imports_only_the_heavy_libraries_that_it_uses(
    module: str, allowed: tuple[str, ...]
) -> None:
    code = f"import sys, {module}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert found == list(allowed)
