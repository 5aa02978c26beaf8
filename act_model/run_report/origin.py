"""The part of a run's page that says what it was made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from act_data.records import Record
from act_model.checkpoint import Checkpoint
from act_model.html_page import table
from act_model.run_report.content import Recording


def origin(checkpoint: Checkpoint, recordings: Sequence[Recording]) -> Iterator[str]:
    """Recordings, dataset and settings behind `checkpoint`."""
    dataset = checkpoint.dataset
    yield "<h2>What it was made of</h2>"
    yield _facts(
        {
            "checkpoint": f"{checkpoint.folder}, step {checkpoint.step}",
            "weights": f"sha256 {checkpoint.weights_sha256}",
            "dataset": f"{dataset.path} version {dataset.version}",
            "content": dataset.content_hash,
            "dataset's id": dataset.uid,
            "episodes": f"{len(dataset.train)} for training, {len(dataset.val)} held out",
            **{
                f"co-trained {100 * each.weight:.0f} %": f"{each.path} version {each.version}, "
                f"content {each.content_hash}"
                for each in dataset.cotrained
            },
        }
    )
    if recordings:
        rows = [[r.name, r.split, r.uid, str(r.steps), r.sha256[:16]] for r in recordings]
        more = len(dataset.train) + len(dataset.val) - len(recordings)
        yield (
            "<details><summary>Recordings</summary>"
            + table(["recording", "split", "episode", "steps", "sha256"], rows)
            + (f"<p>and {more} more</p>" if more > 0 else "")
            + "</details>"
        )
    for name, record in (
        ("Contract", checkpoint.contract),
        ("Network", checkpoint.model),
        ("Training", checkpoint.train),
    ):
        facts = _facts({key: str(value) for key, value in _flat(record).items()})
        yield f"<details><summary>{name}</summary>{facts}</details>"


def _facts(facts: Mapping[str, str]) -> str:
    pairs = (f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
    return f"<dl>{''.join(pairs)}</dl>"


def _flat(record: Record) -> dict[str, object]:
    """The fields of `record` and of the records in it, by dotted name."""
    flat: dict[str, object] = {}
    for key, value in record.model_dump(mode="json").items():
        _flatten(key, value, flat)
    return flat


def _flatten(key: str, value: object, flat: dict[str, object]) -> None:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            _flatten(f"{key}.{name}", inner, flat)
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for number, inner in enumerate(value):
            _flatten(f"{key}[{number}]", inner, flat)
    else:
        flat[key] = ", ".join(map(str, value)) if isinstance(value, list) else value
