"""Files that list segments: what they may say, and how mistakes in them are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from act_data.errors import InputError
from act_data.records import Annotation
from act_data.segments import Action, read_ranges
from act_data.sources import Recording

S = 10**9
ORIGIN = 1_700_000_000 * S


def recording(name: str) -> Recording:
    return Recording(name, "ros1", (Path(f"bags/{name}.bag"),))


def listed(folder: Path, text: str, name: str = "segments.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


CSV = """\
recording,start,end,task,operator,success,notes
pour_1,1.5,10,pour tea,ada,true,"slow, but fine"
pour_*,20,,,,no,
"""
YAML = """\
# two of one recording
- {recording: pour_1, start: 1.5, end: 10, task: pour tea, operator: ada, success: true,
   notes: "slow, but fine"}
- recording: pour_*
  start: 20
  success: no
"""
JSON = """[
  {"recording": "pour_1", "start": 1.5, "end": 10, "task": "pour tea", "operator": "ada",
   "success": true, "notes": "slow, but fine"},
  {"recording": "pour_*", "start": 20, "success": false}
]"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("s.csv", CSV, id="csv"),
        pytest.param("s.csv", "\ufeff" + CSV.replace("\n", "\r\n"), id="csv-of-a-spreadsheet"),
        pytest.param("s.yaml", YAML, id="yaml"),
        pytest.param("s.json", JSON, id="json"),
    ],
)
def test_a_table_says_the_same_in_every_format(tmp_path: Path, name: str, text: str) -> None:
    ranges = read_ranges(listed(tmp_path, text, name))
    first, second = ranges.rows
    assert first.annotation == Annotation(
        task="pour tea", operator="ada", success=True, notes="slow, but fine"
    )
    assert second.annotation == Annotation(success=False)
    marks = ranges.of(recording("pour_1")).marks(ORIGIN)
    assert [(m.action, m.recv_ns - ORIGIN) for m in marks] == [
        (Action.START, 1.5 * S), (Action.STOP, 10 * S), (Action.START, 20 * S),
    ]  # fmt: skip
    assert [row.line for row in ranges.of(recording("pour_2")).rows] == [second.line]
    assert ranges.of(recording("wipe")).rows == ()


def test_the_same_time_said_in_three_ways_is_the_same_segment(tmp_path: Path) -> None:
    keys = set()
    for start in ("2.25", str(ORIGIN + 2_250_000_000), "2023-11-14T23:13:22.25+01:00"):
        path = listed(tmp_path, f"recording,start,end\na,{start},{ORIGIN + 9 * S}\n")
        keys.add(read_ranges(path).marks(ORIGIN)[0].key)
    assert keys == {f"{ORIGIN + 2_250_000_000}-{ORIGIN + 9 * S}"}


def test_segments_come_in_order_of_time_and_may_touch(tmp_path: Path) -> None:
    ranges = read_ranges(listed(tmp_path, "recording,start,end\na,5,9\na,0,5\n"))
    ranges.check([recording("a")])
    assert [m.recv_ns // S for m in ranges.marks(0)] == [0, 5, 5, 9]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("recording,start\na,soon\n", ":2: start is 'soon'", id="no-time"),
        pytest.param("recording,end\n\na,-1\n", ":3: end is '-1'", id="before-the-recording"),
        pytest.param("recording,start\na,2026-01-01T00:00\n", ":2: start is '2026", id="what-zone"),
        pytest.param("recording,start\na,1700000000.5\n", ":2: start is '17", id="unix-seconds"),
        pytest.param("recording,start\na,nan\n", ":2: start is 'nan'", id="nan"),
        pytest.param(f"recording,start\na,{'1' * 5000}\n", ":2: start is '11", id="long-number"),
        pytest.param("recording,start,end\na,5,5\n", ":2: it ends at 5", id="nothing"),
        pytest.param("recording,success\na,maybe\n", ":2: success is 'maybe'", id="no-answer"),
        pytest.param("recording,colour\na,red\n", ":2: unknown key 'colour'", id="unknown"),
        pytest.param("start,end\n1,2\n", ":1: no column 'recording'", id="of-what"),
        pytest.param("recording,recording\na,a\n", ":1: column 'recording' twice", id="twice"),
        pytest.param("recording\n,\na,b\n", ":3: 2 cells for 1 columns", id="too-many-cells"),
        pytest.param('recording\n"a\n', ": not CSV", id="an-open-quote"),
        pytest.param("recording,start\n,1\n", ":2: recording is None", id="no-name"),
        pytest.param("recording\n", ":1: no segment is listed", id="empty"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_csv_is_told_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    path = listed(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_ranges(path)
    assert f"{path}" in str(caught.value)
    assert says in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(
            "- {recording: a}\n- {recording: b, start: x}\n", ":2: start is 'x'", id="time"
        ),
        pytest.param("- recording: a\n  end: 3\n  to: 4\n", ":3: unknown key 'to'", id="unknown"),
        pytest.param("recording: a\n", ":1: not a list of segments", id="not-a-list"),
        pytest.param("- a\n", ":1: 'a' is no segment", id="no-row"),
        pytest.param("- {recording: [a, b]}\n", ":1: recording is", id="a-list"),
        pytest.param("- {recording: a\n", "not YAML", id="an-open-bracket"),
        pytest.param("- !!python/object:os.system {}\n", ":1: tag", id="a-tag"),
    ],
)
def test_a_mistake_in_a_yaml_is_told_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=r"segments\.yaml") as caught:
        read_ranges(listed(tmp_path, text, "segments.yaml"))
    assert says in str(caught.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = listed(tmp_path, "recording,start,success\na,x,\nb,1,perhaps\nc,y,\n")
    with pytest.raises(InputError, match="has 3 problems") as caught:
        read_ranges(path)
    assert [f":{line}:" in str(caught.value) for line in (2, 3, 4)] == [True] * 3


def test_segments_of_one_recording_do_not_overlap(tmp_path: Path) -> None:
    path = listed(tmp_path, "recording,start,end\na,0,5\nb,0,5\n*,4,6\n")
    with pytest.raises(InputError, match=r":4: it overlaps the segment of line 2"):
        read_ranges(path).check([recording("a"), recording("b")])
    mixed = listed(tmp_path, f"recording,start,end\na,0,5\na,{ORIGIN + S},{ORIGIN + 9 * S}\n")
    ranges = read_ranges(mixed)
    ranges.check([recording("a")])  # only the recording can tell
    with pytest.raises(InputError, match=r":3: it overlaps the segment of line 2"):
        ranges.marks(ORIGIN)
    backwards = listed(tmp_path, f"recording,start,end\na,2,{ORIGIN + S}\n")
    with pytest.raises(InputError, match=r":2: it ends before it starts"):
        read_ranges(backwards).marks(ORIGIN)


def test_a_row_about_no_recording_is_a_mistake(tmp_path: Path) -> None:
    path = listed(tmp_path, "recording\npour_1.bag\npuor_2\n")
    with pytest.raises(InputError, match=r":3: no recording is called 'puor_2'") as caught:
        read_ranges(path).check([recording("pour_1"), recording("pour_2")])
    assert "pour_1, pour_2" in caught.value.hint


def test_a_file_that_cannot_be_read_or_is_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.csv: cannot be read"):
        read_ranges(tmp_path / "gone.csv")
    path = tmp_path / "bytes.csv"
    path.write_bytes(b"recording\n\xff\xfe\n")
    with pytest.raises(InputError, match=r":2: not UTF-8"):
        read_ranges(path)
    path.write_bytes(b"x" * (9 * 2**20))
    with pytest.raises(InputError, match="larger than"):
        read_ranges(path)
    path.write_text("recording\n" + "a" * 200_000 + "\n")
    with pytest.raises(InputError, match="not CSV"):
        read_ranges(path)
