"""act-data search, as a person and as a program read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from act_data.records import Annotation
from act_data.registry import SearchResult
from tests.cli.commands import done, refused, run
from tests.data.curate.datasets import ingest


@pytest.fixture(autouse=True)
def _known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pour: three episodes of 2, 3 and 4 steps, all "pour tea"; weld: one of 7."""
    monkeypatch.chdir(tmp_path)
    ingest(Path("pour.zarr"), [0, 1, 2], length=2, said=Annotation(task="pour tea"))
    ingest(Path("weld.zarr"), [5], length=2, robot="welder")


def test_words_conditions_and_an_annotation_made_a_moment_ago_are_found() -> None:
    done(run("act-data", "annotate", "pour", "1-2", "--notes", "Spilled!", "--success", "yes"))
    found = run("act-data", "search", "tea spil*", "--where", "length > 3")
    assert found.out.split() == [
        *("episode", "task", "operator", "recorded", "success", "steps"),
        *("pour@v2#2", "pour", "tea", "1970-01-01", "yes", "4"),
    ]
    assert found.err == "1 episodes, 4 steps, in 1 datasets\n"
    document = json.loads(done(run("act-data", "search", "spilled", "--json")))
    assert [e["ref"] for e in document["episodes"]] == ["pour@v2#1", "pour@v2#2"]
    SearchResult.model_validate(document)
    before = json.loads(done(run("act-data", "search", "spilled", "--in", "pour@1", "--json")))
    assert before["matched"] == 0


def test_what_is_found_is_a_reference_that_other_commands_take() -> None:
    document = json.loads(done(run("act-data", "search", "--where", "robot='welder'", "--json")))
    (episode,) = document["episodes"]
    assert "bag5" in done(run("act-data", "lineage", episode["ref"]))


def test_facets_datasets_and_a_limit() -> None:
    assert run("act-data", "search", "--limit", "1").err == (
        "4 episodes, 16 steps, in 2 datasets; the first 1 are listed\n"
    )
    shown = done(run("act-data", "search", "--datasets", "--facets"))
    assert shown.splitlines()[:3] == [
        "dataset   episodes  steps",
        "pour@v1          3      9",
        "weld@v1          1      7",
    ]
    lines = {tuple(line.split()) for line in shown.splitlines()}
    assert lines >= {
        *(("two_joints", "3"), ("welder", "1"), ("cam_high", "4"), ("10", "4")),
        *(("1970-01", "4"), ("unknown", "4")),
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--where", "lenght > 3"], "Did you mean length", id="name"),
        pytest.param(["--where", "task = pour"], "in quotes", id="quotes"),
        pytest.param(["--where", "task = '\udcff'"], "UTF-8", id="bytes"),
        pytest.param(["!?"], "no word", id="no-word"),
        pytest.param(["--in", "pour@x"], "no tag 'x'", id="tag"),
    ],
)
def test_what_cannot_be_searched_is_refused(arguments: list[str], says: str) -> None:
    code = 1 if says == "no tag 'x'" else 2
    refused(run("act-data", "search", *arguments), says, code=code)


def test_nothing_found_is_no_error() -> None:
    ended = run("act-data", "search", "nowhere")
    assert (ended.code, ended.out, ended.err) == (0, "", "0 episodes, 0 steps, in 0 datasets\n")
