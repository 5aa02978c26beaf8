"""Simulated demonstrations as recordings: files, formats, failures, what ingest makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from act_data.errors import ActError, ConflictError, InputError
from act_data.ingest import IngestSettings, ingest
from act_data.sources.outgoing import JOINT_STATE, Outgoing
from act_data.sources.recording_file import RecordingFile
from act_data.store import open_dataset
from act_model.sim.demonstrations import SimulateRequest, simulate
from act_model.sim.records import SimulationReport, wilson
from act_model.sim.sensors import timing_of


def made(out: Path, **changes: object) -> SimulationReport:
    fields = {"task": "transfer_cube", "out": out, "episodes": 2} | changes
    return simulate(SimulateRequest.model_validate(fields))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("form", ["mcap", "bag"])
def test_recordings_of_a_task_become_episodes_without_naming_a_robot(
    form: str, tmp_path: Path
) -> None:
    report = made(tmp_path / "bags", format=form, cameras=("top",), size=(120, 160))
    assert [r.trial.seed for r in report.recordings] == [0, 1]
    assert report.rates.held.count == 2
    ingest([tmp_path / "bags"], tmp_path / "ds.zarr", IngestSettings())
    dataset = open_dataset(tmp_path / "ds.zarr")
    assert dataset.schema.robot == "aloha_sim"
    names = {f.name: f.shape for f in dataset.schema.features if f.role.value != "sync"}
    assert names == {
        "qpos": (14,), "qvel": (14,), "effort": (14,), "cube": (3,),
        "images/top": (120, 160, 3), "action": (14,),
    }  # fmt: skip
    info = dataset.episode(dataset.episodes[0].uid).info
    assert info.success is True
    assert info.task.startswith("pick up the red cube")
    assert [entry.length for entry in dataset.episodes] == [399, 399]
    top = dataset.read("images/top", 0, 0, 1)[0]
    red = (top[..., 0].astype(int) - top[..., 1] > 40).sum()
    assert red > 10, "the red cube is in the picture"


def test_the_same_request_makes_the_same_files_on_any_number_of_processes(tmp_path: Path) -> None:
    for name, jobs in (("one", 1), ("two", 2)):
        made(tmp_path / name, realism="lab", jobs=jobs)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_a_recording_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    made(tmp_path, episodes=1)
    before = bytes_of(tmp_path)
    with pytest.raises(ConflictError, match=r"transfer_cube-000000\.mcap' exists"):
        made(tmp_path, episodes=1)
    assert bytes_of(tmp_path) == before


def test_a_failed_demonstration_is_dropped_and_the_next_seed_taken(tmp_path: Path) -> None:
    # Seed 20067 is one that the expert of the insertion fails; if it learns it, name another.
    report = made(tmp_path / "kept", task="insertion", first_seed=20067, episodes=1)
    assert [(r.trial.seed, r.file is not None) for r in report.recordings] == [
        (20067, False),
        (20068, True),
    ]
    assert sorted(bytes_of(tmp_path / "kept")) == ["insertion-020068.mcap", "insertion-020068.yaml"]
    made(tmp_path / "all", task="insertion", first_seed=20067, episodes=1, keep_failures=True)
    assert "success: false" in (tmp_path / "all" / "insertion-020067.yaml").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"task": "pour"}, "no simulated task 'pour'", id="task"),
        pytest.param({"cameras": ("top", "nose")}, "no camera 'nose'", id="camera"),
        pytest.param({"size": (4, 640)}, "pictures of 4x640", id="size"),
        pytest.param({"timing": ("camera.drops=2",)}, "camera.drops=2", id="value"),
        pytest.param({"timing": ("nose.drops=0",)}, "names no sensor's value", id="sensor"),
    ],
)
def test_a_request_that_cannot_be_is_refused_before_anything_is_made(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        made(tmp_path / "bags", **changes)
    assert refusal.value.hint
    assert not (tmp_path / "bags").exists()


def test_nothing_half_written_stays_when_a_recording_ends_early(tmp_path: Path) -> None:
    out = Outgoing("cdr")
    payload = out.joint_state(1, 0, ["a"], np.zeros(1), np.zeros(0), np.zeros(0))

    def fall_over() -> None:
        with RecordingFile(tmp_path / "a.mcap", [out.channel(0, "/joints", JOINT_STATE)]) as file:
            file.write(0, 1, payload)
            raise ActError("the robot fell over")

    with pytest.raises(ActError, match="the robot fell over"):
        fall_over()
    assert list(tmp_path.iterdir()) == []


def test_a_changed_timing_is_that_of_its_level_but_for_the_change() -> None:
    timing = timing_of("lab", ("camera.offset_ms=30", "joints.free=false"))
    assert timing["camera"].offset_ms == 30
    assert timing["camera"].rate_hz == timing_of("lab")["camera"].rate_hz
    assert timing["joints"].free is False


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        # Newcombe (1998), table I, method 3 without continuity correction.
        pytest.param(81, 263, 0.2553, 0.3662, id="81/263"),
        pytest.param(15, 148, 0.0624, 0.1605, id="15/148"),
        pytest.param(0, 20, 0.0, 0.1611, id="0/20"),
        pytest.param(1, 29, 0.0061, 0.1718, id="1/29"),
    ],
)
def test_intervals_are_those_of_wilson(count: int, of: int, low: float, high: float) -> None:
    interval = wilson(count, of)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)
