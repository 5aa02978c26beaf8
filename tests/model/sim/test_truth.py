"""Synchronised frames of simulated recordings against simulated time, at every level of realism."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from act_data.errors import DataError, NotFoundError
from act_data.records import SYNC_INDEX, TIMESTAMP
from act_data.sources import find_recordings, open_recording
from act_data.store import open_dataset
from act_model.sim.expert import Expert
from act_model.sim.records import Realism
from act_model.sim.sensors import REALISM, Pictures
from act_model.sim.simulation import EPOCH_NS, TICK_NS, TRUTH_TOPIC, Simulation
from act_model.sim.tasks import TASKS
from act_model.sim.truth import truth_of

LEVELS: tuple[Realism, ...] = ("none", "lab", "bad")
KINDS = {"puppet": "joints", "master": "joints", "cube": "objects"}


@pytest.mark.parametrize("level", LEVELS)
def test_a_stored_skew_is_wrong_by_what_the_sensors_clock_is_wrong_by(
    level: Realism, by_realism: dict[Realism, Path]
) -> None:
    report = truth_of(open_dataset(by_realism[level]))
    assert report.rows > 780
    for name, stream in report.streams.items():
        timing = REALISM[level][KINDS[name.partition("_")[0]]]  # type: ignore[index]
        wrong_ms = timing.offset_ms + 5 * timing.stamp_noise_ms
        assert stream.samples >= 0.97 * report.rows
        assert stream.error.max_ms is not None
        assert stream.error.max_ms <= wrong_ms + 1e-3, name


def test_perfect_sensors_are_synchronised_perfectly(by_realism: dict[Realism, Path]) -> None:
    report = truth_of(open_dataset(by_realism["none"]))
    assert report.valid_rows == report.rows == 798
    assert report.spread.max_ms == 0.0
    # Ticks lie the grid's guard of 1 ms after the samples, so that jitter could not swap them.
    assert {s.true.max_ms for s in report.streams.values()} == {1.0}
    assert {s.reused for s in report.streams.values()} == {0}


def test_worse_sensors_are_further_apart_and_the_report_says_so(
    by_realism: dict[Realism, Path],
) -> None:
    spreads = [truth_of(open_dataset(by_realism[level])).spread.p99_ms for level in LEVELS]
    none, lab, bad = (value or 0.0 for value in spreads)
    # One period of the slowest sensor (cube, 10 ms) and its clock's error, and no more.
    assert none < lab <= 10 + 2 + 2
    assert lab < bad


@pytest.mark.parametrize("level", LEVELS)
def test_what_a_row_holds_is_what_the_simulator_was_at_the_time_the_truth_names(
    level: Realism, by_realism: dict[Realism, Path]
) -> None:
    """The time references are not only consistent: the world is run again and looked at."""
    path = by_realism[level]
    reader = open_dataset(path)
    entry = reader.episodes[0]
    source = reader.episode(entry.uid).info.source
    (recording,) = find_recordings([Path(source.files[0])])
    seed = int(recording.name.rpartition("-")[2])
    with open_recording(recording) as bag:
        references = [bag.deserialize(raw) for raw in bag.messages((TRUTH_TOPIC,))]
    times = [
        r.time_ref.sec * 10**9 + r.time_ref.nanosec
        for r in references
        if r.source == "/sim/puppet_left/joint_states"
    ]

    simulation = Simulation(TASKS["transfer_cube"], pictures=Pictures(), timing=REALISM[level])
    simulation.begin(seed)
    path_TA = Expert(TASKS["transfer_cube"]).plan(simulation.world)
    ticks = iter(path_TA)
    column = [c.stream for c in reader.schema.columns].index("puppet_left")
    index = reader.read(SYNC_INDEX, 0)[:, column].astype(int)
    qpos = reader.read("qpos", 0)
    for row in range(0, len(qpos), 7):
        at_ns = times[index[row]] - simulation.start_ns
        if at_ns < simulation.now_ns:
            continue  # the stream's clock noise reordered two stamps
        simulation.run(at_ns, lambda world: world.command(next(ticks)))
        assert np.array_equal(simulation.world.qpos[:7].astype(np.float32), qpos[row][:7])
    assert simulation.start_ns == EPOCH_NS + seed * 3600 * 10**9
    assert abs(int(reader.read(TIMESTAMP, 0)[0]) - simulation.start_ns) < 10 * TICK_NS


def test_a_dataset_without_its_recordings_has_no_truth(tmp_path: Path) -> None:
    from tests.model.sim.conftest import ingested

    path = ingested(tmp_path, episodes=1)
    next((tmp_path / "bags").glob("*.mcap")).unlink()
    with pytest.raises(NotFoundError, match="no longer at") as refusal:
        truth_of(open_dataset(path))
    assert refusal.value.hint


def test_a_recording_of_a_real_robot_does_not_know_the_truth(tmp_path: Path) -> None:
    bags = Path(__file__).parents[3] / "examples" / "bags"
    from act_data.ingest import IngestSettings, ingest

    ingest([bags / "reach_00.bag"], tmp_path / "reach.zarr", IngestSettings())
    with pytest.raises(DataError, match=TRUTH_TOPIC):
        truth_of(open_dataset(tmp_path / "reach.zarr"))
