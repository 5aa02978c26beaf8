"""act-data convert: datasets of other formats in, and out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from . import console, tables
from .options import Json

if TYPE_CHECKING:
    from act_data.convert import ConvertReport


def convert(
    source: Annotated[
        Path, typer.Argument(help="A dataset: act-zarr, HDF5, LeRobot, ReplayBuffer, robomimic.")
    ],
    out: Annotated[
        Path, typer.Argument(help="*.zarr; *.hdf5 for one ALOHA episode; else a folder.")
    ],
    source_format: Annotated[
        Literal["act_zarr", "act_hdf5", "aloha_hdf5", "lerobot", "replay_buffer", "robomimic"]
        | None,
        typer.Option("--from", help="What the source is [seen from its files]."),
    ] = None,
    target_format: Annotated[
        Literal["act_zarr", "aloha_hdf5", "lerobot"] | None,
        typer.Option("--to", help="What is written [act_zarr for *.zarr, else aloha_hdf5]."),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="SOURCE=TARGET: what an array is called there. Twice with one target: "
            "concatenated. SOURCE= leaves it out.",
        ),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.1, max=10_000, help="Steps per second, where not known.")
    ] = None,
    robot: Annotated[str | None, typer.Option(help="Name of the robot [the source's].")] = None,
    task: Annotated[str | None, typer.Option(help="What is shown [the source's].")] = None,
    codec: Annotated[
        Literal["jpeg", "zstd", "blosc", "raw"] | None,
        typer.Option(help="Of pictures [lossless stays lossless, the rest is jpeg]."),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="For --codec jpeg [95].")
    ] = None,
    dialect: Annotated[
        Literal["plain", "compressed", "mobile", "agilex"] | None,
        typer.Option(help="Of ALOHA files: whose programs read them [all arrays, as they are]."),
    ] = None,
    simulated: Annotated[
        bool | None, typer.Option("--sim/--real", help="The attribute `sim` of ALOHA files.")
    ] = None,
    action_shift: Annotated[
        int | None,
        typer.Option(min=0, max=100, help="action[t] is the command at step t + shift [0]."),
    ] = None,
    jpeg_colors: Annotated[
        Literal["swapped", "standard"],
        typer.Option(help="Of compressed ALOHA files; the original scripts swap red and blue."),
    ] = "swapped",
    pictures: Annotated[
        Literal["video", "image"], typer.Option(help="How LeRobot keeps pictures.")
    ] = "video",
    video_codec: Annotated[
        Literal["av1", "h264"] | None, typer.Option(help="Of --pictures video [av1].")
    ] = None,
    masked: Annotated[
        Literal["cut", "keep"],
        typer.Option(help="Steps without valid data, for LeRobot, which has no mask."),
    ] = "cut",
    damaged: Annotated[
        Literal["fail", "skip"], typer.Option(help="At an episode that cannot be read.")
    ] = "fail",
    json: Json = False,
) -> None:
    """Write a dataset in another format, or with another codec.

    Run it again after an interruption: finished episodes are recognised.

    Example: act-data convert episodes/ ds.zarr --fps 50
    """
    with console.errors():
        from act_data.convert import ConvertSettings
        from act_data.convert import convert as run

        settings = console.options(
            ConvertSettings,
            source_format=source_format,
            target_format=target_format,
            names=_pairs(names or []),
            fps=fps,
            robot=robot,
            task=task,
            codec=codec,
            quality=quality,
            dialect=dialect,
            simulated=simulated,
            action_shift=action_shift,
            jpeg_colors=jpeg_colors,
            pictures=pictures,
            video_codec=video_codec,
            masked=masked,
            damaged=damaged,
        )
        with console.progress("convert") as advance:
            report = run(source, out, settings, progress=advance)
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            _print_report(report)
        if report.skipped:
            raise typer.Exit(3)


def _pairs(words: list[str]) -> dict[str, str]:
    from act_data.errors import InputError

    pairs: dict[str, str] = {}
    for word in words:
        name, separator, target = word.partition("=")
        if not name or not separator:
            raise InputError(f"--map is {word!r}", hint="Write SOURCE=TARGET, or SOURCE=.")
        if name in pairs:
            raise InputError(f"--map names {name!r} twice", hint="An array has one target.")
        pairs[name] = target
    return pairs


def _print_report(report: ConvertReport) -> None:
    """The arrays, what is not there, what to know, and where it all lies."""
    table = tables.table(
        f"{report.source}: {report.source_format}, {report.variant}",
        ["array", "from", "stored", "shape", "unit"],
        ["lossy encodings"],
    )
    for a in report.arrays:
        stored = f"{a.was} -> {a.stored}" if a.stored else a.dtype
        loss = "-" if a.generations is None else str(a.generations)
        table.add_row(
            *(Text(a.name), Text(", ".join(a.sources)), stored),
            *("x".join(map(str, a.shape)) or "1", Text(a.unit or "-"), loss),
        )
    tables.show(table)
    for name, reason in report.left_out.items():
        console.out.print(Text(f"  left out: {name}, {reason}"), soft_wrap=True)
    for note in report.notes:
        console.out.print(Text(f"  {note}"), soft_wrap=True)
    for name, reason in report.skipped.items():
        console.warn(f"skipped {name}: {reason}")
    steps = sum(e.steps for e in report.episodes)
    version = f" ({report.name}@{report.version}, {report.content_hash[:12]})"
    console.out.print(
        Text(
            f"{report.added} new of {len(report.episodes)} episodes, {steps} steps at "
            f"{report.fps:g} Hz -> {report.dataset}{version if report.name else ''}"
        ),
        soft_wrap=True,
    )
