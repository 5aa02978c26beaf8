"""act-data record, and ingest --live: live topics to recordings, and to episodes."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from act_data.errors import ActError, InputError

from . import console, tables
from .ingest_tables import print_ingest_report
from .options import (
    BACKENDS,
    Countdown,
    Episodes,
    Json,
    Robot,
    Speed,
    StartBy,
    StopBy,
    Topics,
    WaitS,
)

if TYPE_CHECKING:
    from act_data.ingest import IngestSettings
    from act_data.record import RecordReport, RecordSettings


@dataclass(frozen=True, kw_only=True)
class Session:
    """What both commands ask about a session."""

    backend: str
    robot: str
    task: str | None
    operator: str | None
    success: bool | None
    notes: str | None
    topics: list[str] | None
    episodes: int | None
    max_timesteps: int | None
    countdown: float | None
    start_by: str | None
    stop_by: str | None
    wait_s: float
    speed: float

    def settings(self, *, somebody: bool) -> RecordSettings:
        """As the verb takes them. A replay does not stand still for a countdown.

        Raises:
            InputError: An option says something that cannot be.
        """
        from act_data.record import RecordSettings

        values = asdict(self)
        backend, _ = values.pop("backend"), values.pop("speed")
        countdown = values.pop("countdown")
        if countdown is None:
            countdown = 3.0 if somebody and not backend.startswith("replay:") else 0.0
        values |= {"countdown_s": countdown, "topics": tuple(self.topics or ())}
        return console.options(RecordSettings, **values)


def record(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the recordings.")],
    backend: Annotated[str, typer.Option(help=f"How the robot is heard: {BACKENDS}.")],
    robot: Robot = "auto",
    task: Annotated[str | None, typer.Option(help="What is demonstrated.")] = None,
    operator: Annotated[str | None, typer.Option(help="Who demonstrates it.")] = None,
    success: Annotated[
        bool | None, typer.Option("--success/--failure", help="How every episode ends.")
    ] = None,
    notes: Annotated[str | None, typer.Option(help="Anything else.")] = None,
    topic: Topics = None,
    episodes: Episodes = None,
    max_timesteps: Annotated[
        int | None, typer.Option(min=1, help="An episode ends with so many steps.")
    ] = None,
    countdown: Countdown = None,
    start_by: StartBy = None,
    stop_by: StopBy = None,
    wait_s: WaitS = 60.0,
    speed: Speed = 1.0,
    json: Json = False,
) -> None:
    """Record episodes of a live robot: one crash-safe MCAP file each.

    Enter ends an episode; then save, discard or redo it. Ctrl-C saves it and ends the session.

    Example: act-data record --backend replay:recording.bag --out bags/ --task "pick the cube"
    """
    with console.errors():
        from act_data.record import record as run
        from act_data.sources.live import open_backend

        from .operator import at_work

        session = Session(
            backend=backend,
            robot=robot,
            task=task,
            operator=operator,
            success=success,
            notes=notes,
            topics=topic,
            episodes=episodes,
            max_timesteps=max_timesteps,
            countdown=countdown,
            start_by=start_by,
            stop_by=stop_by,
            wait_s=wait_s,
            speed=speed,
        )
        with closing(open_backend(backend, speed=speed)) as live, at_work() as person:
            report = run(live, out, session.settings(somebody=person.reviews), operator=person)
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            _print_record_report(report)
            if report.saved:
                console.say(f"next: act-data ingest {report.folder} --out ds.zarr")
        _end(report, report.error, report.hint)


def ingest_live(
    session: Session, out: Path, spool: Path | None, settings: IngestSettings, *, json: bool
) -> None:
    """The rest of `act-data ingest --live`."""
    from act_data.record import ingest_live as run
    from act_data.sources.live import open_backend

    from .operator import at_work

    folder = spool or out.with_name(f"{out.stem}.bags")
    if not session.backend:
        raise InputError("--live needs a backend", hint=f"--backend is one of {BACKENDS}.")
    with closing(open_backend(session.backend, speed=session.speed)) as live, at_work() as person:
        asked = session.settings(somebody=person.reviews)
        report = run(live, out, folder, asked, settings, operator=person)
    if json:
        console.write_json(report.model_dump(mode="json"))
    else:
        _print_record_report(report.record)
        if report.ingest is not None:
            print_ingest_report(report.ingest)
    _end(report.record, report.error or report.record.error, report.hint or report.record.hint)
    if report.ingest is not None and report.ingest.failed:
        raise typer.Exit(3)


def _end(report: RecordReport, error: str, hint: str) -> None:
    if error:
        raise ActError(error, hint=hint)
    if not report.lossless:
        raise typer.Exit(3)


def _print_record_report(report: RecordReport) -> None:
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
        # The account of a synchronisation has the notes of its source, too.
        for note in (e.sync.notes if e.sync else e.notes) if e.file else ():
            console.out.print(Text(f"  {Path(e.file).stem}: {note}"), soft_wrap=True)
    console.out.print(Text(f"{report.saved} episodes -> {report.folder}"), soft_wrap=True)
