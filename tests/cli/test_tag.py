"""act-data tag, act-data log and act-data ls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from act_data.registry import Registry
from tests.cli.commands import done, refused, run
from tests.model.memory_dataset import dataset_of
from tests.model.test_dataset import on_disk


@pytest.fixture
def _reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Registry().register(on_disk(tmp_path / "reach.zarr", dataset_of(5, 4)))


@pytest.mark.usefixtures("_reach")
class TestTag:
    def test_a_tag_is_put_shown_used_and_taken_off(self) -> None:
        assert "prod: version 1" in run("act-data", "tag", "reach@1", "prod").err
        assert "points there already" in run("act-data", "tag", "reach", "prod").err
        assert json.loads(done(run("act-data", "show", "reach@prod", "--json")))["version"] == 1
        shown = done(run("act-data", "tag", "reach"))
        assert shown.startswith("prod  version 1\n")
        assert "prod: version 1, " in shown
        assert "version 1 -> none" in run("act-data", "tag", "reach", "prod", "--remove").err
        told = json.loads(done(run("act-data", "tag", "reach", "--json")))
        assert told["tags"] == []
        assert [(m["before"], m["after"]) for m in told["log"]] == [(1, None), (None, 1)]
        refused(run("act-data", "show", "reach@prod"), "no tag 'prod'", "act-data tag reach@1 prod")

    def test_a_name_that_cannot_be_a_tag_is_refused(self) -> None:
        refused(run("act-data", "tag", "reach", "latest"), "'latest' cannot be a tag", code=2)
        refused(run("act-data", "tag", "reach@9", "prod"), "has no version 9")

    def test_the_log_tells_every_version(self) -> None:
        done(run("act-data", "delete-episodes", "reach", "0", "-m", "dropped the cup"))
        done(run("act-data", "tag", "reach@1", "first"))
        told = json.loads(done(run("act-data", "log", "reach", "--json")))
        assert [(v["number"], v["added"], v["removed"]) for v in told["versions"]] == [
            (2, 0, 1),
            (1, 2, 0),
        ]
        assert told["versions"][1]["tags"] == ["first"]
        shown = done(run("act-data", "log", "reach"))
        assert "2: dropped the cup" in shown
        assert "first" in shown

    def test_ls_is_list(self) -> None:
        assert done(run("act-data", "ls")) == done(run("act-data", "list"))
