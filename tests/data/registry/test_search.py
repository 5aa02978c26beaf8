"""A search finds what `where` and the words say, in SQLite and in PostgreSQL alike."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from act_data.curate.versions import annotate, delete_episodes, restore
from act_data.errors import InputError, NotFoundError
from act_data.facts import FACTS, FactValue, facts_of
from act_data.records import Annotation, EpisodeInfo, SegmentRecord, SyncReport
from act_data.registry import Registry, fact_rows
from act_data.registry.database import transaction
from act_data.registry.episode_row import identity
from act_data.registry.tables import dataset, episode, version_episode
from act_data.registry.words import cut, indexed
from act_data.store import open_dataset, open_writer
from act_data.types import ClockPolicy
from act_data.where import (
    And,
    Compare,
    Condition,
    Contains,
    In,
    Like,
    Not,
    Or,
    matches,
    parse,
)
from tests.data.curate import datasets
from tests.data.curate.datasets import SECOND, SHARD_FRAMES, schema, steps
from tests.data.registry.index_rows import index_rows, loose_rows
from tests.data.test_where import conditions, written
from tests.postgres_server import own_schema

TEXTS = ("", "a", "A%b", "a_B", "éb", "b'\"--", "Pour-Tea cup", "tea pour", "茶杯 B", "Straße")
DAY = 86_400 * SECOND


def info(n: int) -> EpisodeInfo:
    """What is known of the `n`-th episode: every fact with several values, and none of it."""
    rng = np.random.default_rng(n)
    task, operator, notes = (str(rng.choice(TEXTS)) for _ in range(3))
    start = int(rng.integers(0, 4)) * 31 * DAY
    source = datasets.info(n % 9, 2).source
    sync = SyncReport(fps=10, clock=ClockPolicy.HEADER, ticks=n % 4, valid=n % 4 // 2, streams={})
    return EpisodeInfo(
        source=source.model_copy(update={"name": str(rng.choice(TEXTS)), "start_ns": start}),
        segment=SegmentRecord(number=0, start_ns=start, end_ns=start, last=True) if n % 2 else None,
        task=task,
        operator=operator,
        notes=notes,
        success=(True, False, None)[n % 3],
        sync=None if n % 5 == 0 else sync,
    )


def write(path: Path, numbers: range, *, robot: str = "aB", fps: float = 2.0) -> Path:
    with open_writer(path, schema(robot, fps=fps), shard_frames=SHARD_FRAMES) as writer:
        for n in numbers:
            episode = writer.episode(f"e{n:04d}")
            for step in steps(1 + n % 3, n):
                episode.record(step)
            episode.finish(info(n))
        writer.commit(list(writer.durable))
    return path


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """One that knows "one" (whole, then annotated, then cut) and "two"."""
    folder = tmp_path_factory.mktemp("search")
    with ExitStack() as stack:
        place = str(folder / "registry.db")
        if request.param == "postgresql":
            place = stack.enter_context(own_schema(request.getfixturevalue("postgres_server"), "s"))
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("ACT_REGISTRY", place)
        known = Registry()
        known.register(open_dataset(write(folder / "one.zarr", range(24))))
        known.register(open_dataset(write(folder / "two.zarr", range(20, 32), robot="b", fps=3.0)))
        annotate("one", ["0-5"], Annotation(task="Pour jasmine tea", success=True))
        delete_episodes("one", ["2", "7-9"])
        yield known


def told(registry: Registry, ref: str) -> list[tuple[str, dict[str, FactValue], EpisodeInfo]]:
    """Every episode of a version with its facts, as the dataset itself has them."""
    name, version = ref.split("@v")
    reader = open_dataset(Path(registry.show(name).path), int(version))
    return [
        (f"{ref}#{n}", facts_of(reader.schema, n, entry, found), found)
        for n, entry in enumerate(reader.episodes)
        for found in [reader.episode(entry.uid).info]
    ]


NEWEST = ("one@v3", "two@v1")


# --- conditions -------------------------------------------------------------------------------


def more_conditions() -> st.SearchStrategy[Condition]:
    """Those of `where`, and such as many of these episodes meet."""
    days = st.sampled_from(["1970-01-01", "1970-02-01", "1970-03-04"])
    ops = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
    numbers = st.sampled_from([0, 1, 2, 1.5, 0.5, 3, 1e15, -1e300])
    names = st.sampled_from([n for n, f in FACTS.items() if f.kind == "number"])
    texts = st.sampled_from(["task", "operator", "notes", "source"])
    return st.one_of(
        conditions(),
        st.builds(Compare, st.just("recorded"), ops, days),
        st.builds(Compare, names, ops, numbers),
        st.builds(Compare, texts, ops, st.sampled_from(TEXTS)),
        st.builds(In, texts, st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3).map(tuple)),
        st.builds(Like, texts, st.sampled_from(["%", "%B", "_", "%é%", "pour%", "%\\%"])),
        st.builds(Contains, texts, st.sampled_from(["", "B", "tea", "-", "'", "ß"])),
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    condition=st.recursive(
        more_conditions(),
        lambda inner: (
            st.builds(Not, inner)
            | st.builds(And, st.tuples(inner, inner))
            | st.builds(Or, st.tuples(inner, inner))
        ),
        max_leaves=4,
    ),
    ref=st.sampled_from([None, "one@v1", "one@v2", "one@v3"]),
)
def test_the_index_finds_the_episodes_of_which_the_condition_is_true(
    registry: Registry, condition: Condition, ref: str | None
) -> None:
    where = written(condition)
    found = registry.search(where=where, within=ref)
    assert [e.ref for e in found.episodes] == [
        name
        for each in (NEWEST if ref is None else (ref,))
        for name, facts, _ in episodes_of(registry, each)
        if matches(parse(where), facts)
    ]


_SEEN: dict[tuple[str, str], Any] = {}


def episodes_of(registry: Registry, ref: str) -> Any:
    """`told`, once: nothing here changes the datasets."""
    key = (str(registry.place), ref)
    if key not in _SEEN:
        _SEEN[key] = told(registry, ref)
    return _SEEN[key]


def test_every_found_episode_says_what_its_dataset_says(registry: Registry) -> None:
    for ref in ("one@v1", "one@v2", "one@v3", "two@v1"):
        found = registry.search(within=ref)
        for each, (name, facts, _) in zip(found.episodes, episodes_of(registry, ref), strict=True):
            said = each.model_dump()
            assert said.pop("ref") == name
            assert said == {key: facts[key] for key in said}
        assert found.matched == len(found.episodes)
        assert found.steps == sum(e.length for e in found.episodes)
        assert [(d.ref, d.episodes) for d in found.datasets] == [(ref, found.matched)]


@pytest.mark.parametrize(
    "where",
    [
        pytest.param(f"uid in ({', '.join([repr('e0001')] * 450)})", id="many-values"),
        pytest.param(" or ".join(["success"] * 370), id="many-terms"),
        pytest.param("not " * 31 + "success", id="deep"),
        pytest.param("task like '" + "%a" * 1500 + "'", id="long-pattern"),
    ],
)
def test_the_largest_conditions_are_answered(registry: Registry, where: str) -> None:
    wanted = [
        name for name, facts, _ in episodes_of(registry, "one@v3") if matches(parse(where), facts)
    ]
    assert [e.ref for e in registry.search(where=where, within="one").episodes] == wanted


def test_values_are_bound_and_never_part_of_a_statement(registry: Registry) -> None:
    evil = "x'; DROP TABLE episode; --"
    for where in (f"task = \"{evil}\"", f"task in (\"{evil}\")", f'notes contains "{evil}"',
                  f'operator like "{evil}"'):  # fmt: skip
        assert registry.search(where=where).matched == 0
    assert registry.search(evil).matched == 0
    assert registry.search("\" OR 1=1 OR NEAR(a b) : ' | ! & <->").matched == 0
    assert registry.search().matched == 32


# --- words ------------------------------------------------------------------------------------


def has(text: str, info: EpisodeInfo) -> bool:
    """Whether every piece of `text` stands in what is said, word after word."""
    said = cut(f"{info.task} {info.operator} {info.notes}")
    for piece in text.split():
        wanted = cut(piece)
        places = [said[n : n + len(wanted)] for n in range(len(said) - len(wanted) + 1)]
        if piece.endswith("*") and wanted:
            *whole, begun = wanted
            fits = [p[:-1] == whole and p[-1].startswith(begun) for p in places]
        else:
            fits = [p == wanted for p in places]
        if not any(fits):
            return False
    return True


PIECES = ["a", "b", "tea", "TEA", "pour", "pou*", "pour-tea", "tea-c*", "茶", "杯", "茶杯",
          "strasse", "Éb", "jasmine", "b'", "cup*", "*", "nothing", "杯-茶"]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=3))
def test_words_are_found_wherever_they_stand(registry: Registry, pieces: list[str]) -> None:
    text = " ".join(pieces)
    if not cut(text):
        with pytest.raises(InputError, match="no word"):
            registry.search(text)
        return
    for ref in ("one@v1", "one@v3"):
        found = [e.ref for e in registry.search(text, within=ref).episodes]
        assert found == [name for name, _, info in episodes_of(registry, ref) if has(text, info)]


# --- the answer -------------------------------------------------------------------------------


def test_facets_count_every_match_once_per_value(registry: Registry) -> None:
    found = registry.search(where="length > 1", facets=True, limit=0)
    assert found.episodes == ()
    facets = {f.name: {v.value: v.episodes for v in f.values} for f in found.facets}
    facts = [f for ref in NEWEST for _, f, _ in episodes_of(registry, ref) if f["length"] > 1]
    assert found.matched == len(facts)
    assert facets["robot"] == Counter(f["robot"] for f in facts)
    assert facets["camera"] == {"cam_high": len(facts)}
    assert facets["rate_hz"] == Counter(f"{f['rate_hz']:g}" for f in facts)
    assert facets["month"] == Counter((f["recorded"] or "unknown")[:7] for f in facts)

    def quality(share: float | None) -> str:
        if share is None:
            return "unknown"
        return f">= {max(at for at in (0.99, 0.95, 0.9, 0.5, 0) if share >= at):g}"

    assert facets["valid_share"] == Counter(quality(f["valid_share"]) for f in facts)


def test_a_limit_cuts_the_list_and_not_the_count(registry: Registry) -> None:
    found = registry.search(limit=3)
    assert [e.ref for e in found.episodes] == [f"one@v3#{n}" for n in range(3)]
    assert found.matched == 32


def test_a_dataset_that_is_not_there_is_not_found(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="'tow'") as caught:
        registry.search(within="tow")
    assert "two" in caught.value.hint
    with pytest.raises(NotFoundError, match="no version 9"):
        registry.search(within="one@9")


# --- following the datasets -------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with "pick": four episodes, in a registry of its own."""
    if request.param == "postgresql":
        monkeypatch.setenv("ACT_REGISTRY", request.getfixturevalue("postgres"))
    datasets.ingest(tmp_path / "pick.zarr", [0, 1, 2, 3], length=2)
    return tmp_path


def test_the_index_follows_annotations_at_once_and_a_rebuild_says_the_same(own: Path) -> None:
    registry = Registry()
    annotate("pick", ["1", "2"], Annotation(task="pour", success=True, notes="spilled"))
    assert [e.ref for e in registry.search("spilled").episodes] == ["pick@v2#1", "pick@v2#2"]
    annotate("pick", ["2"], Annotation(success=False, notes=""))
    delete_episodes("pick", ["0"])
    found = registry.search("pour", where="success = false")
    assert [(e.ref, e.notes) for e in found.episodes] == [("pick@v4#1", "")]
    assert registry.search("spilled", within="pick@2").matched == 2
    restore("pick@1")
    assert registry.search("pour").matched == 0
    before = index_rows(registry.place)
    assert len(before) == 4 + 2 + 1 + 4  # versions 1 to 3, and 5, which puts one before all
    registry.rebuild([])
    assert index_rows(registry.place) == before
    with transaction(registry.place, write=True) as db:
        db.execute(sa.delete(dataset))
    assert index_rows(registry.place) == []
    registry.rebuild([own])
    assert index_rows(registry.place) == before
    assert loose_rows(registry.place) == (0, 0)
    assert registry.search("spilled", within="pick@2").matched == 2


def test_a_rebuild_corrects_facts_and_words_and_removes_what_nobody_holds(own: Path) -> None:
    registry = Registry()
    annotate("pick", ["1"], Annotation(notes="spilled"))
    before = index_rows(registry.place)
    with transaction(registry.place, write=True) as db:
        empty = indexed(["wrong"], db.dialect.name)
        db.execute(sa.update(episode).values(notes="wrong", words=empty, valid_share=0.25))
        db.execute(sa.delete(version_episode).where(version_episode.c.since > 1))
        stray = {**identity(open_dataset(own / "pick.zarr").episodes[0], "x"), "dataset": 1}
        db.execute(sa.insert(episode).values(id=1000, **stray))
    registry.rebuild([])
    assert index_rows(registry.place) == before
    assert loose_rows(registry.place) == (0, 0)
    assert registry.search("wrong").matched == 0
    assert registry.search("spilled").matched == 1


# --- large versions, in batches ---------------------------------------------------------------


@pytest.fixture
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fact_rows, "BATCH", 3)


@pytest.mark.usefixtures("_small_batches")
class TestLargeVersions:
    def test_others_write_and_read_between_the_batches(
        self, own: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry = Registry()
        path = write(own / "large.zarr", range(10))
        read, seen = fact_rows.read, []

        def interrupted(*arguments: Any) -> Iterator[Any]:
            registry.tag("pick@1", f"t{len(seen)}")  # would wait 30 s for a writer, and fail
            seen.append([d.name for d in registry.datasets()])
            with pytest.raises(NotFoundError, match="no dataset is called"):
                registry.show("large")
            assert registry.search().matched == 4
            return read(*arguments)

        monkeypatch.setattr(fact_rows, "read", interrupted)
        registry.register(open_dataset(path))
        assert seen == [["pick"]] * 4
        assert registry.search(within="large").matched == 10
        monkeypatch.setattr(fact_rows, "read", read)
        before = index_rows(registry.place)
        registry.rebuild([])
        assert index_rows(registry.place) == before

    def test_what_was_interrupted_goes_on_and_leaves_nothing(
        self, own: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry = Registry()
        path = write(own / "large.zarr", range(10))
        read, calls = fact_rows.read, []

        def stopped(*arguments: Any) -> Iterator[Any]:
            calls.append(arguments)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return read(*arguments)

        monkeypatch.setattr(fact_rows, "read", stopped)
        with pytest.raises(KeyboardInterrupt):
            registry.register(open_dataset(path))
        assert [d.name for d in registry.datasets()] == ["pick"]
        assert registry.search(facets=True).matched == 4
        assert registry.register(open_dataset(path)) == "large"
        assert len(calls) == 3 + 2  # two batches were there
        assert registry.search(within="large").matched == 10
        assert loose_rows(registry.place) == (0, 0)

    def test_several_processes_register_the_same_large_dataset_at_once(self, own: Path) -> None:
        path = write(own / "large.zarr", range(10))
        code = (
            "import sys; from pathlib import Path; from act_data.registry import *;"
            "from act_data.registry import fact_rows; from act_data.store import *;"
            "fact_rows.BATCH = 2; sys.stdin.readline();"
            "Registry().register(open_dataset(Path(sys.argv[1])));"
            "Registry().rebuild([]) if len(sys.argv) > 2 else None"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(path), *more],
                stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for more in ([], ["rebuild"], [])
        ]  # fmt: skip
        errors = [process.communicate("go\n", timeout=60)[1] for process in processes]
        assert errors == ["", "", ""]
        registry = Registry()
        before = index_rows(registry.place)
        assert len(before) == 14
        registry.rebuild([])
        assert index_rows(registry.place) == before
