"""Many recordings: on several processes as on one, and with bad ones among them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from threading import Thread

import pytest

from act_data.errors import ActError, ConflictError, DataError, InputError
from act_data.ingest import IngestReport, IngestSettings, ingest
from act_data.interfaces import DatasetReader
from act_data.store import open_dataset
from tests.bags import Entry, write
from tests.cli.commands import listing
from tests.data.segments.marks import BOOL
from tests.small_robot import ROBOT, S, bag, entries, robot_file

OUTS = ["ds.zarr", "ds"]


def made(
    folder: Path, sources: list[Path], out: str = "ds.zarr", **chosen: object
) -> tuple[DatasetReader, IngestReport]:
    values = {"robot": str(robot_file(folder)), **chosen}
    report = ingest(sources, folder / out, IngestSettings.model_validate(values))
    return open_dataset(folder / out), report


def bags(folder: Path, count: int = 4) -> list[Path]:
    """Recordings of different lengths, so that they are not ready in their order."""
    return [bag(folder, f"{n}", entries(60 - 12 * n, phase=n)) for n in range(count)]


def cut_in_half(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def broken_inside(folder: Path, name: str) -> Path:
    """A recording that opens, and whose pictures are empty from its middle on."""
    what = [(*e[:3], {**e[3], "data": b""}) if e[2] > 1.4 * S and "data" in e[3] else e
            for e in entries(40)]  # fmt: skip
    return bag(folder, name, what)


@pytest.mark.parametrize("out", OUTS)
def test_two_processes_make_the_version_that_one_makes(tmp_path: Path, out: str) -> None:
    paths = bags(tmp_path)
    serial, one = made(tmp_path, paths, f"serial_{out}", max_timesteps=20)
    reader, two = made(tmp_path, paths, out, max_timesteps=20, jobs=2)
    assert reader.version.content_hash == serial.version.content_hash
    assert [e.hash for e in reader.episodes] == [e.hash for e in serial.episodes]
    assert [e.recording for e in two.episodes] == [e.recording for e in one.episodes]
    assert [e.model_copy(update={"found": False}) for e in two.episodes] == list(one.episodes)
    assert listing(tmp_path / out) == listing(tmp_path / f"serial_{out}")
    assert reader.verify() == []
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_run_on_processes_finds_and_continues_what_another_began(tmp_path: Path) -> None:
    paths = bags(tmp_path)
    made(tmp_path, paths[:2])
    reader, report = made(tmp_path, paths, jobs=2)
    assert [e.found for e in report.episodes] == [True, True, False, False]
    _, again = made(tmp_path, paths, jobs=2)
    assert (again.added, again.version) == (0, 2)
    # The split of an episode depends on the versions before; the content does not.
    whole, _ = made(tmp_path, paths, "whole.zarr")
    assert [e.hash for e in reader.episodes] == [e.hash for e in whole.episodes]


def test_the_same_recording_twice_is_one_episode_on_processes_too(tmp_path: Path) -> None:
    first = bag(tmp_path, "first", entries(20))
    second = tmp_path / "second.bag"
    second.write_bytes(first.read_bytes())
    for out in OUTS:
        reader, report = made(tmp_path, [first, second], out, jobs=2)
        assert sorted(e.found for e in report.episodes) == [False, True]
        assert len(reader.episodes) == 1
        assert reader.verify() == []
        _, again = made(tmp_path, [first], out)
        assert again.added == 0


def test_joints_are_in_the_order_of_the_first_recording_whoever_is_ready_first(
    tmp_path: Path,
) -> None:
    def with_order(names: tuple[str, str], frames: int) -> list[Entry]:
        found: list[Entry] = []
        for topic, kind, t, values in entries(frames):
            if "name" in values:
                position = {"a": 1.0, "b": 2.0}
                values = {**values, "name": names, "position": [position[n] for n in names]}
            found.append((topic, kind, t, values))
        return found

    (tmp_path / "any.yaml").write_text(ROBOT.replace("joints: [a, b], ", ""))
    paths = [
        bag(tmp_path, "0", with_order(("b", "a"), 60)),
        bag(tmp_path, "1", with_order(("a", "b"), 20)),
    ]
    reader, _ = made(tmp_path, paths, robot=str(tmp_path / "any.yaml"), jobs=2)
    assert reader.schema.feature("qpos").names == ("arm/b", "arm/a")
    for n in range(2):
        assert reader.read("qpos", n)[0].tolist() == [2.0, 1.0]


# --- bad recordings ---


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("out", OUTS)
def test_a_bad_recording_does_not_stop_the_rest(tmp_path: Path, out: str, jobs: int) -> None:
    good = bags(tmp_path, 3)
    cut = cut_in_half(bag(tmp_path, "cut", entries(30)))
    inside = broken_inside(tmp_path, "inside")
    other = write(tmp_path / "other", "ros1", [("/on", BOOL, S, {"data": True})])
    short = bag(tmp_path, "short", entries(1))
    sources = [cut, good[0], inside, good[1], other, short, good[2]]
    reader, report = made(tmp_path, sources, out, jobs=jobs, keep_going=True)
    assert [e.recording for e in report.episodes] == ["0", "1", "2"]
    assert [f.recording for f in report.failed] == ["cut", "inside", "other", "short"]
    for failure, says in zip(
        report.failed, ["damaged or was cut", "/cam", "lacks 3 of 3", "no usable step"], strict=True
    ):
        assert says in failure.error
        assert failure.recording in failure.error
        assert failure.hint
        assert failure.files == (str(tmp_path / f"{failure.recording}.bag"),)
    alone, _ = made(tmp_path, good, f"alone_{out}")
    assert reader.version.content_hash == alone.version.content_hash
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    assert reader.verify() == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_nothing_of_a_recording_that_fails_is_left(tmp_path: Path, jobs: int) -> None:
    inside = broken_inside(tmp_path, "inside")
    (good,) = bags(tmp_path, 1)
    reader, report = made(tmp_path, [inside, good], jobs=jobs, keep_going=True, max_timesteps=4)
    assert [f.recording for f in report.failed] == ["inside"]
    uids = {e.uid for e in report.episodes}
    assert {p.name for p in (tmp_path / "ds.zarr" / "episodes").iterdir()} - {"zarr.json"} == uids
    assert len(reader.episodes) == 15


@pytest.mark.parametrize("jobs", [1, 2])
def test_when_every_recording_fails_all_reasons_are_told(tmp_path: Path, jobs: int) -> None:
    bad = [broken_inside(tmp_path, "one"), broken_inside(tmp_path, "two")]
    with pytest.raises(DataError, match="2 of 2 recordings cannot be ingested") as caught:
        made(tmp_path, bad, jobs=jobs, keep_going=True)
    assert "one: /cam" in str(caught.value)
    assert "two: /cam" in str(caught.value)
    assert not (tmp_path / "ds.zarr").exists()


def test_without_keep_going_the_first_failure_ends_a_run_on_processes(tmp_path: Path) -> None:
    (good,) = bags(tmp_path, 1)
    before = {p.name for p in tmp_path.iterdir()} | {"small.yaml", "inside.bag"}
    with pytest.raises(DataError, match=r"^inside: /cam"):
        made(tmp_path, [broken_inside(tmp_path, "inside"), good], jobs=2)
    assert {p.name for p in tmp_path.iterdir()} - {"ds.zarr"} == before


def test_one_file_takes_one_episode(tmp_path: Path) -> None:
    (path,) = bags(tmp_path, 1)
    with pytest.raises(InputError, match="holds exactly one episode, and has it"):
        made(tmp_path, [path], "one.hdf5", max_timesteps=30)
    assert not (tmp_path / "one.hdf5").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    reader, _ = made(tmp_path, [path], "one.hdf5", max_timesteps=60)
    assert len(reader.episodes) == 1
    with pytest.raises(InputError, match="holds exactly one episode, and has it"):
        made(tmp_path, [path], "one.hdf5", max_gap_s=0.7)


# --- processes that die ---


def kill_a_worker(beside: Path) -> None:
    """Kill one process that works for this one, once it writes."""

    def work() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            writers = [p.name.rsplit(".", 1) for p in beside.parent.rglob("*")]
            pids = [
                int(n[1]) for n in writers if len(n) == 2 and n[1].isdecimal() and len(n[0]) == 16
            ]
            if pids:
                os.kill(pids[0], signal.SIGKILL)
                return
            time.sleep(0.001)

    Thread(target=work, daemon=True).start()


def test_a_killed_worker_ends_the_run_and_the_next_one_completes_it(tmp_path: Path) -> None:
    paths = [bag(tmp_path, f"{n}", entries(200, phase=n)) for n in range(3)]
    out = tmp_path / "ds.zarr"
    kill_a_worker(out)
    with pytest.raises(ActError, match="a process was killed"):
        made(tmp_path, paths, jobs=2)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    reader, _ = made(tmp_path, paths, jobs=2)
    whole, _ = made(tmp_path, paths, "whole.zarr")
    assert reader.version.content_hash == whole.version.content_hash


def test_a_killed_worker_is_told_for_what_was_not_finished(tmp_path: Path) -> None:
    first = bag(tmp_path, "0", entries(10))
    made(tmp_path, [first])
    others = [bag(tmp_path, f"{n}", entries(200, phase=n)) for n in (1, 2)]
    kill_a_worker(tmp_path / "ds.zarr")
    reader, report = made(tmp_path, [first, *others], jobs=2, keep_going=True)
    assert [e.recording for e in report.episodes][:1] == ["0"]
    assert {f.recording for f in report.failed} <= {"1", "2"}
    assert all("a process was killed" in f.error and "--jobs" in f.hint for f in report.failed)
    assert report.failed
    assert reader.verify() == []


def test_the_writer_of_another_process_is_respected(tmp_path: Path) -> None:
    paths = bags(tmp_path, 2)

    def second(done: int, total: int) -> None:
        with pytest.raises(ConflictError, match="another process is writing"):
            made(tmp_path, paths, jobs=2)

    settings = IngestSettings(robot=str(robot_file(tmp_path)), jobs=2)
    ingest(paths, tmp_path / "ds.zarr", settings, progress=second)
    assert open_dataset(tmp_path / "ds.zarr").verify() == []
