"""act-model simulate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from act_data.errors import InputError

from . import console, tables
from .options import Json

if TYPE_CHECKING:
    from act_model.sim.records import SimulationReport, StageRates


def simulate(
    task: Annotated[str, typer.Argument(help="transfer_cube or insertion.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the recordings.")
    ] = None,
    live: Annotated[
        str | None,
        typer.Option(help="Publish instead, in real time: ros1[:MASTER_URI] or ros2[:DOMAIN]."),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Successful recordings wanted.")] = 10,
    first_seed: Annotated[int, typer.Option(min=0, help="Of the first episode.")] = 0,
    realism: Annotated[
        Literal["none", "lab", "bad"],
        typer.Option(help="How sensors keep time: exactly, well, or badly."),
    ] = "none",
    timing: Annotated[
        list[str] | None,
        typer.Option(help="Change a sensor, repeatable: camera.offset_ms=30, joints.drops=0.1."),
    ] = None,
    cameras: Annotated[
        str, typer.Option(help="Names with commas: top,angle,front_close [none].")
    ] = "",
    size: Annotated[str, typer.Option(help="HxW of the pictures.")] = "480x640",
    jpeg: Annotated[
        int | None, typer.Option(min=1, max=100, help="Quality of compressed pictures [raw].")
    ] = None,
    format_: Annotated[
        Literal["mcap", "bag"], typer.Option("--format", help="ROS 2 MCAP, or a ROS 1 bag.")
    ] = "mcap",
    jobs: Annotated[int, typer.Option(min=1, help="Episodes at a time.")] = 1,
    keep_failures: Annotated[
        bool, typer.Option("--keep-failures", help="Keep failed episodes, marked as such.")
    ] = False,
    json: Json = False,
) -> None:
    """Record demonstrations of simulated bimanual ALOHA, as its sensors would publish them.

    Example: act-model simulate transfer_cube --episodes 20 --out bags/
    """
    with console.errors():
        asked = {
            "task": task,
            "episodes": episodes,
            "first_seed": first_seed,
            "realism": realism,
            "timing": timing or (),
            "cameras": tuple(name.strip() for name in cameras.split(",") if name.strip()),
            "size": console.height_width("--size", size),
            "jpeg": jpeg,
        }
        if live is not None:
            if out is not None:
                raise InputError(
                    f"--live publishes, and writes nothing to {out}",
                    hint=f"Record it beside: act-data record --backend {live} --out {out}",
                )
            _simulate_live(asked | {"ros": live}, json=json)
            return
        if out is None:
            raise InputError("nowhere to record to", hint="Give --out, or publish with --live.")
        from act_model.sim.demonstrations import SimulateRequest
        from act_model.sim.demonstrations import simulate as run

        request = console.options(
            SimulateRequest,
            **asked,
            out=out,
            format=format_,
            jobs=jobs,
            keep_failures=keep_failures,
        )
        with console.progress("simulate") as advance:
            report = run(request, progress=advance)
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            _print_report(report)


def _simulate_live(asked: dict[str, Any], *, json: bool) -> None:
    from act_model.sim.live import LiveRequest, publish_live

    request = console.options(LiveRequest, **asked)
    with console.progress("publish") as advance:
        report = publish_live(request, progress=advance)
    if json:
        console.write_json(report.model_dump(mode="json"))
        return
    table = tables.table(
        f"{report.task}, sensors {report.realism}, on {report.ros}",
        ["reached"],
        ["seed", "messages", "sent late p50 ms", "p99", "max"],
    )
    for episode in report.episodes:
        late = episode.late
        table.add_row(
            f"{episode.trial.reward} of 4",
            str(episode.trial.seed),
            str(episode.messages),
            *(tables.ms(value) for value in (late.p50_ms, late.p99_ms, late.max_ms)),
        )
    tables.show(table)


def _print_report(report: SimulationReport) -> None:
    kept = [r for r in report.recordings if r.file is not None]
    print_rates(f"the expert, {len(report.recordings)} episodes of {report.task}", report.rates)
    size = sum(r.size for r in kept) / 1e6
    console.out.print(
        Text(
            f"{len(kept)} recordings, {size:.1f} MB, realism {report.realism} -> {report.folder} "
            f"in {report.wall_s:.1f} s"
        )
    )
    robot = "" if report.robot else " --robot YOUR.yaml"
    console.say(f"next: `act-data ingest {report.folder} --out ds.zarr{robot}`")


def print_rates(title: str, rates: StageRates) -> None:
    """How often each stage was reached, with the 95 % interval."""
    table = tables.table(title, ["stage"], ["episodes", "%", "95 % from", "to"])
    for name, share in (*rates.stages.items(), ("held at the end", rates.held)):
        table.add_row(
            Text(name),
            f"{share.count}/{share.of}",
            *(f"{100 * value:.0f}" for value in (share.share, share.low, share.high)),
        )
    tables.show(table)
