"""Which datasets hold something, on either kind of database."""

from __future__ import annotations

from pathlib import Path

import pytest

from act_data.curate.copies import compact
from act_data.registry import Registry
from tests.data.curate.datasets import ingest


@pytest.fixture(autouse=True, params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "postgresql":
        monkeypatch.setenv("ACT_REGISTRY", request.getfixturevalue("postgres"))


def test_recordings_episodes_and_copies_are_found_by_how_they_begin(tmp_path: Path) -> None:
    for name, seeds in (("a", [1, 2]), ("b", [3])):
        ingest(tmp_path / f"{name}.zarr", seeds, length=2)
    compact("a", tmp_path / "copy.zarr")
    known = Registry()
    of_one = [(e.dataset.name, e.uid) for e in known.made_of(f"{1:064x}")]
    assert of_one == [("a", "e0001"), ("copy", "e0001")]
    assert len(known.made_of("0" * 60)) == 5
    assert known.made_of("f") == []
    (third,) = known.called("e0003")
    assert (third.dataset.name, third.recording) == ("b", f"{3:064x}")
    assert [e.uid for e in known.called(third.hash[:20])] == ["e0003"]
    uids = {d.name: d.uid for d in known.datasets()}
    assert [d.name for d in known.sharing(uids["a"])] == ["copy"]
    assert known.sharing(uids["b"]) == []
    found = known.place_of(uids["copy"])
    assert found is not None
    assert found.path == str(tmp_path / "copy.zarr")
    assert known.place_of("nobody") is None
