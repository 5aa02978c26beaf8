"""The simulated robot on real ROS 1 and ROS 2 topics: what is recorded of it, and its truth."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from act_data.errors import DataError
from act_data.ingest import IngestSettings, ingest
from act_data.record import RecordSettings, record
from act_data.record.settings import Stop
from act_data.records import SYNC_INDEX
from act_data.sources import find_recordings, open_recording
from act_data.sources.live import open_backend
from act_data.store import open_dataset
from act_data.sync.evidence import SPREAD_NS
from act_model.sim.expert import Expert
from act_model.sim.live import BEGINS, ENDS, REST_NS, LiveRequest, publish_live
from act_model.sim.records import LiveSimulation, Realism
from act_model.sim.sensors import REALISM, Pictures
from act_model.sim.simulation import TRUTH_TOPIC, Simulation
from act_model.sim.tasks import TASKS
from act_model.sim.truth import truth_of
from tests.cli.commands import BIN, run
from tests.ros1_graph import Ros1Graph, need_ros1

LEVELS: tuple[Realism, ...] = ("none", "lab", "bad")
KINDS = {"puppet": "joints", "master": "joints", "cube": "objects", "top": "camera"}
TASK = TASKS["transfer_cube"]
TICKS = 100
ATTEMPTS = 12  # to be heard in time on a busy machine
TAKES_S = 60  # many times what an ingest of 60 rows takes on a quiet one


@pytest.fixture(scope="module", params=["ros1", "ros2"])
def ros(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A graph of its own, as `--backend` and `--live` name it."""
    if request.param == "ros2":
        yield f"ros2:{request.getfixturevalue('ros2_domain')}"
        return
    need_ros1()
    with Ros1Graph(tmp_path_factory.mktemp("ros1")) as graph:
        yield f"ros1:{graph.uri}"


def recorded(ros: str, folder: Path, **changes: object) -> LiveSimulation:
    """One demonstration, published and recorded at the same time, and heard in time."""
    for _ in range(ATTEMPTS):
        said = recorded_once(ros, folder, **changes)
        if heard_in_time([folder]):
            return said
        shutil.rmtree(folder)
    pytest.fail(f"{ATTEMPTS} times this machine held messages up for longer than {SPREAD_NS} ns")


def heard_in_time(bags: list[Path]) -> bool:
    """Whether no message was held up longer than the stamps of a topic may be from its clock.

    A machine that is too busy to listen says nothing about how sensors were synchronised.
    """
    for recording in find_recordings(bags):
        with open_recording(recording) as bag:
            for raw in bag.messages(bag.topics):
                if raw.stamp_ns and raw.recv_ns - raw.stamp_ns > SPREAD_NS:
                    return False
    return True


def recorded_once(ros: str, folder: Path, **changes: object) -> LiveSimulation:
    fields = {"task": TASK.name, "ros": ros, "episodes": 1, "ticks": TICKS} | changes
    request = LiveRequest.model_validate(fields)
    settings = RecordSettings(
        episodes=1, start_by=BEGINS, stop_by=ENDS, topics=(TRUTH_TOPIC,), wait_s=30
    )
    with ThreadPoolExecutor(1) as threads, closing(open_backend(ros)) as live:
        publishing = threads.submit(publish_live, request)
        report = record(live, folder, settings)
        said = publishing.result(timeout=60)
    (episode,) = report.episodes
    assert (episode.stop, episode.lost) == (Stop.TOPIC, {})
    return said


@pytest.mark.parametrize("level", LEVELS)
def test_the_skews_of_live_topics_are_wrong_by_what_the_sensors_clocks_are_wrong_by(
    level: Realism, ros: str, tmp_path: Path
) -> None:
    said = recorded(ros, tmp_path / "bags", realism=level, cameras=("top",), size=(48, 64))
    ingest([tmp_path / "bags"], tmp_path / "ds.zarr", IngestSettings())
    reader = open_dataset(tmp_path / "ds.zarr")
    assert reader.schema.robot == "aloha_sim"
    report = truth_of(reader)
    assert 10 <= report.rows <= TICKS  # a machine that is late loses rows, and no truth
    for name, stream in report.streams.items():
        timing = REALISM[level][KINDS[name.partition("_")[0]]]  # type: ignore[index]
        assert stream.samples >= 10, name
        assert stream.untold <= 0.1 * stream.samples, name
        assert stream.error.max_ms is not None
        assert stream.error.max_ms <= timing.offset_ms + 5 * timing.stamp_noise_ms + 1e-3, name
        assert stream.true.max_ms is not None
        assert stream.true.max_ms <= 50 + timing.offset_ms + 5 * timing.stamp_noise_ms
    if level == "bad":
        assert max(s.error.max_ms or 0 for s in report.streams.values()) > 5, "it is bad indeed"
    check_rows(said, tmp_path / "ds.zarr", level)


def check_rows(said: LiveSimulation, path: Path, level: Realism) -> None:
    """What rows hold is what the world was at the time that the truth names: it is run again."""
    reader = open_dataset(path)
    (recording,) = find_recordings([Path(f) for f in _files(path)])
    with open_recording(recording) as bag:
        at = {
            m.header.stamp.sec * 10**9 + m.header.stamp.nanosec: m.time_ref.sec * 10**9
            + m.time_ref.nanosec
            for m in map(bag.deserialize, bag.messages((TRUTH_TOPIC,)))
            if m.source == "/sim/puppet_left/joint_states"
        }
        times = [
            at.get(raw.stamp_ns or 0) for raw in bag.messages(["/sim/puppet_left/joint_states"])
        ]
    simulation = Simulation(TASK, pictures=Pictures(), timing=REALISM[level])
    (episode,) = said.episodes
    simulation.begin(episode.trial.seed)
    ticks = iter(Expert(TASK).plan(simulation.world))
    column = [c.stream for c in reader.schema.columns].index("puppet_left")
    index = reader.read(SYNC_INDEX, 0)[:, column].astype(int)
    qpos = reader.read("qpos", 0)
    compared = 0
    for row in range(0, len(qpos), 9):
        sampled_ns = times[index[row]]
        if sampled_ns is None or (since_ns := sampled_ns - (episode.start_ns - REST_NS)) < (
            simulation.now_ns
        ):
            continue
        simulation.run(
            since_ns,
            lambda world: world.command(next(ticks)) if simulation.now_ns >= REST_NS else None,
        )
        assert np.array_equal(simulation.world.qpos[:7].astype(np.float32), qpos[row][:7])
        compared += 1
    assert compared >= 4


def _files(path: Path) -> tuple[str, ...]:
    reader = open_dataset(path)
    return tuple(reader.episode(reader.episodes[0].uid).info.source.files)


@pytest.mark.timeout(900)
def test_a_live_ingest_of_the_simulator_knows_the_truth_by_commands_alone(
    ros: str, tmp_path: Path
) -> None:
    for attempt in range(ATTEMPTS):
        dataset = tmp_path / f"{attempt}.zarr"
        said = ingest_live(ros, dataset)
        if heard_in_time([Path(file) for file in _files(dataset)]):
            break
    else:
        pytest.fail(f"{ATTEMPTS} times this machine held messages up")
    told = json.loads(run("act-model", "truth", dataset, "--json").out)
    assert told["rows"] == 60, said
    assert told["streams"]["puppet_left"]["samples"] >= 10
    assert told["streams"]["puppet_left"]["error"]["max_ms"] <= 1.001


def ingest_live(ros: str, dataset: Path) -> str:
    """Synchronise an episode of a simulation that another process publishes: what was said.

    After `TAKES_S` an interrupt ends it as the person in front of it would: what was heard until
    then is kept, and says whether the machine was too busy.
    """
    simulate = [
        "act-model", "simulate", TASK.name, "--live", ros, "--episodes", "99", "--realism", "lab",
        "--json",
    ]  # fmt: skip
    ingests = [
        "act-data", "ingest", "--live", "--backend", ros, "--out", str(dataset),
        "--topic", TRUTH_TOPIC, "--episodes", "1", "--max-timesteps", "60", "--wait-s", "60",
    ]  # fmt: skip
    publisher, ingester = (
        subprocess.Popen(
            [str(BIN / tool), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for tool, *words in (simulate, ingests)
    )
    try:
        with suppress(subprocess.TimeoutExpired):
            ingester.wait(TAKES_S)
        ingester.send_signal(signal.SIGINT)  # nothing where it has ended
        _, told = ingester.communicate(timeout=60)
    finally:
        ingester.kill()
        publisher.send_signal(signal.SIGINT)
        said, complaint = publisher.communicate(timeout=60)
    assert ingester.returncode == 0, (told, complaint)
    assert publisher.returncode == 0, complaint
    assert LiveSimulation.model_validate_json(said).realism == "lab"
    return told


def test_a_live_recording_without_the_time_reference_has_no_truth_and_says_what_to_record(
    tmp_path: Path, ros1_uri: str
) -> None:
    with ThreadPoolExecutor(1) as threads, closing(open_backend(ros1_uri)) as live:
        request = LiveRequest(task=TASK.name, ros=ros1_uri, episodes=1, ticks=40)
        publishing = threads.submit(publish_live, request)
        record(live, tmp_path / "bags", RecordSettings(episodes=1, max_timesteps=30, wait_s=30))
        publishing.result(timeout=60)
    ingest([tmp_path / "bags"], tmp_path / "ds.zarr", IngestSettings())
    with pytest.raises(DataError, match=TRUTH_TOPIC) as refusal:
        truth_of(open_dataset(tmp_path / "ds.zarr"))
    assert f"--topic {TRUTH_TOPIC}" in refusal.value.hint


@pytest.fixture
def ros1_uri(tmp_path: Path) -> Iterator[str]:
    need_ros1()
    with Ros1Graph(tmp_path) as graph:
        yield f"ros1:{graph.uri}"


def test_nobody_to_listen_and_no_ros_are_told(ros1_uri: str) -> None:
    ended = run("act-model", "simulate", TASK.name, "--live", "ros1:http://127.0.0.1:9")
    assert ended.code == 1
    assert "does not answer" in ended.err
    with pytest.raises(DataError, match="nobody listens on ros1"):
        publish_live(LiveRequest(task=TASK.name, ros=ros1_uri, wait_s=0.2))
    both = run("act-model", "simulate", TASK.name, "--live", "ros1", "--out", "bags")
    assert (both.code, "--live publishes" in both.err) == (2, True)
    neither = run("act-model", "simulate", TASK.name)
    assert (neither.code, "nowhere to record to" in neither.err) == (2, True)
    other = run("act-model", "simulate", TASK.name, "--live", "carrier_pigeon")
    assert (other.code, "no publisher 'carrier_pigeon'" in other.err) == (2, True)
