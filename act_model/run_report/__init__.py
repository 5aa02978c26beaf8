"""A training run as one page for people, whether it has finished, goes on or was stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from act_data.errors import ActError, NotFoundError, StoreError
from act_data.interfaces import DatasetReader
from act_model import html_page
from act_model.checkpoint import Checkpoint
from act_model.joint_groups import action_names, action_units, joint_groups
from act_model.lineage import dataset_of
from act_model.policy import Policy
from act_model.run_folder import BEST, LAST
from act_model.run_report.attention import AttentionMap, attention_maps
from act_model.run_report.content import Content, Recording
from act_model.run_report.metrics import RunMetrics, read_metrics
from act_model.run_report.page import body
from act_model.run_report.predictions import Trace, chunks_of_episodes, said_ends, trace
from act_model.run_report.records import CameraAttention, RunReport, RunState, TracedEpisode
from act_model.run_report.style import STYLE
from act_model.validate import EndBin

PAGE = "report.html"
_TRACED = 2  # episodes that are drawn
_MOMENTS = 3  # of the first of them, whose attention is drawn
_SILENT_S = 120.0  # after which a run without a new step counts as stopped
_LISTED = 20  # recordings of each split


def report_run(run: Path, *, out: Path | None = None, now: float | None = None) -> RunReport:
    """Write the page of the run in `run`, as `out` or beside its metrics.

    A checkpoint or a dataset that is not there, or cannot be read, takes its part of the page with
    it and is named in the notes.

    Args:
        now: Seconds since 1970.

    Raises:
        NotFoundError: `run` holds no run.
        StoreError: Its metrics cannot be read, or the page cannot be written.
    """
    metrics = read_metrics(run)
    notes = []
    if metrics.broken:
        notes.append(f"{metrics.broken} lines of the metrics are cut short and were left out.")
    policy = _policy(run, notes)
    checkpoint = policy.checkpoint if policy is not None else None
    look = _Look((), (), (), ())
    if policy is not None:
        try:
            look = _look(policy, dataset_of(policy.checkpoint.dataset), notes)
        except ActError as e:
            notes.append(f"Nothing could be predicted: {e}")
    state = _state(metrics, checkpoint, time.time() if now is None else now)
    content = Content(
        title=run.absolute().name,
        state=state,
        metrics=metrics,
        checkpoint=checkpoint,
        shares=_shares(metrics),
        traces=look.traces,
        ends=look.ends,
        attention=look.attention,
        recordings=look.recordings,
        notes=notes,
    )
    page = out or run / PAGE
    size = html_page.write_page(page, f"Run {content.title}", body(content), style=STYLE)
    return _record(run, page, size, content)


@dataclass(frozen=True, slots=True)
class _Look:
    """What can be seen only where policy and dataset are there."""

    traces: tuple[Trace, ...]
    ends: tuple[EndBin, ...]
    attention: tuple[tuple[int, int, tuple[AttentionMap, ...]], ...]
    recordings: tuple[Recording, ...]


def _policy(run: Path, notes: list[str]) -> Policy | None:
    """The best checkpoint, or the last one; a run that goes on may replace it at any moment."""
    for name in (BEST, LAST, BEST, LAST):
        try:
            return Policy.load(run / name, "cpu")
        except NotFoundError:
            continue
        except StoreError as e:
            problem = f"The checkpoint {name!r} was left out: {e}"
            if problem not in notes:
                notes.append(problem)
    if not notes:
        notes.append("There is no checkpoint yet: the first comes with the first validation.")
    return None


def _look(policy: Policy, reader: DatasetReader, notes: list[str]) -> _Look:
    trained_on = policy.checkpoint.dataset
    position = {entry.uid: n for n, entry in enumerate(reader.episodes)}
    held_out = [position[uid] for uid in trained_on.val if uid in position]
    if not held_out:
        notes.append("No episode was held out: the predictions are of episodes of the training.")
    episodes = held_out or [position[uid] for uid in trained_on.train if uid in position]
    shown = episodes[:_TRACED]
    return _Look(
        traces=tuple(trace(policy, reader, episode) for episode in shown),
        ends=said_ends(policy, reader, episodes),
        attention=_attention(policy, reader, shown[0], notes),
        recordings=_recordings(reader, trained_on.train, trained_on.val),
    )


def _attention(
    policy: Policy, reader: DatasetReader, episode: int, notes: list[str]
) -> tuple[tuple[int, int, tuple[AttentionMap, ...]], ...]:
    """(episode, step, maps by camera) at a few moments of `episode`."""
    if not policy.checkpoint.model.cameras:
        return ()
    chunks = chunks_of_episodes(policy, reader, [episode])
    moments = np.unique(np.linspace(0, len(chunks) - 1, _MOMENTS).round().astype(np.int64))
    drawn = [attention_maps(policy, chunks.__getitems__([moment])) for moment in moments]
    if not all(drawn):
        notes.append(f"A policy of the family {policy.family.name!r} shows no attention.")
        return ()
    return tuple(
        (*chunks.place(int(moment)), maps[0]) for moment, maps in zip(moments, drawn, strict=True)
    )


def _recordings(
    reader: DatasetReader, train: Sequence[str], val: Sequence[str]
) -> tuple[Recording, ...]:
    there = {entry.uid: entry for entry in reader.episodes}
    return tuple(
        Recording(
            split=split,
            uid=uid,
            steps=there[uid].length,
            name=(source := reader.episode(uid).info.source).name,
            sha256=source.sha256,
        )
        for split, uids in (("train", train), ("val", val))
        for uid in uids[:_LISTED]
        if uid in there
    )


def _shares(metrics: RunMetrics) -> dict[str, float]:
    spent = sum(metrics.seconds.values())
    return {name: value / spent for name, value in metrics.seconds.items()} if spent else {}


def _state(metrics: RunMetrics, checkpoint: Checkpoint | None, now: float) -> RunState:
    if checkpoint is not None and metrics.step >= checkpoint.train.steps:
        return "finished"
    train = checkpoint.train if checkpoint is not None else None
    if train is not None and train.patience and metrics.best:
        since = metrics.step // train.val_every - int(metrics.best["step"]) // train.val_every
        if since >= train.patience:
            return "ended early"
    return "in progress" if now - metrics.time < _SILENT_S else "stopped"


def _record(run: Path, page: Path, size: int, content: Content) -> RunReport:
    metrics, checkpoint = content.metrics, content.checkpoint
    spent = sum(metrics.seconds.values())
    samples = checkpoint.train.batch_size * metrics.timed if checkpoint is not None else 0
    units: dict[str, str] = {}
    joints: list[str] = []
    if checkpoint is not None:
        joints = action_names(checkpoint.contract.action)
        units = units_of_groups(checkpoint)
    train = set(checkpoint.dataset.train) if checkpoint is not None else set()
    return RunReport(
        run=str(run),
        page=str(page),
        page_bytes=size,
        state=content.state,
        step=metrics.step,
        steps=checkpoint.train.steps if checkpoint is not None else None,
        best_step=int(metrics.best["step"]) if metrics.best else None,
        best_l1=metrics.best.get("l1"),
        samples_per_s=samples / spent if spent and samples else None,
        time_shares=content.shares,
        checkpoint=str(checkpoint.folder) if checkpoint is not None else None,
        dataset=checkpoint.dataset.path if checkpoint is not None else None,
        version=checkpoint.dataset.version if checkpoint is not None else None,
        content_hash=checkpoint.dataset.content_hash if checkpoint is not None else None,
        best={name: value for name, value in metrics.best.items() if name != "step"},
        last={name: value for name, value in metrics.last.items() if name != "step"},
        units=units,
        traced=tuple(
            TracedEpisode(
                episode=each.episode,
                uid=each.uid,
                held_out=each.uid not in train,
                error=dict(zip(joints, each.error_A.tolist(), strict=True)),
            )
            for each in content.traces
        ),
        attention=tuple(
            CameraAttention(episode=episode, step=step, camera=each.camera, share=each.share)
            for episode, step, maps in content.attention
            for each in maps
        ),
        notes=tuple(content.notes),
    )


def units_of_groups(checkpoint: Checkpoint) -> dict[str, str]:
    """The unit of each group of joints."""
    units = action_units(checkpoint.contract.action)
    return {
        group: ", ".join(dict.fromkeys(units[i] for i in dims))
        for group, dims in joint_groups(checkpoint.contract.action).items()
    }
