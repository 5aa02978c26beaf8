"""What the README and the docs say can be typed, can be typed."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from act_data.robot import load_robot

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md",
         *sorted((ROOT / "docs").rglob("*.md"))]  # fmt: skip
BLOCK = re.compile(r"```(?:bash|sh|console)\n(.*?)```", re.DOTALL)


def commands() -> list[tuple[str, str]]:
    """(page, command line) of every act-data, act-model and make line in a shell block."""
    found = []
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                line = line.strip().removeprefix("$ ")
                if line.startswith(("act-data ", "act-model ", "make ")):
                    found.append((page.name, line.split(" #")[0].split(" | ")[0].strip()))
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_documented_command_exists_with_its_options(page: str, line: str) -> None:
    program, *words = shlex.split(line)
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {w for w in words if "=" not in w} <= set(targets)
        return
    app = importlib.import_module(f"act_cli.{program.removeprefix('act-')}").app
    import typer

    group = typer.main.get_command(app)
    if words[0].startswith("--"):  # of the program, not of one of its commands
        assert words[0] in {option for parameter in group.params for option in parameter.opts}
        return
    assert words[0] in group.commands, f"{page}: {line}"  # type: ignore[attr-defined]
    known = {
        option
        for parameter in group.commands[words[0]].params  # type: ignore[attr-defined]
        for option in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help"}
    used = {w.split("=")[0] for w in words[1:] if w.startswith("-") and not w[1:2].isdigit()}
    assert used <= known, f"{page}: {line}"


def test_the_readme_names_the_two_commands_that_do_everything() -> None:
    lines = [line for page, line in commands() if page == "README.md"]
    assert "make demo" in lines
    assert "make test" in lines


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_the_robot_of_the_readme_is_a_robot(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nfps: 30\n" + block)
    robot = load_robot(file)
    assert [a.name for a in robot.arrays] == ["force", "touch", "range"]


def test_the_demo_and_the_python_of_the_readme_run(tmp_path: Path) -> None:
    """The whole path as `make demo` goes it, with a few training steps."""
    out = tmp_path / "demo"
    programs = Path(sys.executable).parent
    environment = {**os.environ, "DEMO_DIR": str(out), "DEMO_STEPS": "2"}
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", str(ROOT / "examples" / "demo.sh")],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    shown = [line for line in done.stdout.splitlines() if "$ act-" in line]
    assert len(shown) == 5
    assert (out / "run" / "best" / "model.safetensors").is_file()
    assert (out / "actions.jsonl").read_text().count("\n") == 119

    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    code = block.replace("ds.zarr", str(out / "reach.zarr")) + "\nprint(images.shape)\n"
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert printed.strip() == "(8, 72, 96, 3)"
