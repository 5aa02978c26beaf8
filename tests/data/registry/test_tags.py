"""Tags name versions, every move is logged, and a tag never silently means other content."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from act_data.errors import InputError, NotFoundError, StoreError
from act_data.registry import Registry
from act_data.registry.database import transaction
from act_data.store import open_dataset, open_writer
from tests.data.store.contract import make_schema, make_steps, record


@pytest.fixture(autouse=True, params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here holds in both kinds of database."""
    if request.param == "postgresql":
        monkeypatch.setenv("ACT_REGISTRY", request.getfixturevalue("postgres"))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """One that knows "pick": version 1 holds ep-a, version 2 ep-a and ep-b."""
    with open_writer(tmp_path / "pick.zarr", make_schema(), shard_frames=4) as writer:
        for seed, uid in enumerate(("ep-a", "ep-b")):
            record(writer, uid, make_steps(2, seed=seed))
            writer.commit([uid])
    known = Registry()
    known.register(open_dataset(tmp_path / "pick.zarr"))
    return known


def test_a_tag_moves_and_its_log_tells_every_move(registry: Registry, tmp_path: Path) -> None:
    registry.tag("pick@v2", "prod")
    assert registry.resolve("pick@prod").version == 2
    registry.tag("pick@1", "prod")
    assert registry.resolve("pick@prod").version == 1
    assert registry.resolve(f"{tmp_path / 'pick.zarr'}@prod").version == 1
    assert registry.tag("pick@prod", "prod") is None  # it already points there: nothing to log
    registry.untag("pick", "prod")
    found = registry.tags("pick")
    assert found.tags == ()
    assert [(m.tag, m.before, m.after) for m in found.log] == [
        ("prod", 1, None),
        ("prod", 2, 1),
        ("prod", None, 2),
    ]
    for move in found.log:
        assert "@" in move.who
        assert datetime.fromisoformat(move.moved).tzinfo == UTC


def test_the_log_of_a_dataset_tells_what_each_version_added_and_its_tags(
    registry: Registry,
) -> None:
    registry.tag("pick@1", "prod")
    registry.tag("pick@1", "paper")
    told = registry.log("pick").versions
    assert [(v.number, v.parent, v.episodes, v.added, v.removed, v.tags) for v in told] == [
        (2, 1, 2, 1, 0, ()),
        (1, None, 1, 1, 0, ("paper", "prod")),
    ]


def test_tags_and_their_log_outlive_a_rebuild(registry: Registry, tmp_path: Path) -> None:
    registry.tag("pick@1", "prod")
    before = registry.tags("pick")
    assert len(before.log) == 1
    registry.rebuild([tmp_path])
    assert registry.tags("pick") == before
    assert registry.resolve("pick@prod").version == 1


@pytest.mark.parametrize("name", ["latest", "3", "v3", "", "-x", "a b", "a@b", "ü"])
def test_what_cannot_be_a_tag_is_refused_and_logs_nothing(registry: Registry, name: str) -> None:
    with pytest.raises(InputError, match="cannot be a tag"):
        registry.tag("pick@1", name)
    assert registry.tags("pick").log == ()


def test_a_version_or_tag_that_is_not_there_is_not_found(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="no version 3") as caught:
        registry.tag("pick@3", "prod")
    assert "1, 2" in caught.value.hint
    with pytest.raises(NotFoundError, match="no tag 'prod'") as caught:
        registry.resolve("pick@prod")
    assert "`act-data tag pick@1 prod`" in caught.value.hint
    registry.tag("pick@1", "paper")
    with pytest.raises(NotFoundError, match="no tag 'prod'") as caught:
        registry.untag("pick", "prod")
    assert "paper" in caught.value.hint


def test_a_tag_put_on_other_content_is_refused_until_it_is_put_again(registry: Registry) -> None:
    registry.tag("pick@1", "prod")
    with transaction(registry.place, write=True) as db:
        db.exec_driver_sql("UPDATE alias SET content_hash = 'another'")
    with pytest.raises(StoreError, match="was put on content 'another'") as caught:
        registry.resolve("pick@prod")
    assert "`act-data tag pick@1 prod`" in caught.value.hint
    registry.tag("pick@1", "prod")
    assert registry.resolve("pick@prod").version == 1
