"""Two people edit one dataset; who is second puts theirs on top in one step, or is told why not."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from act_data.curate.copies import compact
from act_data.curate.garbage import gc
from act_data.curate.versions import annotate, delete_episodes, restore, split
from act_data.errors import ConflictError, InputError, StoreError
from act_data.records import Annotation, DatasetFacts
from act_data.registry import Registry
from act_data.remotes import clone, push, rebase
from act_data.store import files as store_files
from act_data.store import open_dataset
from act_data.store.facts import facts_of, save_facts
from tests.cli.commands import done, run
from tests.data.curate.datasets import ingest, uids
from tests.data.remotes.datasets import tree

PEOPLE = ("ann", "bob")


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
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A remote with version 1 of ds, 2 of them held out, and two people who have it."""
    folder = tmp_path_factory.mktemp("begun")
    with person(folder, "ann") as home:
        ingest(home / "ds.zarr", range(6), length=2)
        split("ds", val=["1", "2"])
        push("ds", str(folder / "team"))
    with person(folder, "bob") as home:
        clone(f"{folder}/team/ds", home / "ds.zarr")
    return folder


def copied(begun: Path, folder: Path) -> Path:
    shutil.copytree(begun, folder, dirs_exist_ok=True)
    for name in PEOPLE:
        with person(folder, name) as home:
            Registry().rebuild([home])
    return folder


@pytest.fixture
def both(begun: Path, tmp_path: Path) -> Path:
    return copied(begun, tmp_path)


def by(folder: Path, name: str, *edits: Callable[[], Any]) -> None:
    with person(folder, name):
        for edit in edits:
            edit()


def pushed(folder: Path, name: str) -> None:
    with person(folder, name):
        push("ds", str(folder / "team"))


def ingested(*seeds: int, **how: Any) -> Callable[[], Any]:
    return lambda: ingest(Path("ds.zarr"), seeds, length=2, **how)


def test_what_both_added_is_there_and_can_be_pushed(both: Path) -> None:
    by(both, "ann", ingested(7), lambda: delete_episodes("ds", ["0"]))
    pushed(both, "ann")
    by(both, "bob", ingested(8), lambda: annotate("ds", ["e0003"], Annotation(task="pour")))
    with person(both, "bob") as home:
        Registry().tag("ds@3", "mine")
        with pytest.raises(ConflictError, match="not yours") as caught:
            push("ds", str(both / "team"))
        command = caught.value.hint.partition("again: ")[2].split()
        assert command[:2] == ["act-data", "pull"]
        before = tree(home)
        planned = done(run(*command, "--dry-run", "--json"))
        assert tree(home, (".", "registry")) == {
            k: v for k, v in before.items() if not k.startswith((".", "registry"))
        }
        assert '"after": 5' in planned
        ended = run(*command)
        assert done(ended) == f"{home}/ds.zarr\n"
        assert "your version 3 is version 5: 'ingest'" in ended.err
        assert uids(home / "ds.zarr") == [f"e000{n}" for n in (1, 2, 3, 4, 5, 7, 8)]
        reader = open_dataset(home / "ds.zarr")
        assert reader.version.annotations["e0003"].task == "pour"
        for number in range(1, 7):
            assert open_dataset(home / "ds.zarr", number).verify("deep") == []
        assert Registry().resolve("ds@mine").version == 5
        assert [(m.before, m.after) for m in Registry().tags("ds").log] == [(None, 5)]
        assert [p.name for p in home.iterdir() if p.name.endswith((".pull", ".lock"))] == []
        assert Registry().rebuild([home]) == ["ds"]
        push("ds", str(both / "team"))
    with person(both, "ann") as home:
        clone(f"{both}/team/ds", home / "all.zarr")
        copy = open_dataset(home / "all.zarr")
        assert copy.version.content_hash == reader.version.content_hash
        assert copy.verify("deep") == []


free = st.sampled_from([0, 3, 4, 5])
edits = st.lists(
    st.tuples(st.sampled_from(["ingest", "delete", "restore", "task", "notes", "side"]), free),
    min_size=1,
    max_size=3,
)


def do(verb: str, seed: int, who: int) -> None:
    """An edit of an episode that only `who` touches: the even ones are ann's."""
    uid, there = f"e{seed:04d}", uids(Path("ds.zarr"))
    if verb == "ingest":
        ingest(Path("ds.zarr"), [10 + 10 * who + seed], length=2)
    elif verb == "restore" and uid not in there:
        restore("ds", [uid])
    elif verb in ("task", "notes") and uid in there:
        annotate("ds", [uid], Annotation(**{verb: f"{verb} of {who}"}))
    elif verb == "side" and uid in there:
        val = {e.uid for e in open_dataset(Path("ds.zarr")).episodes if e.split == "val"} ^ {uid}
        split("ds", val=sorted(val))
    elif verb == "delete" and uid in there:
        delete_episodes("ds", [uid])


@settings(
    max_examples=int(os.environ.get("ACT_REBASE_EXAMPLES", "8")),
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(anns=edits, bobs=edits)
def test_a_rebase_of_two_independent_edits_is_both_edits(
    begun: Path, anns: list[tuple[str, int]], bobs: list[tuple[str, int]]
) -> None:
    """As if bob had done his on ann's dataset: the same episodes, order, splits, annotations."""
    anns = [(verb, seed - seed % 2 if seed != 5 else 4) for verb, seed in anns]
    anns = [(verb, {2: 0}.get(seed, seed)) for verb, seed in anns]
    bobs = [(verb, {0: 3, 4: 5}.get(seed, seed)) for verb, seed in bobs]
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as made:
        folder = copied(begun, Path(made))
        by(folder, "ann", *[lambda v=v, s=s: do(v, s, 0) for v, s in anns])
        pushed(folder, "ann")
        by(folder, "bob", *[lambda v=v, s=s: do(v, s, 1) for v, s in bobs])
        with person(folder, "bob") as home:
            rebase(f"{folder}/team/ds")
            got = open_dataset(home / "ds.zarr")
            assert got.verify() == []
            push("ds", str(folder / "team"))
        by(folder, "ann", *[lambda v=v, s=s: do(v, s, 1) for v, s in bobs])
        want = open_dataset(folder / "ann/ds.zarr")
        assert [(e.uid, e.split) for e in got.episodes] == [(e.uid, e.split) for e in want.episodes]
        assert got.version.annotations == want.version.annotations
        assert got.version.content_hash == want.version.content_hash


def test_the_same_on_both_sides_is_done_once(both: Path) -> None:
    by(both, "ann", ingested(7), lambda: delete_episodes("ds", ["0"]))
    pushed(both, "ann")
    by(both, "bob", lambda: delete_episodes("ds", ["0"]), ingested(7), ingested(8))
    with person(both, "bob") as home:
        report = rebase(f"{both}/team/ds")
        assert [(r.before, r.after) for r in report.rebased] == [(3, None), (4, None), (5, 5)]
        assert uids(home / "ds.zarr")[-2:] == ["e0007", "e0008"]
        assert open_dataset(home / "ds.zarr").verify("deep") == []


def test_a_rule_of_the_split_holds_for_what_the_other_side_added(both: Path) -> None:
    by(both, "ann", ingested(7, 8, 9))
    pushed(both, "ann")
    by(both, "bob", lambda: split("ds", val_share=1.0))
    with person(both, "bob") as home:
        rebase(f"{both}/team/ds")
        assert {e.split for e in open_dataset(home / "ds.zarr").episodes} == {"val"}


def test_what_is_said_of_the_dataset_comes_along(both: Path) -> None:
    def says(**facts: str) -> Callable[[], None]:
        return lambda: save_facts(open_dataset(Path("ds.zarr")), DatasetFacts(**facts))

    by(both, "ann", ingested(7), says(licence="MIT"))
    pushed(both, "ann")
    by(both, "bob", ingested(8), says(cite="Bob, 2026"))
    with person(both, "bob") as home:
        rebase(f"{both}/team/ds")
        facts = facts_of(open_dataset(home / "ds.zarr"))
        assert (facts.licence, facts.cite) == ("MIT", "Bob, 2026")
        assert open_dataset(home / "ds.zarr").verify() == []


def test_what_both_sides_made_something_else_of_is_named_and_nothing_changes(both: Path) -> None:
    said = {"ann": "pour", "bob": "wipe"}
    for name, length in (("ann", 3), ("bob", 4)):
        by(
            both,
            name,
            lambda length=length: ingest(Path("ds.zarr"), [7], length=length),  # type: ignore[misc]
            lambda name=name: annotate("ds", ["3"], Annotation(task=said[name])),  # type: ignore[misc]
            lambda name=name: split("ds", val_share=0.5, seed=len(said[name])),  # type: ignore[misc]
        )
    by(both, "bob", lambda: split("ds", seed=9))
    pushed(both, "ann")
    with person(both, "bob") as home:
        before = tree(home / "ds.zarr")
        with pytest.raises(ConflictError) as caught:
            rebase(f"{both}/team/ds")
        for text in (
            "episode e0007 has other content there",
            "the task of episode e0003 was changed on both sides",
            "the rule of the split was changed on both sides",
        ):
            assert text in str(caught.value)
        assert tree(home / "ds.zarr") == before
        assert not (home / ".ds.zarr.pull").exists()


def test_a_recording_that_was_ingested_otherwise_there_is_a_conflict(both: Path) -> None:
    from tests.data.curate import datasets

    def other_name() -> None:
        """The recording of seed 7, cut otherwise: another uid."""
        with datasets.open_writer(Path("ds.zarr"), datasets.schema()) as writer:
            episode = writer.episode("other")
            for step in datasets.steps(8, 7):
                episode.record(step)
            episode.finish(datasets.info(7, 8))
            writer.commit(["other"])
        Registry().register(open_dataset(Path("ds.zarr")))

    by(both, "ann", ingested(7))
    pushed(both, "ann")
    by(both, "bob", other_name)
    with person(both, "bob"), pytest.raises(ConflictError, match="'bag7' was ingested here as"):
        rebase(f"{both}/team/ds", dry_run=True)


def test_what_one_side_deleted_stays_deleted_and_is_told(both: Path) -> None:
    by(both, "ann", lambda: delete_episodes("ds", ["3"]))
    pushed(both, "ann")
    by(both, "bob", lambda: annotate("ds", ["3"], Annotation(task="x")), ingested(8))
    with person(both, "bob") as home:
        report = rebase(f"{both}/team/ds")
        assert report.notes == (
            "episode e0003 was deleted there and annotated here: it stays deleted",
        )
        assert "e0003" not in uids(home / "ds.zarr")


def test_a_version_that_a_policy_was_trained_on_does_not_go_unless_it_is_kept(both: Path) -> None:
    by(both, "ann", ingested(7))
    pushed(both, "ann")
    by(both, "bob", ingested(8))
    with person(both, "bob") as home:
        mine = open_dataset(home / "ds.zarr")

        class Data:
            uid, version, content_hash = mine.uid, 3, mine.version.content_hash

        Registry().register_checkpoint(home / "run", Data(), 5)
        with pytest.raises(ConflictError, match="was trained on version 3") as caught:
            rebase(f"{both}/team/ds")
        assert "act-data compact" in caught.value.hint
        compact("ds@3", Path("ds-v3.zarr"))
        rebase(f"{both}/team/ds")
        assert Registry().resolve("ds-v3").content_hash == Data.content_hash


def test_what_gc_took_and_what_no_version_holds_survive_a_rebase(both: Path) -> None:
    by(both, "ann", ingested(7))
    pushed(both, "ann")
    by(
        both,
        "bob",
        ingested(8),
        lambda: delete_episodes("ds", ["e0008"]),
        ingested(9),
        lambda: gc("ds", drop=[3], grace_hours=0, delete=True),
        ingested(5, 6, commit=False),
    )
    with person(both, "bob") as home:
        rebase(f"{both}/team/ds")
        assert uids(home / "ds.zarr")[-2:] == ["e0007", "e0009"]
        assert open_dataset(home / "ds.zarr").verify("deep") == []
        ingest(home / "ds.zarr", [6])
        assert uids(home / "ds.zarr")[-1] == "e0006"


def test_without_versions_of_ones_own_it_is_a_pull(both: Path) -> None:
    by(both, "ann", ingested(7))
    pushed(both, "ann")
    with person(both, "bob") as home:
        assert rebase(f"{both}/team/ds").rebased == ()
        assert uids(home / "ds.zarr")[-1] == "e0007"
        assert rebase(f"{both}/team/ds", Path("new.zarr")).episodes == 7
        with pytest.raises(InputError, match="one version"):
            rebase(f"{both}/team/ds@1")
        ended = run("act-data", "pull", f"{both}/team/ds", "--rebase", "--episodes", "1")
        assert ended.code == 2


@pytest.mark.parametrize("swap", [True, False], ids=["exchanged", "renamed-twice"])
def test_killed_at_any_moment_one_side_or_the_other_is_there(
    both: Path, monkeypatch: pytest.MonkeyPatch, swap: bool
) -> None:
    """Cut at each file that is put in its place, and around the exchange; then once more."""
    by(both, "ann", ingested(7))
    pushed(both, "ann")
    by(both, "bob", ingested(8))
    if not swap:
        monkeypatch.setattr(store_files, "_EXCHANGE", 1 << 30)  # no such flag: EINVAL
    replace, calls = Path.replace, [0]

    class Killed(BaseException):
        pass

    with person(both, "bob") as home:
        before = tree(home / "ds.zarr")
        for cut in (1, 5, 20, 40, 60, -3, -2, -1, 0):
            calls[0] = 0

            def dying(self: Path, target: Path, cut: int = cut) -> Path:
                calls[0] += 1
                if cut > 0 and calls[0] == cut:
                    raise Killed
                if cut < 0 and "new" in (self.name, Path(target).name) and target != home:
                    stage = {".before": -2}.get(Path(target).suffix, -1)
                    if stage == cut:
                        raise Killed
                return replace(self, target)

            with monkeypatch.context() as patch:
                patch.setattr(Path, "replace", dying)
                try:
                    rebase(f"{both}/team/ds")
                except Killed:
                    pass
                else:
                    break
            if (home / "ds.zarr").exists():
                assert tree(home / "ds.zarr") == before
        rebase(f"{both}/team/ds")
        assert uids(home / "ds.zarr")[-2:] == ["e0007", "e0008"]
        assert open_dataset(home / "ds.zarr").verify("deep") == []


def test_a_remote_that_is_damaged_changes_nothing(both: Path) -> None:
    by(both, "ann", ingested(7))
    pushed(both, "ann")
    by(both, "bob", ingested(8))
    blobs = [p for p in (both / "team/blobs").rglob("*") if p.is_file()]
    for blob in blobs:
        blob.write_bytes(blob.read_bytes()[:-1] + b"\0")
    with person(both, "bob") as home:
        before = tree(home / "ds.zarr")
        with pytest.raises(StoreError):
            rebase(f"{both}/team/ds")
        assert tree(home / "ds.zarr") == before
