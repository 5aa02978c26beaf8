"""A policy in closed loop: episodes on fresh seeds, through the path that deployment takes.

Every episode is `deploy` in its sim mode on a `SimRobot`: contract check, synchroniser, transforms,
chunker and safety filter are those of a rollout on a robot. Episodes are independent and
deterministic, so any number of processes gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from act_data.convert.lerobot.video import VideoWriter
from act_data.engines import Advance, run
from act_data.errors import DataError, InputError
from act_data.record.files import open_folder
from act_data.records import Record
from act_model import runtime as runtimes
from act_model.chunking import ActionQueue, Chunker, TemporalEnsemble
from act_model.config import Contract
from act_model.deploy import Mode, Predictor, Rules, deploy
from act_model.runtime import RuntimeName
from act_model.safety import Limits
from act_model.sim.camera import Cameras, check_cameras
from act_model.sim.page import write_page
from act_model.sim.records import (
    Realism,
    SimCondition,
    SimEvaluation,
    SimRollout,
    rates_of,
    trial_of,
)
from act_model.sim.robot import SimRobot
from act_model.sim.sensors import Pictures, Timing, timing_of
from act_model.sim.simulation import Simulation
from act_model.sim.tasks import Task, task_named
from act_model.sim.world import World, versions

Chunks = Literal["open-loop", "ensemble"]
FIRST_SEED = 10_000  # demonstrations have lower ones
# A simulated robot breaks nothing: an episode goes on to its end, whatever a policy does. A gripper
# that holds something never arrives where it was sent, which is no reason to stop either.
_RULES = Rules(first_command="ramp", tracking_tolerance=0, hold_s=3600)
# Friction is large: joints rest some hundredths off where they were last sent, and one that no
# demonstration moved would be out of the narrow limits of its data before it is ever commanded.
_GIVES_WAY = 0.05
_VIDEO_EVERY = 2  # ticks
_VIDEO_FPS = 25
_VIDEO_SIZE = (240, 320)


class SimRequest(Record):
    """A closed-loop evaluation as a person asks for it.

    Attributes:
        checkpoint: Folder of a checkpoint.
        seeds: The first of them, those after it count on; demonstrations have seeds from 0.
        chunks: Ways to turn chunks into actions; each runs on all seeds.
        execute: Ticks between predictions of "open-loop"; by default two thirds of a chunk. The
            ensemble predicts at every tick.
        wait_ms: How long a tick waits for samples on their way.
        ticks: Length of an episode; that of a demonstration by default.
        page: Folder for the HTML page and its videos.
        videos: So many successes and so many failures of each condition; needs something to draw.
        camera: Of the videos.
    """

    checkpoint: Path
    task: str
    episodes: int = Field(50, ge=1, le=100_000)
    seeds: int = Field(FIRST_SEED, ge=0, le=1_000_000)
    chunks: tuple[Chunks, ...] = Field(("open-loop",), min_length=1)
    execute: int | None = Field(None, ge=1)
    ensemble_m: float = 0.01
    realism: Realism = "none"
    timing: tuple[str, ...] = ()
    wait_ms: float = Field(0.0, ge=0, le=10_000)
    robot: str | None = None
    ticks: int | None = Field(None, ge=1, le=100_000)
    page: Path | None = None
    videos: int = Field(2, ge=0, le=1000)
    camera: str = "angle"
    jobs: int = Field(1, ge=1, le=1024)
    runtime: RuntimeName = "torch"
    device: str = "auto"


def evaluate_in_sim(
    request: SimRequest, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> SimEvaluation:
    """How often the policy in `request.checkpoint` reaches each stage of a task.

    Args:
        progress: Called with (episodes done, episodes).

    Raises:
        NotFoundError: There is no checkpoint.
        InputError: Policy and simulated robot do not fit, or the request cannot be.
        StoreError: The checkpoint is damaged, or the page cannot be written.
    """
    began = perf_counter()
    task = task_named(request.task)
    timing_of(request.realism, request.timing)
    check_cameras((request.camera,))
    if request.page is not None:
        open_folder(request.page)
    checkpoint = runtimes.load(request.checkpoint, request.runtime, request.device).checkpoint
    seeds = tuple(range(request.seeds, request.seeds + request.episodes))
    items = [(chunks, seed, None) for chunks in dict.fromkeys(request.chunks) for seed in seeds]
    found: dict[int, SimRollout] = {}
    for number, rollout in run(_roll_out, request, items, jobs=request.jobs):
        found[number] = rollout
        progress(len(found), len(items))
    rollouts = [found[number] for number in range(len(items))]
    errors = [r.error for r in rollouts if r.error]
    if len(errors) == len(rollouts):
        raise InputError(f"every episode ended early: {errors[0]}")
    notes: list[str] = []
    if errors:
        notes.append(
            f"{len(errors)} of {len(rollouts)} episodes ended early, and count with what they had "
            f"reached by then: {errors[0]}"
        )
    if request.page is not None and request.videos:
        rollouts = _with_videos(request, items, rollouts, notes)
    conditions = tuple(
        _condition(task, chunks, execute_of(request, chunks, checkpoint.contract.chunk_size), part)
        for i, chunks in enumerate(dict.fromkeys(request.chunks))
        for part in [rollouts[i * len(seeds) : (i + 1) * len(seeds)]]
    )
    report = SimEvaluation(
        checkpoint=str(request.checkpoint),
        step=checkpoint.step,
        task=task.name,
        realism=request.realism,
        wait_ms=request.wait_ms,
        seeds=seeds,
        conditions=conditions,
        versions={**versions(), "torch": torch.__version__},
        wall_s=perf_counter() - began,
        page=None if request.page is None else str(request.page / "index.html"),
        notes=tuple(notes),
    )
    if request.page is not None:
        write_page(request.page, task, report)
    return report


def roll_out(
    policy: Predictor,
    simulation: Simulation,
    seed: int,
    chunker: Chunker,
    *,
    robot: str | None = None,
    wait_ms: float = 0.0,
    ticks: int | None = None,
    on_tick: Callable[[World], None] | None = None,
) -> SimRollout:
    """One episode of any policy. Errors of the robot end it early, and are told.

    Raises:
        InputError: The policy moves something that this robot has not.
        NotFoundError: There is no such preset.
    """
    try:
        sim = SimRobot(
            simulation,
            policy.contract,
            seed=seed,
            robot=robot,
            wait_ms=wait_ms,
            ticks=ticks,
            on_tick=on_tick,
        )
    except DataError as e:  # sensors that never show a usable frame are a failed episode
        return _never_began(simulation, seed, f"{e} {e.hint or ''}".strip())
    start = _places(simulation)
    limits = Limits.from_stats(policy.contract.action, policy.stats)
    wide = replace(limits, low=limits.low - _GIVES_WAY, high=limits.high + _GIVES_WAY)
    report = deploy(
        policy, sim, mode=Mode.SIM, chunker=chunker, sink=sim, rules=_RULES, limits=wide
    )
    return SimRollout(
        trial=sim.trial,
        start=start,
        error=report.error,
        chunks=report.chunks,
        starved_ticks=report.starved_ticks,
        invalid_observations=report.invalid_observations,
        inference_p50_ms=report.inference_p50_ms,
        inference_p95_ms=report.inference_p95_ms,
        interventions={name: n for name, n in report.safety.items() if n},
    )


def _never_began(simulation: Simulation, seed: int, error: str) -> SimRollout:
    return SimRollout(
        trial=trial_of(seed, []),
        start=_places(simulation),
        error=error,
        chunks=0,
        starved_ticks=0,
        invalid_observations=0,
        inference_p50_ms=None,
        inference_p95_ms=None,
        interventions={},
    )


def _places(simulation: Simulation) -> tuple[tuple[float, float], ...]:
    """(x, y) of each object, now."""
    places = simulation.world.objects.reshape(-1, 7)[:, :2].round(4)
    return tuple((float(x), float(y)) for x, y in places)


def execute_of(request: SimRequest, chunks: Chunks, chunk_size: int) -> int:
    """Ticks between the predictions of a condition."""
    if chunks == "ensemble":
        return 1
    return min(request.execute or max(1, chunk_size * 2 // 3), chunk_size)


def _roll_out(
    request: SimRequest, item: tuple[Chunks, int, str | None], advance: Advance
) -> SimRollout:
    """The episode of one condition and seed; with a file name, also as a video."""
    chunks, seed, video = item
    # More threads would sum in another order, and give another number on another machine.
    torch.set_num_threads(1)
    policy = _policy(request.checkpoint, request.runtime, request.device)
    contract = policy.contract
    action_dim = sum(len(v.names) for v in contract.action)
    execute = execute_of(request, chunks, contract.chunk_size)
    chunker: Chunker = (
        TemporalEnsemble(contract.chunk_size, action_dim, m=request.ensemble_m)
        if chunks == "ensemble"
        else ActionQueue(contract.chunk_size, action_dim, execute=execute)
    )
    timing = timing_of(request.realism, request.timing)
    simulation = simulation_for(task_named(request.task), policy.contract, timing)
    film = None if video is None or request.page is None else _Film(simulation, request, video)
    try:
        rollout = roll_out(
            policy,
            simulation,
            seed,
            chunker,
            robot=request.robot,
            wait_ms=request.wait_ms,
            ticks=request.ticks,
            on_tick=film,
        )
    finally:
        if film is not None:
            film.close()
        simulation.close()
    return rollout.model_copy(update={"video": video})


@cache
def _policy(folder: Path, runtime: RuntimeName, device: str) -> runtimes.Runtime:
    return runtimes.load(folder, runtime, device)


def simulation_for(task: Task, policy: Contract, timing: Timing) -> Simulation:
    """With the cameras that `policy` sees, at the size at which they were recorded.

    Raises:
        InputError: Its cameras have different sizes, or nothing here can draw.
    """
    cameras = policy.cameras
    sizes = {(c.height, c.width) for c in cameras} or {(480, 640)}
    if len(sizes) > 1:
        raise InputError(f"the policy's cameras have different sizes: {sorted(sizes)}")
    height, width = sizes.pop()
    return Simulation(
        task,
        pictures=Pictures(cameras=tuple(c.name for c in cameras), height=height, width=width),
        timing=timing,
    )


def _with_videos(
    request: SimRequest,
    items: Sequence[tuple[Chunks, int, str | None]],
    rollouts: list[SimRollout],
    notes: list[str],
) -> list[SimRollout]:
    """The rollouts, some of which were run once more and filmed: they are deterministic."""
    chosen = [
        number
        for chunks in dict.fromkeys(request.chunks)
        for success in (True, False)
        for number in [
            n
            for n, (item, rollout) in enumerate(zip(items, rollouts, strict=True))
            if item[0] == chunks and (rollout.trial.reward == 4) == success
        ][: request.videos]
    ]
    filmed = [(items[n][0], items[n][1], f"{items[n][0]}-{items[n][1]}.mp4") for n in chosen]
    try:
        for i, rollout in run(_roll_out, request, filmed, jobs=request.jobs):
            rollouts[chosen[i]] = rollout
    except InputError as e:
        notes.append(f"no videos: {e}")
    return rollouts


class _Film:
    """Called with the world at every tick: draws every other one."""

    def __init__(self, simulation: Simulation, request: SimRequest, name: str) -> None:
        assert request.page is not None
        self._camera = request.camera
        self._cameras = Cameras(simulation.world, *_VIDEO_SIZE)
        path = request.page / name
        path.unlink(missing_ok=True)
        self._writer = VideoWriter(path, _VIDEO_FPS, (*_VIDEO_SIZE, 3), "h264")
        self._ticks = 0

    def __call__(self, world: World) -> None:
        if self._ticks % _VIDEO_EVERY == 0:
            self._writer.append(self._cameras.picture(self._camera))
        self._ticks += 1

    def close(self) -> None:
        self._writer.close()
        self._cameras.close()


def _condition(
    task: Task, chunks: str, execute: int, rollouts: Sequence[SimRollout]
) -> SimCondition:
    def median(values: Sequence[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return float(np.median(known)) if known else None

    return SimCondition(
        chunks=chunks,
        execute=execute,
        rates=rates_of(task.stages, [r.trial for r in rollouts]),
        inference_p50_ms=median([r.inference_p50_ms for r in rollouts]),
        inference_p95_ms=median([r.inference_p95_ms for r in rollouts]),
        rollouts=tuple(rollouts),
    )
