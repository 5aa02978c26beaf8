"""Versions made by curation: what they hold, what stays, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from act_data.curate.diff import diff
from act_data.curate.records import CurationReport
from act_data.curate.versions import annotate, delete_episodes, keep_where, restore, split
from act_data.errors import ActError, ConflictError, InputError, NotFoundError
from act_data.records import Annotation, EpisodeEntry, SplitRule
from act_data.registry import Registry
from act_data.report import stats
from act_data.store import open_dataset
from act_data.store.lock import WriterLock
from act_data.store.splits import assign
from tests.data.curate.datasets import hashes, ingest, uids


@pytest.fixture
def ds(tmp_path: Path) -> Path:
    """Six episodes of 6 to 11 steps."""
    path = tmp_path / "ds.zarr"
    ingest(path, range(6))
    return path


def files(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("items", "where", "left"),
    [
        pytest.param(["0"], None, [1, 2, 3, 4, 5], id="by-number"),
        pytest.param(["1-3,5"], None, [0, 4], id="by-range"),
        pytest.param(["e0004", "e0000"], None, [1, 2, 3, 5], id="by-uid"),
        pytest.param([], "length >= 9", [0, 1, 2], id="by-condition"),
        pytest.param(["0-3"], "length > 8", [0, 1, 2, 4, 5], id="by-both"),
    ],
)
def test_deleted_episodes_are_gone_from_the_newest_version_and_from_no_other(
    ds: Path, items: list[str], where: str | None, left: list[int]
) -> None:
    before = files(ds)
    report = delete_episodes(str(ds), items, where=where)
    assert uids(ds) == [f"e{n:04d}" for n in left]
    assert uids(ds, 1) == [f"e{n:04d}" for n in range(6)]
    assert {e.uid for e in report.difference.removed} == set(uids(ds, 1)) - set(uids(ds))
    assert len(hashes(ds)) == 2
    after = files(ds)
    changed = {k for k in before if after[k] != before[k]}
    assert changed <= {"zarr.json", *(k for k in before if k.startswith("meta/"))}
    assert Registry().resolve("ds").version == 2


def test_what_was_deleted_comes_back_with_the_content_hash_of_before(ds: Path) -> None:
    annotate(str(ds), ["2"], Annotation(task="pour"))
    wanted = open_dataset(ds).version
    delete_episodes(str(ds), ["1-2", "5"])
    delete_episodes(str(ds), ["0"])
    report = restore(str(ds), ["e0005", "e0001", "e0000", "e0002"])
    made = open_dataset(ds).version
    assert (made.episodes, made.annotations) == (wanted.episodes, wanted.annotations)
    assert made.content_hash == wanted.content_hash
    assert [e.uid for e in report.difference.added] == ["e0000", "e0001", "e0002", "e0005"]


def test_a_whole_version_comes_back_and_so_do_some_of_its_episodes(ds: Path) -> None:
    delete_episodes(str(ds), ["0-3"])
    restore(f"{ds}@1", ["1-2"])
    assert uids(ds) == ["e0001", "e0002", "e0004", "e0005"]
    restore("ds@v1")
    assert uids(ds) == uids(ds, 1)
    found = hashes(ds)
    assert found[3] == found[0]
    assert not restore("ds@1").changed


def test_a_filter_keeps_what_its_condition_says(ds: Path) -> None:
    annotate(str(ds), ["1", "3"], Annotation(task="pour", success=True))
    report = keep_where(str(ds), "success and task = 'pour' and length > 8")
    assert uids(ds) == ["e0003"]
    assert report.message == "filter where success and task = 'pour' and length > 8"
    assert open_dataset(ds).episode("e0003").info.task == "pour"


def test_an_annotation_is_a_new_version_of_the_same_bytes(ds: Path) -> None:
    (was,) = hashes(ds)
    said = Annotation(task="pour tea", operator="ann", success=True, notes="ü")
    report = annotate(str(ds), ["0", "2"], said)
    reader = open_dataset(ds)
    assert [e.hash for e in reader.episodes] == [e.hash for e in open_dataset(ds, 1).episodes]
    assert reader.episode("e0002").info.task == "pour tea"
    assert reader.episode("e0001").info.task == ""
    assert open_dataset(ds, 1).episode("e0002").info.success is None
    assert [a.uid for a in report.difference.annotated] == ["e0000", "e0002"]
    assert report.difference.annotated[0].after == said
    assert hashes(ds)[1] != was
    annotate(str(ds), ["0-2"], Annotation(task="", operator="", notes=""), success_unknown=True)
    assert open_dataset(ds).version.annotations == {}
    assert hashes(ds)[2] == was


def test_annotations_stay_when_episodes_are_added(ds: Path) -> None:
    annotate(str(ds), ["0"], Annotation(success=False))
    ingest(ds, range(8))
    assert open_dataset(ds).episode("e0000").info.success is False
    assert len(hashes(ds)) == 3


def test_statistics_are_kept_where_no_training_step_changed(ds: Path) -> None:
    split(str(ds), val=["5"])
    record, _ = stats(str(ds))
    assert annotate(str(ds), ["0"], Annotation(task="pour")).stats_kept
    kept = open_dataset(ds).stats()
    assert kept is not None
    assert kept.features == record.features
    assert kept.content_hash == open_dataset(ds).version.content_hash
    assert not delete_episodes(str(ds), ["0"]).stats_kept
    assert open_dataset(ds).stats() is None
    assert len(hashes(ds)) == 4


def test_a_split_by_list_holds_out_exactly_those(ds: Path) -> None:
    report = split(str(ds), val=["1", "4-5"])
    sides = {e.uid: e.split for e in open_dataset(ds).episodes}
    assert [uid for uid, side in sides.items() if side == "val"] == ["e0001", "e0004", "e0005"]
    assert all(sides[m.uid] == m.after != m.before for m in report.difference.moved)
    split(str(ds), val_where="length = 6")
    assert [e.uid for e in open_dataset(ds).episodes if e.split == "val"] == ["e0000"]


def test_a_rule_of_splitting_holds_for_what_is_added_later(ds: Path) -> None:
    split(str(ds), val_share=0.5, seed=3)
    before = {e.uid: e.split for e in open_dataset(ds).episodes}
    ingest(ds, range(12))
    reader = open_dataset(ds)
    assert reader.version.split_rule == SplitRule(val_share=0.5, seed=3)
    assert {e.uid: e.split for e in reader.episodes}.items() >= before.items()
    by_rule = assign((), [e.hash for e in reader.episodes], rule=reader.version.split_rule)
    assert [e.split for e in reader.episodes] == by_rule
    assert not split(str(ds), val_share=0.5, seed=3).changed


@settings(max_examples=200, deadline=None)
@given(
    st.floats(0, 1),
    st.integers(0, 3),
    st.lists(st.lists(st.integers(0, 200), max_size=4, unique=True), min_size=1, max_size=6),
)
def test_adding_data_never_moves_an_episode(
    share: float, seed: int, batches: list[list[int]]
) -> None:
    rule = SplitRule(val_share=share, seed=seed)
    entries: list[EpisodeEntry] = []
    for batch in batches:
        new = [n for n in batch if f"e{n}" not in {e.uid for e in entries}]
        sides = assign(entries, [f"{n:064x}" for n in new], rule=rule)
        before = [(e.uid, e.split) for e in entries]
        entries += [
            EpisodeEntry(uid=f"e{n}", start=0, length=1, hash=f"{n:064x}", split=side)
            for n, side in zip(new, sides, strict=True)
        ]
        assert [(e.uid, e.split) for e in entries][: len(before)] == before
        again = assign(entries, [f"{n:064x}" for n in new], rule=rule)
        assert len(again) == len(new)


def test_a_dry_run_says_the_same_and_changes_nothing(ds: Path) -> None:
    verbs: list[Callable[[bool], CurationReport]] = [
        lambda dry: delete_episodes(str(ds), ["0"], dry_run=dry),
        lambda dry: keep_where(str(ds), "length > 7", dry_run=dry),
        lambda dry: annotate(str(ds), ["0"], Annotation(task="x"), dry_run=dry),
        lambda dry: split(str(ds), val=["0"], dry_run=dry),
        lambda dry: restore(f"{ds}@1", dry_run=dry),
    ]
    for verb in verbs:
        before = files(ds)
        would = verb(True)
        assert files(ds) == before
        did = verb(False)
        left_out = {"dry_run", "stats_kept"}
        assert would.model_dump(exclude=left_out) == did.model_dump(exclude=left_out)
        assert did.changed
    assert len(hashes(ds)) == 6


@pytest.mark.parametrize(
    ("verb", "error", "says"),
    [
        (lambda ds: delete_episodes(ds, ["0-5"]), InputError, "no episode .* would be left"),
        (lambda ds: delete_episodes(ds, ["6"]), NotFoundError, "no episode '6'"),
        (lambda ds: delete_episodes(ds, ["3-1"]), NotFoundError, "no episode '3-1'"),
        (lambda ds: delete_episodes(ds, ["e000"]), NotFoundError, "6 episodes whose uid"),
        (lambda ds: delete_episodes(ds, [""]), NotFoundError, "no episode ''"),
        (lambda ds: delete_episodes(ds, []), InputError, "no episode is named"),
        (lambda ds: delete_episodes(ds, [], where="length > 99"), NotFoundError, "is meant"),
        (lambda ds: delete_episodes(f"{ds}@2", ["0"]), NotFoundError, "version 2"),
        (lambda ds: keep_where(ds, "nonsense"), InputError, "not known"),
        (lambda ds: annotate(ds, ["0"], Annotation()), InputError, "nothing is said"),
        (lambda ds: split(ds), InputError, "by rule or by list"),
        (lambda ds: split(ds, val=["0-5"]), InputError, "all episodes are"),
        (lambda ds: split(ds, val_where="length > 99"), InputError, "no episode is named"),
        (lambda ds: restore(ds), InputError, "newest version"),
        (lambda ds: restore(ds, ["nobody"]), NotFoundError, "no version .* has"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    ds: Path, verb: Callable[[str], CurationReport], error: type[ActError], says: str
) -> None:
    before = files(ds)
    with pytest.raises(error, match=says) as raised:
        verb(str(ds))
    assert raised.value.hint
    assert files(ds) == before


def test_an_older_version_is_no_place_for_a_new_one(ds: Path) -> None:
    delete_episodes(str(ds), ["0"])
    with pytest.raises(InputError, match="newest one is 2") as raised:
        delete_episodes(f"{ds}@1", ["1"])
    assert "act-data restore" in raised.value.hint


def test_two_writers_do_not_meet(ds: Path) -> None:
    lock = WriterLock(ds)
    try:
        with pytest.raises(ConflictError, match="another process is writing"):
            delete_episodes(str(ds), ["0"])
    finally:
        lock.release()


def test_a_finished_episode_that_waits_for_its_ingest_survives_curation(ds: Path) -> None:
    ingest(ds, [7], commit=False)
    delete_episodes(str(ds), ["0"])
    ingest(ds, [7])
    assert uids(ds) == ["e0001", "e0002", "e0003", "e0004", "e0005", "e0007"]
    assert len(hashes(ds)) == 3


def test_a_difference_names_everything_that_changed(ds: Path, tmp_path: Path) -> None:
    split(str(ds), val=["5"])
    stats(str(ds))
    delete_episodes(str(ds), ["0", "4"])
    ingest(ds, [1, 2, 3, 5, 9])
    annotate(str(ds), ["0"], Annotation(success=True))
    split(str(ds), val=["1"])
    stats(str(ds))
    found = diff("ds@2", "ds")
    assert {e.uid for e in found.removed} == {"e0000", "e0004"}
    assert [(e.uid, e.recording) for e in found.added] == [("e0009", "bag9")]
    assert {(m.uid, m.before, m.after) for m in found.moved} == {
        ("e0002", "train", "val"), ("e0005", "val", "train"),
    }  # fmt: skip
    assert [(a.uid, a.before.success, a.after.success) for a in found.annotated] == [
        ("e0001", None, True)
    ]
    assert not found.same_content
    assert {(m.array, m.dimension) for m in found.stats} >= {("qpos", "elbow"), ("qpos", "wrist")}
    assert all((m.mean_by or 0) > 0.1 or abs((m.std_ratio or 0) - 1) > 0.1 for m in found.stats)
    nothing = diff("ds", str(ds))
    assert nothing.same_content
    assert (nothing.added, nothing.removed, nothing.stats, nothing.notes) == ((), (), (), ())


def test_another_schema_is_told_entry_by_entry(ds: Path, tmp_path: Path) -> None:
    ingest(tmp_path / "other.zarr", [0, 7], robot="three_joints")
    found = diff("ds", "other")
    assert found.schema_changes == ("robot is 'two_joints', not 'three_joints'",)
    assert [e.uid for e in found.added] == ["e0007"]
    assert len(found.removed) == 5
