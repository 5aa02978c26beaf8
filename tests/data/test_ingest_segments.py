"""Recordings that become several episodes, or part of one: which rows are in which, end to end."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from act_data.errors import DataError, InputError
from act_data.ingest import IngestReport, IngestSettings, ingest
from act_data.interfaces import DatasetReader
from act_data.records import SYNC_INDEX, SYNC_SKEW, TIMESTAMP
from act_data.store import open_dataset
from tests.bags import KINDS, Entry, Kind
from tests.data.segments.marks import BOOL, EMPTY, JOY
from tests.small_robot import HZ, IMAGE, JOINTS, S, bag, entries, joints, picture, robot_file

ARRAYS = ("qpos", "action", "images/cam", TIMESTAMP, SYNC_SKEW, SYNC_INDEX)


def made(
    folder: Path, sources: Iterable[Path], out: str = "ds.zarr", **chosen: object
) -> tuple[DatasetReader, IngestReport]:
    """What an ingest of the small robot made."""
    values = {"robot": str(robot_file(folder)), "codec": "raw", **chosen}
    report = ingest(list(sources), folder / out, IngestSettings.model_validate(values))
    return open_dataset(folder / out), report


def rows(reader: DatasetReader) -> dict[str, np.ndarray]:
    """The rows of all episodes, one after the other."""
    count = len(reader.episodes)
    return {name: np.concatenate([reader.read(name, n) for n in range(count)]) for name in ARRAYS}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray], stretch: slice) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(one[name], other[name][stretch], err_msg=name)


def seconds(reader: DatasetReader, episode: int) -> tuple[float, float]:
    """First and last tick of an episode, from the first message of the recording (1 s) on."""
    stamps = reader.read(TIMESTAMP, episode)
    return round(stamps[0] / S - 1, 3), round(stamps[-1] / S - 1, 3)


def at(t: float) -> int:
    return round((1 + t) * S)


def switch(t: float, value: bool) -> Entry:
    return ("/record", BOOL, at(t), {"data": value})


# --- a fixed length ---


@pytest.mark.parametrize("shift", [0, 1, 3])
@pytest.mark.parametrize("longest", [1, 7, 20, 58, 1000])
def test_pieces_of_a_length_together_are_the_recording_that_was_not_cut(
    tmp_path: Path, shift: int, longest: int
) -> None:
    path = bag(tmp_path, "a", entries(60))
    whole, _ = made(tmp_path, [path], action_shift=shift)
    pieces, report = made(tmp_path, [path], "cut.zarr", action_shift=shift, max_timesteps=longest)
    total = 60 - max(1, shift)
    assert whole.episodes[0].length == total
    assert len(pieces.episodes) == math.ceil(total / longest)
    assert {e.length for e in pieces.episodes[:-1]} <= {longest}
    same(rows(pieces), rows(whole), slice(None))
    assert [e.segment.number for e in report.episodes if e.segment] == list(
        range(len(pieces.episodes))
    )
    assert [e.segment.last for e in report.episodes if e.segment][-2:] == [False, True][
        -len(pieces.episodes) :
    ]


# --- marks ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shift", [0, 1])
def test_a_switch_cuts_a_recording_into_what_lies_between(
    tmp_path: Path, kind: Kind, shift: int
) -> None:
    what = [*entries(90), switch(0.0, False), switch(0.51, True), switch(1.2, False),
            switch(1.9, True), switch(2.02, True), switch(2.6, False)]  # fmt: skip
    path = bag(tmp_path, "a", what, kind)
    whole, _ = made(tmp_path, [path], action_shift=shift)
    reader, report = made(
        tmp_path, [path], "cut.zarr", action_shift=shift, split_by=["marker:/record"]
    )
    assert len(reader.episodes) == 2
    everything = rows(whole)
    stamps = everything[TIMESTAMP]
    # A segment's frames are those whose tick lies in it; its last frame is seen and has no row, so
    # that the action of every row lies in the segment, too.
    wanted: list[int] = []
    for start, stop in ((0.51, 1.2), (1.9, 2.6)):
        inside = np.flatnonzero((stamps >= at(start)) & (stamps < at(stop)))
        wanted += inside[: len(inside) - max(1, shift)].tolist()
    assert [e.steps for e in report.episodes] == pytest.approx([20, 20], abs=1)
    for name in ARRAYS:
        np.testing.assert_array_equal(rows(reader)[name], everything[name][wanted], err_msg=name)
    for number, episode in enumerate(report.episodes):
        assert episode.segment is not None
        assert episode.segment.start_ns == reader.read(TIMESTAMP, number)[0]
        assert episode.segment.end_ns == reader.read(TIMESTAMP, number)[-1]
    assert reader.verify() == []


def test_what_lies_between_segments_is_not_decoded(tmp_path: Path) -> None:
    broken = [(*e[:3], {**e[3], "data": b""}) if "data" in e[3] and e[2] > at(1.2) else e
              for e in entries(60)]  # fmt: skip
    path = bag(tmp_path, "a", [*broken, switch(0.2, True), switch(1.0, False)])
    with pytest.raises(DataError, match="/cam"):
        made(tmp_path, [path], "whole.zarr")
    reader, _ = made(tmp_path, [path], split_by=["marker:/record"])
    assert [e.length for e in reader.episodes] == [23]


def test_buttons_start_and_stop_or_cut(tmp_path: Path) -> None:
    def joy(t: float, *buttons: int) -> list[Entry]:
        up = (0,) * len(buttons)
        return [("/joy", JOY, at(t + d), {"axes": [], "buttons": b})
                for d, b in ((0, buttons), (0.05, up))]  # fmt: skip

    what = [*entries(90), *joy(0.5, 1, 0), *joy(1.1, 0, 1), *joy(1.9, 1, 0)]
    path = bag(tmp_path, "a", what)
    reader, _ = made(tmp_path, [path], "two.zarr", split_by=["start:/joy:0", "stop:/joy:1"])
    assert [seconds(reader, n)[0] for n in range(2)] == pytest.approx([0.5, 1.9], abs=0.034)
    assert seconds(reader, 0)[1] < 1.1 < 1.9 < seconds(reader, 1)[1]
    reader, _ = made(tmp_path, [path], "three.zarr", split_by=["cut:/joy:0"])
    assert len(reader.episodes) == 3
    assert sum(e.length for e in reader.episodes) == 90 - 3
    reader, _ = made(tmp_path, [path], "toggled.zarr", split_by=["marker:/joy:0"])
    assert seconds(reader, 0) == pytest.approx((0.5, 1.83), abs=0.034)


def test_a_switch_with_a_robot_on_another_clock_cuts_at_the_same_frames(tmp_path: Path) -> None:
    marks = [switch(0.51, True), switch(1.2, False)]
    plain, _ = made(tmp_path, [bag(tmp_path, "a", [*entries(60), *marks])],
                    split_by=["marker:/record"])  # fmt: skip
    simulated = [
        (topic, kind, t, {**v, "header": t - 900 * S}) for topic, kind, t, v in entries(60)
    ]
    other, _ = made(
        tmp_path, [bag(tmp_path, "b", [*simulated, *marks])], "b.zarr", split_by=["marker:/record"]
    )
    assert other.read(TIMESTAMP, 0)[0] > 900 * S
    np.testing.assert_array_equal(other.read("qpos", 0), plain.read("qpos", 0))


def test_recordings_without_a_mark_or_its_topic_say_so(tmp_path: Path) -> None:
    never = bag(tmp_path, "never", [*entries(20), switch(0.1, False)])
    with pytest.raises(DataError, match=r"^never: no usable step. No segment begins in it"):
        made(tmp_path, [never], split_by=["marker:/record"])
    with pytest.raises(DataError, match=r"^none: there is no topic '/record' to split by"):
        made(tmp_path, [bag(tmp_path, "none", entries(20))], split_by=["marker:/record"])
    assert not (tmp_path / "ds.zarr").exists()


def test_a_segment_without_a_step_is_told_and_costs_nothing_else(tmp_path: Path) -> None:
    marks = [switch(t, n % 2 == 0) for n, t in enumerate((0.2, 0.8, 1.201, 1.202, 1.5, 1.9))]
    reader, report = made(
        tmp_path, [bag(tmp_path, "a", [*entries(60), *marks])], split_by=["marker:/record"]
    )
    assert len(reader.episodes) == 2
    assert report.notes == ("a: no usable step from 1.20 s to 1.20 s",)
    assert [e.segment.number for e in report.episodes if e.segment] == [0, 1]


def with_silence() -> list[Entry]:
    return [*entries(30), *entries(30, start_s=4.0), *entries(30, start_s=6.0)]


def test_a_silence_ends_an_episode_and_a_shorter_one_is_masked(tmp_path: Path) -> None:
    path = bag(tmp_path, "a", with_silence())
    reader, report = made(tmp_path, [path], split_by=["silence:1.5"])
    assert len(reader.episodes) == 2
    first, second = (seconds(reader, n) for n in range(2))
    assert first[1] < 1.1 < 2.9 < second[0]
    assert [e.masked for e in report.episodes] == pytest.approx([0, 29], abs=3)
    whole, report = made(tmp_path, [path], "whole.zarr")
    assert len(whole.episodes) == 1
    assert report.episodes[0].masked > 80


def test_a_long_silence_holds_no_pictures_and_leaves_no_masked_tail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from act_data.episodes import assembler

    monkeypatch.setattr(assembler, "MAX_HELD_BYTES", 16 * 24 * 3 * 4)
    reader, report = made(tmp_path, [bag(tmp_path, "a", with_silence())], split_by=["silence:0.5"])
    assert [e.masked for e in report.episodes] == [0, 0, 0]
    assert sum(e.length for e in reader.episodes) >= 84


# --- ranges that a file lists ---


def test_ranges_become_episodes_with_what_is_said_about_them(tmp_path: Path) -> None:
    paths = [bag(tmp_path, name, entries(90, phase=n)) for n, name in enumerate(("a", "b", "c"))]
    (tmp_path / "a.yaml").write_text("task: pour\noperator: ada\nsuccess: yes\n")
    table = tmp_path / "segments.csv"
    table.write_text(
        "recording,start,end,task,notes\n"
        "a,0.5,1.0,,first\n"
        "a,1970-01-01T00:00:02.5Z,1970-01-01T01:00:03+01:00,wipe,\n"
        "b.bag,2,,,\n"
    )
    whole, _ = made(tmp_path, paths, "whole.zarr")
    reader, report = made(tmp_path, paths, segments=table, operator="bob")
    assert [e.recording for e in report.episodes] == ["a", "a", "b"]
    assert report.notes == (f"c: left out, {table} lists no segment",)
    infos = [reader.episode(e.uid).info for e in reader.episodes]
    assert [(i.task, i.operator, i.success, i.notes) for i in infos] == [
        ("pour", "bob", True, "first"), ("wipe", "bob", True, ""), ("", "bob", None, ""),
    ]  # fmt: skip
    starts = [seconds(reader, n)[0] for n in range(3)]
    assert starts == pytest.approx([0.5, 1.5, 2.0], abs=0.034)
    assert all(s >= w for s, w in zip(starts, [0.5, 1.5, 2.0], strict=True))
    lengths = [e.length for e in reader.episodes]
    assert lengths == pytest.approx([14, 14, 29], abs=1)
    stamps = whole.read(TIMESTAMP, 0)
    first = int(np.flatnonzero(stamps == reader.read(TIMESTAMP, 0)[0])[0])
    np.testing.assert_array_equal(
        reader.read("images/cam", 0), whole.read("images/cam", 0)[first : first + lengths[0]]
    )


def test_a_changed_row_makes_one_new_episode_and_finds_the_others(tmp_path: Path) -> None:
    path = bag(tmp_path, "a", entries(90))
    table = tmp_path / "segments.csv"
    table.write_text("recording,start,end\na,0.5,1.0\na,1.5,2.0\n")
    _, before = made(tmp_path, [path], segments=table)
    _, again = made(tmp_path, [path], segments=table)
    assert [e.found for e in again.episodes] == [True, True]
    table.write_text("recording,start,end\na,0.5,1.0\na,1.5,2.2\n")
    reader, after = made(tmp_path, [path], segments=table)
    assert [e.found for e in after.episodes] == [True, False]
    assert after.episodes[0].uid == before.episodes[0].uid
    assert [e.steps for e in after.episodes][1] > before.episodes[1].steps
    assert len(reader.episodes) == 3


def test_ranges_that_cannot_be_are_told_before_anything_is_written(tmp_path: Path) -> None:
    path = bag(tmp_path, "a", entries(30))
    table = tmp_path / "segments.csv"
    for text, says in (("a,0.5,0.4", ":2: it ends"), ("x,0,1", ":2: no recording"),
                       ("a,0,0.5\na,1970-01-01T00:00:01.2Z,", ":3: it overlaps")):  # fmt: skip
        table.write_text(f"recording,start,end\n{text}\n")
        with pytest.raises(InputError) as caught:
            made(tmp_path, [path], segments=table)
        assert says in str(caught.value)
        assert not (tmp_path / "ds.zarr").exists()
    with pytest.raises(ValueError, match="use one"):
        IngestSettings(segments=table, split_by=("cut:/t",))


# --- idle head and tail ---


def resting(frames: int, moving: range) -> list[Entry]:
    """The robot publishes all the time, and its leader moves in some frames only."""
    found: list[Entry] = []
    for i in range(frames):
        t = at(i / HZ)
        angle = 0.05 * (min(max(i, moving.start), moving.stop) - moving.start)
        found.append(("/cam/image_raw", IMAGE, t, {"header": t, **picture(i)}))
        found.append(("/arm", JOINTS, t + 1, {"header": t + 1, **joints(i / 10)}))
        leader = {"name": ["a", "b"], "position": [angle, 0.0]}
        found.append(("/lead", JOINTS, t + 1, {"header": t + 1, **leader}))
    return found


@pytest.mark.parametrize("out", ["ds.zarr", "ds"])
def test_idle_head_and_tail_are_left_out(tmp_path: Path, out: str) -> None:
    path = bag(tmp_path, "a", resting(120, range(40, 80)))
    whole, _ = made(tmp_path, [path], f"whole_{out}")
    reader, report = made(tmp_path, [path], out, trim_idle=True)
    (entry,) = reader.episodes
    action = whole.read("action", 0)[:, 0]
    moved = np.flatnonzero(np.abs(np.diff(action)) > 0.01)
    same(rows(reader), rows(whole), slice(moved[0], moved[-1] + 2))
    assert entry.length == 41
    assert report.episodes[0].uid not in {e.uid for e in whole.episodes}
    coarse, _ = made(tmp_path, [path], f"coarse_{out}", trim_idle=True, idle_threshold=0.12)
    assert coarse.episodes[0].length == 39 - 1


def test_lengths_are_cut_after_idle_steps_were_left_out(tmp_path: Path) -> None:
    path = bag(tmp_path, "a", resting(120, range(40, 80)))
    trimmed, _ = made(tmp_path, [path], "trimmed.zarr", trim_idle=True)
    reader, _ = made(tmp_path, [path], trim_idle=True, max_timesteps=15)
    assert [e.length for e in reader.episodes] == [15, 15, 11]
    same(rows(reader), rows(trimmed), slice(None))


def test_a_recording_in_which_nothing_moves_says_so(tmp_path: Path) -> None:
    path = bag(tmp_path, "still", resting(60, range(0)))
    with pytest.raises(DataError, match=r"^still: no usable step. Nothing moves in it"):
        made(tmp_path, [path], trim_idle=True)


# --- what is found again ---


@pytest.mark.parametrize("out", ["ds.zarr", "ds"])
def test_episodes_of_a_cut_recording_are_found_without_reading_it_again(
    tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = [*entries(90), switch(0.3, True), switch(1.0, False), switch(1.5, True)]
    path = bag(tmp_path, "a", what)
    chosen = {"split_by": ["marker:/record"], "max_timesteps": 12}
    _, first = made(tmp_path, [path], out, **chosen)
    assert len(first.episodes) == 6

    from act_data.ingest import recording

    def refuse(*_: object) -> None:
        raise AssertionError("the recording was read again")

    monkeypatch.setattr(recording, "Episodes", refuse)
    reader, again = made(tmp_path, [path], out, **chosen)
    assert (again.added, [e.uid for e in again.episodes]) == (0, [e.uid for e in first.episodes])
    assert all(e.found for e in again.episodes)
    assert reader.version.number == 1


def test_an_interrupted_cut_recording_keeps_what_was_finished(tmp_path: Path) -> None:
    path = bag(tmp_path, "a", entries(90))
    values = {"robot": str(robot_file(tmp_path)), "max_timesteps": 20}

    def interrupt(done: int, total: int) -> None:
        if done > 0.6 * total:
            raise KeyboardInterrupt

    chosen = IngestSettings.model_validate(values)
    with pytest.raises(KeyboardInterrupt):
        ingest([path], tmp_path / "ds.zarr", chosen, progress=interrupt)
    report = ingest([path], tmp_path / "ds.zarr", chosen)
    assert [e.found for e in report.episodes] == [True, True, False, False, False]
    whole = ingest([path], tmp_path / "other.zarr", chosen)
    assert whole.content_hash == report.content_hash


@settings(max_examples=8, deadline=None)
@given(
    marks=st.lists(st.floats(0.05, 1.9), min_size=1, max_size=5, unique=True),
    longest=st.sampled_from([None, 9]),
    shift=st.integers(0, 2),
)
def test_segments_never_share_a_row_and_never_make_one(
    tmp_path_factory: pytest.TempPathFactory, marks: list[float], longest: int | None, shift: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    presses: list[Entry] = [("/press", EMPTY, at(t), {}) for t in marks]
    path = bag(folder, "a", [*entries(60), *presses])
    whole, _ = made(folder, [path], "whole.zarr", action_shift=shift)
    reader, _ = made(
        folder, [path], split_by=["cut:/press"], max_timesteps=longest, action_shift=shift
    )
    everything, cut = rows(whole), rows(reader)
    places = np.searchsorted(everything[TIMESTAMP], cut[TIMESTAMP])
    assert len(set(places)) == len(places)
    for name in ARRAYS:
        np.testing.assert_array_equal(cut[name], everything[name][places], err_msg=name)
    # Only the rows are missing whose frame, or whose action's frame, is the last of a segment.
    assert len(places) >= 60 - max(1, shift) * (len(marks) + 1)
