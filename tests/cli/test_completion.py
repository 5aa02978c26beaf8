"""The shell completes dataset names, versions and tags, as bash itself asks for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from act_data.registry import Registry
from tests.cli.commands import BIN
from tests.data.curate.datasets import ingest


@pytest.fixture
def _known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pour (two versions, tagged prod and paper), pour-tea and weld."""
    monkeypatch.chdir(tmp_path)
    for name, seeds in (("pour", [0]), ("pour-tea", [1]), ("weld", [2]), ("pour", [3])):
        ingest(tmp_path / f"{name}.zarr", seeds, length=2)
    Registry().tag("pour@1", "prod")
    Registry().tag("pour@1", "paper")


def complete(words: str) -> list[str]:
    """What bash is told to offer when tab is pressed after `words`.

    Bash sets COMP_WORDS to the words of the line, of which "@" is one, and COMP_CWORD to the
    number of the one at the cursor.
    """
    pieces = words.replace("@", " @ ").split()
    if words.endswith(" "):
        pieces.append("")
    program = pieces[0]
    done = subprocess.run(
        [str(BIN / program)],
        env={
            **os.environ,
            f"_{program.replace('-', '_').upper()}_COMPLETE": "complete_bash",
            "COMP_WORDS": "\n".join(pieces),
            "COMP_CWORD": str(len(pieces) - 1),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.usefixtures("_known")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_names_versions_and_tags_complete(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "postgresql":
        place = Registry().place
        monkeypatch.setenv("ACT_REGISTRY", request.getfixturevalue("postgres"))
        assert Registry().rebuild([Path(place).parent]) == ["pour", "pour-tea", "weld"]
        Registry().tag("pour@1", "prod")
        Registry().tag("pour@1", "paper")
    assert complete("act-data show ") == ["pour", "pour-tea", "weld"]
    assert complete("act-data show po") == ["pour", "pour-tea"]
    assert complete("act-data show pour@") == ["@v2", "@v1", "@paper", "@prod", "@latest"]


@pytest.mark.usefixtures("_known")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("act-data show pour@p", ["paper", "prod"]),
        ("act-data show nothing@", []),
        ("act-data diff pour@v1 pour@v", ["v2", "v1"]),
        ("act-data merge pour@v1 weld pour-", ["pour-tea"]),
        ("act-data lineage we", ["weld"]),
        ("act-data search --in pour@pr", ["prod"]),
        ("act-model train pour-", ["pour-tea"]),
        ("act-model train pour@v1 --out x --size t", []),
        ("act-model train pour@", ["@v2", "@v1", "@paper", "@prod", "@latest"]),
    ],
)
def test_every_verb_completes_what_it_takes(words: str, offered: list[str]) -> None:
    assert complete(words) == offered


@pytest.mark.usefixtures("_known")
def test_bash_itself_completes_a_reference(tmp_path: Path) -> None:
    """Through the function that `--show-completion` gives, in words as bash cuts them."""
    script = subprocess.run(
        [str(BIN / "act-data"), "--show-completion", "bash"],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    script += """
COMP_WORDS=(act-data show pour @ pr); COMP_CWORD=4
_act_data_completion act-data; printf '%s\\n' "${COMPREPLY[@]}"
"""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    said = subprocess.check_output(["bash", "--norc", "-c", script], text=True, env=environment)
    assert said == "prod\n"


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("none/registry.db", id="missing"),
        pytest.param("garbage.db", id="damaged"),
        pytest.param(".", id="folder"),
        pytest.param("postgresql+psycopg://u:secret@127.0.0.1:1/x", id="no-server"),
        pytest.param("mysql://x", id="other-database"),
        pytest.param("postgresql://[", id="no-url"),
    ],
)
def test_a_registry_that_cannot_be_read_offers_nothing_and_is_not_made(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "garbage.db").write_bytes(b"no database" * 100)
    monkeypatch.setenv("ACT_REGISTRY", place)
    assert complete("act-data show po") == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["garbage.db"]


@pytest.mark.usefixtures("_known")
def test_completion_is_fast_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, json, resource\n"
        "sys.argv = ['act-data']\n"
        "from act_cli.data import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "usage = resource.getrusage(resource.RUSAGE_SELF)\n"
        "heavy = {'torch', 'zarr', 'numpy', 'sqlalchemy', 'rosbags'} & set(sys.modules)\n"
        "print(json.dumps([sorted(heavy), usage.ru_utime + usage.ru_stime]), file=sys.stderr)"
    )
    environment = {
        **os.environ,
        "_ACT_DATA_COMPLETE": "complete_bash",
        "COMP_WORDS": "act-data\nshow\nwe",
        "COMP_CWORD": "2",
    }
    times = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout == "weld\n", done.stderr
        heavy, seconds = json.loads(done.stderr)
        assert heavy == []
        times.append(seconds)
    assert min(times) < 0.5
