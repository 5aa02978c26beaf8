"""What lands in site-packages."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    out = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source") / "tree"
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, tracked):
        if name.startswith(("tests/", "examples/", "benchmarks/")) or not (ROOT / name).is_file():
            continue
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(out), str(source)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (wheel,) = out.glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


def test_the_wheel_holds_four_packages_and_nothing_else(wheel_names: list[str]) -> None:
    top = {name.split("/")[0] for name in wheel_names if ".dist-info/" not in name}
    assert top == {"act_data", "act_model", "act_cli", "act_schemas"}


def test_the_wheel_holds_every_module_preset_and_schema(wheel_names: list[str]) -> None:
    places = {"act_data": "act_data", "act_model": "act_model", "cli": "act_cli"}
    places["schemas"] = "act_schemas"
    expected = {
        place + "/" + path.relative_to(ROOT / folder).as_posix()
        for folder, place in places.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".yaml", ".json"} or path.name == "py.typed"
    }
    assert expected <= set(wheel_names)
