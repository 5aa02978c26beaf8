"""The SQLite file of the registry: where it lies, and what becomes of a damaged or foreign one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from act_data.errors import StoreError
from act_data.registry import Registry
from act_data.registry.tables import FORMAT
from tests.data.registry.test_registry import registered


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"this is not a database at all" * 100, id="garbage"),
        pytest.param(b"SQLite format 3\0" + b"\xff" * 5000, id="only-the-magic"),
    ],
)
def test_a_damaged_file_is_a_store_error_and_rebuild_sets_it_aside(
    tmp_path: Path, content: bytes
) -> None:
    registry = registered(tmp_path / "pick.zarr", "ep-a")
    before = registry.datasets()
    registry.place.write_bytes(content)
    with pytest.raises(StoreError, match="damaged") as caught:
        registry.datasets()
    assert "act-data rebuild" in caught.value.hint
    assert registry.rebuild([tmp_path]) == ["pick"]
    assert registry.datasets() == before
    assert registry.place.with_name("registry.db.damaged").read_bytes() == content


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    registry = registered(tmp_path / "pick.zarr", "ep-a")
    db = sqlite3.connect(registry.place)
    db.execute(f"PRAGMA user_version = {FORMAT + 1}")
    db.close()
    with pytest.raises(StoreError, match=f"format {FORMAT + 1}") as caught:
        registry.datasets()
    assert "Update" in caught.value.hint
    with pytest.raises(StoreError, match="format"):
        registry.rebuild([tmp_path])


def test_a_folder_where_the_file_should_be_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        Registry(tmp_path).datasets()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        Registry(tmp_path / "file" / "registry.db").datasets()


def test_the_environment_says_where_the_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "own" / "r.db"))
    assert Registry().datasets() == []
    assert (tmp_path / "own" / "r.db").is_file()
    monkeypatch.delenv("ACT_REGISTRY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert Registry().place == tmp_path / "xdg" / "act" / "registry.db"
