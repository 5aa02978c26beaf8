"""act-data: recordings in, datasets out, and questions about both."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from . import console

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="From recorded rosbags to synchronised, versioned episodes.",
)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Ref = Annotated[str, typer.Argument(help="A path, a name, or name@version.")]


@app.command()
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
    codec: Annotated[
        Literal["jpeg", "zstd", "blosc", "raw"] | None,
        typer.Option(help="How pictures are stored [jpeg; HDF5: raw]."),
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="For --codec jpeg.")] = 95,
    task: Annotated[str, typer.Option(help="What was demonstrated.")] = "",
    operator: Annotated[str, typer.Option(help="Who demonstrated it.")] = "",
    success: Annotated[
        bool | None, typer.Option("--success/--failure", help="How it ended.")
    ] = None,
    notes: Annotated[str, typer.Option(help="Anything else.")] = "",
    json: Json = False,
) -> None:
    """Turn recordings into synchronised episodes.

    Run it again after an interruption: finished episodes are recognised.

    Example: act-data ingest bags/ --out ds.zarr
    """
    with console.errors():
        from act_data.ingest import IngestSettings
        from act_data.ingest import ingest as run

        from . import tables

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
            codec=codec,
            quality=quality,
            task=task,
            operator=operator,
            success=success,
            notes=notes,
        )
        with console.progress("ingest") as advance:
            report = run(sources, out, settings, progress=advance)
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            tables.ingest_report(report)


@app.command()
def stats(
    ref: Ref,
    split: Annotated[
        Literal["train", "val", "all"], typer.Option(help="Which episodes count.")
    ] = "train",
    json: Json = False,
) -> None:
    """Mean, std, min, max and quantiles of every dimension; saved beside and inside the dataset.

    Example: act-data stats ds.zarr
    """
    with console.errors():
        from act_data.report import stats as run

        from . import tables

        with console.progress("stats") as advance:
            record, path = run(ref, split=split, progress=advance)
        if json:
            console.write_json(record.model_dump(mode="json"))
        else:
            tables.stats(record)
            console.say(f"saved to {path}")


@app.command("list")
def list_datasets(json: Json = False) -> None:
    """The registered datasets.

    Example: act-data list
    """
    with console.errors():
        from act_data.registry import Registry

        from . import tables

        rows = Registry().datasets()
        if json:
            console.write_json([row.model_dump(mode="json") for row in rows])
        else:
            tables.datasets(rows)


@app.command()
def rebuild(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Datasets, or folders to search for them.")
    ] = None,
    json: Json = False,
) -> None:
    """Read the registry again from the datasets themselves, which are the truth.

    Example: act-data rebuild datasets/
    """
    with console.errors():
        from act_data.registry import Registry

        names = Registry().rebuild(paths or [])
        if json:
            console.write_json(names)
        else:
            console.say(f"{len(names)} datasets: {', '.join(names) or 'none'}")


@app.command()
def show(ref: Ref, json: Json = False) -> None:
    """What a dataset holds: robot, arrays, episodes, splits, sync quality.

    Example: act-data show ds@1
    """
    with console.errors():
        from act_data.report import show as run

        from . import tables

        card = run(ref)
        if json:
            console.write_json(card.model_dump(mode="json"))
        else:
            tables.card(card)


@app.command()
def verify(ref: Ref, json: Json = False) -> None:
    """Prove that every byte of a dataset is what was committed.

    Example: act-data verify ds.zarr
    """
    with console.errors():
        from act_data.check import verify as run

        result = run(ref)
        if json:
            console.write_json(result.model_dump(mode="json"))
        else:
            for problem in result.problems:
                console.out.print(Text(problem), soft_wrap=True)
            state = "sound" if result.sound else f"{len(result.problems)} problems"
            console.say(f"{result.dataset} version {result.version}: {state}")
        if not result.sound:
            raise typer.Exit(1)


@app.command()
def robots(
    name: Annotated[str | None, typer.Argument(help="Print this preset as YAML.")] = None,
    json: Json = False,
) -> None:
    """The robot presets; with a name, its YAML to start an own one from.

    Example: act-data robots cobot_magic > my_robot.yaml
    """
    with console.errors():
        from act_data.robot import load_robot, preset_names, preset_text

        from . import tables

        if name is not None:
            if json:
                console.write_json({"name": name, "yaml": preset_text(name)})
            else:
                console.out.print(Text(preset_text(name)), end="", soft_wrap=True)
            return
        presets = [load_robot(preset) for preset in preset_names()]
        if json:
            console.write_json([{"name": r.name, "description": r.description} for r in presets])
        else:
            tables.robots(presets)


def main() -> None:
    """Entry point of `act-data`."""
    app()
