"""Reports as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from . import console

if TYPE_CHECKING:
    from act_data.ingest import IngestReport
    from act_data.records import StatsRecord, SyncReport
    from act_data.registry import RegisteredDataset
    from act_data.report import DatasetCard
    from act_data.types import RobotSpec
    from act_model.evaluate import EvaluationReport
    from act_model.launch import Deployment
    from act_model.recipe import TrainReport


_SEEN: dict[bool | None, str] = {
    True: "held out of training",
    False: "NOT held out of training",
    None: "its training data is gone",
}


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(
        title=Text(title), title_justify="left", header_style="bold", box=None, pad_edge=False
    )
    for name in left:
        table.add_column(name, overflow="fold", min_width=8)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _print(table: Table) -> None:
    """The title on a line of its own: rich would break it to the width of the columns."""
    title, table.title = table.title, None
    if title:
        console.out.print(title, style="italic", soft_wrap=True)
    console.out.print(table)


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def ingest_report(report: IngestReport) -> None:
    """The streams in full for one recording, a line for each of many; then where it all lies."""
    new = {e.recording: e.sync for e in report.episodes if e.sync is not None and not e.found}
    if len(new) == 1:
        for recording, sync in new.items():
            sync_report(recording, sync)
    table = _table(
        "episodes",
        ["recording", "uid", "state"],
        ["steps", "masked", "drops", "worst skew p99 ms"],
    )
    for episode in report.episodes:
        streams = list(episode.sync.streams.values()) if episode.sync else []
        skews = [s.skew_abs_p99_ms for s in streams if s.skew_abs_p99_ms is not None]
        table.add_row(
            *(Text(episode.recording), episode.uid, "already there" if episode.found else "new"),
            *(str(episode.steps), str(episode.masked)),
            *(str(sum(s.estimated_drops for s in streams)), _ms(max(skews, default=None))),
        )
    _print(table)
    if len(new) > 1:
        for recording, sync in new.items():
            for note in sync.notes:
                console.out.print(Text(f"  {recording}: {note}"))
    steps = sum(e.steps for e in report.episodes)
    console.out.print(
        Text(
            f"{report.added} new of {len(report.episodes)} episodes, {steps} steps -> "
            f"{report.dataset} ({report.name}@{report.version}, {report.content_hash[:12]})"
        )
    )


def sync_report(recording: str, report: SyncReport) -> None:
    """One line per stream: what it delivered, how far it was from the ticks, what was masked."""
    share = 100 * report.valid / report.ticks if report.ticks else 0.0
    table = _table(
        f"{recording}: {report.ticks} ticks at {report.fps:g} Hz, {share:.1f} % valid, "
        f"{report.clock.value} clock",
        ["stream"],
        ["n", "Hz", "drops", "late", "reused", "skew p50 ms", "p99", "max", "invalid"],
    )
    for name, stream in report.streams.items():
        invalid = ", ".join(f"{reason} {n}" for reason, n in stream.invalid.items() if n)
        table.add_row(
            Text(name),
            *(str(stream.received), _number(stream.rate_hz), str(stream.estimated_drops)),
            *(str(stream.late), str(stream.reused_ticks), _ms(stream.skew_p50_ms)),
            *(_ms(stream.skew_abs_p99_ms), _ms(stream.skew_abs_max_ms), invalid or "-"),
        )
    _print(table)
    for note in report.notes:
        console.out.print(Text(f"  {note}"))


def stats(record: StatsRecord) -> None:
    """One line per dimension, or per channel of a picture."""
    for name, feature in record.features.items():
        unit = f" [{feature.unit}]" if feature.unit else ""
        table = _table(
            f"{name}{unit}", ["dim"], ["count", "mean", "std", "min", "max", "q01", "q50", "q99"]
        )
        pictures = name.startswith(("images/", "depth/"))
        channels = ("r", "g", "b") if len(feature.count) == 3 else ("mm",)
        names = channels if pictures else feature.names
        for i, count in enumerate(feature.count):
            label = names[i] if i < len(names) else str(i)
            marks = " (constant)" if i in feature.constant else ""
            marks += f" ({feature.nan[i]} not finite)" if feature.nan[i] else ""
            table.add_row(
                Text(label + marks),
                str(count),
                *(_number(column[i]) for column in (feature.mean, feature.std, feature.min)),
                *(_number(column[i]) for column in (feature.max, feature.q01)),
                *(_number(column[i]) for column in (feature.q50, feature.q99)),
            )
        _print(table)
    console.out.print(
        Text(
            f"{record.dataset} version {record.version}, {record.split} split: "
            f"{record.episodes} episodes, {record.steps} steps"
        )
    )


def datasets(rows: Sequence[RegisteredDataset]) -> None:
    """The registered datasets."""
    if not rows:
        console.say("no dataset is registered; `act-data ingest BAGS --out NAME.zarr` makes one")
        return
    table = _table("", ["name", "robot", "path"], ["fps", "version", "episodes", "steps"])
    for row in rows:
        newest = row.versions[-1]
        table.add_row(
            *(Text(row.name), Text(row.robot), Text(row.path), f"{row.fps:g}"),
            *(str(newest.number), str(newest.episodes), str(newest.frames)),
        )
    _print(table)


def card(card: DatasetCard) -> None:
    """A dataset's passport."""
    minutes = card.steps / card.fps / 60
    console.out.print(
        Text(
            f"{card.path}\n  robot {card.robot}, {card.fps:g} Hz, action shift "
            f"{card.action_shift}\n  version {card.version} of {card.created}, content "
            f"{card.content_hash}\n  {len(card.episodes)} episodes, {card.steps} steps "
            f"({minutes:.1f} min), statistics {'saved' if card.has_stats else 'not computed'}"
        )
    )
    arrays = _table("arrays", ["name", "role", "dtype", "shape", "unit", "stored"], [])
    for f in card.arrays:
        shape = "x".join(map(str, f.shape)) or "1"
        stored = f"{f.codec} q{f.quality}" if f.codec == "jpeg" else f.codec
        arrays.add_row(f.name, f.role.value, f.dtype, shape, f.unit, stored)
    _print(arrays)
    episodes = _table("episodes", ["uid", "recording", "split", "task"], ["steps", "masked"])
    for e in card.episodes:
        episodes.add_row(
            e.uid, Text(e.recording), e.split, Text(e.task), str(e.steps), str(e.masked)
        )
    _print(episodes)


def train_report(report: TrainReport) -> None:
    """Where a run stands, and what to do next."""
    for note in report.notes:
        console.warn(note)
    table = _table("held-out episodes, z = 0", ["metric"], ["value"])
    for name, value in report.metrics.items():
        table.add_row(Text(name), _number(value))
    if report.metrics:
        _print(table)
    best = f", best at {report.best_step}" if report.best_step is not None else ""
    console.out.print(
        Text(
            f"{report.steps} steps over {report.samples} samples of {report.dataset} version "
            f"{report.version}{best} -> {report.checkpoint}"
        )
    )
    console.say("run it with `act-model deploy`")


def deployment(result: Deployment) -> None:
    """How a rollout went: time, then every joint against the demonstrator."""
    r = result.rollout
    console.out.print(
        Text(
            f"{r.mode} of {result.checkpoint} (step {result.step}) on {result.source} "
            f"({_SEEN[result.held_out]})\n"
            f"  {r.ticks} ticks at {r.nominal_hz:g} Hz, stopped: {r.stop.value}; "
            f"{r.chunks} predictions, {r.starved_ticks} starved ticks, "
            f"{r.invalid_observations} invalid observations\n"
            f"  inference p50 {_ms(r.inference_p50_ms)} p95 {_ms(r.inference_p95_ms)} "
            f"p99 {_ms(r.inference_p99_ms)} ms, observation age p50 "
            f"{_ms(r.observation_age_p50_ms)} ms"
        )
    )
    if r.rate_hz is not None:
        console.out.print(
            Text(
                f"  rate {r.rate_hz:.3f} Hz, jitter p50 {_number(r.jitter_p50_ms)} p99 "
                f"{_number(r.jitter_p99_ms)} max {_number(r.jitter_max_ms)} ms, "
                f"{r.deadline_misses} missed deadlines"
            )
        )
    interventions = ", ".join(f"{name} {n}" for name, n in r.safety.items() if n) or "none"
    console.out.print(Text(f"  safety interventions: {interventions}"))
    table = _table(
        f"against the demonstrator, {r.compared_ticks} ticks",
        ["joint", "unit"],
        ["mean", "p95", "max", "mean % of range"],
    )
    for j in r.joints:
        table.add_row(
            *(Text(j.name), Text(j.unit), _number(j.mean), _number(j.p95), _number(j.max)),
            _number(j.mean_percent, 3),
        )
    _print(table)
    if r.mean_percent is not None:
        console.out.print(Text(f"mean error {r.mean_percent:.2f} % of the joints' range"))


def evaluation(report: EvaluationReport) -> None:
    """The error of every joint at the horizons, then of each replayed episode."""
    seen = _SEEN[report.held_out].replace("NOT", "NOT all")
    table = _table(
        f"{report.dataset} version {report.version}: {len(report.episodes)} episodes, {seen}; "
        f"mean error of {report.starts} chunks",
        ["joint", "unit"],
        [f"step {h.step}" for h in report.horizons] + ["% of range" for _ in report.horizons],
    )
    for i, (joint, unit) in enumerate(zip(report.joints, report.units, strict=True)):
        means = [_number(horizon.mean[i]) for horizon in report.horizons]
        percents = [_number(horizon.percent[i], 3) for horizon in report.horizons]
        table.add_row(Text(joint), Text(unit), *means, *percents)
    _print(table)
    for replay in report.replays:
        percent = _number(replay.rollout.mean_percent, 3)
        console.out.print(
            Text(f"episode {replay.episode} ({replay.uid}): mean error {percent} % of the range")
        )


def robots(presets: Sequence[RobotSpec]) -> None:
    """The presets, one line each."""
    table = _table("", ["name", "what"], ["fps", "streams"])
    for robot in presets:
        table.add_row(
            robot.name, Text(robot.description), f"{robot.fps:g}", str(len(robot.streams))
        )
    _print(table)
