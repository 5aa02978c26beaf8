"""A registry of format 2, which knew no annotations, becomes one of today's at the first look."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from act_data.curate.versions import annotate
from act_data.records import Annotation
from act_data.registry import Registry
from act_data.registry.database import transaction
from act_data.registry.tables import FORMAT
from tests.data.curate.datasets import ingest
from tests.data.registry.index_rows import index_rows


@dataclass(frozen=True)
class TrainedOn:
    uid: str = "u"
    version: int = 1
    content_hash: str = "h"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_names_tags_and_checkpoints_are_kept_and_the_rest_is_read_again(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if kind == "postgresql":
        monkeypatch.setenv("ACT_REGISTRY", request.getfixturevalue("postgres"))
    registry = Registry()
    for name in ("pick", "gone"):
        ingest(tmp_path / f"{name}.zarr", [0, 1], length=2)
    annotate("pick", ["1"], Annotation(notes="spilled"))
    registry.tag("pick@1", "prod")
    registry.register_checkpoint(tmp_path, TrainedOn(), 10)
    known, tags = registry.show("pick"), registry.tags("pick")
    rows = [row for row in index_rows(registry.place) if row["dataset"] == "pick"]
    with transaction(registry.place, write=True) as db:
        db.exec_driver_sql("ALTER TABLE episode RENAME COLUMN said TO segment")
        if kind == "sqlite":
            db.exec_driver_sql("PRAGMA user_version = 2")
        else:
            db.exec_driver_sql("UPDATE registry_format SET number = 2")
    shutil.rmtree(tmp_path / "gone.zarr")

    with caplog.at_level(logging.WARNING):
        assert registry.datasets() == [known]
    assert "'gone' is no longer registered" in caplog.text
    assert registry.tags("pick") == tags
    assert registry.newest_checkpoint() == tmp_path
    assert index_rows(registry.place) == rows
    assert registry.search("spilled").matched == 1
    registry.tag("pick@2", "prod")  # the log goes on behind what was kept
    assert [m.after for m in registry.tags("pick").log] == [2, 1]
    if kind == "sqlite":
        assert isinstance(registry.place, Path)
        assert registry.place.with_name("registry.db.format-2").is_file()
    caplog.clear()
    assert registry.datasets() == [known]
    assert caplog.text == ""
    assert FORMAT == 3
