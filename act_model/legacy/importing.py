"""From a checkpoint of another program to a folder of ours.

What the network needs to know of the robot (joints, units, rate, cameras) stands in none of those
files: it comes from a dataset of that robot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from act_data import stats as statistics
from act_data.errors import ConflictError, InputError, NotFoundError, StoreError
from act_data.interfaces import DatasetReader
from act_data.records import FeatureStats, StatsRecord
from act_model import checkpoint
from act_model.checkpoint import contract_of
from act_model.config import Contract, DatasetRef, ModelConfig, TrainConfig, VectorContract
from act_model.legacy import aloha, lerobot
from act_model.legacy.foreign import Foreign, count_layers
from act_model.legacy.records import ImportReport
from act_model.nn import ActCvae

_SMALLEST_STD = 1e-12  # none: they have been applied to the deviations already
_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """What is imported, and whose robot it is for.

    Attributes:
        path: The checkpoint: a folder, or a pickled file of weights.
        out: The folder to write.
        cameras: Image arrays of the robot, without "images/", in the order the network sees them;
            () takes those that the checkpoint names.
        state: Observation arrays that make up the state; action likewise.
        allow_pickle: Read weights that are a pickle, where it can do no harm.
        heads: Of attention, which a pickled checkpoint does not tell; None: 8, as published.
        vq_classes: Groups of codes of a pickled VQ policy, likewise.
    """

    path: Path
    out: Path
    cameras: tuple[str, ...] = ()
    state: tuple[str, ...] = ("qpos",)
    action: tuple[str, ...] = ("action",)
    allow_pickle: bool = False
    heads: int | None = None
    vq_classes: int | None = None


def import_checkpoint(request: ImportRequest, robot: DatasetReader) -> ImportReport:
    """Write the checkpoint as one of ours.

    Args:
        robot: A dataset of the robot, with the arrays that the policy sees and delivers. The range
            of its values, too, is the range that a rollout keeps actions in.

    Raises:
        NotFoundError: A file, or an array of the robot, is missing.
        StoreError: A file is damaged.
        InputError: It is no ACT policy, one that our network cannot be, or not of this robot.
        ConflictError: There is something at `request.out`.
    """
    if request.out.exists():
        raise ConflictError(f"{request.out} exists", hint="Pick another name, or delete it first.")
    foreign = _read(request)
    cameras = _cameras(request, foreign, robot)
    train = TrainConfig(state=request.state, action=request.action, std_floor=_SMALLEST_STD)
    contract = contract_of(
        robot.schema,
        train,
        foreign.model["chunk_size"],
        cameras=cameras,
        depth=cameras if foreign.has_depth else (),
    )
    for what, arrays, mean in (
        ("state", contract.state, foreign.state_mean_S),
        ("action", contract.action, foreign.action_mean_A),
    ):
        _check_size(foreign, what, arrays, mean)
    try:
        model = ModelConfig.model_validate(
            {"image_size": _image_size(foreign, contract)}
            | {**foreign.model, "cameras": cameras}
            | {"depth": tuple(camera.name for camera in contract.depth)}
        )
    except ValidationError as e:
        first = e.errors()[0]
        raise InputError(
            f"{foreign.source}: {'.'.join(map(str, first['loc']))} is {first['input']!r}: "
            f"{first['msg']}",
            hint="Our network cannot have this size.",
        ) from e
    weights, fresh = _weights(foreign, model)
    seen = statistics.compute(robot, "all")
    stats = StatsRecord(
        dataset=f"mean and std of {foreign.source}, ranges of {seen.dataset}",
        version=seen.version,
        content_hash=seen.content_hash,
        split="all",
        episodes=seen.episodes,
        steps=seen.steps,
        features={
            **_numbers(contract.state, seen, foreign.state_mean_S, foreign.state_std_S),
            **_numbers(contract.action, seen, foreign.action_mean_A, foreign.action_std_A),
        },
    )
    checkpoint.save(
        request.out,
        weights=weights,
        model=model,
        train=train,
        contract=contract,
        stats=stats,
        # Nobody knows what it was trained on, so no episode counts as held out.
        dataset=DatasetRef(
            path=f"unknown, of {foreign.source}",
            uid="",
            version=0,
            content_hash="",
            train=(),
            val=(),
        ),
        step=0,
        metrics={},
    )
    return ImportReport(
        dialect=foreign.dialect,
        source=foreign.source,
        checkpoint=str(request.out),
        weights=sum(tensor.numel() for tensor in weights.values()),
        left_out=foreign.left_out,
        fresh=fresh,
        cameras=cameras,
        decoder_layers=model.decoder_layers,
    )


def _read(request: ImportRequest) -> Foreign:
    path = request.path
    if not path.exists():
        raise NotFoundError(f"{path} does not exist", hint="Name a folder with a checkpoint.")
    if (path / "contract.json").is_file():
        raise InputError(f"{path} is one of our checkpoints", hint="Deploy it as it is.")
    if aloha.weights_file(path) is None:
        return lerobot.read(path)
    return aloha.read(
        path,
        allow_pickle=request.allow_pickle,
        heads=request.heads,
        vq_classes=request.vq_classes,
    )


def _cameras(request: ImportRequest, foreign: Foreign, robot: DatasetReader) -> tuple[str, ...]:
    there = [f.name for f in robot.schema.features if f.name.startswith("images/")]
    names = request.cameras or foreign.cameras
    count = foreign.camera_count
    missing = [name for name in names if f"images/{name}" not in there]
    if missing or (not names if count is None else len(names) != count):
        sees = list(foreign.cameras) or (count if count is not None else "unnamed")
        raise InputError(
            f"{foreign.source} sees the cameras {sees!r}; taken: {list(names)!r}, of the dataset's "
            f"{[name.removeprefix('images/') for name in there]!r}",
            hint="Give the dataset's cameras in the order of the checkpoint, each with --camera.",
        )
    return names


def _image_size(foreign: Foreign, contract: Contract) -> tuple[int, int]:
    """(H, W) of the robot's pictures, which a network that tells no size has seen as they are."""
    found = {(camera.height, camera.width) for camera in contract.cameras}
    if len(found) > 1 and "image_size" not in foreign.model:
        raise InputError(
            f"the cameras of {contract.robot!r} have several sizes: {sorted(found)!r}",
            hint="The network sees all cameras in one size: name a dataset with such pictures.",
        )
    return min(found, default=(480, 640))


def _check_size(
    foreign: Foreign, what: str, arrays: Sequence[VectorContract], mean: NDArray[np.float64]
) -> None:
    there = sum(len(array.names) for array in arrays)
    if not there == len(mean) == foreign.model[f"{what}_dim"]:
        raise InputError(
            f"the {what} of {foreign.source} has {foreign.model[f'{what}_dim']} numbers, its "
            f"statistics {len(mean)}, the dataset's {', '.join(a.name for a in arrays)} {there}",
            hint=f"Name the arrays that make it up, each with --{what}.",
        )


def _weights(foreign: Foreign, model: ModelConfig) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """All weights of our network, and which of them are fresh."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wanted = ActCvae(model).state_dict()
    found = dict(foreign.weights)
    if model.cameras:
        # It does not tell its cameras apart.
        found["camera_ND"] = torch.zeros(len(model.cameras), model.hidden_dim)
    fresh: list[str] = []
    if not count_layers(found, "style.encoder"):  # trained without: nothing reads these then
        fresh = [name for name in wanted if name.startswith(("style.", "latent."))]
        found |= {name: wanted[name] for name in fresh}
    endless = [name for name, tensor in found.items() if not bool(tensor.isfinite().all())]
    if endless:
        raise StoreError(
            f"{foreign.source}: {len(endless)} weights are not finite, first {endless[0]!r}",
            hint="Its training had failed by then: take an earlier checkpoint.",
        )
    wrong = [
        f"{name} {tuple(found[name].shape) if name in found else 'missing'} instead of "
        f"{tuple(wanted[name].shape) if name in wanted else 'nothing'}"
        for name in sorted(wanted.keys() | found.keys())
        if name not in wanted or name not in found or wanted[name].shape != found[name].shape
    ]
    if wrong:
        raise InputError(
            f"{foreign.source}: {len(wrong)} weights do not fit: {'; '.join(wrong[:_SHOWN])}",
            hint="The network has parts that ours lacks, or the file is not whole.",
        )
    return {name: tensor.float() for name, tensor in found.items()}, tuple(fresh)


def _numbers(
    arrays: Sequence[VectorContract],
    seen: StatsRecord,
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
) -> Mapping[str, FeatureStats]:
    """The statistics of `arrays`: the robot's ranges, and what the network was trained with."""
    features, start = {}, 0
    for array in arrays:
        part = slice(start, start := start + len(array.names))
        own = seen.features[array.name]
        # Our normalisation does not scale a constant dimension. Theirs did, and this network
        # expects it: so none is constant.
        above = [
            float(np.nextafter(high, np.inf)) if high is not None and high == low else high
            for low, high in zip(own.min, own.max, strict=True)
        ]
        features[array.name] = own.model_copy(
            update={
                "mean": tuple(mean[part].tolist()),
                "std": tuple(std[part].tolist()),
                "max": tuple(above),
                "constant": (),
            }
        )
    return features
