"""From what a person asks for to a rollout: which checkpoint, robot, and way of chunking."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from act_data.check import open_ref
from act_data.errors import ActError, InputError, NotFoundError
from act_data.interfaces import DatasetReader
from act_data.records import Record, SourceRecord
from act_data.robot import load_robot
from act_data.sources import Reading, find_recordings, given_types, open_recording
from act_data.sources.live import open_backend
from act_data.types import NS_PER_MS
from act_model import runtime as runtimes
from act_model.commands import Sink, open_sink
from act_model.config import DatasetRef
from act_model.contract import check_contract
from act_model.deploy import (
    Mode,
    Operator,
    Recorder,
    RolloutReport,
    estop_file,
    keys,
    signals,
)
from act_model.deploy import deploy as run_on
from act_model.lineage import dataset_of, find_checkpoint, sources_of, unseen
from act_model.plan import (
    DeployRequest,
    Plan,
    chunker_of,
    is_live,
    limits_of,
    max_prefix_of,
    plan_of,
    with_own_sink,
    workspace_of,
)
from act_model.policy_process import ProcessPolicy
from act_model.robot_io import BagRobot, DatasetRobot, LiveRobot, RobotIO
from act_model.runtime import Runtime
from act_model.watchdog import Watchdog


class Deployment(Record):
    """A rollout and what it was made of.

    Attributes:
        held_out: The policy was not trained on `source`; None when its dataset is gone, and with
            it the answer.
    """

    checkpoint: str
    step: int
    source: str
    held_out: bool | None
    sink: str = ""
    rollout: RolloutReport


def explain(request: DeployRequest) -> Plan:
    """What `deploy` would do; the contract is checked, and nothing runs.

    Raises:
        As `deploy`.
    """
    folder, request = find_checkpoint(request.checkpoint), with_own_sink(request)
    policy = runtimes.load(folder, request.runtime, request.device)
    with _robot(request, policy) as (robot, source, held_out):
        check_contract(policy.contract, robot.contract)
        return plan_of(
            request,
            policy,
            folder=folder,
            source=source,
            held_out=held_out,
            sink=_sink_name(request, robot),
            limits=limits_of(request, policy, _dataset_if_there(policy.checkpoint.dataset)),
            workspace=workspace_of(request, policy),
            watchdog=_watched(request),
        )


def deploy(request: DeployRequest, *, say: Callable[[str], None] = lambda text: None) -> Deployment:
    """Run a policy on what plays the robot, which is moved in some modes.

    Args:
        say: Tells the person beside the robot what to do.

    Raises:
        NotFoundError: No such checkpoint, dataset, episode or recording.
        InputError: The robot does not fit the policy; both sides are listed.
        StoreError: The checkpoint or the dataset is damaged.
        DataError: The recording is damaged, or the watchdog does not watch.
    """
    folder, request = find_checkpoint(request.checkpoint), with_own_sink(request)
    operator = Operator(armed=request.armed or request.mode not in (Mode.LIVE, Mode.STEP))
    with ExitStack() as open_:
        policy: Runtime
        abandon = None
        if request.in_process:
            policy = process = ProcessPolicy(folder, request.runtime, request.device)
            open_.callback(process.close)
            abandon = process.close
        else:
            policy = runtimes.load(folder, request.runtime, request.device)
        watchdog = None
        if _watched(request):
            assert request.sink is not None
            watchdog = Watchdog(
                request.sink,
                policy.contract,
                silence_ms=request.silence_ms,
                hold_s=request.hold_s,
            )
            open_.callback(watchdog.close)
        robot, source, held_out = open_.enter_context(_robot(request, policy))
        check_contract(policy.contract, robot.contract)  # before what only fits the right robot
        limits = limits_of(request, policy, _dataset_if_there(policy.checkpoint.dataset))
        workspace = workspace_of(request, policy)
        if isinstance(policy, ProcessPolicy):
            policy.wait()
        chunker = chunker_of(request, policy)
        sink = _sink(request, policy, robot)
        if sink is not None:
            open_.callback(sink.close)
        recorder = _recorder(request, policy, folder)
        if watchdog is not None:
            watchdog.wait()
        open_.enter_context(signals(operator))
        open_.enter_context(estop_file(operator, request.estop_file))
        if request.mode in (Mode.LIVE, Mode.STEP):
            open_.enter_context(keys(operator, say))
        rollout = run_on(
            policy,
            robot,
            mode=request.mode,
            chunker=chunker,
            sink=sink,
            limits=limits,
            workspace=workspace,
            rules=request.rules,
            log=request.log,
            max_ticks=request.max_ticks,
            operator=operator,
            recorder=recorder,
            watchdog=watchdog,
            abandon=abandon,
            latency_ns=lambda: round(request.latency_ms * NS_PER_MS),
            max_prefix=max_prefix_of(policy) if request.chunks == "prefix" else 0,
            fifo=request.fifo,
        )
        return Deployment(
            checkpoint=str(folder),
            step=policy.checkpoint.step,
            source=source,
            held_out=held_out,
            sink=_sink_name(request, robot) if request.mode.moves else "",
            rollout=rollout,
        )


@contextmanager
def _robot(request: DeployRequest, policy: Runtime) -> Iterator[tuple[RobotIO, str, bool | None]]:
    """The robot, its name for people, and whether the policy was not trained on it, if known."""
    if request.source is not None and _is_bag(request.source):
        reading = Reading(types=given_types(request.msg_path), recover=request.recover)
        recordings = find_recordings([Path(request.source)], reading)
        if len(recordings) != 1:
            raise InputError(
                f"{request.source!r} holds {len(recordings)} recordings",
                hint=f"Name one of them, e.g. {recordings[0].files[0]}.",
            )
        robot = load_robot(request.robot or policy.contract.robot)
        with open_recording(recordings[0]) as source:
            sources = sources_of(policy.checkpoint.dataset)
            held_out = None if sources is None else source.record(()).sha256 not in sources
            yield BagRobot(source, robot, policy.contract), request.source, held_out
        return
    if request.msg_path or request.recover:
        raise InputError(
            "--msg-path and --recover say how a bag is read, and the source is none",
            hint="Leave them out, or name a bag with --source.",
        )
    if request.source is not None and request.source.startswith("sim:"):
        with _simulated(request.source, request.robot, policy) as simulated:
            yield simulated, request.source, True
        return
    if request.source is not None and is_live(request.source):
        robot = load_robot(request.robot or policy.contract.robot)
        live = LiveRobot(open_backend(request.source), robot, policy.contract)
        try:
            yield live, request.source, True
        finally:
            live.close()
        return
    if request.robot is not None:
        raise InputError(
            f"--robot {request.robot!r} says how topics are read, and the source is a dataset",
            hint="Leave it out, or name a bag with --source.",
        )
    trained_on = policy.checkpoint.dataset
    number: int | None = None
    if request.source is None:
        reader = dataset_of(trained_on)
    else:
        reader, number = _episode(request.source)
    known = unseen(reader, trained_on)
    if number is None:  # the first that was held out; the last one if none was
        number = known.index(True) if True in known else len(known) - 1
    robot_io = DatasetRobot(reader, number, policy.contract)
    yield robot_io, f"{reader.path}#{number}", known[number]


@contextmanager
def _simulated(source: str, robot: str | None, policy: Runtime) -> Iterator[RobotIO]:
    """The robot of "sim:TASK" or "sim:TASK#SEED"."""
    # A simulator is an extra, and takes long to import.
    from act_model.sim.robot import SimRobot
    from act_model.sim.rollouts import FIRST_SEED, simulation_for
    from act_model.sim.sensors import timing_of
    from act_model.sim.tasks import task_named

    name, _, seed = source.removeprefix("sim:").partition("#")
    if seed and not (seed.isascii() and seed.isdigit()):
        raise InputError(f"{source!r}: {seed!r} is no seed", hint="Write sim:transfer_cube#10001.")
    simulation = simulation_for(task_named(name), policy.contract, timing_of("none", ()))
    try:
        yield SimRobot(
            simulation, policy.contract, seed=int(seed) if seed else FIRST_SEED, robot=robot
        )
    finally:
        simulation.close()


def _episode(text: str) -> tuple[DatasetReader, int | None]:
    ref, mark, number = text.rpartition("#")
    if not mark:
        return open_ref(text), None
    if not (number.isascii() and number.isdigit()):
        raise InputError(
            f"{text!r}: {number!r} is no episode number", hint="Write DATASET#0, DATASET#1, ..."
        )
    reader = open_ref(ref)
    if int(number) >= len(reader.episodes):
        raise NotFoundError(
            f"{ref} has no episode {number}", hint=f"It has 0 to {len(reader.episodes) - 1}."
        )
    return reader, int(number)


def _is_bag(source: str) -> bool:
    path = Path(source)
    datasets = (".zarr", ".hdf5", ".h5")
    if path.suffix in (".bag", ".db3", ".mcap"):
        return True
    if "#" in source or path.suffix in datasets or not path.exists():
        return False
    return path.is_file() or not any(path.glob("episode_*.hdf5"))


def _watched(request: DeployRequest) -> bool:
    """Whether a robot that another process can reach is moved in real time."""
    if request.sink is None or request.sink.startswith("mcap:"):  # a file with one writer
        return False
    return request.mode.moves and request.mode.real_time


def _sink(request: DeployRequest, policy: Runtime, robot: RobotIO) -> Sink | None:
    if not request.mode.moves:
        return None
    if request.sink is not None:
        return open_sink(request.sink, policy.contract)
    if isinstance(robot, Sink):
        return robot
    raise InputError(
        f"mode {request.mode.value} moves the robot, and a recording cannot be moved",
        hint="Name where commands go with --sink, or use replay or shadow.",
    )


def _sink_name(request: DeployRequest, robot: RobotIO) -> str:
    if request.sink is not None:
        return request.sink
    return "the robot itself" if isinstance(robot, Sink) else "none"


def _recorder(request: DeployRequest, policy: Runtime, folder: Path) -> Recorder | None:
    if request.record is None:
        return None
    if not request.mode.moves:
        raise InputError(
            f"mode {request.mode.value} moves nothing that could be recorded",
            hint="Leave --record out, or use sim, step or live.",
        )
    config = policy.checkpoint.folder / "config.json"  # it holds the digests of all other files
    source = SourceRecord(
        kind="policy",
        name=f"{folder.name} (step {policy.checkpoint.step})",
        sha256=hashlib.sha256(config.read_bytes()).hexdigest(),
        files=(str(folder.absolute()),),
    )
    return Recorder(
        request.record,
        policy.contract,
        source,
        task=request.task,
        threaded=request.mode.real_time,
    )


def _dataset_if_there(trained_on: DatasetRef) -> DatasetReader | None:
    try:
        return dataset_of(trained_on)
    except ActError:
        return None
