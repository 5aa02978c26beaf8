"""The simulated robot in closed loop: through deployment's own path, and as its dataset saw it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from act_data.errors import InputError
from act_data.ingest import IngestSettings, ingest
from act_data.records import TIMESTAMP
from act_data.sources.recording_file import RecordingFile
from act_data.store import open_dataset
from act_data.types import RawMessage
from act_model.chunking import ActionQueue
from act_model.config import Contract
from act_model.launch import deploy
from act_model.plan import DeployRequest
from act_model.policy import Policy
from act_model.robot_io import Mode
from act_model.sim.expert import Expert
from act_model.sim.records import Realism
from act_model.sim.robot import SimRobot
from act_model.sim.rollouts import SimRequest, evaluate_in_sim, roll_out
from act_model.sim.sensors import REALISM, Pictures
from act_model.sim.simulation import OnTick, Simulation
from act_model.sim.tasks import TASKS
from tests.model.sim.conftest import ingested
from tests.model.small_policy import save_checkpoint

TASK = TASKS["transfer_cube"]


class Planner:
    """A policy that plans like the expert when it first sees the world, and then goes on."""

    def __init__(self, policy: Policy, simulation: Simulation) -> None:
        self.contract = policy.contract
        self.stats = policy.stats
        self._simulation = simulation
        self._path: NDArray[np.float64] | None = None
        self._done = 0

    def predict(self, observation: object) -> NDArray[np.float32]:
        if self._path is None:
            path = Expert(TASK).plan(self._simulation.world)
            self._path = np.concatenate([path, np.repeat(path[-1:], 100, axis=0)])
        size = self.contract.chunk_size
        self._done += size
        return self._path[self._done - size : self._done].astype(np.float32)


class Recorded(Simulation):
    """A simulation that remembers what it sent."""

    log: list[RawMessage]

    def begin(self, seed: int) -> None:
        super().begin(seed)
        self.log = []

    def run(self, until_ns: int, on_tick: OnTick | None = None) -> list[RawMessage]:
        messages = super().run(until_ns, on_tick)
        self.log += messages
        return messages


@pytest.fixture(scope="module")
def policy(by_realism: dict[Realism, Path], tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """Random weights, for joints and the cube."""
    folder = tmp_path_factory.mktemp("checkpoint") / "best"
    save_checkpoint(folder, open_dataset(by_realism["none"]), state=("qpos", "cube"))
    return Policy.load(folder, "cpu")


@pytest.mark.parametrize("level", ["none", "lab", "bad"])
def test_a_policy_that_knows_what_to_do_succeeds_through_the_whole_path(
    level: Realism, policy: Policy
) -> None:
    simulation = Simulation(TASK, pictures=Pictures(), timing=REALISM[level])
    queue = ActionQueue(policy.contract.chunk_size, 14)
    rollout = roll_out(Planner(policy, simulation), simulation, 0, queue)
    assert rollout.error == ""
    assert (rollout.trial.ticks, rollout.trial.reward) == (400, 4)
    assert rollout.trial.held or level == "bad"
    # Cameras and cube of the bad robot come later than their tolerance: it holds in between.
    assert (rollout.starved_ticks > 0) == (rollout.invalid_observations > 0) == (level == "bad")


def test_the_loop_shows_a_policy_what_ingest_makes_of_a_recording_of_the_loop(
    tmp_path: Path,
) -> None:
    """To the bit: joints, cube and JPEG-coded picture, row by row."""
    reader = open_dataset(ingested(tmp_path / "a", cameras=("top",), size=(48, 64), episodes=1))
    save_checkpoint(tmp_path / "best", reader, state=("qpos", "cube"))
    contract = Policy.load(tmp_path / "best", "cpu").contract
    pictures = Pictures(cameras=("top",), height=48, width=64)
    simulation = Recorded(TASK, pictures=pictures, timing=REALISM["none"])
    robot = SimRobot(simulation, contract, seed=7, ticks=60)
    path_TA = Expert(TASK).plan(simulation.world).astype(np.float32)
    seen: dict[int, dict[str, NDArray[np.generic]]] = {}
    while (observation := robot.observe()) is not None:
        assert observation.valid
        seen[observation.tick_ns] = dict(observation.arrays())
        robot.send(path_TA[observation.tick], 0)
    log = [*simulation.log, *simulation.in_flight()]
    simulation.close()
    numbers = {channel.topic: channel.id for channel in simulation.channels}
    (tmp_path / "bags").mkdir()
    with RecordingFile(tmp_path / "bags" / "loop.mcap", simulation.channels) as file:
        for raw in log:
            file.write(numbers[raw.topic], raw.recv_ns, bytes(raw.payload))
    ingest([tmp_path / "bags"], tmp_path / "loop.zarr", IngestSettings())

    loop = open_dataset(tmp_path / "loop.zarr")
    rows = loop.read(TIMESTAMP, 0).tolist()
    compared = [tick_ns for tick_ns in seen if tick_ns in rows]
    assert len(compared) >= 58
    for name in ("qpos", "cube", "images/top"):
        stored = loop.read(name, 0)
        for tick_ns in compared:
            assert np.array_equal(seen[tick_ns][name], stored[rows.index(tick_ns)]), name


def test_commands_of_joints_that_it_has_not_are_refused(policy: Policy) -> None:
    simulation = Simulation(TASK, pictures=Pictures(), timing=REALISM["none"])
    array = policy.contract.action[0].model_copy(update={"names": ("nose",)})
    other: Contract = policy.contract.model_copy(update={"action": (array,)})
    with pytest.raises(InputError, match="commands nose"):
        SimRobot(simulation, other, seed=0)


def test_an_evaluation_is_the_same_again_and_on_two_processes(
    policy: Policy, tmp_path: Path
) -> None:
    found = [
        evaluate_in_sim(
            SimRequest(
                checkpoint=policy.checkpoint.folder,
                task="transfer_cube",
                episodes=2,
                ticks=40,
                chunks=("open-loop", "ensemble"),
                jobs=jobs,
                realism="lab",
            )
        )
        for jobs in (1, 2)
    ]
    timeless = [
        [
            [
                r.model_copy(update={"inference_p50_ms": None, "inference_p95_ms": None})
                for r in condition.rollouts
            ]
            for condition in report.conditions
        ]
        for report in found
    ]
    assert timeless[0] == timeless[1]
    assert [c.chunks for c in found[0].conditions] == ["open-loop", "ensemble"]
    assert [r.trial.seed for r in found[0].conditions[0].rollouts] == [10_000, 10_001]
    assert [c.rollouts[0].chunks for c in found[0].conditions] == [10, 40]
    assert found[0].conditions[0].rates.held.count == 0, "nobody taught it anything"


def test_a_page_tells_the_rates_and_shows_starts_and_videos(policy: Policy, tmp_path: Path) -> None:
    report = evaluate_in_sim(
        SimRequest(
            checkpoint=policy.checkpoint.folder,
            task="transfer_cube",
            episodes=2,
            ticks=12,
            page=tmp_path / "page",
            videos=1,
        )
    )
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count("<circle") == 2
    assert "held at the end</td><td>0/2" in page
    assert '<video src="open-loop-10000.mp4"' in page
    assert (tmp_path / "page" / "open-loop-10000.mp4").stat().st_size > 500
    assert report.page == str(tmp_path / "page" / "index.html")
    assert report.notes == ()


def test_deploy_moves_the_simulation_by_its_name(policy: Policy) -> None:
    request = DeployRequest(
        checkpoint=policy.checkpoint.folder,
        source="sim:transfer_cube#10003",
        mode=Mode.SIM,
        max_ticks=30,
        device="cpu",
    )
    first, again = (deploy(request).rollout for _ in range(2))
    # It rests a little beside where demonstrations hardly moved, and begins all the same.
    assert (first.stop.value, first.error, first.commands) == ("ticks", "", 30)
    assert first.hits == again.hits
    other = request.model_copy(update={"source": "sim:transfer_cube#10004"})
    assert deploy(other).rollout.stop.value == "ticks"


@pytest.mark.parametrize(
    ("source", "told"),
    [("sim:juggle", "no simulated task 'juggle'"), ("sim:insertion#x", "'x' is no seed")],
)
def test_a_simulation_that_is_none_is_refused(policy: Policy, source: str, told: str) -> None:
    request = DeployRequest(
        checkpoint=policy.checkpoint.folder, source=source, mode=Mode.SIM, device="cpu"
    )
    with pytest.raises(InputError, match=told):
        deploy(request)


def test_a_robot_whose_sensors_show_nothing_usable_is_a_failed_episode(
    policy: Policy,
) -> None:
    """The clock of the cube's place is wrong by up to 150 ms, more than the policy accepts."""
    request = SimRequest(
        checkpoint=policy.checkpoint.folder,
        task=TASK.name,
        timing=("objects.offset_ms=150",),
        episodes=2,
        seeds=0,
        ticks=5,
    )
    report = evaluate_in_sim(request)
    blind, seeing = report.conditions[0].rollouts
    assert "not one usable frame" in blind.error
    assert (blind.trial.ticks, blind.trial.reward, seeing.error, seeing.trial.ticks) == (
        0,
        0,
        "",
        5,
    )
    assert report.conditions[0].rates.held.of == 2
    assert any(note.startswith("1 of 2 episodes ended early") for note in report.notes)
    with pytest.raises(InputError, match="every episode ended early: not one usable frame"):
        evaluate_in_sim(request.model_copy(update={"episodes": 1}))
