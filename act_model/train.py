"""Train a policy on one version of a dataset; a run goes on exactly where it was killed.

A run is a folder: `metrics.jsonl`, the checkpoint `best` (smallest error on held-out episodes) and
the checkpoint `last`, which also holds what training needs to go on. Batches, dropout, style noise
and augmentation are functions of (seed, step), so a resumed run replays nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pydantic import ValidationError
from torch import nn

from act_data.errors import InputError, StoreError
from act_data.interfaces import DatasetReader
from act_data.records import DatasetSchema, StatsRecord
from act_model.average import WeightAverage
from act_model.checkpoint import (
    Checkpoint,
    TrainerRecord,
    TrainerState,
    contract_of,
    load_trainer,
    load_weights,
    save,
)
from act_model.config import DatasetRef, NetworkConfig, TrainConfig
from act_model.dataset import vector_of
from act_model.families import DEFAULT, family_of
from act_model.joint_groups import action_names, joint_groups
from act_model.memory import check_memory
from act_model.nn import load_backbone_weights
from act_model.nn.backbone import CameraBackbone
from act_model.policy import device_of
from act_model.preflight import check_run, check_stats
from act_model.ranks import Ranks, ranks
from act_model.run_folder import BEST, LAST, open_metrics, open_run, refuse_changes
from act_model.step import Stepper, load_moments, moments, restore_scale, scale_of
from act_model.training_data import chunks_of, dataset_ref, statistics_for, training_chunks
from act_model.transforms import Transform
from act_model.validate import Validation, validate


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What one optimiser step did.

    Attributes:
        step: Steps done, this one included.
        steps: Steps in all.
        losses: "loss" and its parts.
        grad_norm: Before clipping.
        lr: As in `Taken`; `lr_backbone` too.
        samples_per_s: Of this step, reading included and validation not.
        data_wait: Share of the step that was spent waiting for data.
        seconds: Where its time went: "data" is waiting for the loader; the others as in `Taken`.
        validation: When this step was followed by one.
        saved: Checkpoints written after this step.
    """

    step: int
    steps: int
    losses: Mapping[str, float]
    grad_norm: float
    lr: float
    lr_backbone: float
    samples_per_s: float
    data_wait: float
    seconds: Mapping[str, float]
    validation: Validation | None = None
    saved: tuple[Path, ...] = ()

    def flat(self) -> dict[str, float]:
        """The finite numbers of the step itself under one name each: "loss", "s/forward", ..."""
        return {
            **self.losses,
            **({"grad_norm": self.grad_norm} if math.isfinite(self.grad_norm) else {}),
            "lr": self.lr,
            "lr_backbone": self.lr_backbone,
            "samples_per_s": self.samples_per_s,
            "data_wait": self.data_wait,
            **{f"s/{name}": value for name, value in self.seconds.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """Where a run stands.

    Attributes:
        steps: Optimiser steps done, those of earlier sittings included.
        last: The newest checkpoint; `train(..., resume=True)` goes on from it.
        best: The checkpoint with the smallest `best_l1`; None without held-out episodes.
        best_l1: In the robot's units.
        metrics: Of the last validation.
        samples: Steps of the training episodes at which a chunk can start.
        data_wait: Share of this sitting's training time that was spent waiting for data; None
            without a step.
        notes: Sentences for people.
    """

    steps: int
    last: Path
    best: Path | None
    best_step: int | None
    best_l1: float | None
    metrics: Mapping[str, float]
    samples: int
    data_wait: float | None
    dataset: DatasetRef
    notes: tuple[str, ...] = ()

    @property
    def checkpoint(self) -> Path:
        """The one to deploy: `best`, or `last` when nothing was held out."""
        return self.best or self.last


def train(
    reader: DatasetReader,
    *,
    out: Path,
    config: TrainConfig | None = None,
    model: Mapping[str, object] | None = None,
    stats: StatsRecord | None = None,
    cotrain: Sequence[tuple[DatasetReader, float]] = (),
    resume: bool = False,
    on_step: Callable[[StepReport], None] | None = None,
) -> TrainResult:
    """Train on the episodes of the split "train", validate on those of "val".

    Ctrl-C ends the run after the step at hand, with `last` saved. Uses torch's global random
    stream.

    Args:
        reader: The version to train on.
        out: Folder of the run; must be new, or hold the run to resume.
        config: The run. When resuming, only steps, workers and device may differ.
        model: Fields of the network's configuration that are not to be the default; `policy` names
            its family, "act" by default. By default the network sees all cameras of the dataset,
            no depth, at the size of the first camera.
        stats: Of the training split of this version; None: what is saved with the version, or
            computed now.
        cotrain: Other datasets of the same robot, and the share of every batch that their train
            splits fill. Statistics and validation are those of `reader`.
        resume: Go on from `out/last`.
        on_step: Called after every step.

    Raises:
        InputError: The configuration does not fit the dataset, or the memory of this machine.
        ConflictError: `out` holds something already, or the run was started otherwise.
        NotFoundError: There is nothing to resume.
        DataError: The dataset, or its statistics, holds NaN where a number is needed.
        ActError: The loss is not finite any more; says where the last good checkpoint is.
        StoreError: A checkpoint cannot be read or written.
    """
    config = config or TrainConfig()
    with ranks() as together:
        return _train(
            reader, out, config, model or {}, stats, tuple(cotrain), resume, on_step, together
        )


def _train(
    reader: DatasetReader,
    out: Path,
    config: TrainConfig,
    model: Mapping[str, object],
    stats: StatsRecord | None,
    cotrain: Sequence[tuple[DatasetReader, float]],
    resume: bool,
    on_step: Callable[[StepReport], None] | None,
    together: Ranks,
) -> TrainResult:
    device = device_of(config.device)
    architecture = model_config(reader.schema, config, model)
    dataset = dataset_ref(reader, cotrain)
    check_run(config, architecture, reader)
    mine = together.mine(config.parts)
    last = open_run(out, resume=resume, shared=not together.first)
    stats = statistics_for(reader, stats, last)
    if last is not None:
        refuse_changes(last, architecture, config, dataset)
    contract = contract_of(
        reader.schema,
        config,
        architecture.chunk_size,
        cameras=architecture.cameras,
        depth=architecture.depth,
    )
    check_stats(stats, contract)
    names, groups = action_names(contract.action), joint_groups(contract.action)
    transform = Transform(architecture, contract, stats, config).to(device)
    chunks = training_chunks(reader, cotrain, config, architecture, contract)
    held_out = chunks_of(reader, "val", config, architecture) if dataset.val else None
    grid = held_out.grid(config.val_starts) if held_out else ()

    stepper = Stepper(architecture, config, device, together)
    net = stepper.net
    check_memory(stepper.family, net, architecture, config, contract, device, together)
    if config.compile:
        net.compile()
    record, step, metrics, good = TrainerRecord(), 0, dict[str, float](), "none yet"
    if last is None:
        _load_backbone(net, architecture)
    average = WeightAverage(net, config.ema) if config.ema else None
    if last is not None:
        record, step, metrics = _restore(last, stepper, average)
        good = f"{last.folder}, of step {step}"

    def keep(name: str, trainer: TrainerState | None = None) -> Path:
        if together.first:
            save(
                out / name,
                weights=net.state_dict(),
                model=architecture,
                train=config,
                contract=contract,
                stats=stats,
                dataset=dataset,
                step=step,
                metrics=metrics,
                trainer=trainer,
            )
        return out / name

    waited = spent = 0.0
    with (
        open_metrics(out, up_to=step, shared=not together.first) as log,
        contextlib.closing(chunks.batches(step, mine, pinned=device.type == "cuda")) as batches,
        _interrupts() as interrupted,
    ):
        while step < config.steps and not _run_dry(record, step, config):
            started = time.perf_counter()
            parts = [next(batches) for _ in mine]
            wait = time.perf_counter() - started
            taken = stepper.take(transform, parts, step, good)
            step += 1
            if average is not None:
                average.update(step)
            seconds = time.perf_counter() - started
            waited, spent = waited + wait, spent + seconds
            report = StepReport(
                step=step,
                steps=config.steps,
                losses=taken.losses,
                grad_norm=taken.grad_norm,
                lr=taken.lr,
                lr_backbone=taken.lr_backbone,
                samples_per_s=config.batch_size / seconds,
                data_wait=wait / seconds,
                seconds={"data": wait, **taken.seconds},
            )
            log.write({"kind": "train", "step": step, **report.flat(), "time": time.time()})

            due = step % config.val_every == 0 or step == config.steps
            validation: Validation | None = None
            saved: list[Path] = []
            stop = together.total(interrupted.is_set()) > 0
            if due or stop:
                tensors = moments(net, stepper.optimizer, average)
                with average.in_place() if average is not None else contextlib.nullcontext():
                    if due and held_out is not None:
                        validation = validate(
                            stepper.family,
                            net,
                            transform,
                            held_out,
                            grid,
                            names=names,
                            groups=groups,
                            device=device,
                        )
                        metrics = validation.flat()
                        log.write({"kind": "val", "step": step, **metrics, "time": time.time()})
                        if record.best is None or validation.l1 < record.best:
                            record = TrainerRecord(best=validation.l1, best_step=step)
                            saved.append(keep(BEST))
                    scaled = record.model_copy(update=scale_of(stepper.scaler))
                    saved.append(keep(LAST, TrainerState(record=scaled, moments=tensors)))
                good = f"{out / LAST}, of step {step}"
            if on_step is not None and together.first:
                on_step(dataclasses.replace(report, validation=validation, saved=tuple(saved)))
            if stop:
                raise KeyboardInterrupt
    return TrainResult(
        steps=step,
        last=out / LAST,
        best=out / BEST if record.best is not None else None,
        best_step=record.best_step,
        best_l1=record.best,
        metrics=metrics,
        samples=len(chunks),
        data_wait=waited / spent if spent else None,
        dataset=dataset,
        notes=_notes(dataset, architecture, config, step, resumed=last is not None),
    )


def _run_dry(record: TrainerRecord, step: int, config: TrainConfig) -> bool:
    """Whether `config.patience` validations in a row were no better than the best one."""
    if not config.patience or record.best_step is None:
        return False
    return step // config.val_every - record.best_step // config.val_every >= config.patience


def model_config(
    schema: DatasetSchema, config: TrainConfig, overrides: Mapping[str, object]
) -> NetworkConfig:
    """The network for arrays of `schema`; `overrides` are fields of its family's configuration.

    Raises:
        InputError: An array or a field does not exist, or a value does not fit it.
    """
    for kind, arrays in (("state", config.state), ("action", config.action)):
        if len(set(arrays)) < len(arrays):
            raise InputError(f"{kind} {list(arrays)!r} names one twice", hint="Name each once.")
    cameras = tuple(
        f.name.removeprefix("images/") for f in schema.features if f.name.startswith("images/")
    )
    derived: dict[str, object] = {
        "state_dim": sum(vector_of(schema, name).shape[0] for name in config.state),
        "action_dim": sum(vector_of(schema, name).shape[0] for name in config.action),
        "cameras": cameras,
    }
    if cameras:
        derived["image_size"] = schema.feature(f"images/{cameras[0]}").shape[:2]
    fields: type[NetworkConfig] = family_of(str(overrides.get("policy", DEFAULT))).config
    try:
        return fields.model_validate({**derived, **overrides})
    except ValidationError as e:
        problems = "; ".join(
            f"{'.'.join(map(str, p['loc']))} = {p['input']!r}: {p['msg']}" for p in e.errors()
        )
        raise InputError(
            f"the model configuration does not hold: {problems}",
            hint=f"Fields are: {', '.join(fields.model_fields)}.",
        ) from None


# --- before the first step --------------------------------------------------------------------


def _notes(
    dataset: DatasetRef, model: NetworkConfig, config: TrainConfig, step: int, *, resumed: bool
) -> tuple[str, ...]:
    notes = []
    if step < config.steps:
        notes.append(
            f"The run ended at step {step} of {config.steps}: {config.patience} validations in a "
            "row were no better."
        )
    if not dataset.val:
        notes.append(
            "No episode was held out: nothing was validated and no `best` was kept; "
            "the training loss does not rank policies."
        )
    if model.cameras and model.backbone_weights == "none" and not resumed:
        notes.append("The camera backbone started from random weights.")
    return tuple(notes)


def _load_backbone(net: nn.Module, model: NetworkConfig) -> None:
    backbone = getattr(net, "backbone", None)
    if isinstance(backbone, CameraBackbone):
        load_backbone_weights(backbone, model.backbone_weights)


def _restore(
    last: Checkpoint, stepper: Stepper, average: WeightAverage | None
) -> tuple[TrainerRecord, int, dict[str, float]]:
    """Bring network, optimiser and average to where `last` was saved."""
    trainer = load_trainer(last)
    try:
        stepper.net.load_state_dict(load_weights(last))
    except RuntimeError as e:
        raise StoreError(
            f"{last.folder}: the weights do not fit the network: {e}",
            hint="The checkpoint is of another version of the toolkit: start a new run.",
        ) from e
    load_moments(stepper.net, stepper.optimizer, average, trainer.moments)
    restore_scale(stepper.scaler, trainer.record)
    return trainer.record, last.step, dict(last.metrics)


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that no step is left half done; a second one raises.

    Outside of the main thread, and where Ctrl-C is ignored, it is never set.
    """
    pressed = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield pressed
        return

    def on_press(number: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, on_press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
