"""The folder of a training run: free for a new one, or holding the one that goes on."""

from __future__ import annotations

import os
from pathlib import Path

from act_data.errors import ConflictError, InputError, NotFoundError
from act_data.records import Record
from act_model.checkpoint import Checkpoint, load
from act_model.config import DatasetRef, NetworkConfig, TrainConfig
from act_model.jsonl import JsonLines

METRICS = "metrics.jsonl"
BEST = "best"
LAST = "last"

# What may differ when a run goes on: none of it changes what a step does.
_FREE = {"train.steps", "train.workers", "train.device", "train.patience"}

# What a run leaves that was killed before its first checkpoint: nothing worth keeping.
_HARMLESS = {METRICS, f"{BEST}.new", f"{LAST}.new"}


def open_run(out: Path, *, resume: bool, shared: bool = False) -> Checkpoint | None:
    """The checkpoint to go on from; None for a new run, whose folder is made.

    Args:
        resume: Go on with the run in `out`.
        shared: Another process makes the folder and writes into it.

    Raises:
        ConflictError: A new run, and `out` holds something.
        NotFoundError: Resuming, and there is no checkpoint.
        StoreError: The checkpoint is damaged, or too new.
        InputError: `out` cannot be a folder.
    """
    if resume:
        try:
            return load(out / LAST)
        except NotFoundError:
            raise NotFoundError(
                f"{out} holds no run to resume: it has no {LAST!r} checkpoint",
                hint="Start it without resume; the first checkpoint comes after val_every steps.",
            ) from None
    if shared:
        return None
    try:
        found = sorted({path.name for path in out.iterdir()} - _HARMLESS) if out.exists() else []
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(
            f"{out} cannot be the folder of a run: {e}", hint="Name another folder."
        ) from e
    if found:
        raise ConflictError(
            f"{out} is not empty: it holds {', '.join(found[:5])}",
            hint="Resume that run, or name a new folder.",
        )
    return None


def open_metrics(out: Path, *, up_to: int, shared: bool = False) -> JsonLines:
    """The metrics of the run in `out`: one line per step and validation, with "kind" and "step".

    What came after step `up_to` is forgotten: a resumed run writes those lines again. Where the
    folder is `shared`, another process writes them, and the lines of this one go nowhere.

    Raises:
        StoreError: The file cannot be written.
    """
    content, hint = "the metrics", "Make room, then resume the run."
    if shared:
        return JsonLines(Path(os.devnull), content=content, hint=hint)
    return JsonLines(
        out / METRICS,
        content=content,
        hint=hint,
        keep=lambda entry: isinstance(step := entry.get("step"), int) and step <= up_to,
    )


def discard_empty(out: Path) -> None:
    """Remove the folder of a run that ended before its first step; any other one stays."""
    metrics = out / METRICS
    if out.is_dir() and all(p == metrics and not p.stat().st_size for p in out.iterdir()):
        metrics.unlink(missing_ok=True)
        out.rmdir()


def refuse_changes(
    last: Checkpoint, model: NetworkConfig, train: TrainConfig, dataset: DatasetRef
) -> None:
    """See that `last` was started as it is to go on; otherwise it is not the same run.

    Workers, device, patience and, with a constant rate, steps are free; the dataset may have moved.

    Raises:
        ConflictError: Names each entry that differs, with both values.
    """
    then, now = (
        {
            **_flat("model", each_model),
            **_flat("train", each_train),
            "dataset.content_hash": each_dataset.content_hash,
            "dataset.train": each_dataset.train,
            "dataset.val": each_dataset.val,
            "dataset.cotrained": [(c.content_hash, c.weight) for c in each_dataset.cotrained],
        }
        for each_model, each_train, each_dataset in (
            (last.model, last.train, last.dataset),
            (model, train, dataset),
        )
    )
    # A cosine has its end at the last step: with other steps it is another curve.
    free = _FREE - {"train.steps"} if train.schedule == "cosine" else _FREE
    differing = [
        f"{key} was {then.get(key)!r}, is {now.get(key)!r}"
        for key in sorted({*then, *now} - free)
        if then.get(key) != now.get(key)
    ]
    if differing:
        raise ConflictError(
            f"{last.folder} was started otherwise: {'; '.join(differing)}",
            hint="Resume with the same settings and data, or start a new run in a new folder.",
        )


def _flat(prefix: str, record: Record) -> dict[str, object]:
    """The fields of `record` and of the records in it, by dotted name."""
    flat: dict[str, object] = {}
    for name in type(record).model_fields:
        value = getattr(record, name)
        key = f"{prefix}.{name}"
        flat.update(_flat(key, value) if isinstance(value, Record) else {key: value})
    return flat
