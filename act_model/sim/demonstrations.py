"""Demonstrations as recordings: the expert acts, the sensors are recorded, failures are dropped."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from time import perf_counter
from typing import Literal

from pydantic import Field

from act_data.engines import Advance, run
from act_data.errors import DataError, InputError
from act_data.record.files import open_folder, write_sidecar
from act_data.records import Record
from act_data.segments import Sidecar
from act_data.sources.recording_file import ENCODINGS, RecordingFile
from act_data.types import RawMessage
from act_model.sim.camera import check_cameras
from act_model.sim.expert import Expert
from act_model.sim.records import (
    Realism,
    SimulatedRecording,
    SimulationReport,
    Trial,
    rates_of,
    trial_of,
)
from act_model.sim.sensors import Pictures, timing_of
from act_model.sim.simulation import TICK_NS, Simulation
from act_model.sim.tasks import task_named
from act_model.sim.world import World

PRESETS = {  # cameras of the presets that ingest chooses by itself
    (): "aloha_sim_state",
    ("top",): "aloha_sim",
    ("top", "angle", "front_close"): "aloha_sim_three_cameras",
}
_PATIENCE = 3  # so many times the episodes that were asked for may be tried


class SimulateRequest(Record):
    """Demonstrations as a person asks for them.

    Attributes:
        out: Folder for the recordings, `<task>-<seed>.<format>` each, with its annotation beside
            it as `.yaml`.
        episodes: Recordings wanted; where the expert fails, the seed after the last one is taken.
        first_seed: Of the first episode; those after it count on.
        cameras: Names in the scene; none records no pictures, and needs no OpenGL.
        size: (height, width) of every picture.
        jpeg: Quality of CompressedImage pictures; None publishes raw Image.
        timing: Changes of the realism's sensors: "camera.offset_ms=30".
        jobs: Processes.
        keep_failures: Recordings of failures stay, annotated as such.
    """

    task: str
    out: Path
    episodes: int = Field(10, ge=1, le=100_000)
    first_seed: int = Field(0, ge=0, le=100_000)
    realism: Realism = "none"
    timing: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    size: tuple[int, int] = (480, 640)
    jpeg: int | None = Field(None, ge=1, le=100)
    format: Literal["mcap", "bag"] = "mcap"
    jobs: int = Field(1, ge=1, le=1024)
    keep_failures: bool = False


def check_size(size: tuple[int, int]) -> None:
    """Refuse pictures that nobody draws.

    Raises:
        InputError: A side is out of 16 to 2160.
    """
    if not all(16 <= side <= 2160 for side in size):
        raise InputError(
            f"pictures of {size[0]}x{size[1]} have a side out of 16 to 2160",
            hint="The paper uses 480x640.",
        )


def simulate(
    request: SimulateRequest, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> SimulationReport:
    """Record demonstrations of a task until `request.episodes` of them have succeeded.

    The same request makes the same files, whatever the number of processes.

    Args:
        progress: Called with (recordings that are there, recordings wanted).

    Raises:
        InputError: There is no such task, camera or timing, or nothing can draw.
        ConflictError: A recording of this name is there.
        StoreError: The disk is full or failing.
        DataError: The expert fails too often.
    """
    began = perf_counter()
    task = task_named(request.task)
    timing_of(request.realism, request.timing)
    check_cameras(request.cameras)
    check_size(request.size)
    open_folder(request.out)
    made: dict[int, SimulatedRecording] = {}
    kept = 0
    seed = request.first_seed
    while kept < request.episodes:
        wanted = request.episodes - kept
        if len(made) + wanted > _PATIENCE * request.episodes + _PATIENCE:
            raise DataError(f"the expert succeeded in {kept} of {len(made)} episodes")
        seeds = range(seed, seed + wanted)
        seed += wanted
        for number, recording in run(_record, request, seeds, jobs=request.jobs):
            made[seeds[number]] = recording
            kept += recording.file is not None
            progress(kept, request.episodes)
    recordings = tuple(made[s] for s in sorted(made))
    return SimulationReport(
        task=task.name,
        robot=PRESETS.get(request.cameras, ""),
        realism=request.realism,
        folder=str(request.out),
        recordings=recordings,
        rates=rates_of(task.stages, [r.trial for r in recordings]),
        wall_s=perf_counter() - began,
    )


def demonstrate(
    simulation: Simulation, expert: Expert, seed: int
) -> Generator[RawMessage, None, Trial]:
    """The messages of one demonstration in order of arrival; returns what it came to."""
    simulation.begin(seed)
    path_TA = expert.plan(simulation.world)
    rewards: list[int] = []

    def on_tick(world: World) -> None:
        world.command(path_TA[len(rewards)])
        rewards.append(world.reward)

    for tick in range(simulation.world.task.ticks):
        yield from simulation.run(tick * TICK_NS, on_tick)
    yield from simulation.in_flight()
    return trial_of(seed, rewards)


def _record(request: SimulateRequest, seed: int, advance: Advance) -> SimulatedRecording:
    """The recording of one seed, and its annotation beside it."""
    task = task_named(request.task)
    suffix = f".{request.format}"
    height, width = request.size
    simulation = Simulation(
        task,
        pictures=Pictures(cameras=request.cameras, height=height, width=width, jpeg=request.jpeg),
        timing=timing_of(request.realism, request.timing),
        encoding=ENCODINGS[suffix],
    )
    path = request.out / f"{task.name}-{seed:06d}{suffix}"
    numbers = {channel.topic: channel.id for channel in simulation.channels}
    messages = 0
    try:
        with RecordingFile(path, simulation.channels) as file:
            steps = demonstrate(simulation, Expert(task), seed)
            while True:
                try:
                    raw = next(steps)
                except StopIteration as end:
                    trial: Trial = end.value
                    break
                file.write(numbers[raw.topic], raw.recv_ns, bytes(raw.payload), seq=messages)
                messages += 1
    finally:
        simulation.close()
    success = trial.reward == len(task.stages) and trial.held
    if not success and not request.keep_failures:
        path.unlink()
        return SimulatedRecording(file=None, trial=trial, messages=0, size=0)
    reached = (*("nothing",), *task.stages)[trial.reward]
    note = f"seed {seed}, realism {request.realism}, reached: {reached}"
    sidecar = Sidecar(task=task.words, operator="expert", success=success, notes=note)
    write_sidecar(path, sidecar)
    return SimulatedRecording(
        file=str(path), trial=trial, messages=messages, size=path.stat().st_size
    )
