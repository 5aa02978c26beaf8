"""Cards say what a dataset is, to people and to catalogues, and what people say stays with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from act_data.cards import card
from act_data.check import verify
from act_data.errors import ConflictError, InputError
from act_data.records import (
    DatasetSchema,
    EpisodeInfo,
    SourceRecord,
    StreamReport,
    StreamSync,
    SyncReport,
)
from act_data.remotes import pull, push
from act_data.report import show
from act_data.store import open_dataset, open_writer
from act_data.store.facts import facts_of
from act_data.store.lock import WriterLock
from act_data.types import SyncPolicy
from tests.cli.commands import done, refused, run
from tests.data.remotes.datasets import make
from tests.data.store.contract import make_schema, make_steps, record

SAID = {
    "description": "Two joints reach for a cube.",
    "licence": "CC-BY-4.0",
    "cite": "@misc{reach, title={Reach}, year={2026}}",
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "registry.db"))


def stream(**given: Any) -> StreamReport:
    return StreamReport(
        policy=SyncPolicy.HOLD, tolerance_ms=50, required=True, clock="header",
        received=10, used=9, unused=1, late=0, duplicate=0, **given,
    )  # fmt: skip


def synchronised(path: Path) -> Path:
    """Two episodes of recordings whose streams were measured."""
    schema = make_schema("jpeg")
    streams = {
        name: StreamSync(policy=SyncPolicy.HOLD, tolerance_ms=50) for name in ("joints", "camera")
    }
    schema = DatasetSchema(**{**dict(schema), "streams": streams})
    with open_writer(path, schema, shard_frames=4) as writer:
        for n, (rate, skew, worst, invalid) in enumerate([(30, -7, 12, 1), (28, -5, 40, 0)]):
            episode = writer.episode(f"e{n}")
            for step in make_steps(10, seed=n):
                episode.record(step)
            report = SyncReport(fps=10, clock=schema.clock, ticks=10, valid=10 - invalid, streams={
                "camera": stream(rate_hz=rate, skew_p50_ms=skew, skew_abs_p99_ms=worst,
                                 estimated_drops=n + 1, invalid={"gap": invalid}),
            })  # fmt: skip
            source = SourceRecord(name=f"bag{n}", kind="ros1", sha256=f"{n:064x}")
            info = EpisodeInfo(source=source, task=f"pour | <b>tea</b>\n# {n}", sync=report,
                               success=bool(n))  # fmt: skip
            episode.finish(info)
        writer.commit(["e0", "e1"])
    return path


def catalogue(path: Path) -> Any:
    """The dataset as mlcroissant reads it; it raises where the document does not conform."""
    import mlcroissant

    dataset = mlcroissant.Dataset(str(path))
    assert dataset.metadata.ctx.issues.errors == set()
    return dataset


mlcroissant_warnings = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:rdflib", "ignore:ConjunctiveGraph is deprecated"
)


@mlcroissant_warnings
def test_mlcroissant_validates_the_document_and_reads_the_episodes(tmp_path: Path) -> None:
    synchronised(tmp_path / "ds.zarr")
    report = card("ds.zarr", croissant_out=Path("card.json"), **SAID)
    dataset = catalogue(tmp_path / "card.json")
    assert dataset.metadata.ctx.issues.warnings == set()
    document = json.loads((tmp_path / "card.json").read_text())
    assert document["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert (document["license"], document["citeAs"]) == ("CC-BY-4.0", SAID["cite"])
    episodes = list(dataset.records("episodes"))
    assert [e["episodes/uid"] for e in episodes] == ["e0", "e1"]
    assert [e["episodes/steps"] for e in episodes] == [10, 10]
    assert len(list(dataset.records("splits"))) == len({e.split for e in report.card.episodes})
    steps = next(r for r in dataset.metadata.record_sets if r.id == "steps")
    shapes = {f.id: f.array_shape_tuple for f in steps.fields}
    assert shapes["steps/images/cam_high"] == (16, 24, 3)
    assert shapes["steps/qpos"] == (2,)
    first = document["recordSet"][2]["field"][0]
    assert "rad: elbow, wrist" in first["description"]


@mlcroissant_warnings
def test_a_document_without_anything_said_conforms_as_well(tmp_path: Path) -> None:
    make(tmp_path / "ds.zarr")
    card("ds.zarr", croissant_out=Path("card.json"))
    dataset = catalogue(tmp_path / "card.json")
    warnings = "".join(map(str, dataset.metadata.ctx.issues.warnings))
    assert "license" in warnings, "nobody may say a licence but the owner"


@mlcroissant_warnings
def test_the_validator_would_find_a_document_that_does_not_conform(tmp_path: Path) -> None:
    import mlcroissant

    make(tmp_path / "ds.zarr")
    card("ds.zarr", croissant_out=Path("card.json"))
    document = json.loads((tmp_path / "card.json").read_text())
    document["recordSet"][1]["data"][0].pop("episodes/uid")
    (tmp_path / "card.json").write_text(json.dumps(document))
    with pytest.raises(mlcroissant.ValidationError):
        catalogue(tmp_path / "card.json")


def test_the_page_says_what_the_dataset_is(tmp_path: Path) -> None:
    synchronised(tmp_path / "ds.zarr")
    page = card("ds.zarr", **SAID).markdown
    version = open_dataset(tmp_path / "ds.zarr").version
    for line in (
        "# ds",
        SAID["description"],
        "| robot | two\\_joints |",
        f"| content | `{version.content_hash}` |",
        "| steps | 20 at 10 Hz, 0.0 min |",
        "| successful | 1 of 2 that say |",
        "| licence | CC-BY-4.0 |",
        "| qpos | observation | float32 2 | rad | plain |",
        "| images/cam\\_high | observation | uint8 16x24x3 |  | jpeg, quality 95 |",
        "| camera | hold | 50 ms | 29.0 Hz | -6.0 ms | 40.0 ms | 3 | 5.0 % |",
        SAID["cite"],
    ):
        assert line in page, line
    assert "From 2 ros1 recordings with act-toolkit" in page
    assert "action[t]` is the command at step t + 0" in page


def test_what_a_recording_says_is_text_and_no_markup(tmp_path: Path) -> None:
    synchronised(tmp_path / "ds.zarr")
    page = card("ds.zarr").markdown
    assert "pour \\| \\<b\\>tea\\</b\\> \\# 0 (1)" in page
    assert "<b>" not in page.replace("\\<b\\>", "")
    for line in page.splitlines():
        if line.startswith("| tasks"):
            assert line.replace("\\|", "").count("|") == 3


def test_what_is_said_is_kept_in_the_dataset_and_travels(tmp_path: Path) -> None:
    ds = make(tmp_path / "ds.zarr")
    before = open_dataset(ds).version
    assert card("ds.zarr", **SAID).said == ("description", "licence", "cite")
    assert card("ds.zarr", **SAID).said == ()
    assert card("ds.zarr", licence="CC0-1.0").said == ("licence",)
    assert open_dataset(ds).version == before, "what a training depends on stays as it is"
    assert verify("ds.zarr", "deep").sound
    shown = show("ds.zarr").facts
    assert (shown.description, shown.licence) == (SAID["description"], "CC0-1.0")
    push("ds.zarr", "team")
    pull("team/ds", Path("copy.zarr"))
    assert facts_of(open_dataset(tmp_path / "copy.zarr")) == shown
    pull("team/ds", Path("part.zarr"), episodes=["0"])
    part = card("part.zarr")
    assert part.card.facts.cite == SAID["cite"]
    assert "| part of | ds version 2 (content" in part.markdown
    assert "1 of 2 episodes" in part.markdown


def test_what_was_said_of_an_older_version_holds_until_something_else_is_said(
    tmp_path: Path,
) -> None:
    make(tmp_path / "ds.zarr")
    card("ds.zarr@1", licence="CC-BY-4.0")
    assert card("ds.zarr@2").card.facts.licence == "CC-BY-4.0"
    card("ds.zarr@2", licence="CC0-1.0")
    assert card("ds.zarr@1").card.facts.licence == "CC-BY-4.0"


def test_a_changed_statement_is_found(tmp_path: Path) -> None:
    ds = make(tmp_path / "ds.zarr")
    card("ds.zarr", licence="CC-BY-4.0")
    document = ds / "versions/000002/facts/zarr.json"
    document.write_text(document.read_text().replace("CC-BY-4.0", "CC0-1.0"))
    assert [p.what for p in verify("ds.zarr").problems] != []
    document.unlink()
    assert [p.what for p in verify("ds.zarr").problems] != [], "the folder says that there was one"
    shutil.rmtree(document.parent)
    assert verify("ds.zarr").sound


def test_a_dry_run_shows_and_keeps_nothing(tmp_path: Path) -> None:
    ds = make(tmp_path / "ds.zarr")
    report = card("ds.zarr", out=Path("card.md"), dry_run=True, **SAID)
    assert SAID["cite"] in report.markdown
    assert not (tmp_path / "card.md").exists()
    assert facts_of(open_dataset(ds)).licence == ""


def test_nothing_is_kept_while_another_process_writes(tmp_path: Path) -> None:
    ds = make(tmp_path / "ds.zarr")
    lock = WriterLock(ds)
    with pytest.raises(ConflictError, match="another process"):
        card("ds.zarr", **SAID)
    lock.release()
    card("ds.zarr", **SAID)


def test_an_hdf5_dataset_has_a_card_but_keeps_nothing(tmp_path: Path) -> None:
    with open_writer(tmp_path / "ds.hdf5", make_schema()) as writer:
        record(writer, "e", make_steps(3))
        writer.commit(["e"])
    assert "# ds" in card("ds.hdf5").markdown
    with pytest.raises(InputError, match="cannot keep") as caught:
        card("ds.hdf5", licence="CC0-1.0")
    assert "act-data convert" in caught.value.hint


def test_the_command_prints_writes_and_keeps(tmp_path: Path) -> None:
    make(tmp_path / "ds.zarr")
    assert done(run("act-data", "card", "ds.zarr")).startswith("# ds\n")
    words = ("card", "ds.zarr", "--licence", "CC0-1.0", "-o", "card.md", "--croissant", "card.json")
    ended = run("act-data", *words)
    assert done(ended) == "card.md\ncard.json\n"
    assert "kept in the dataset: licence" in ended.err
    assert "CC0-1.0" in (tmp_path / "card.md").read_text()
    assert json.loads((tmp_path / "card.json").read_text())["license"] == "CC0-1.0"
    report = json.loads(done(run("act-data", "card", "ds.zarr", "--json")))
    assert report["card"]["facts"]["licence"] == "CC0-1.0"
    assert "licence CC0-1.0" in done(run("act-data", "show", "ds.zarr"))


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        pytest.param(("none.zarr",), "none.zarr", 1, id="no-dataset"),
        pytest.param(("ds.zarr", "--licence", "a\x1b[2J"), "'\\x1b'", 2, id="control-character"),
        pytest.param(("ds.zarr", "--cite", "x" * 100_001), "100001 characters", 2, id="overlong"),
        pytest.param(("ds.zarr", "--cite", "\udcff"), "'\\udcff'", 2, id="no-utf-8"),
        pytest.param(("ds.zarr", "--out", "file/card.md"), "file", 1, id="no-folder"),
    ],
)
def test_mistakes_are_two_lines_and_keep_nothing(
    tmp_path: Path, words: tuple[str, ...], says: str, code: int
) -> None:
    ds = make(tmp_path / "ds.zarr")
    (tmp_path / "file").write_text("")
    refused(run("act-data", "card", *words), says, code=code)
    assert facts_of(open_dataset(ds)).licence == ""


def test_what_is_said_goes_into_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from act_data.convert import convert
    from act_data.curate.copies import compact, filter_into, merge
    from act_data.curate.versions import split
    from act_data.store.facts import facts_of
    from tests.data.curate.datasets import ingest

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "registry.db"))
    said = {"one": ("CC-BY-4.0", "Ann, 2025"), "two": ("MIT OR 0BSD", "Bob, 2026"), "three": ("",)}
    for n, (name, facts) in enumerate(said.items()):
        ingest(tmp_path / f"{name}.zarr", range(10 * n, 10 * n + 3), length=2)
        if len(facts) == 2:
            card(name, licence=facts[0], cite=facts[1], description=f"Of {name}.")
    compact("one", tmp_path / "compact.zarr")
    filter_into("one", "length > 2", tmp_path / "filtered.zarr")
    split("one", val_share=0.5)
    convert(tmp_path / "one.zarr", tmp_path / "converted.zarr")
    for name in ("one", "compact", "filtered", "converted"):
        facts = facts_of(open_dataset(tmp_path / f"{name}.zarr"))
        assert (facts.licence, facts.cite, facts.description) == (*said["one"], "Of one.")
    merge(["one", "two"], tmp_path / "both.zarr")
    facts = facts_of(open_dataset(tmp_path / "both.zarr"))
    assert facts.licence == "CC-BY-4.0 AND (MIT OR 0BSD)"
    assert facts.cite == "Ann, 2025\n\nBob, 2026"
    assert facts.description == "Of one.\n\nOf two."
    assert open_dataset(tmp_path / "both.zarr").verify() == []
    merge(["one", "three"], tmp_path / "vague.zarr")
    vague = facts_of(open_dataset(tmp_path / "vague.zarr"))
    assert vague.licence == "CC-BY-4.0 AND NOASSERTION"
    hdf5 = convert(tmp_path / "one.zarr", tmp_path / "aloha")
    assert any("stay behind" in note for note in hdf5.notes)
