"""A checkpoint is a folder of safetensors and JSON: it appears whole or not at all.

    model.safetensors   weights
    config.json         the network's configuration, TrainConfig, step, metrics, and the digest of
                        every other file
    contract.json       what a robot must deliver and will receive
    stats.json          the statistics that state and action were normalised with
    dataset.json        the exact data it was trained on
    trainer.safetensors, trainer.json   only where training can go on from here

Replacing a folder takes two renames, so there is an instant at which it has no name of its own:
`<name>.new` is written and synced, `<name>` becomes `<name>.old`, `<name>.new` becomes `<name>`,
`<name>.old` is deleted. `<name>.old` without `<name>` says that `<name>.new` is whole, and that is
what is read then; the next save tidies up. Nothing here is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError

from act_data.errors import InputError, NotFoundError, StoreError
from act_data.records import DatasetSchema, FileDigest, Record, StatsRecord
from act_model.config import (
    CameraContract,
    Contract,
    DatasetRef,
    NetworkConfig,
    TrainConfig,
    VectorContract,
)
from act_model.networks import AnyNetworkConfig

if TYPE_CHECKING:  # a process that only looks at a checkpoint does without torch
    import torch
    from torch import Tensor

FORMAT_VERSION = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CONTRACT = "contract.json"
STATS = "stats.json"
DATASET = "dataset.json"
MOMENTS = "trainer.safetensors"
TRAINER = "trainer.json"
_FILES = {WEIGHTS, CONTRACT, STATS, DATASET, MOMENTS, TRAINER}  # all that have a digest

R = TypeVar("R", bound=Record)


class CheckpointConfig(Record):
    """What `config.json` holds.

    Attributes:
        step: Optimiser steps behind these weights.
        model: Names its family as `policy`.
        metrics: Of the last validation, finite numbers only.
        files: Digest of every other file of the folder, by name.
    """

    format: Literal["act-checkpoint"] = "act-checkpoint"
    format_version: int = FORMAT_VERSION
    step: int
    metrics: Mapping[str, float]
    model: AnyNetworkConfig
    train: TrainConfig
    files: Mapping[str, FileDigest]


class TrainerRecord(Record):
    """What `trainer.json` holds: with the optimiser's moments, all that training needs to go on.

    Every random stream is a function of (seed, step), so no generator's state is kept.

    Attributes:
        best: The smallest validation error so far; None before the first validation.
        best_step: The step of `best`.
        scale: What the loss was multiplied with, where training scales it ("fp16").
        scale_steps: Steps since it changed.
    """

    best: float | None = None
    best_step: int | None = None
    scale: float | None = None
    scale_steps: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainerState:
    """The part of a training run that is not in the weights.

    Attributes:
        moments: The optimiser's tensors, by "<parameter>/<quantity>"; also the weights themselves
            where those of the checkpoint are their moving average.
    """

    record: TrainerRecord
    moments: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint on disk, checked; the weights are read by `load_weights`.

    Attributes:
        weights_sha256: Digest of the file of the weights.
    """

    folder: Path
    weights_sha256: str
    model: NetworkConfig
    train: TrainConfig
    contract: Contract
    stats: StatsRecord
    dataset: DatasetRef
    step: int
    metrics: Mapping[str, float]


def save(
    folder: Path,
    *,
    weights: Mapping[str, Tensor],
    model: NetworkConfig,
    train: TrainConfig,
    contract: Contract,
    stats: StatsRecord,
    dataset: DatasetRef,
    step: int,
    metrics: Mapping[str, float],
    trainer: TrainerState | None = None,
) -> None:
    """Write a checkpoint, in place of the one that `folder` may hold already.

    Raises:
        StoreError: The disk is full or does not let us write; `folder` is as it was.
    """
    new, old = _beside(folder, "new"), _beside(folder, "old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _finish_swap(folder)
        new.mkdir()
        _write_tensors(new / WEIGHTS, weights)
        _write_record(new / CONTRACT, contract)
        _write_record(new / STATS, stats)
        _write_record(new / DATASET, dataset)
        if trainer is not None:
            _write_tensors(new / MOMENTS, trainer.moments)
            _write_record(new / TRAINER, trainer.record)
        files = {path.name: _digest(path) for path in sorted(new.iterdir())}
        config = CheckpointConfig(step=step, metrics=metrics, model=model, train=train, files=files)
        _write_record(new / CONFIG, config)
        _sync(new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        _sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as e:
        if folder.exists() or not old.exists():  # otherwise `new` is whole, and all there is
            shutil.rmtree(new, ignore_errors=True)
        raise StoreError(
            f"{folder}: cannot save the checkpoint of step {step}: {e}",
            hint="Make room or pick another folder; the checkpoint before is untouched.",
        ) from e


def load(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`, every file checked against its digest.

    Raises:
        NotFoundError: There is no checkpoint.
        StoreError: A file is damaged or missing, or the format is newer than this version reads.
    """
    here = _whole(folder)
    config = _read_config(here / CONFIG)
    for name, digest in config.files.items():
        if name not in _FILES:
            raise _damaged(here / CONFIG, f"lists {name!r}, which is no file of a checkpoint")
        _check(here / name, digest)
    missing = {WEIGHTS, CONTRACT, STATS, DATASET} - set(config.files)
    if missing:
        raise _damaged(here / CONFIG, f"lists no {', '.join(sorted(missing))}")
    return Checkpoint(
        folder=here,
        weights_sha256=config.files[WEIGHTS].sha256,
        model=config.model,
        train=config.train,
        contract=_read_record(here / CONTRACT, Contract),
        stats=_read_record(here / STATS, StatsRecord),
        dataset=_read_record(here / DATASET, DatasetRef),
        step=config.step,
        metrics=config.metrics,
    )


def load_weights(checkpoint: Checkpoint, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The weights by parameter name, on `device`."""
    return _read_tensors(checkpoint.folder / WEIGHTS, device)


def load_trainer(checkpoint: Checkpoint) -> TrainerState:
    """What training needs to go on from `checkpoint`.

    Raises:
        NotFoundError: The checkpoint was kept for deployment only.
    """
    if not (checkpoint.folder / TRAINER).is_file():
        raise NotFoundError(
            f"{checkpoint.folder} cannot be trained further: it has no {TRAINER}",
            hint="Resume from the `last` checkpoint of a run.",
        )
    return TrainerState(
        record=_read_record(checkpoint.folder / TRAINER, TrainerRecord),
        moments=_read_tensors(checkpoint.folder / MOMENTS, "cpu"),
    )


def contract_of(
    schema: DatasetSchema,
    train: TrainConfig,
    chunk_size: int,
    *,
    cameras: tuple[str, ...] | None = None,
    depth: tuple[str, ...] | None = None,
) -> Contract:
    """What a policy trained on arrays of `schema` expects and delivers.

    Args:
        schema: Of the dataset, or of whatever else stands in for the robot.
        train: Names the state and action arrays.
        chunk_size: K.
        cameras: Image arrays without "images/", in order; None for all of them.
        depth: Depth arrays without "depth/", in order; None for all of them.

    Raises:
        InputError: An array is not in the schema; says which there are.
    """
    names = [feature.name for feature in schema.features]
    if cameras is None:
        cameras = tuple(n.removeprefix("images/") for n in names if n.startswith("images/"))
    if depth is None:
        depth = tuple(n.removeprefix("depth/") for n in names if n.startswith("depth/"))
    pictures = [f"images/{name}" for name in cameras] + [f"depth/{name}" for name in depth]
    for name in (*train.state, *train.action, *pictures):
        if name not in names:
            raise InputError(
                f"the dataset has no array {name!r}", hint=f"It has: {', '.join(names)}."
            )
    used = {
        column
        for name in (*train.state, *train.action, *pictures)
        for column in schema.feature(name).columns
    }
    streams = {column.stream for column in schema.columns if column.name in used}
    return Contract(
        robot=schema.robot,
        rate_hz=schema.fps,
        chunk_size=chunk_size,
        state=tuple(_vector(schema, name) for name in train.state),
        action=tuple(_vector(schema, name) for name in train.action),
        cameras=tuple(_camera(schema, "images/", name) for name in cameras),
        depth=tuple(_camera(schema, "depth/", name) for name in depth),
        color_order=schema.color_order,
        action_shift=schema.action_shift,
        clock=schema.clock,
        latency_ms=schema.latency_ms,
        streams={name: sync for name, sync in schema.streams.items() if name in streams},
    )


def _vector(schema: DatasetSchema, name: str) -> VectorContract:
    feature = schema.feature(name)
    numbered = tuple(f"{name}[{i}]" for i in range(feature.shape[0]))
    return VectorContract(name=name, names=feature.names or numbered, unit=feature.unit)


def _camera(schema: DatasetSchema, kind: str, name: str) -> CameraContract:
    feature = schema.feature(kind + name)
    return CameraContract(
        name=name,
        height=feature.shape[0],
        width=feature.shape[1],
        codec=feature.codec,
        quality=feature.quality,
        original=feature.original,
    )


# --- the folder -------------------------------------------------------------------------------


def _beside(folder: Path, suffix: str) -> Path:
    return Path(f"{folder.absolute()}.{suffix}")  # "." has no name of its own


def _whole(folder: Path) -> Path:
    """Where the newest whole checkpoint called `folder` lies, also after a crash of `save`."""
    new, old = _beside(folder, "new"), _beside(folder, "old")
    if not folder.exists() and old.exists():
        return new if new.exists() else old
    if not (folder / CONFIG).is_file():
        inside = sorted(p.parent.name for p in folder.glob(f"*/{CONFIG}"))
        raise NotFoundError(
            f"{folder} is no checkpoint: it has no {CONFIG}",
            hint=f"It holds {', '.join(inside)}: name one of them."
            if inside
            else "Name the `best` or `last` folder of a training run.",
        )
    return folder


def _finish_swap(folder: Path) -> None:
    """Bring a folder that `save` left between two renames to its name; remove what is left over."""
    new, old = _beside(folder, "new"), _beside(folder, "old")
    if not folder.exists() and old.exists():
        (new if new.exists() else old).rename(folder)
    for leftover in (new, old):
        if leftover.exists():
            shutil.rmtree(leftover)


def _sync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(path: Path) -> FileDigest:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return FileDigest(bytes=path.stat().st_size, sha256=sha256)


def _check(path: Path, promised: FileDigest) -> None:
    if not path.is_file():
        raise _damaged(path, "is missing")
    found = _digest(path)
    if found != promised:
        raise _damaged(
            path,
            f"has {found.bytes} bytes with sha256 {found.sha256[:12]}, "
            f"{CONFIG} promises {promised.bytes} with {promised.sha256[:12]}",
        )


def _damaged(path: Path, what: str) -> StoreError:
    return StoreError(
        f"{path} {what}", hint="Copy the checkpoint again, or use another one of the run."
    )


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)
    _sync(path)


def _read_tensors(path: Path, device: torch.device | str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path, device=str(device))
    except FileNotFoundError:
        raise _damaged(path, "is missing") from None
    except SafetensorError as e:
        raise _damaged(path, f"is no safetensors file: {e}") from e


def _write_record(path: Path, record: Record) -> None:
    path.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    _sync(path)


def _read_config(path: Path) -> CheckpointConfig:
    """`config.json`; a newer format is told from a damaged one before its fields are looked at."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as e:
        raise _damaged(path, f"cannot be read: {e}") from e
    if not isinstance(data, dict) or data.get("format") != "act-checkpoint":
        raise _damaged(path, "is not the configuration of a checkpoint")
    version = data.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise StoreError(
            f"{path} has format version {version}, this version reads up to {FORMAT_VERSION}",
            hint="Update the toolkit.",
        )
    return _read_record(path, CheckpointConfig)


def _read_record(path: Path, kind: type[R]) -> R:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise _damaged(path, "is missing") from None
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise _damaged(path, f"is damaged at {where}: {first['msg']}") from e
