"""Odd recordings through the whole path: what is written, and what the account says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from act_data.ingest import IngestSettings, ingest
from act_data.records import SyncReport
from act_data.sources import find_recordings, open_recording
from act_data.store import open_dataset
from tests.bags import KINDS, Entry, Kind, write
from tests.small_robot import JOINTS, S, entries, joints, robot_file


def account(folder: Path, source: Path) -> SyncReport:
    """The account of an ingest of the small robot."""
    settings = IngestSettings(robot=str(robot_file(folder)))
    report = ingest([source], folder / "ds.zarr", settings)
    (episode,) = report.episodes
    assert episode.sync is not None
    return episode.sync


def shifted(entry: Entry, by_ns: int) -> Entry:
    """The same message under a clock that was set."""
    topic, type_, recv_ns, values = entry
    return topic, type_, recv_ns + by_ns, {**values, "header": values["header"] + by_ns}


@pytest.mark.parametrize("kind", KINDS)
def test_a_clock_set_back_while_recording_is_told(kind: Kind, tmp_path: Path) -> None:
    what = entries(90)
    half = len(what) // 2
    stepped = [*what[:half], *(shifted(entry, -2 * S) for entry in what[half:])]
    sync = account(tmp_path, write(tmp_path / "stepped", kind, stepped))
    assert sync.notes[0].startswith("receive times go back by up to 1.97 s")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_in_order_has_no_notes(kind: Kind, tmp_path: Path) -> None:
    source = write(tmp_path / "even", kind, entries(60))
    with open_recording(*find_recordings([source])) as opened:
        assert len(list(opened.messages(opened.topics))) == 180
        assert opened.notes == ()


def test_one_early_receive_time_does_not_cost_the_recording(tmp_path: Path) -> None:
    what = entries(60, start_s=1000)
    topic, type_, _, values = what[0]
    sync = account(
        tmp_path, write(tmp_path / "early", "mcap", [(topic, type_, 5, values), *what[1:]])
    )
    assert sync.clock.value == "header"
    assert sync.valid == sync.ticks >= 58
    steps = np.diff(np.asarray(open_dataset(tmp_path / "ds.zarr").read("timestamp", 0)))
    assert set(np.unique(np.round(steps / 1e6, 1))) == {33.3}


LATCHED = """\
name: latched
fps: 1
streams:
  lead: {topic: /lead, kind: joint_state, joints: [a, b], unit: rad, sync: nearest}
  fixed: {topic: /fixed, kind: numeric, field: [data], tolerance_ms: 86400000}
arrays:
  fixed: {role: observation, from: fixed}
  action: {role: action, from: lead}
"""


def test_one_latched_message_holds_for_the_whole_recording(tmp_path: Path) -> None:
    fixed: Entry = ("/fixed", "std_msgs/msg/Float64", 5 * S, {"data": 7.0})
    lead = [("/lead", JOINTS, t, {"header": t, **joints(0)}) for t in range(60 * S, 200 * S, S)]
    settings = IngestSettings(robot=str(robot_file(tmp_path, LATCHED)))
    source = write(tmp_path / "latched", "db3", [fixed, *lead])
    (episode,) = ingest([source], tmp_path / "ds.zarr", settings).episodes
    assert episode.sync is not None
    assert episode.masked == 0
    assert episode.steps == 139
    values = np.asarray(open_dataset(tmp_path / "ds.zarr").read("fixed", 0))
    assert (values == 7).all()
