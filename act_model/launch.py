"""From what a person asks for to a rollout: which checkpoint, robot, and way of chunking."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from act_data.check import open_ref
from act_data.errors import ActError, InputError, NotFoundError
from act_data.interfaces import DatasetReader
from act_data.records import EpisodeInfo, Record
from act_data.registry import Registry
from act_data.robot import load_robot
from act_data.sources import find_recordings, open_recording
from act_data.store import location, open_dataset
from act_model import runtime as runtimes
from act_model.chunking import ActionQueue, Chunker, TemporalEnsemble
from act_model.config import DatasetRef
from act_model.deploy import Mode, RolloutReport
from act_model.deploy import deploy as run_on
from act_model.evaluate import DEFAULT_STARTS, EvaluationReport
from act_model.evaluate import evaluate as evaluate_on
from act_model.policy import Policy
from act_model.robot_io import BagRobot, DatasetRobot, RobotIO
from act_model.run_folder import BEST, LAST
from act_model.runtime import Runtime, RuntimeName


class DeployRequest(Record):
    """A rollout as a person asks for it.

    Attributes:
        checkpoint: A checkpoint, or the folder of a run; the newest registered one by default.
        source: What plays the robot: "dataset#3" for an episode of a dataset (path or name), or
            the path of a bag. By default a held-out episode of the checkpoint's dataset.
        robot: Preset or YAML that names a bag's streams; the policy's own by default.
        chunks: How overlapping predictions become one action per tick.
        execute: Ticks between predictions; by default 1 for "ensemble", and a whole chunk for
            "open-loop", or three quarters of it in shadow: there the next prediction takes time,
            and the last quarter is what the robot does meanwhile.
        ensemble_m: Weight of prediction i is exp(-m i), the oldest first (Zhao et al., 2023).
        runtime: "onnx" runs what was exported from the checkpoint.
    """

    checkpoint: Path | None = None
    source: str | None = None
    robot: str | None = None
    mode: Mode = Mode.REPLAY
    chunks: Literal["open-loop", "ensemble"] = "open-loop"
    execute: int | None = None
    ensemble_m: float = 0.01
    max_ticks: int | None = None
    log: Path | None = None
    runtime: RuntimeName = "torch"
    device: str = "auto"


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
    rollout: RolloutReport


def deploy(request: DeployRequest) -> Deployment:
    """Run a policy on a recording; nothing is ever moved.

    Raises:
        NotFoundError: No such checkpoint, dataset, episode or recording.
        InputError: The robot does not fit the policy; both sides are listed.
        StoreError: The checkpoint or the dataset is damaged.
        DataError: The recording is damaged.
    """
    folder = find_checkpoint(request.checkpoint)
    policy = runtimes.load(folder, request.runtime, request.device)
    with _robot(request, policy) as (robot, source, held_out):
        rollout = run_on(
            policy,
            robot,
            mode=request.mode,
            chunker=_chunker(request, policy),
            log=request.log,
            max_ticks=request.max_ticks,
        )
    return Deployment(
        checkpoint=str(folder),
        step=policy.checkpoint.step,
        source=source,
        held_out=held_out,
        rollout=rollout,
    )


class EvaluationRequest(Record):
    """Measuring a policy on what it was not trained on, as a person asks for it.

    Attributes:
        dataset: A path, a name, or "name@version"; by default what the policy was trained on.
        starts: Chunks per held-out episode, evenly spread.
    """

    checkpoint: Path | None = None
    dataset: str | None = None
    starts: int = DEFAULT_STARTS
    device: str = "auto"


def evaluate(
    request: EvaluationRequest, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> EvaluationReport:
    """The open-loop error of a policy on the held-out episodes of a dataset.

    Raises:
        NotFoundError: No such checkpoint or dataset.
        InputError: The dataset does not fit the policy, or nothing was held out.
        StoreError: The checkpoint or the dataset is damaged.
    """
    policy = Policy.load(find_checkpoint(request.checkpoint), request.device)
    if request.dataset is None:
        reader = dataset_of(policy.checkpoint.dataset)
    else:
        reader = open_ref(request.dataset)
    report = evaluate_on(policy, reader, starts=request.starts, progress=progress)
    unseen = _unseen(reader, policy.checkpoint.dataset)
    seen = {unseen[episode] for episode in report.episodes}
    held_out = False if False in seen else None if None in seen else True
    return report.model_copy(update={"held_out": held_out})


def find_checkpoint(folder: Path | None) -> Path:
    """The checkpoint in `folder`, the best one of a run there, or the newest registered one.

    Raises:
        NotFoundError: There is none.
    """
    if folder is None:
        newest = Registry().newest_checkpoint()
        if newest is None:
            raise NotFoundError(
                "no checkpoint is registered", hint="Train one: `act-model train DATASET`."
            )
        return newest
    for name in (BEST, LAST):
        if (folder / name).is_dir():
            return folder / name
    return folder


def dataset_of(trained_on: DatasetRef) -> DatasetReader:
    """The dataset version that a checkpoint was trained on.

    Raises:
        NotFoundError: It is no longer there.
        InputError: Another dataset has taken its place.
    """
    path = location(trained_on.path)
    if not path.exists():  # then it may have been moved, and registered again
        places = [location(d.path) for d in Registry().datasets() if d.uid == trained_on.uid]
        path = next((place for place in places if place.exists()), path)
    if not path.exists():
        raise NotFoundError(
            f"the dataset that the policy was trained on is no longer at {str(path)!r}",
            hint="Name the episode to replay with --source DATASET#NUMBER, or a bag.",
        )
    reader = open_dataset(path, trained_on.version)
    if reader.version.content_hash != trained_on.content_hash:
        raise InputError(
            f"{trained_on.path} is not what the policy was trained on: version "
            f"{trained_on.version} has content {reader.version.content_hash[:12]}, the checkpoint "
            f"names {trained_on.content_hash[:12]}",
            hint="Name the episode to replay with --source DATASET#NUMBER.",
        )
    return reader


@contextmanager
def _robot(request: DeployRequest, policy: Runtime) -> Iterator[tuple[RobotIO, str, bool | None]]:
    """The robot, its name for people, and whether the policy was not trained on it, if known."""
    if request.source is not None and _is_bag(request.source):
        recordings = find_recordings([Path(request.source)])
        if len(recordings) != 1:
            raise InputError(
                f"{request.source!r} holds {len(recordings)} recordings",
                hint=f"Name one of them, e.g. {recordings[0].files[0]}.",
            )
        robot = load_robot(request.robot or policy.contract.robot)
        with open_recording(recordings[0]) as source:
            sources = _sources(policy.checkpoint.dataset)
            unseen = None if sources is None else source.record(()).sha256 not in sources
            yield BagRobot(source, robot, policy.contract), request.source, unseen
        return
    if request.robot is not None:
        raise InputError(
            f"--robot {request.robot!r} says how a bag is read, and the source is a dataset",
            hint="Leave it out, or name a bag with --source.",
        )
    trained_on = policy.checkpoint.dataset
    number: int | None = None
    if request.source is None:
        reader = dataset_of(trained_on)
    else:
        reader, number = _episode(request.source)
    held_out = _unseen(reader, trained_on)
    if number is None:  # the first that was held out; the last one if none was
        number = held_out.index(True) if True in held_out else len(held_out) - 1
    robot_io = DatasetRobot(reader, number, policy.contract)
    yield robot_io, f"{reader.path}#{number}", held_out[number]


def _unseen(reader: DatasetReader, trained_on: DatasetRef) -> list[bool | None]:
    """Whether the policy was not trained on an episode, for each of `reader`; None: unknown.

    Another dataset may hold the recordings of the training set under other uids.
    """
    if reader.uid == trained_on.uid:
        return [entry.uid not in trained_on.train for entry in reader.episodes]
    infos = (reader.episode(entry.uid).info for entry in reader.episodes)
    sources = _sources(trained_on)
    return [None if sources is None else _recording(info) not in sources for info in infos]


def _sources(trained_on: DatasetRef) -> set[str] | None:
    """Digests of the recordings that the training episodes were made from; None: unknown."""
    try:
        reader = dataset_of(trained_on)
    except ActError:
        return None
    return {_recording(reader.episode(uid).info) for uid in trained_on.train}


def _recording(info: EpisodeInfo) -> str:
    """sha256 of what an episode was recorded as, also where the dataset is a copy of another."""
    origin = info.imported.origin if info.imported is not None else None
    return (origin or info.source).sha256


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


def _chunker(request: DeployRequest, policy: Runtime) -> Chunker:
    chunk_size = policy.contract.chunk_size
    action_dim = sum(len(array.names) for array in policy.contract.action)
    if request.chunks == "open-loop":
        execute = request.execute
        if execute is None and request.mode is Mode.SHADOW:
            execute = max(1, chunk_size - max(1, chunk_size // 4))
        return ActionQueue(chunk_size, action_dim, execute=execute)
    return TemporalEnsemble(
        chunk_size, action_dim, m=request.ensemble_m, every=request.execute or 1
    )
