"""From what a person asks for to a training run or a rollout: where the parts of a command meet."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from act_data.check import open_verified
from act_data.errors import ActError, InputError
from act_data.interfaces import DatasetReader
from act_data.records import Record
from act_data.registry import Registry
from act_data.types import Role
from act_model.config import TrainConfig
from act_model.config_file import ConfigFile, read_config
from act_model.event_file import EventFile
from act_model.families import DEFAULT, Family, Size, family_of
from act_model.nn import imagenet_at_hand
from act_model.ranks import speaks
from act_model.run_folder import discard_empty
from act_model.train import StepReport, TrainResult
from act_model.train import train as train_on

EVENTS = "tensorboard"  # folder of a run
MIN_SIDE, MAX_SIDE = 16, 4096  # of a picture at the network's door, in pixels


class TrainRequest(Record):
    """A training run as a person asks for it.

    None leaves a field to the configuration file, then to the size, the family or the dataset,
    then to the defaults of its records.

    Attributes:
        dataset: A path, a name, or "name@version".
        out: Run folder; `runs/<dataset>` by default.
        config: See `config_file`.
        policy: A family; "act" by default.
        size: One of the family's; its first by default.
        action: All action arrays by default, so that a mobile base is learned with the arms.
        image_size: (H, W) at the network's door; as recorded by default.
        backbone_weights: "auto", the default, is ImageNet when torchvision's cache on this machine
            has it for the backbone.
        workers: 1 by default.
        cotrain: "DATASET=SHARE": other datasets, and the share of every batch that is theirs.
        tensorboard: Write event files into the folder `tensorboard` of the run as well.
    """

    dataset: str
    out: Path | None = None
    config: Path | None = None
    policy: str | None = None
    size: str | None = None
    steps: int | None = None
    batch_size: int | None = None
    chunk: int | None = None
    lr: float | None = None
    lr_backbone: float | None = None
    state: tuple[str, ...] | None = None
    action: tuple[str, ...] | None = None
    cameras: tuple[str, ...] | None = None
    depth: tuple[str, ...] | None = None
    image_size: tuple[int, int] | None = None
    backbone_weights: str | None = None
    kl_weight: float | None = None
    loss: Literal["l1", "l2", "smooth_l1"] | None = None
    augment: bool | None = None
    val_every: int | None = None
    workers: int | None = None
    seed: int | None = None
    device: str | None = None
    cotrain: tuple[str, ...] = ()
    skip_damaged: bool = False
    resume: bool = False
    tensorboard: bool = False


class TrainReport(Record):
    """Where a run stands.

    Attributes:
        checkpoint: The one to deploy: the best on held-out episodes, else the last.
        best_l1: Mean absolute error of the held-out episodes at z = 0, in the robot's units.
    """

    run: str
    checkpoint: str
    dataset: str
    version: int
    content_hash: str
    steps: int
    samples: int
    best_step: int | None
    best_l1: float | None
    metrics: Mapping[str, float]
    notes: tuple[str, ...]


def train(
    request: TrainRequest, *, on_step: Callable[[StepReport], None] | None = None
) -> TrainReport:
    """Check the dataset, train on it, and register the checkpoint.

    Raises:
        NotFoundError: There is no such dataset.
        StoreError: Its content no longer matches its version.
        InputError: The request does not fit the dataset.
        ConflictError: The run folder holds another run.
        ActError: The run needs more memory than there is.
    """
    file = ConfigFile({}, {})
    if request.config is not None:
        file = read_config(request.config, request.policy)
    family, size = _family(request, file)
    reader = open_verified(request.dataset, skip_damaged=request.skip_damaged)
    out = request.out or Path("runs") / reader.path.stem
    config = _train_config(request, file, reader, family, size)
    model = _model_fields(request, file, family, size)
    fresh = not out.exists()
    try:
        with _told(on_step, out / EVENTS if request.tensorboard else None) as tell:
            result = train_on(
                reader,
                out=out,
                config=config,
                model=model,
                cotrain=[_cotrained(text, request) for text in request.cotrain],
                resume=request.resume,
                on_step=tell,
            )
    except BaseException as e:
        if fresh:
            discard_empty(out)
        if _out_of_memory(e):
            raise ActError(
                f"the memory of this machine or device is too small: {str(e).splitlines()[0]}",
                hint="Lower --batch-size, --image-size or --chunk, or take a smaller --size.",
            ) from None
        raise
    if speaks():
        Registry().register_checkpoint(
            result.checkpoint, result.dataset, step=result.best_step or result.steps
        )
    return _train_report(out, result)


@contextlib.contextmanager
def _told(
    on_step: Callable[[StepReport], None] | None, events: Path | None
) -> Iterator[Callable[[StepReport], None] | None]:
    """What to tell every step: `on_step`, and the event file in the folder `events`."""
    if events is None:
        yield on_step
        return
    with EventFile(events) as file:

        def tell(report: StepReport) -> None:
            numbers = {f"train/{name}": value for name, value in report.flat().items()}
            if report.validation is not None:
                flat = report.validation.flat()
                numbers |= {f"val/{name}": value for name, value in flat.items()}
            file.write(report.step, numbers)
            if on_step is not None:
                on_step(report)

        yield tell


def _cotrained(text: str, request: TrainRequest) -> tuple[DatasetReader, float]:
    ref, _, share = text.rpartition("=")
    try:
        weight = float(share)
    except ValueError:
        weight = math.nan
    if not ref or not 0 < weight < 1:
        raise InputError(
            f"--cotrain is {text!r}", hint="Write DATASET=SHARE, for example old.zarr=0.5."
        )
    return open_verified(ref, skip_damaged=request.skip_damaged), weight


def _out_of_memory(error: BaseException) -> bool:
    """torch has a type for devices only; on a CPU its allocator says it in words."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _train_report(out: Path, result: TrainResult) -> TrainReport:
    return TrainReport(
        run=str(out),
        checkpoint=str(result.checkpoint),
        dataset=result.dataset.path,
        version=result.dataset.version,
        content_hash=result.dataset.content_hash,
        steps=result.steps,
        samples=result.samples,
        best_step=result.best_step,
        best_l1=result.best_l1,
        metrics=result.metrics,
        notes=result.notes,
    )


def _family(request: TrainRequest, file: ConfigFile) -> tuple[Family[Any, Any], Size]:
    """The family and the size that are asked for."""
    family = family_of(request.policy or str(file.model.get("policy", DEFAULT)))
    name = request.size or next(iter(family.sizes))
    if name not in family.sizes:
        raise InputError(
            f"policy {family.name!r} has no size {name!r}",
            hint=f"It has: {', '.join(family.sizes)}.",
        )
    return family, family.sizes[name]


def _train_config(
    request: TrainRequest,
    file: ConfigFile,
    reader: DatasetReader,
    family: Family[Any, Any],
    size: Size,
) -> TrainConfig:
    every_action = tuple(f.name for f in reader.schema.named(Role.ACTION) if len(f.shape) == 1)
    flags = {
        "state": request.state,
        "action": request.action,
        "steps": request.steps,
        "batch_size": request.batch_size,
        "lr": request.lr,
        "lr_backbone": request.lr_backbone,
        "seed": request.seed,
        "val_every": request.val_every,
        "workers": request.workers,
        "device": request.device,
    }
    chosen: dict[str, object] = {
        "action": every_action,
        "lr": size.lr,
        "lr_backbone": size.lr_backbone,
        "workers": 1,
        **family.train,
        **file.train,
        **_given(flags),
    }
    loss = {"kind": request.loss, "kl_weight": request.kl_weight}
    chosen["loss"] = {**file.train.get("loss", {}), **_given(loss)}
    if request.augment is not None:  # a flag switches; how strong is for the file to say
        chosen["augment"] = (file.train.get("augment") or {}) if request.augment else None
    return TrainConfig.model_validate(chosen)


def _model_fields(
    request: TrainRequest, file: ConfigFile, family: Family[Any, Any], size: Size
) -> dict[str, object]:
    flags = {
        "chunk_size": request.chunk,
        "cameras": request.cameras,
        "depth": request.depth,
        "image_size": request.image_size,
        "backbone_weights": request.backbone_weights,
    }
    chosen: dict[str, Any] = {
        "backbone_weights": "auto",
        "backbone": family.config.model_fields["backbone"].default,
        **size.model,
        **file.model,
        **_given(flags),
        "policy": family.name,
    }
    if "image_size" in chosen:
        _check_sides(chosen["image_size"])
    if chosen["backbone_weights"] == "auto":
        at_hand = imagenet_at_hand(chosen["backbone"])
        chosen["backbone_weights"] = "imagenet" if at_hand else "none"
    return chosen


def _given(flags: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in flags.items() if value is not None}


def _check_sides(size: tuple[int, int]) -> None:
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise InputError(
            f"image size {size[0]}x{size[1]} has a side out of {MIN_SIDE} to {MAX_SIDE}",
            hint="The ResNet sees one feature per 32 pixels; 240x320 is a good start.",
        )
