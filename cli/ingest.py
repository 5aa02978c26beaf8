"""act-data ingest: recordings to episodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from . import console, tables
from .options import Json, MsgPath, Typestore

if TYPE_CHECKING:
    from act_data.ingest import IngestReport
    from act_data.records import SyncReport


def ingest(
    sources: Annotated[list[Path], typer.Argument(help="Bags, or folders of bags.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="*.zarr; *.hdf5 for one ALOHA episode; else a folder of them."
        ),
    ],
    robot: Annotated[
        str, typer.Option(help="Preset name, a YAML file, or auto: the preset that fits.")
    ] = "auto",
    fps: Annotated[
        float | None, typer.Option(min=0.1, max=1000, help="Ticks per second [preset].")
    ] = None,
    sync: Annotated[
        Literal["hold", "nearest", "linear", "next"] | None,
        typer.Option(help="Which sample a tick takes, for every stream [preset: hold]."),
    ] = None,
    clock: Annotated[
        Literal["auto", "header", "receive"] | None,
        typer.Option(help="Which time of a message is its time [preset: auto]."),
    ] = None,
    action_shift: Annotated[
        int | None,
        typer.Option(min=0, max=100, help="action[t] is the command at tick t + shift [preset]."),
    ] = None,
    latency_ms: Annotated[
        float, typer.Option(min=0, max=60_000, help="How long a tick waits for a late sample.")
    ] = 250.0,
    gap: Annotated[
        Literal["mask", "cut", "fail"],
        typer.Option(help="At a run of invalid ticks longer than --max-gap-s."),
    ] = "mask",
    max_gap_s: Annotated[float, typer.Option(min=0, max=86_400, help="Seconds, for --gap.")] = 0.5,
    split_by: Annotated[
        list[str] | None,
        typer.Option(
            help="What cuts recordings into episodes: marker:/TOPIC, start:/TOPIC, stop:/TOPIC, "
            "cut:/TOPIC (or a service, or /JOY:BUTTON), silence:SECONDS. May be given again."
        ),
    ] = None,
    segments: Annotated[
        Path | None, typer.Option(help="CSV or YAML of recording, start, end, task, ...")
    ] = None,
    max_timesteps: Annotated[
        int | None, typer.Option(min=1, help="Cut episodes that are longer.")
    ] = None,
    trim_idle: Annotated[
        bool, typer.Option("--trim-idle", help="Leave out head and tail in which no action moves.")
    ] = False,
    idle_threshold: Annotated[
        float, typer.Option(help="For --trim-idle, in the action's unit: rad, rad/s, m/s.")
    ] = 0.01,
    codec: Annotated[
        Literal["jpeg", "zstd", "blosc", "raw"] | None,
        typer.Option(help="How pictures are stored [jpeg; HDF5: raw]."),
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="For --codec jpeg.")] = 95,
    task: Annotated[str | None, typer.Option(help="What was demonstrated.")] = None,
    operator: Annotated[str | None, typer.Option(help="Who demonstrated it.")] = None,
    success: Annotated[
        bool | None, typer.Option("--success/--failure", help="How it ended.")
    ] = None,
    notes: Annotated[str | None, typer.Option(help="Anything else.")] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, max=1024, help="Recordings at a time.")
    ] = 1,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Go on without recordings that fail; exit code 3.")
    ] = False,
    msg_path: MsgPath = None,
    typestore: Typestore = None,
    json: Json = False,
) -> None:
    """Turn recordings into synchronised episodes.

    Run it again after an interruption: finished episodes are recognised.

    Example: act-data ingest bags/ --out ds.zarr
    """
    with console.errors():
        from act_data.ingest import IngestSettings
        from act_data.ingest import ingest as run

        settings = console.options(
            IngestSettings,
            robot=robot,
            fps=fps,
            sync=sync,
            clock=clock,
            action_shift=action_shift,
            latency_ms=latency_ms,
            gap=gap,
            max_gap_s=max_gap_s,
            split_by=split_by or [],
            segments=segments,
            max_timesteps=max_timesteps,
            trim_idle=trim_idle,
            idle_threshold=idle_threshold,
            codec=codec,
            quality=quality,
            task=task,
            operator=operator,
            success=success,
            notes=notes,
            jobs=jobs,
            keep_going=keep_going,
            msg_path=tuple(msg_path or ()),
            typestore=typestore,
        )
        with console.bytes_progress("ingest") as advance:
            report = run(sources, out, settings, progress=advance)
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            _print_ingest_report(report)
        if report.failed:
            raise typer.Exit(3)


def _print_ingest_report(report: IngestReport) -> None:
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
