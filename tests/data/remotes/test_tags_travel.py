"""Tags travel with their versions and their logs, and a tag that both sides moved is told of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from act_data.errors import ConflictError, NotFoundError, StoreError
from act_data.registry import Registry
from act_data.remotes import clone, pull, push
from act_data.remotes.directory import DirectoryRemote
from tests.cli.commands import done, run
from tests.data.remotes.datasets import make


@contextmanager
def person(folder: Path, name: str) -> Iterator[Path]:
    """A machine of their own: a folder and a registry."""
    home = folder / name
    home.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACT_REGISTRY", str(home / "registry.db"))
        patch.chdir(home)
        yield home


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pushed")
    with person(folder, "ann") as home:
        make(home / "ds.zarr", (2, 3))
        Registry().rebuild([home])
        Registry().tag("ds@1", "prod")
        push("ds", str(folder / "team"))
    return folder


@pytest.fixture
def team(tmp_path: Path, pushed: Path) -> str:
    """A remote where ann pushed two versions, the first of them as prod."""
    shutil.copytree(pushed, tmp_path, dirs_exist_ok=True)
    with person(tmp_path, "ann") as home:
        Registry().rebuild([home])
    return str(tmp_path / "team")


def log_of(name: str = "ds") -> list[tuple[str, int | None, int | None]]:
    return [(m.tag, m.before, m.after) for m in Registry().tags(name).log][::-1]


def test_a_tag_comes_along_with_its_log(team: str, tmp_path: Path) -> None:
    with person(tmp_path, "ann"):
        Registry().tag("ds@2", "prod")
        Registry().tag("ds@2", "paper")
        ours = Registry().tags("ds")
        assert push("ds", team).tags == ("paper", "prod")
        assert push("ds", team).tags == ()
    with person(tmp_path, "bob") as home:
        assert pull(f"{team}/ds@prod").version == 2
        assert Registry().tags("ds").tags == ours.tags
        assert sorted(Registry().tags("ds").log, key=str) == sorted(ours.log, key=str)
        assert Registry().resolve("ds@prod").version == 2
        assert pull(f"{team}/ds").tags == ()
        (home / "registry.db").unlink()
        assert clone(f"{team}/ds", home / "all.zarr").tags == ("paper", "prod")


def test_who_moved_it_last_is_followed_there_and_back(team: str, tmp_path: Path) -> None:
    with person(tmp_path, "bob"):
        pull(f"{team}/ds")
        Registry().tag("ds@2", "prod")
        assert push("ds", team).tags == ("prod",)
    with person(tmp_path, "ann"):
        assert push("ds", team).tags == ()  # theirs is further: nothing to move there
        assert pull(f"{team}/ds").tags == ("prod",)
        assert log_of() == [("prod", None, 1), ("prod", 1, 2)]
        Registry().untag("ds", "prod")
        assert push("ds", team).tags == ("prod",)
    with person(tmp_path, "bob"):
        assert pull(f"{team}/ds", Path("ds.zarr")).tags == ("prod",)
        assert Registry().tags("ds").tags == ()
        with pytest.raises(NotFoundError, match="no version or tag 'prod'") as caught:
            pull(f"{team}/ds@prod")
        assert caught.value.hint == "It has latest, v1, v2."


def test_a_tag_moved_on_both_sides_is_told_and_nowhere_overwritten(
    team: str, tmp_path: Path
) -> None:
    with person(tmp_path, "bob"):
        pull(f"{team}/ds")
        Registry().untag("ds", "prod")
        push("ds", team)
    with person(tmp_path, "ann"):
        Registry().tag("ds@2", "prod")
        ours = Registry().tags("ds")
        for report in (push("ds", team), pull(f"{team}/ds")):
            (conflict,) = report.tag_conflicts
            assert (conflict.tag, conflict.here, conflict.there) == ("prod", 2, None)
        ended = run("act-data", "push", "ds", team)
        assert ended.code == 3
        assert "version 2 here, taken off there" in ended.err
        assert json.loads(run("act-data", "pull", f"{team}/ds", "--json").out)["tag_conflicts"]
        assert Registry().tags("ds") == ours
        assert "act-data tag ds prod --remove" in ended.err  # and that ends it, as it says:
        done(run("act-data", "tag", "ds", "prod", "--remove"))
        Registry().tag("ds@2", "prod")
        assert push("ds", team).tags == ("prod",)
    with person(tmp_path, "bob"):
        assert pull(f"{team}/ds").tags == ("prod",)
        assert log_of()[-1] == ("prod", None, 2)


def test_the_same_move_on_both_sides_is_no_conflict(team: str, tmp_path: Path) -> None:
    with person(tmp_path, "bob"):
        pull(f"{team}/ds")
        Registry().tag("ds@2", "prod")
    with person(tmp_path, "ann"):
        Registry().tag("ds@2", "paper")
        Registry().tag("ds@paper", "prod")
        push("ds", team)
    with person(tmp_path, "bob"):
        assert pull(f"{team}/ds").tag_conflicts == ()
        assert push("ds", team).tag_conflicts == ()
        assert Registry().resolve("ds@prod").version == 2


def test_only_tags_of_versions_that_travel_travel(team: str, tmp_path: Path) -> None:
    with person(tmp_path, "ann"):
        Registry().tag("ds@2", "new")
        assert push("ds@1", team).tags == ()
        assert push("ds@2", team, dry_run=True).tags == ("new",)
        push("ds@2", team)
    with person(tmp_path, "bob"):
        assert pull(f"{team}/ds@1").tags == ("prod",)
        part = pull(f"{team}/ds", Path("part.zarr"), episodes=["0"])
        assert (part.tags, Registry().tags("part").tags) == ((), ())


def test_somebody_who_moves_it_in_between_is_not_overwritten(
    team: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bob's move lands between ann's look at the tag and her swap of it."""
    with person(tmp_path, "bob"):
        pull(f"{team}/ds")
        Registry().untag("ds", "prod")
    with person(tmp_path, "ann"):
        Registry().tag("ds@2", "prod")
        swap = DirectoryRemote.swap

        def late(self: DirectoryRemote, key: str, old: bytes | None, new: bytes) -> bool:
            if key.endswith("prod.json"):
                monkeypatch.setattr(DirectoryRemote, "swap", swap)
                with person(tmp_path, "bob"):
                    push("ds", team)
            return swap(self, key, old, new)

        monkeypatch.setattr(DirectoryRemote, "swap", late)
        (conflict,) = push("ds", team).tag_conflicts
        assert (conflict.here, conflict.there) == (2, None)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        pytest.param({"moves": []}, "moves", id="no-moves"),
        pytest.param({"version": 2}, "another version", id="not-where-the-log-ends"),
        pytest.param({"content_hash": "0" * 64}, "other content", id="other-content"),
        pytest.param({"dataset": "other"}, "of the dataset 'other'", id="other-dataset"),
        pytest.param({"who": "\x1b[2J"}, "moves.0.who", id="escape-codes"),
        pytest.param({"moved": "yesterday"}, "moves.0.moved", id="no-time"),
        pytest.param({"surprise": 1}, "surprise", id="more-than-there-is"),
    ],
)
def test_a_forged_tag_is_refused_and_nothing_arrives(
    team: str, tmp_path: Path, edit: dict[str, Any], says: str
) -> None:
    file = Path(team) / "refs/ds/prod.json"
    document = json.loads(file.read_text())
    of_move = edit.keys() & {"who", "moved"}
    (document["moves"][0] if of_move else document).update(edit)
    file.write_text(json.dumps(document))
    with person(tmp_path, "bob") as home:
        with pytest.raises(StoreError, match=says):
            pull(f"{team}/ds")
        assert [p.name for p in home.iterdir() if "zarr" in p.name and p.name[0] != "."] == []


def test_a_tag_that_changes_all_the_time_is_given_up(
    team: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with person(tmp_path, "ann"):
        Registry().tag("ds@2", "prod")
        swap = DirectoryRemote.swap
        monkeypatch.setattr(
            DirectoryRemote,
            "swap",
            lambda self, key, old, new: "prod" not in key and swap(self, key, old, new),
        )
        with pytest.raises(ConflictError, match="changes all the time"):
            push("ds", team)


def test_a_long_log_keeps_its_order(team: str, tmp_path: Path) -> None:
    with person(tmp_path, "ann"):
        for n in range(20):
            Registry().tag(f"ds@{1 + n % 2}", "prod")
        ours = log_of()
        push("ds", team)
    with person(tmp_path, "bob"):
        pull(f"{team}/ds")
        assert log_of() == ours
