"""How the account of an ingest looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from . import console, tables

if TYPE_CHECKING:
    from act_data.ingest import IngestReport
    from act_data.records import SyncReport


def print_ingest_report(report: IngestReport) -> None:
    """The streams in full for one recording, a line for each of many; then where it all lies."""
    new = {e.recording: e.sync for e in report.episodes if e.sync is not None and not e.found}
    if len(new) == 1:
        for recording, sync in new.items():
            _print_sync_report(recording, sync)
    table = tables.table(
        "episodes",
        ["recording", "segment", "uid", "state"],
        ["steps", "masked", "drops", "worst skew p99 ms"],
    )
    for episode in report.episodes:
        streams = list(episode.sync.streams.values()) if episode.sync else []
        skews = [s.skew_abs_p99_ms for s in streams if s.skew_abs_p99_ms is not None]
        table.add_row(
            *(Text(episode.recording), str(episode.segment.number) if episode.segment else "-"),
            episode.uid,
            "already there" if episode.found else "new",
            *(str(episode.steps), str(episode.masked)),
            *(str(sum(s.estimated_drops for s in streams)), tables.ms(max(skews, default=None))),
        )
    tables.show(table)
    if len(new) > 1:
        for recording, sync in new.items():
            for note in sync.notes:
                console.out.print(Text(f"  {recording}: {note}"))
    for note in report.notes:
        console.warn(note)
    for file in report.recovered:
        if not file.whole:
            console.warn(file.summary)
    if report.failed:
        failures = tables.table("failed", ["recording", "why"], [])
        for failure in report.failed:
            failures.add_row(Text(failure.recording), Text(failure.error))
        tables.show(failures)
    steps = sum(e.steps for e in report.episodes)
    console.out.print(
        Text(
            f"{report.added} new of {len(report.episodes)} episodes, {steps} steps -> "
            f"{report.dataset} ({report.name}@{report.version}, {report.content_hash[:12]})"
        )
    )


def _print_sync_report(recording: str, report: SyncReport) -> None:
    """One line per stream: what it delivered, how far it was from the ticks, what was masked."""
    share = 100 * report.valid / report.ticks if report.ticks else 0.0
    table = tables.table(
        f"{recording}: {report.ticks} ticks at {report.fps:g} Hz, {share:.1f} % valid, "
        f"{report.clock.value} clock",
        ["stream"],
        ["n", "Hz", "drops", "late", "reused", "skew p50 ms", "p99", "max", "invalid"],
    )
    for name, stream in report.streams.items():
        invalid = ", ".join(f"{reason} {n}" for reason, n in stream.invalid.items() if n)
        table.add_row(
            Text(name),
            *(str(stream.received), tables.number(stream.rate_hz), str(stream.estimated_drops)),
            *(str(stream.late), str(stream.reused_ticks), tables.ms(stream.skew_p50_ms)),
            *(tables.ms(stream.skew_abs_p99_ms), tables.ms(stream.skew_abs_max_ms), invalid or "-"),
        )
    tables.show(table)
    for note in report.notes:
        console.out.print(Text(f"  {note}"))
