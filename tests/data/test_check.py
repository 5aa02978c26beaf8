from __future__ import annotations

from pathlib import Path

import pytest

from act_data.check import open_verified, verify
from act_data.errors import StoreError
from act_data.store import open_writer
from act_model.training_data import dataset_ref
from tests.data.store.contract import make_schema, make_steps, record


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "ds.zarr"
    with open_writer(path, make_schema("raw"), shard_frames=4) as writer:
        for n in range(4):
            record(writer, f"e{n}", make_steps(5, seed=n), seed=n)
        writer.commit([f"e{n}" for n in range(4)])
    return path


def damage(dataset: Path, shard: int) -> None:
    file = dataset / f"data/qpos/c/{shard}/0"
    file.write_bytes(b"\0" + file.read_bytes()[1:])


def test_training_data_with_a_damaged_episode_is_refused_and_says_what_can_be_done(
    dataset: Path,
) -> None:
    damage(dataset, 2)
    with pytest.raises(StoreError, match=r"'qpos', episode 1 \(e1\), row 0 to 3") as error:
        open_verified(str(dataset))
    assert "--skip-damaged" in error.value.hint


def test_by_declared_policy_damaged_episodes_are_left_out_named_and_not_claimed(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = open_verified(str(dataset), skip_damaged=True)
    damage(dataset, 2)
    left = open_verified(str(dataset), skip_damaged=True)
    assert [e.uid for e in left.episodes] == ["e0", "e2", "e3"]
    assert "left out: array 'qpos', episode 1 (e1)" in caplog.text
    before, after = dataset_ref(whole), dataset_ref(left)
    assert {*before.train, *before.val} - {*after.train, *after.val} == {"e1"}
    assert after.content_hash == before.content_hash  # of the version that they are part of


def test_damage_that_is_no_episodes_is_never_skipped(dataset: Path) -> None:
    (dataset / "data/qpos/zarr.json").write_text("{}")
    with pytest.raises(StoreError, match=r"data/qpos/zarr\.json"):
        open_verified(str(dataset), skip_damaged=True)


def test_a_verification_says_how_closely_it_looked(dataset: Path) -> None:
    damage(dataset, 0)
    assert verify(str(dataset), "quick").sound  # sizes only: a flipped byte is not seen
    result = verify(str(dataset))
    assert (result.depth, result.sound) == ("hash", False)
    assert [p.episode for p in result.problems] == ["e0"]
