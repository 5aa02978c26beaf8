"""Lineage asks the registry where something is, and opens nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from act_data.curate import stores
from act_data.curate.copies import compact, filter_into, merge
from act_data.curate.lineage import lineage
from act_data.curate.versions import delete_episodes
from act_data.errors import NotFoundError
from act_data.interfaces import DatasetReader
from act_data.registry import Registry
from act_data.store import open_dataset
from tests.data.curate.datasets import ingest


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stores that lineage opens; "a" has a copy of a copy, three others are alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "registry.db"))
    for n, name in enumerate(("a", "b", "c", "d")):
        ingest(tmp_path / f"{name}.zarr", range(10 * n, 10 * n + 3), length=2)
    merge(["a", "b"], tmp_path / "ab.zarr")
    filter_into("ab", "uid = 'e0010'", tmp_path / "of-b.zarr")
    names: list[str] = []

    def spy(path: Path, version: int | None = None) -> DatasetReader:
        names.append(path.stem)
        return open_dataset(path, version)

    monkeypatch.setattr(stores, "open_dataset", spy)
    return names


def versions(asked: str) -> set[str]:
    return {node.label for node in lineage(asked).nodes if node.kind == "version"}


@pytest.mark.parametrize(
    ("asked", "found", "reads"),
    [
        pytest.param(f"{21:064x}", {"c@v1"}, {"c"}, id="a-recording"),
        pytest.param(
            f"{1:064x}",
            {"a@v1", "ab@v1", "b@v1"},
            {"a", "b", "ab", "of-b"},
            id="a-recording-that-was-copied",
        ),
        pytest.param("d#e0030", {"d@v1"}, {"d"}, id="an-episode"),
        pytest.param(
            "b#e0010",
            {"a@v1", "b@v1", "ab@v1", "of-b@v1"},
            {"a", "b", "ab", "of-b"},
            id="an-episode-that-was-copied-twice",
        ),
        pytest.param("d", {"d@v1"}, {"d"}, id="a-version"),
    ],
)
def test_only_what_holds_it_is_opened(
    opened: list[str], asked: str, found: set[str], reads: set[str]
) -> None:
    assert versions(asked) == found
    assert set(opened) <= reads


def test_what_nobody_knows_opens_nothing(opened: list[str]) -> None:
    with pytest.raises(NotFoundError, match="that is known"):
        lineage("f" * 64)
    assert opened == []


def test_a_version_is_followed_to_copies_of_its_copies(opened: list[str]) -> None:
    assert versions("a") == {"a@v1", "ab@v1", "b@v1", "of-b@v1"}
    assert not {"c", "d"} & set(opened)


def test_a_rebuilt_registry_tells_the_same(opened: list[str], tmp_path: Path) -> None:
    delete_episodes("a", ["0"])
    compact("a@1", tmp_path / "old.zarr")
    asked = ("a", "ab", f"{1:064x}", "c#0", "of-b")
    before = [lineage(one) for one in asked]
    (tmp_path / "registry.db").unlink()
    Registry().rebuild([tmp_path])
    for one, two in zip(before, (lineage(a) for a in asked), strict=True):
        assert sorted(map(str, one.nodes)) == sorted(map(str, two.nodes))
        assert sorted(map(str, one.edges)) == sorted(map(str, two.edges))


def test_a_dataset_that_is_gone_is_told_of_where_it_matters(
    opened: list[str], tmp_path: Path
) -> None:
    (tmp_path / "ab.zarr").rename(tmp_path / "elsewhere.zarr")
    assert lineage("d").notes == ()
    assert any("'ab' is no longer at" in note for note in lineage("a").notes)
