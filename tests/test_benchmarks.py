"""Every benchmark runs, small, and prints what a program can read. None is judged by its times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from act_data.sources import find_recordings, open_recording
from tests.ros2_graph import needs_ros2

ROOT = Path(__file__).parent.parent
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))
README = ROOT / "benchmarks" / "README.md"
SMALL = ("--quick", "--json")
OWN = {  # each is run by a test of its own
    "gpu_check", "ingest", "live_ros1", "live_ros2", "loader", "sim_miniature", "sim_study",
    "train_wait", "transfer_cube",
}  # fmt: skip


def run(benchmark: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(benchmark), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, f"{benchmark.name} {arguments}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def small(benchmark: str) -> dict[str, Any]:
    """What a small run says."""
    said: dict[str, Any] = json.loads(run(ROOT / "benchmarks" / f"{benchmark}.py", *SMALL))
    if "skipped" in said:
        pytest.skip(said["skipped"])
    return said


@pytest.mark.parametrize("benchmark", sorted({path.stem for path in BENCHMARKS} - OWN))
def test_a_benchmark_runs_small_and_prints_one_json_object(benchmark: str) -> None:
    said = small(benchmark)
    assert said
    for row in said.get("rows", ()):
        assert isinstance(row, dict)


def test_the_ingest_benchmark_tells_time_and_memory_of_every_contender() -> None:
    said = small("ingest")
    rows = {row["name"]: row for row in said["rows"]}
    assert list(rows) == ["read", "floor", "hashed", "ingest", "aloha"]
    assert all(row["wall_s"] > 0 and row["cpu_s"] > 0 for row in rows.values())
    assert rows["floor"]["cpu_vs_floor"] == 1.0
    # A process that holds no episode shows less than one that does: each peak is its own.
    assert rows["read"]["peak_mib"] < rows["floor"]["peak_mib"] < rows["aloha"]["peak_mib"]
    assert rows["ingest"]["written_mib"] > 1.0
    assert rows["aloha"]["written_mib"] > rows["ingest"]["written_mib"]
    # The observation of the last tick has no action after it, so it has no row.
    assert rows["ingest"]["kept"] == "28 frames x 3 cameras, 60 numbers"


def test_the_live_benchmark_accounts_for_every_message_that_was_published() -> None:
    said = small("live_ros1")
    rows = {row["name"]: row for row in said["rows"]}
    assert list(rows) == ["ours", "rospy", "record"]
    for row in rows.values():
        assert row["cpu_s"] > 0
        for kind, published in (("images", 90), ("joints", 800), ("odometry", 50)):
            of = row[kind]
            assert of["published"] >= published
            assert of["received"] - of["twice"] + of["missing"] == of["published"]
            assert of["twice"] == 0
            assert 0 < of["p50_ms"] <= of["p99_ms"] <= of["max_ms"]


def test_the_loader_benchmark_reads_and_writes_the_same_pictures_in_every_way() -> None:
    said = small("loader")
    rows = {(row["kind"], row["name"]): row for row in said["rows"]}
    assert all(row["cpu_ms"] > 0 and row["wall_ms"] > 0 for row in rows.values())
    assert {"raw pread", "decode floor", "ours", "zarr-python", "ALOHA HDF5"} <= {
        name for kind, name in rows if kind == "read"
    }
    assert {"ours, threads", "ours, DataLoader", "ALOHA HDF5"} <= {
        name for kind, name in rows if kind == "loader"
    }
    assert set(said["memory_mib"]) == {"ours, threads uint8", "ours, DataLoader uint8"}
    sizes = {name: row["bytes"] for (kind, name), row in rows.items() if kind == "write"}
    # A shard is the files it keeps, a checksum of 4 bytes for each, and an index of 8 kB.
    assert sizes["plain file"] + 4 < sizes["kept"] < sizes["plain file"] + 100
    assert sizes["jpeg"] < sizes["blosc"] < sizes["zstd"] < 640 * 480 * 3 < sizes["raw"]


def test_the_live_ros2_benchmark_accounts_for_every_message_of_every_subscriber() -> None:
    needs_ros2()
    said = small("live_ros2")
    assert [row["name"] for row in said["rows"]] == ["ours", "rclpy", "events", "foxglove"]
    for row in said["rows"]:
        assert row["cpu_s"] > 0
        for kind, rate in (("images", 90), ("joints", 800), ("odometry", 50)):
            found = row[kind]
            assert abs(found["published"] - 2 * rate) <= 4
            assert found["received"] - found["twice"] + found["missing"] == found["published"]
            assert found["received"] > 0
            assert found["counted"] <= found["missing"]


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda path: path.stem)
def test_the_readme_of_the_benchmarks_shows_each_of_them(benchmark: Path) -> None:
    assert f"python benchmarks/{benchmark.name}" in README.read_text()


def test_a_made_bag_has_every_message_of_its_time_and_is_the_same_when_made_again(
    tmp_path: Path,
) -> None:
    bags = [tmp_path / name for name in ("one.bag", "two.bag")]
    for bag in bags:
        run(ROOT / "benchmarks" / "make_bag.py", "--seconds", "0.2", "--out", str(bag))
    assert bags[0].read_bytes() == bags[1].read_bytes()
    (recording,) = find_recordings(bags[:1])
    with open_recording(recording) as source:
        counts = {name: topic.count for name, topic in source.topics.items()}
        stamps = dict.fromkeys(counts, 0)
        for raw in source.messages(source.topics):
            assert raw.stamp_ns is not None
            assert stamps[raw.topic] < raw.stamp_ns < raw.recv_ns
            stamps[raw.topic] = raw.stamp_ns
    cameras = {f"/camera_{place}/color/image_raw": 6 for place in "flr"}
    arms = {
        f"/{arm}/joint_{side}": 40 for arm in ("puppet", "master") for side in ("left", "right")
    }
    assert counts == {**cameras, **arms, "/odom": 10}


def test_the_papers_setting_tells_throughput_utilisation_and_success_over_several_sittings() -> (
    None
):
    said = small("transfer_cube")
    assert said["steps"] == 3
    assert said["sittings"] >= 2, "it was interrupted, and went on"
    assert said["samples_per_s"] > 0
    assert 0 < said["mfu"] < 10
    assert 0 <= said["data_wait"] < 1
    assert [row["episodes"] for row in said["rows"]] == [1, 1]


def test_the_checks_of_a_gpu_hold_for_the_cpu_beside_itself() -> None:
    said = small("gpu_check")
    found = {row["what"]: row for row in said["rows"]}
    assert list(found) == ["predict, one by one", "predict, as deployed", "replay of steps",
                           "train, fp32", "resume"]  # fmt: skip
    assert all(row["good"] for row in said["rows"])
    assert {found[name].get("error", 0.0) for name in found} == {0.0}


def test_the_study_measures_every_way_that_it_was_asked_for_and_writes_its_page() -> None:
    said = small("sim_study")
    rows = {(row["realism"], row["way"]): row for row in said["rows"]}
    assert list(rows) == [("bad", "newest"), ("bad", "get_frame"), ("none", "10")]
    newest, frames = rows["bad", "newest"], rows["bad", "get_frame"]
    assert newest["valid"] == newest["frames"], "nothing is too old for it"
    assert 100 < frames["frames"] < newest["frames"], "it leaves frames out, and tells nobody"


def test_the_miniature_trains_both_policies_and_holds_them_against_what_they_must_beat() -> None:
    said = small("sim_miniature")
    names = [row["name"] for row in said["rows"]]
    for name in ("state: 2 steps, training seed 0", "state: untrained (1 step)",
                 "state: replay of the nearest demo", "pixels: 2 steps, training seed 0, open-loop",
                 "pixels: 2 steps, training seed 0, ensemble",
                 "state, diffusion: 2 steps, training seed 0"):  # fmt: skip
        assert name in names


def test_waiting_for_data_is_measured_for_every_feed_of_the_same_trainer() -> None:
    said = small("train_wait")
    rows = {row["feed"]: row for row in said["rows"]}
    assert list(rows) == ["memory", "ours", "ours raw", "ALOHA HDF5"]
    for row in rows.values():
        assert 0 <= row["wait"] < 1
        assert row["samples_per_s"] == pytest.approx(8e3 / row["step_ms"], rel=0.5)
    assert rows["memory"]["wait"] < 0.01, "nothing is read"
    assert list(said["verdict"]) == ["ours waits <= 5% of a step"]
