"""A dataset is curated after a policy was trained on it, and the truth about both can be told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import Ended, done, refused, run
from tests.small_robot import bag, entries, robot_file

ROBOT = ("--robot", "small.yaml")


def document(ended: Ended) -> Any:
    return json.loads(done(ended))


def train(ref: str, out: str) -> None:
    done(run("act-model", "train", ref, "--out", out, "--size", "tiny", "--steps", 1, "--chunk", 5,
             "--batch-size", 2, "--backbone-weights", "none", "--device", "cpu",
             "--workers", 0))  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings as ds.zarr, a policy trained on it, then one episode ingested otherwise."""
    folder = tmp_path_factory.mktemp("curation")
    robot_file(folder)
    for n, name in enumerate("abc"):
        bag(folder, name, entries(40, start_s=9 * n + 1, phase=n))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ACT_REGISTRY", str(folder / "registry.db"))
        done(run("act-data", "ingest", "a.bag", "b.bag", "c.bag", "--out", "ds.zarr", *ROBOT))
        done(run("act-data", "stats", "ds.zarr"))
        train("ds@1", "run")
        done(run("act-data", "delete-episodes", "ds", "0", "-m", "the gripper was loose"))
        done(run("act-data", "ingest", "a.bag", "--out", "ds.zarr", "--max-timesteps", 25, *ROBOT))
        done(run("act-data", "stats", "ds.zarr"))
        nearest = ("--out", "near.zarr", "--sync", "nearest", *ROBOT)
        done(run("act-data", "ingest", "a.bag", *nearest))
    return folder


@pytest.fixture
def there(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    monkeypatch.setenv("ACT_REGISTRY", str(made / "registry.db"))
    return made


def test_diff_tells_what_became_of_the_data_since_the_training(there: Path) -> None:
    found = document(run("act-data", "diff", "ds@1", "ds@3", "--json"))
    (again,) = found["reingested"]
    assert (again["before"]["recording"], again["before"]["steps"]) == ("a", 39)
    assert again["after"]["steps"] == 25
    assert "25 steps instead of 39" in again["changed"]
    assert found["removed"] == []
    assert [e["recording"] for e in found["added"]] == ["a"]  # what goes on after 25 steps
    assert not found["same_content"]
    text = done(run("act-data", "diff", "ds@v1", "ds@v3"))
    assert "re-ingested" in text
    assert "25 steps instead of 39" in text


def test_diff_with_other_sync_settings_names_the_settings(there: Path) -> None:
    found = document(run("act-data", "diff", "ds@1", "near", "--json"))
    assert any("policy is 'hold', not 'nearest'" in c for c in found["schema_changes"])
    (again,) = found["reingested"]
    assert any("policy is nearest, was hold" in c for c in again["changed"])
    assert len(found["removed"]) == 2


def test_every_version_verifies(there: Path) -> None:
    for ref in ("ds@1", "ds@2", "ds@3", "near"):
        assert document(run("act-data", "verify", ref, "--json"))["problems"] == []


def test_a_checkpoint_knows_exactly_what_it_was_trained_on(there: Path) -> None:
    found = document(run("act-data", "lineage", "run/best", "--json"))
    nodes = {node["id"]: node for node in found["nodes"]}
    recordings = [n["label"] for n in nodes.values() if n["kind"] == "recording"]
    assert sorted(recordings) == ["a", "b", "c"]
    assert {n["label"] for n in nodes.values() if n["kind"] == "version"} == {"ds@v1"}
    (checkpoint,) = found["asked"]
    (trained,) = [e["of"] for e in found["edges"] if e["how"] == "trained" and
                  e["to"] == checkpoint and e["of"].startswith("version:")]  # fmt: skip
    first = document(run("act-data", "show", "ds@1", "--json"))
    assert nodes[trained]["facts"]["content_hash"] == first["content_hash"]
    splits = sorted(e["how"] for e in found["edges"] if e["to"] == trained)
    held_out = sum(e["split"] == "val" for e in first["episodes"])
    assert splits == ["split train"] * (3 - held_out) + ["split val"] * held_out
    assert found["notes"] == []


def test_a_recording_leads_to_every_policy_that_saw_it(there: Path) -> None:
    by_path = document(run("act-data", "lineage", "a.bag", "--json"))
    (node,) = by_path["asked"]
    sha256 = node.removeprefix("recording:")
    by_hash = document(run("act-data", "lineage", sha256[:16], "--json"))
    assert {n["id"] for n in by_hash["nodes"]} == {n["id"] for n in by_path["nodes"]}
    labels = {n["label"] for n in by_path["nodes"]}
    assert {"a", "ds@v1", "ds@v3", "near@v1"} <= labels
    assert "ds@v2" not in labels  # made without it
    assert any(label.endswith("run/best") for label in labels)
    facts = next(n for n in by_path["nodes"] if n["id"] == node)["facts"]
    assert facts["topics"]
    assert facts["end_ns"] > facts["start_ns"]


def test_an_episode_and_a_version_are_walked_both_ways(there: Path) -> None:
    (uid,) = [e["uid"] for e in document(run("act-data", "show", "ds@1", "--json"))["episodes"]
              if e["recording"] == "a"]  # fmt: skip
    for asked in (uid, "ds@1#0", f"ds@1#{uid}"):
        found = document(run("act-data", "lineage", asked, "--json"))
        versions = {n["label"] for n in found["nodes"] if n["kind"] == "version"}
        assert versions == {"ds@v1"}
        assert any(n["kind"] == "checkpoint" for n in found["nodes"])
    whole = document(run("act-data", "lineage", "ds@2", "--json"))
    labels = {n["label"] for n in whole["nodes"]}
    assert {"ds@v1", "ds@v2", "ds@v3", "b", "c"} <= labels
    assert "run/best" not in " ".join(labels)
    assert "> version ds@v2" in done(run("act-data", "lineage", "ds@2"))


def test_training_on_an_old_version_is_training_on_exactly_that(there: Path) -> None:
    train("ds@v1", "again")
    one, two = (json.loads((there / f / "best/dataset.json").read_text()) for f in ("run", "again"))
    assert one == two
    assert (one["version"], len(one["train"]) + len(one["val"])) == (1, 3)
    weights = [(there / f / "best/model.safetensors").read_bytes() for f in ("run", "again")]
    assert weights[0] == weights[1]


def test_a_checkpoint_outlives_its_dataset_in_what_it_knows(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(there / "run", tmp_path / "run")
    monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "empty.db"))
    found = document(run("act-data", "lineage", tmp_path / "run/best", "--json"))
    assert [n["kind"] for n in found["nodes"]] == ["checkpoint", "version", "stats"]
    assert "is not here" in found["notes"][0]


def test_a_rollout_leads_back_to_the_recordings(there: Path, tmp_path: Path) -> None:
    report = tmp_path / "rollout.json"
    report.write_text(done(run("act-model", "deploy", "run/best", "--json", "--max-ticks", 3)))
    found = document(run("act-data", "lineage", report, "--json"))
    assert {n["kind"] for n in found["nodes"]} == {
        "rollout", "checkpoint", "version", "stats", "episode", "recording",
    }  # fmt: skip
    report.write_text("{}")
    refused(run("act-data", "lineage", report), "no document of a policy")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("lineage", "nobody"), 1, "no recording, episode, dataset or checkpoint"),
        (("lineage", "0" * 64), 1, "no recording, episode, dataset or checkpoint"),
        (("lineage", "ds#99"), 1, "no episode '99'"),
        (("diff", "ds", "nobody"), 1, "no dataset is called"),
        (("filter", "ds", "--where", "lenght > 3"), 2, "column 1"),
        (("gc", "ds", "--drop", 3), 2, "it is the newest"),
    ],
)
def test_bad_questions_are_answered_in_two_lines(
    there: Path, arguments: tuple[Any, ...], code: int, says: str
) -> None:
    refused(run("act-data", *arguments), says, code=code)


@pytest.mark.parametrize(
    "arguments",
    [
        ("delete-episodes", "a.hdf5", "0"),
        ("filter", "a.hdf5", "--where", "length > 1"),
        ("restore", "a.hdf5@1"),
        ("split", "a.hdf5", "--val-share", 0.5),
        ("annotate", "a.hdf5", "0", "--task", "x"),
        ("merge", "a.hdf5", "ds", "--out", "m.zarr"),
        ("compact", "a.hdf5", "--out", "m.zarr"),
        ("gc", "a.hdf5"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_hdf5_says_what_is_possible(there: Path, arguments: tuple[Any, ...]) -> None:
    if not (there / "a.hdf5").exists():
        done(run("act-data", "ingest", "a.bag", "--out", "a.hdf5", *ROBOT))
    refused(run("act-data", *arguments), "HDF5", "act-data convert", code=2)


def test_verbs_answer_in_words_and_in_json(there: Path, tmp_path: Path) -> None:
    done(run("act-data", "compact", "ds@3", "--out", tmp_path / "mine.zarr"))
    report = document(run("act-data", "annotate", "mine", "0-1", "--task", "pour", "--success",
                          "yes", "--dry-run", "--json"))  # fmt: skip
    assert (report["dry_run"], report["changed"]) == (True, True)
    ended = run("act-data", "annotate", "mine", "0-1", "--task", "pour", "--success", "yes")
    assert "task '' -> 'pour'" in done(ended)
    assert "mine@v2 is 'annotate task, success of 2 episodes'" in ended.err
    ended = run("act-data", "filter", "mine", "--where", "success and task = 'pour'")
    assert done(ended).count("- ") == 2
    ended = run("act-data", "restore", "mine@2")
    assert done(ended).count("+ ") == 2
    ended = run("act-data", "split", "mine", "--val", "3")
    assert "3 episodes" not in done(ended)
    ended = run("act-data", "gc", "mine", "--drop", 1, "--delete")
    assert "dropped version 1" in ended.err
    ended = run("act-data", "merge", "mine", "near", "--out", tmp_path / "both.zarr")
    refused(ended, "different schemas")
