"""Any sequence of verbs keeps every promise: hashes stay, nothing that is needed goes.

`ACT_CURATION_EXAMPLES=500 pytest -rP tests/data/curate/test_machine.py` walks longer; the counts of
what was done are in the report.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from act_data.curate.copies import compact, merge
from act_data.curate.garbage import gc
from act_data.curate.versions import annotate, delete_episodes, restore, split
from act_data.errors import ConflictError, InputError, NotFoundError, StoreError
from act_data.records import Annotation
from act_data.registry import Registry
from act_data.remotes import clone, pull, push, rebase
from act_data.store import open_dataset
from act_data.store.files import real_root
from act_data.store.zarr_records import read_root, read_versions
from tests.data.curate.datasets import ingest
from tests.data.registry.index_rows import RANGES, index_rows, loose_rows

EXAMPLES = int(os.environ.get("ACT_CURATION_EXAMPLES", "16"))
DONE: Counter[str] = Counter()

names = st.sampled_from(["a", "b"])
places = st.lists(st.integers(0, 99), min_size=1, max_size=2)
numbers = st.integers(0, 99)


class Curation(RuleBasedStateMachine):
    """Two datasets and their copies, curated at random.

    Attributes:
        promised: Content hash of every version that was ever made, by dataset and number.
        dropped: Those that gc was told to drop.
    """

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
        self._before = os.environ.get("ACT_REGISTRY")
        os.environ["ACT_REGISTRY"] = str(self.folder / "registry.db")
        self.promised: dict[tuple[str, int], str] = {}
        self.dropped: set[tuple[str, int]] = set()
        self.tags: dict[tuple[str, str], int] = {}
        self.sides: dict[tuple[str, str], str] = {}  # of an episode, since the last split
        self.copies = 0
        for name, seeds in (("a", [0, 1, 2]), ("b", [3, 4])):
            ingest(self.path(name), seeds, length=2)
            self.noted(name)

    def teardown(self) -> None:
        if self._before is None:
            os.environ.pop("ACT_REGISTRY")
        else:
            os.environ["ACT_REGISTRY"] = self._before
        shutil.rmtree(self.folder)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.zarr"

    def newest(self, name: str) -> int:
        return open_dataset(self.path(name)).version.number

    def there(self, name: str, number: int) -> int:
        """One of the versions."""
        return 1 + number % self.newest(name)

    def some(self, name: str, places: list[int], version: int | None = None) -> list[str]:
        """Some of the episodes."""
        if (name, version) in self.dropped:
            return ["0"]
        count = len(open_dataset(self.path(name), version).episodes)
        return [str(place % count) for place in places]

    def noted(self, name: str) -> None:
        for version in read_versions(real_root(self.path(name))):
            known = self.promised.setdefault((name, version.number), version.content_hash)
            assert known == version.content_hash

    def tried(self, verb: str, do: Any) -> Any:
        """Do it; what cannot be is refused with an error of ours, and is counted."""
        try:
            done = do()
        except (InputError, NotFoundError, ConflictError, StoreError):
            DONE[f"{verb} refused"] += 1
            return None
        DONE[verb] += 1
        return done

    # --- verbs ---

    @rule(name=names, seeds=st.lists(st.integers(0, 9), min_size=1, max_size=2, unique=True))
    def ingest(self, name: str, seeds: list[int]) -> None:
        before = self.sides_of(name)
        self.tried("ingest", lambda: ingest(self.path(name), seeds, length=2))
        self.noted(name)
        assert self.sides_of(name).items() >= before.items()

    @rule(name=names, seed=st.integers(10, 12))
    def interrupted_ingest(self, name: str, seed: int) -> None:
        ingest(self.path(name), [seed], length=2, commit=False)
        DONE["interrupted ingest"] += 1

    @rule(name=names, items=places)
    def delete(self, name: str, items: list[int]) -> None:
        which = self.some(name, items)
        self.tried("delete", lambda: delete_episodes(name, which))
        self.noted(name)

    @rule(name=names, number=numbers, items=places | st.just([]))
    def restore(self, name: str, number: int, items: list[int]) -> None:
        number = self.there(name, number)
        which = self.some(name, items, number)
        report = self.tried("restore", lambda: restore(f"{name}@{number}", which))
        self.noted(name)
        if report is not None and not items:
            newest = open_dataset(self.path(name)).version
            assert newest.content_hash == self.promised[name, number]

    @rule(name=names, share=st.sampled_from([0.0, 0.3, 0.7, 1.0]), seed=st.integers(0, 2))
    def split(self, name: str, share: float, seed: int) -> None:
        self.tried("split", lambda: split(name, val_share=share, seed=seed))
        self.noted(name)

    @rule(name=names, items=places, task=st.sampled_from(["", "pour", "wipe"]))
    def annotate(self, name: str, items: list[int], task: str) -> None:
        which = self.some(name, items)
        before = {e.uid: e.hash for e in open_dataset(self.path(name)).episodes}
        self.tried("annotate", lambda: annotate(name, which, Annotation(task=task)))
        self.noted(name)
        assert {e.uid: e.hash for e in open_dataset(self.path(name)).episodes} == before

    @rule(name=names, number=numbers, tag=st.sampled_from(["prod", "old"]))
    def tag(self, name: str, number: int, tag: str) -> None:
        number = self.there(name, number)

        def move() -> bool:
            Registry().tag(f"{name}@{number}", tag)
            return True

        if self.tried("tag", move):
            self.tags[name, tag] = number

    @rule(keep=st.sampled_from([("a", "b"), ("b", "a")]))
    @precondition(lambda self: self.copies < 4)
    def merge(self, keep: tuple[str, str]) -> None:
        self.copies += 1
        out = f"copy{self.copies}"
        if self.tried("merge", lambda: merge(keep, self.path(out))):
            self.noted(out)

    @rule(name=names, number=numbers)
    @precondition(lambda self: self.copies < 4)
    def compact(self, name: str, number: int) -> None:
        self.copies += 1
        out, number = f"copy{self.copies}", self.there(name, number)
        if self.tried("compact", lambda: compact(f"{name}@{number}", self.path(out))):
            assert open_dataset(self.path(out)).version.content_hash == self.promised[name, number]
            self.noted(out)

    @rule(name=names, items=places, drop=st.sampled_from(["all", "one", "none"]))
    def delete_and_collect(self, name: str, items: list[int], drop: str) -> None:
        """A deletion, so that a dropped version has something that no other one needs."""
        self.delete(name, items)
        older = list(range(1, self.newest(name)))
        self.collect(name, {"all": older, "one": older[:1], "none": []}[drop], 0.0)

    @rule(name=names, drop=st.lists(numbers, max_size=2), grace=st.sampled_from([0.0, 24.0]))
    def drop_and_collect(self, name: str, drop: list[int], grace: float) -> None:
        self.collect(name, [1 + n % max(1, self.newest(name) - 1) for n in drop], grace)

    def collect(self, name: str, drop: list[int], grace: float) -> None:
        drop = [number for number in drop if (name, number) not in self.dropped]
        would = self.tried("gc --dry-run", lambda: gc(name, drop=drop, grace_hours=grace))
        did = self.tried("gc", lambda: gc(name, drop=drop, grace_hours=grace, delete=True))
        assert (would is None) == (did is None)
        if did is not None:
            assert would.model_dump(exclude={"dry_run"}) == did.model_dump(exclude={"dry_run"})
            self.dropped |= {(name, number) for number in did.versions}
            DONE["bytes collected"] += did.bytes

    @rule(name=names)
    def push_and_clone(self, name: str) -> None:
        remote = str(self.folder / "remote")
        if self.tried("push", lambda: push(name, remote)) is None:
            return
        shutil.rmtree(self.folder / "cloned.zarr", ignore_errors=True)
        with self.elsewhere():
            clone(f"{remote}/{name}", self.folder / "cloned.zarr")
        here, there = open_dataset(self.path(name)), open_dataset(self.folder / "cloned.zarr")
        assert there.version == here.version
        assert there.verify() == []
        DONE["clone"] += 1

    @contextmanager
    def elsewhere(self, file: str = "elsewhere.db") -> Iterator[None]:
        """On the machine of somebody else."""
        registry = os.environ["ACT_REGISTRY"]
        os.environ["ACT_REGISTRY"] = str(self.folder / file)
        try:
            yield
        finally:
            os.environ["ACT_REGISTRY"] = registry

    @rule(name=names, seed=st.integers(20, 29), diverge=st.booleans())
    def meet(self, name: str, seed: int, diverge: bool) -> None:
        """Somebody else pulls, adds and pushes; their work comes here, below one's own if any."""
        remote, there = str(self.folder / "remote"), self.folder / f"{name}-elsewhere.zarr"
        pushed = self.tried("push", lambda: push(name, remote))
        if pushed is None:
            return
        shutil.rmtree(there, ignore_errors=True)
        with self.elsewhere():
            pull(f"{remote}/{name}", there)
            tags = {t.name: t.version for t in Registry().tags(str(there)).tags}
            ingest(there, [seed], length=2)
            push(str(there), remote, name=name)
        want = {t: n for (of, t), n in self.tags.items() if of == name and n in pushed.versions}
        assert tags.items() >= want.items()
        DONE["tags that travelled"] += len(tags)
        base = self.newest(name)
        if diverge:
            self.delete(name, [0])
            self.tag(name, base, "old")
        bring = rebase if self.newest(name) > base else pull
        report = self.tried(
            bring.__name__,
            lambda: bring(f"{remote}/{name}", self.path(name)),  # type: ignore[operator]
        )
        if report is None:
            return
        moved = {step.before: step.after or base + 1 for step in report.rebased}
        for number in moved:
            del self.promised[name, number]
        self.tags |= {k: moved.get(n, n) for k, n in self.tags.items() if k[0] == name}
        self.noted(name)
        assert f"e{seed:04d}" in self.sides_of(name)

    @rule()
    def rebuild(self) -> None:
        before = self.index()
        Registry().rebuild([])
        assert self.index() == before
        assert loose_rows(Registry().place) == (0, 0)
        DONE["rebuild"] += 1

    @rule()
    def rebuild_what_was_lost(self) -> None:
        """From the datasets alone: all but what garbage collection took."""
        before = index_rows(Registry().place)
        with self.elsewhere("lost.db"):
            Registry().rebuild([self.path(name) for name in {name for name, _ in self.promised}])
            again = index_rows(Registry().place)
        assert list(map(self.identity, again)) == list(map(self.identity, before))
        held = [(b, a) for b, a in zip(before, again, strict=True) if self.is_kept(b)]
        assert [a for _, a in held] == [b for b, _ in held]
        DONE["rows read again"] += len(held)

    # --- what holds after every one of them ---

    def index(self) -> list[Any]:
        registry = Registry()
        known = registry.datasets()
        told = [(d, registry.log(d.name), registry.tags(d.name).tags) for d in known]
        return [*told, *index_rows(registry.place)]

    def identity(self, row: dict[str, Any]) -> list[Any]:
        """What a version itself says of an episode."""
        return [row[name] for name in ("dataset", *RANGES, "uid", "hash", "said", "length")]

    def is_kept(self, row: dict[str, Any]) -> bool:
        """Whether a version that was not dropped holds the episode."""
        name = row["dataset"]
        numbers = range(row["since"], min(row["until"], self.newest(name) + 1))
        return any((name, number) not in self.dropped for number in numbers)

    def sides_of(self, name: str) -> dict[str, str]:
        return {e.uid: e.split for e in open_dataset(self.path(name)).episodes}

    @invariant()
    def every_version_is_what_it_was(self) -> None:
        for (name, number), content in self.promised.items():
            if (name, number) in self.dropped:
                with pytest.raises(NotFoundError, match="dropped"):
                    open_dataset(self.path(name), number)
                continue
            reader = open_dataset(self.path(name), number)
            assert reader.version.content_hash == content
        for name in {name for name, _ in self.promised}:
            # Every byte of every kept version, each episode once.
            kept = read_root(real_root(self.path(name))).kept
            for number in kept[-3:]:
                assert open_dataset(self.path(name), number).verify() == []
            DONE["versions verified"] += len(kept[-3:])

    @invariant()
    def the_registry_knows_them(self) -> None:
        known = {d.name: d for d in Registry().datasets()}
        for (name, number), content in self.promised.items():
            assert {v.number: v.content_hash for v in known[name].versions}[number] == content
        for name in known:
            reader = open_dataset(self.path(name))
            said = [(e.uid, reader.episode(e.uid).info) for e in reader.episodes]
            found = Registry().search(within=name, limit=1000).episodes
            assert [(e.uid, e.task, e.source) for e in found] == [
                (uid, info.task, info.source.name) for uid, info in said
            ]
            poured = [e.uid for e in Registry().search("pour", within=name).episodes]
            assert poured == [uid for uid, info in said if info.task == "pour"]
        for (name, tag), number in self.tags.items():
            if (name, number) not in self.dropped:
                assert Registry().resolve(f"{name}@{tag}").version == number


@pytest.mark.timeout(900)
def test_any_sequence_of_verbs_keeps_every_promise() -> None:
    DONE.clear()
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Curation,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=15,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    sys.stdout.write(f"{dict(sorted(DONE.items()))}\n")
    verbs = ("ingest", "delete", "restore", "split", "annotate", "merge", "compact", "gc", "clone")
    verbs += ("pull", "rebase", "tags that travelled")
    assert all(DONE[verb] for verb in (*verbs, "rebuild", "rows read again", "bytes collected"))
