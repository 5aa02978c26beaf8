"""What a rollout will be, resolved before anything moves: limits, chunking, rules, all in one page.

Shape suffixes: T steps, A action dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from act_data.errors import InputError
from act_data.interfaces import DatasetReader
from act_data.records import Record
from act_data.robot import load_robot, preset_names
from act_data.types import RobotSpec
from act_model.chunking import ActionQueue, Chunker, Seam, TemporalEnsemble
from act_model.commands import labels, robot_of
from act_model.config import Contract
from act_model.deploy import Mode, Rules
from act_model.runtime import Runtime, RuntimeName
from act_model.safety import DEFAULT_MARGIN, Limits, Sent, read_urdf
from act_model.safety.preset import preset_limits, sent_by
from act_model.safety.records import Box
from act_model.safety.workspace import read_workspace

if TYPE_CHECKING:
    from act_model.safety.kinematics import Workspace

Chunks = Literal["open-loop", "ensemble", "crossfade", "align", "prefix"]
_SEAMS: dict[str, Seam] = {"crossfade": "crossfade", "align": "align"}
_TRACKS = 256  # demonstrations that are looked at for how fast they are


class DeployRequest(Record):
    """A rollout as a person asks for it.

    Attributes:
        checkpoint: A checkpoint, or the folder of a run; the newest registered one by default.
        source: What plays the robot: "dataset#3" for an episode of a dataset (path or name), the
            path of a bag, "sim:transfer_cube#SEED", or live topics: "ros1", "ros2", "foxglove",
            as `open_backend` takes them. By default a held-out episode of the checkpoint's dataset.
        msg_path: Definitions for types that a bag does not define, as in ingest.
        recover: Read what is left of a damaged bag.
        robot: Preset or YAML that names streams, commands and limits; the policy's own by default.
        sink: Where commands go in a mode that moves the robot, as `open_sink` takes it; by default
            the robot itself, where it can be commanded.
        chunks: How overlapping predictions become one action per tick. "prefix" tells the policy
            which actions are on their way already, and needs one that was trained for it.
        execute: Ticks between predictions; by default 1 for "ensemble", and for others as many as
            leave enough actions for the time that a prediction takes.
        fade: Ticks of a "crossfade" or "align".
        ensemble_m: Weight of prediction i is exp(-m i), the oldest first (Zhao et al., 2023).
        first_command: By default "refuse" on a robot, "ramp" in a simulation.
        urdf: Limits of the joints beyond which nothing is sent.
        workspace: Boxes that tips of the URDF stay in, as `read_workspace` takes them.
        margin: Share of each joint's demonstrated range that a policy may exceed it by.
        record: Dataset that the rollout becomes episodes of.
        task: What is done, in words; kept with the episodes.
        latency_ms: How long each prediction takes in simulated time.
        process: The policy predicts in a process of its own; by default where a robot is moved in
            real time.
        armed: Send the first command without waiting for a person.
        estop_file: A file whose appearance is the emergency stop.
        silence_ms: After how long the watchdog steps in.
        runtime: "onnx" runs what was exported from the checkpoint.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    checkpoint: Path | None = None
    source: str | None = None
    msg_path: tuple[Path, ...] = ()
    recover: bool = False
    robot: str | None = None
    sink: str | None = None
    mode: Mode = Mode.REPLAY
    chunks: Chunks = "open-loop"
    execute: int | None = None
    fade: int = Field(8, ge=1)
    ensemble_m: float = 0.01
    max_ticks: int | None = None
    control_hz: float | None = Field(None, gt=0, le=2000)
    max_age_ms: float = Field(500.0, gt=0)
    hold_s: float = Field(1.0, ge=0)
    first_command: Literal["refuse", "ramp"] | None = None
    tracking_tolerance: float = Field(0.25, ge=0)
    urdf: Path | None = None
    workspace: Path | None = None
    margin: float = Field(DEFAULT_MARGIN, ge=0)
    log: Path | None = None
    record: Path | None = None
    task: str = ""
    latency_ms: float = Field(0.0, ge=0)
    process: bool | None = None
    armed: bool = False
    estop_file: Path | None = None
    silence_ms: float = Field(100.0, gt=0)
    fifo: bool = False
    runtime: RuntimeName = "torch"
    device: str = "auto"

    @property
    def rules(self) -> Rules:
        """What the rollout keeps to."""
        return Rules(
            control_hz=self.control_hz,
            max_age_ms=self.max_age_ms,
            hold_s=self.hold_s,
            first_command=self.first_command or ("ramp" if self.mode is Mode.SIM else "refuse"),
            tracking_tolerance=self.tracking_tolerance,
        )

    @property
    def in_process(self) -> bool:
        """Whether the policy gets a process of its own."""
        if self.process is None:
            return self.mode in (Mode.STEP, Mode.LIVE)
        return self.process


class PlannedElement(Record):
    """One element of the action and what it is held to, in its unit and seconds."""

    name: str
    unit: str
    low: float
    high: float
    velocity: float | None
    acceleration: float | None


class Plan(Record):
    """What a rollout will do, for people to read before it does.

    Attributes:
        contract: What the policy needs to see and what it delivers; the robot's fits.
        limits_from: Where the limits of `elements` come from.
        workspace: Boxes that tips stay in; empty: they may be anywhere.
        reserve: How the time of the next prediction is chosen.
        watchdog: Whether a second process stops the robot when the control tick is silent.
        process: Whether the policy has a process of its own.
    """

    checkpoint: str
    step: int
    runtime: RuntimeName
    source: str
    held_out: bool | None
    sink: str
    mode: Mode
    moves: bool
    chunks: Chunks
    execute: int
    reserve: str
    policy_hz: float
    control_hz: float
    rules: Rules
    contract: Contract
    limits_from: str
    elements: tuple[PlannedElement, ...]
    workspace: tuple[Box, ...] = ()
    watchdog: bool
    process: bool
    record: str | None
    log: str | None


def is_live(source: str) -> bool:
    """Whether `source` names live topics."""
    kind, _, where = source.partition(":")
    return kind in ("ros1", "ros2", "foxglove") or (kind == "replay" and bool(where))


def with_own_sink(request: DeployRequest) -> DeployRequest:
    """`request` with commands on the ROS that is listened to, where nothing else was said."""
    source = request.source or ""
    if request.sink is not None or not request.mode.moves or not source.startswith("ros"):
        return request
    if not is_live(source):
        return request
    robot = f"#{request.robot}" if request.robot else ""
    return request.model_copy(update={"sink": source + robot})


def plan_of(
    request: DeployRequest,
    policy: Runtime,
    *,
    folder: Path,
    source: str,
    held_out: bool | None,
    sink: str,
    limits: Limits,
    workspace: Workspace | None,
    watchdog: bool,
) -> Plan:
    """The plan of a request whose parts are resolved."""
    contract = policy.contract
    every = chunker_of(request, policy).every
    return Plan(
        checkpoint=str(folder),
        step=policy.checkpoint.step,
        runtime=request.runtime,
        source=source,
        held_out=held_out,
        sink=sink if request.mode.moves else "none: nothing is moved",
        mode=request.mode,
        moves=request.mode.moves,
        chunks=request.chunks,
        execute=every,
        reserve="the next prediction is asked for when what is left of a chunk is no more than the "
        "95th percentile of the time that predictions take, and one tick",
        policy_hz=contract.rate_hz,
        control_hz=request.control_hz or contract.rate_hz,
        rules=request.rules,
        contract=contract,
        limits_from=limits.source,
        elements=tuple(
            PlannedElement(
                name=name,
                unit=unit,
                low=float(limits.low[i]),
                high=float(limits.high[i]),
                velocity=_finite(limits.velocity[i]),
                acceleration=_finite(limits.acceleration[i]),
            )
            for i, (name, unit) in enumerate(labels(contract.action))
        ),
        workspace=() if workspace is None else workspace.boxes,
        watchdog=watchdog,
        process=request.in_process,
        record=None if request.record is None else str(request.record),
        log=None if request.log is None else str(request.log),
    )


def limits_of(request: DeployRequest, policy: Runtime, trained_on: DatasetReader | None) -> Limits:
    """What each element of the action may be.

    Args:
        trained_on: The policy's dataset, if it is still there: it knows how fast demonstrations
            are.

    Raises:
        InputError: The statistics lack a joint, or the robot's preset or URDF contradicts them.
        NotFoundError: There is no such robot or URDF.
    """
    contract = policy.contract
    limits = Limits.from_stats(contract.action, policy.stats, margin=request.margin)
    if trained_on is not None:
        train = set(policy.checkpoint.dataset.train)
        limits = limits.with_motion(_tracks(trained_on, train, contract), contract.rate_hz)
    robot, sent = _robot_of(request, contract)
    known = {} if robot is None else preset_limits(robot, contract.action)
    if known:
        name = f"robot {_named(request) or contract.robot}"
        limits = limits.within(known, contract.action, name, sent)
    if request.urdf is not None:
        joints = read_urdf(request.urdf)
        limits = limits.within(joints, contract.action, str(request.urdf), sent)
    return limits


def workspace_of(request: DeployRequest, policy: Runtime) -> Workspace | None:
    """The boxes that the robot's tips stay in; None: none was asked for.

    Raises:
        NotFoundError: There is no such file.
        InputError: A file is wrong, there is no URDF, or its joints are not those of the action;
            or Pinocchio is not installed.
    """
    if request.workspace is None:
        return None
    if request.urdf is None:
        raise InputError(
            "a workspace needs to know where the robot's joints bring its tips",
            hint="Give its URDF, too: --urdf.",
        )
    boxes = read_workspace(request.workspace)
    from act_model.safety.kinematics import Workspace  # an extra, and 0.3 s

    contract = policy.contract
    _, sent = _robot_of(request, contract)
    return Workspace(request.urdf, boxes, contract.action, sent)


def _robot_of(request: DeployRequest, contract: Contract) -> tuple[RobotSpec | None, Sent | None]:
    """The robot that is asked for, or the policy's own where that is at hand; how it is told."""
    named = _named(request)
    if named is not None:
        robot = load_robot(named)
        return robot, sent_by(robot, contract.action)
    if contract.robot not in preset_names():
        return None, None
    robot = load_robot(contract.robot)
    try:
        return robot, sent_by(robot, contract.action)
    except InputError:  # recorded with another file of that name
        return None, None


def _named(request: DeployRequest) -> str | None:
    """The robot that is commanded, where the request names one."""
    return (robot_of(request.sink) if request.sink else None) or request.robot


def chunker_of(request: DeployRequest, policy: Runtime) -> Chunker:
    """How chunks become actions.

    Raises:
        InputError: The policy was not trained for prefixes, or a number does not fit.
    """
    size = policy.contract.chunk_size
    dim = sum(len(array.names) for array in policy.contract.action)
    if request.chunks == "ensemble":
        return TemporalEnsemble(size, dim, m=request.ensemble_m, every=request.execute or 1)
    if request.chunks == "prefix" and not max_prefix_of(policy):
        raise InputError(
            "the policy was not trained to continue actions that are on their way",
            hint="Use --chunks align or crossfade, or train with action prefixes.",
        )
    seam = _SEAMS.get(request.chunks, "switch")
    return ActionQueue(size, dim, execute=request.execute, seam=seam, fade=request.fade)


def max_prefix_of(policy: Runtime) -> int:
    """The longest action prefix that the policy was trained with; 0: none."""
    return int(getattr(policy, "max_prefix", 0))


def _tracks(
    reader: DatasetReader, train: set[str], contract: Contract
) -> Iterator[NDArray[np.float32]]:
    episodes = [i for i, entry in enumerate(reader.episodes) if entry.uid in train]
    for episode in episodes[:: max(1, -(-len(episodes) // _TRACKS))]:
        parts = [reader.read(v.name, episode) for v in contract.action]
        yield np.concatenate(parts, axis=1).astype(np.float32)


def _finite(value: np.float32) -> float | None:
    return float(value) if np.isfinite(value) else None
