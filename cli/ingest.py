"""act-data ingest: recordings to episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from act_data.errors import InputError

from . import console
from .ingest_tables import print_ingest_report
from .options import (
    BACKENDS,
    Countdown,
    Episodes,
    Json,
    MsgPath,
    Robot,
    Speed,
    StartBy,
    StopBy,
    Topics,
    Typestore,
    WaitS,
)
from .record import Session, ingest_live


def ingest(
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="*.zarr; *.hdf5 for one ALOHA episode; else a folder of them."
        ),
    ],
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Bags, or folders of bags [with --live: none].")
    ] = None,
    robot: Robot = "auto",
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
    recover: Annotated[
        bool, typer.Option("--recover", help="Read what is left of damaged bags; exit code 3.")
    ] = False,
    msg_path: MsgPath = None,
    typestore: Typestore = None,
    live: Annotated[
        bool, typer.Option("--live", help="Record a robot now, and ingest meanwhile.")
    ] = False,
    backend: Annotated[str, typer.Option(help=f"--live: how the robot is heard: {BACKENDS}.")] = "",
    spool: Annotated[
        Path | None,
        typer.Option(help="--live: folder for the recordings [beside the dataset: NAME.bags]."),
    ] = None,
    episodes: Episodes = None,
    countdown: Countdown = None,
    start_by: StartBy = None,
    stop_by: StopBy = None,
    topic: Topics = None,
    wait_s: WaitS = 60.0,
    speed: Speed = 1.0,
    json: Json = False,
) -> None:
    """Turn recordings, or a robot that is here, into synchronised episodes.

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
            max_timesteps=None if live else max_timesteps,  # live: the recorder sees to it
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
            recover=recover,
            msg_path=tuple(msg_path or ()),
            typestore=typestore,
        )
        if live or backend:
            _refuse_mixture(live, backend, sources, segments)
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
            ingest_live(session, out, spool, settings, json=json)
            return
        with console.progress("ingest", of_bytes=True) as advance:
            report = run(sources or [], out, settings, progress=advance)
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            print_ingest_report(report)
        if report.failed or not all(file.whole for file in report.recovered):
            raise typer.Exit(3)


def _refuse_mixture(
    live: bool, backend: str, sources: list[Path] | None, segments: Path | None
) -> None:
    if not live:
        raise InputError(f"--backend {backend} is for live topics", hint="Add --live.")
    if sources:
        raise InputError(f"--live and {sources[0]} are two sources", hint="Leave one of them out.")
    if segments is not None:
        raise InputError(
            "--segments lists recordings, and there are none yet with --live",
            hint="Record first, then ingest with --segments; or use --start-by and --stop-by.",
        )
