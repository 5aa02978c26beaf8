"""`act-data ingest` as it is typed: cutting recordings up, and bad ones among good ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from act_data.ingest import IngestReport
from tests.cli.commands import done, refused, run
from tests.data.segments.marks import BOOL, EMPTY
from tests.small_robot import S, bag, entries, robot_file


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two recordings with marks and one that is cut short; the working folder."""
    monkeypatch.chdir(tmp_path)
    robot_file(tmp_path)
    for n in range(2):
        marks = [("/press", EMPTY, round(t * S), {}) for t in (1.5, 2.0)]
        switch = [("/on", BOOL, round(t * S), {"data": t < 2}) for t in (1.5, 2.2)]
        bag(tmp_path, f"good_{n}", [*entries(50, phase=n), *marks, *switch])
    bad = bag(tmp_path, "bad", entries(30))
    bad.write_bytes(bad.read_bytes()[:3000])
    return tmp_path


def ingest(*arguments: object) -> tuple[object, ...]:
    return ("ingest", *arguments, "--robot", "small.yaml", "--out", "ds.zarr")


GOOD = ("good_0.bag", "good_1.bag")


def report(*arguments: object) -> IngestReport:
    ended = run("act-data", *ingest(*arguments), "--json")
    return IngestReport.model_validate_json(done(ended))


def test_every_way_to_cut_is_an_option(there: Path) -> None:
    one = report(*GOOD, "--split-by", "marker:/on")
    assert [(e.recording, e.segment.number) for e in one.episodes if e.segment] == [
        ("good_0", 0), ("good_1", 0),
    ]  # fmt: skip
    three = report(*GOOD, "--split-by", "cut:/press", "--jobs", 2)
    assert [e.segment.number for e in three.episodes if e.segment] == [0, 1, 2] * 2
    pieces = report(*GOOD, "--max-timesteps", 20)
    assert [e.steps for e in pieces.episodes] == [20, 20, 9] * 2
    trimmed = report(*GOOD, "--trim-idle", "--idle-threshold", 0.05)
    assert [e.steps for e in trimmed.episodes] == [49, 49]
    Path("rows.csv").write_text("recording,start,end,task\ngood_0,0.2,1.0,pour\n")
    listed = report(*GOOD, "--segments", "rows.csv")
    assert [e.recording for e in listed.episodes] == ["good_0"]
    assert listed.notes == ("good_1: left out, rows.csv lists no segment",)


def test_flags_win_over_what_lies_beside_a_recording(there: Path) -> None:
    Path("good_0.yaml").write_text("task: pour\noperator: ada\nsuccess: true\n")
    report(*GOOD, "--task", "wipe", "--failure")
    shown = json.loads(done(run("act-data", "show", "ds", "--json")))
    said = [(e["task"], e["operator"], e["success"]) for e in shown["episodes"]]
    assert said == [("wipe", "ada", False), ("wipe", "", False)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_with_keep_going_a_bad_recording_is_in_the_table_and_the_exit_code(
    there: Path, jobs: int
) -> None:
    arguments = ingest("good_0.bag", "bad.bag", "good_1.bag", "--keep-going", "--jobs", jobs)
    ended = run("act-data", *arguments)
    assert ended.code == 3
    table = ended.out[ended.out.index("failed") :]
    assert "bad" in table
    assert "damaged or was cut" in table
    assert "2 new of 2 episodes" in ended.out
    again = run("act-data", *arguments, "--json")
    assert again.code == 3
    told = IngestReport.model_validate_json(again.out)
    assert [f.recording for f in told.failed] == ["bad"]
    assert told.failed[0].hint
    assert [e.found for e in told.episodes] == [True, True]


def test_without_it_nothing_is_written(there: Path) -> None:
    refused(run("act-data", *ingest(*GOOD, "bad.bag")), "bad", "damaged or was cut")
    refused(run("act-data", *ingest("bad.bag", "--keep-going")), "bad")
    assert not Path("ds.zarr").exists()


def test_a_segment_that_holds_nothing_is_a_warning(there: Path) -> None:
    Path("rows.yaml").write_text(
        "- {recording: good_?, end: 1}\n- {recording: good_1, start: 900}\n"
    )
    ended = run("act-data", *ingest(*GOOD, "--segments", "rows.yaml"))
    assert ended.code == 0
    assert "warning: good_1: no usable step from 900.00 s to the end" in ended.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--split-by", "press"], ["--split-by", "silence:SECONDS"], id="split"),
        pytest.param(["--split-by", "cut:/press", "--segments", "x.csv"], ["use one"], id="both"),
        pytest.param(["--segments", "gone.csv"], ["gone.csv: cannot be read"], id="no-file"),
        pytest.param(["--segments", "wrong.csv"], ["wrong.csv:2: start is 'x'"], id="wrong-file"),
        pytest.param(["--idle-threshold", "0"], ["--idle-threshold is 0"], id="threshold"),
        pytest.param(["--idle-threshold", "inf"], ["--idle-threshold is inf"], id="infinite"),
    ],
)
def test_what_cannot_be_is_refused_with_two_lines(
    there: Path, arguments: list[str], says: list[str]
) -> None:
    Path("wrong.csv").write_text("recording,start\ngood_0,x\n")
    refused(run("act-data", *ingest(*GOOD, *arguments)), *says, code=2)
    assert not Path("ds.zarr").exists()


def test_a_wrong_sidecar_is_told_with_its_line(there: Path) -> None:
    Path("good_1.yaml").write_text("task: pour\nsuccess: perhaps\n")
    said = refused(run("act-data", *ingest(*GOOD)), "good_1.yaml:2: success is 'perhaps'", code=2)
    assert "Traceback" not in said


def test_a_topic_that_marks_nothing_is_told(there: Path) -> None:
    refused(run("act-data", *ingest(*GOOD, "--split-by", "cut:/arm")), "/arm is", "marks nothing")
    refused(run("act-data", *ingest(*GOOD, "--split-by", "cut:/pres")), "'/pres'", "Near: /press")
