"""act-data record: live topics to recordings."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from act_data.errors import ActError

from . import console, tables
from .options import Json

if TYPE_CHECKING:
    from act_data.record import RecordReport


def record(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the recordings.")],
    backend: Annotated[
        str, typer.Option(help="How the robot is heard: replay:BAG plays a recording.")
    ],
    robot: Annotated[
        str, typer.Option(help="Preset name, a YAML file, or auto: the preset that fits.")
    ] = "auto",
    task: Annotated[str | None, typer.Option(help="What is demonstrated.")] = None,
    operator: Annotated[str | None, typer.Option(help="Who demonstrates it.")] = None,
    success: Annotated[
        bool | None, typer.Option("--success/--failure", help="How every episode ends.")
    ] = None,
    notes: Annotated[str | None, typer.Option(help="Anything else.")] = None,
    topic: Annotated[
        list[str] | None, typer.Option(help="Record this one, too. May be repeated.")
    ] = None,
    episodes: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many [when you say so].")
    ] = None,
    max_timesteps: Annotated[
        int | None, typer.Option(min=1, help="An episode ends with so many steps.")
    ] = None,
    countdown: Annotated[
        float | None, typer.Option(min=0, help="Seconds before the start [3 on a terminal].")
    ] = None,
    start_by: Annotated[
        str | None, typer.Option(help="TOPIC[:BUTTON] or service that starts each episode.")
    ] = None,
    stop_by: Annotated[
        str | None, typer.Option(help="TOPIC[:BUTTON] or service that ends each episode.")
    ] = None,
    wait_s: Annotated[
        float, typer.Option(min=0, help="How long topics of the robot may be missing.")
    ] = 60.0,
    speed: Annotated[float, typer.Option(min=0.01, help="Of a replay.")] = 1.0,
    json: Json = False,
) -> None:
    """Record episodes of a live robot: one crash-safe MCAP file each.

    Enter ends an episode; then save, discard or redo it. Ctrl-C saves it and ends the session.

    Example: act-data record --backend replay:recording.bag --out bags/ --task "pick the cube"
    """
    with console.errors():
        from act_data.record import RecordSettings
        from act_data.record import record as run
        from act_data.sources.live import open_backend

        from .operator import at_work

        with closing(open_backend(backend, speed=speed)) as robot_side, at_work() as person:
            if countdown is None:
                countdown = 3.0 if person.reviews and not backend.startswith("replay:") else 0.0
            settings = console.options(
                RecordSettings,
                robot=robot,
                topics=tuple(topic or ()),
                episodes=episodes,
                max_timesteps=max_timesteps,
                countdown_s=countdown,
                start_by=start_by,
                stop_by=stop_by,
                wait_s=wait_s,
                task=task,
                operator=operator,
                success=success,
                notes=notes,
            )
            report = run(robot_side, out, settings, operator=person)
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            print_record_report(report)
        if report.error:
            raise ActError(report.error, hint=report.hint)
        if not report.lossless:
            raise typer.Exit(3)


def print_record_report(report: RecordReport) -> None:
    """A line for each episode, and what is odd about them."""
    table = tables.table(
        "", ["episode", "ended by"], ["steps", "s", "valid %", "MB", "messages", "lost"]
    )
    for e in report.episodes:
        valid = 100 * e.sync.valid / e.sync.ticks if e.sync and e.sync.ticks else None
        table.add_row(
            *(Text(Path(e.file).stem if e.file else e.verdict.value), e.stop.value),
            *(str(e.steps), f"{e.seconds:.1f}", tables.number(valid), f"{e.bytes / 1e6:.1f}"),
            *(str(sum(e.messages.values())), str(sum(e.lost.values()))),
        )
    if report.episodes:
        tables.show(table)
    for e in report.episodes:
        for note in (*e.notes, *(e.sync.notes if e.sync else ())) if e.file else ():
            console.out.print(Text(f"  {Path(e.file).stem}: {note}"), soft_wrap=True)
    console.out.print(Text(f"{report.saved} episodes -> {report.folder}"), soft_wrap=True)
    if report.saved:
        console.say(f"next: act-data ingest {report.folder} --out ds.zarr")
