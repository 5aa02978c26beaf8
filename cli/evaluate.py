"""act-model evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from act_data.errors import InputError

from . import console, tables
from .evaluate_sim import evaluate_in_sim
from .options import HELD_OUT, Checkpoint, Json

if TYPE_CHECKING:
    from act_model.evaluate import EvaluationReport


def evaluate(
    checkpoint: Checkpoint = None,
    dataset: Annotated[
        str | None, typer.Option(help="A path or name [what the policy was trained on].")
    ] = None,
    starts: Annotated[int, typer.Option(min=1, help="Chunks per held-out episode.")] = 8,
    sim: Annotated[
        str | None,
        typer.Option(help="In closed loop instead: transfer_cube or insertion, simulated."),
    ] = None,
    episodes: Annotated[int | None, typer.Option(min=1, help="Of --sim [50].")] = None,
    seeds: Annotated[int | None, typer.Option(min=0, help="First seed of --sim [10000].")] = None,
    chunks: Annotated[
        list[str] | None,
        typer.Option(help="open-loop or ensemble; both, given twice [open-loop]."),
    ] = None,
    execute: Annotated[
        int | None, typer.Option(min=1, help="Ticks between predictions [2/3 of a chunk].")
    ] = None,
    realism: Annotated[
        str | None, typer.Option(help="Simulated sensors: none, lab or bad [none].")
    ] = None,
    timing: Annotated[
        list[str] | None, typer.Option(help="Change one: camera.offset_ms=30. Repeatable.")
    ] = None,
    wait_ms: Annotated[
        float | None, typer.Option(min=0, help="How long a tick waits for late samples [0].")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Folder for an HTML page with a map and videos.")
    ] = None,
    videos: Annotated[
        int | None, typer.Option(min=0, help="Successes and failures to film, each [2].")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Simulated at a time [1].")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    json: Json = False,
) -> None:
    """Measure a policy on the held-out episodes, or how often it succeeds in the simulator.

    Example: act-model evaluate --sim transfer_cube --page report/
    """
    in_sim = {
        "episodes": episodes,
        "seeds": seeds,
        "chunks": chunks,
        "execute": execute,
        "realism": realism,
        "timing": timing,
        "wait_ms": wait_ms,
        "page": page,
        "videos": videos,
        "jobs": jobs,
    }
    with console.errors():
        if sim is not None:
            options = {"checkpoint": checkpoint, "task": sim, "device": device, **in_sim}
            evaluate_in_sim(options, json=json)
            return
        if given := [name for name, value in in_sim.items() if value]:
            raise InputError(
                f"--{given[0].replace('_', '-')} is about a simulation",
                hint="Name the task: --sim transfer_cube.",
            )
        from act_model.evaluation import EvaluationRequest
        from act_model.evaluation import evaluate as run

        request = EvaluationRequest(
            checkpoint=checkpoint, dataset=dataset, starts=starts, device=device
        )
        with console.progress("evaluate") as advance:
            report = run(request, progress=advance)
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            _print_evaluation(report)


def _print_evaluation(report: EvaluationReport) -> None:
    """The error of every joint at the horizons, then of each replayed episode."""
    seen = HELD_OUT[report.held_out].replace("NOT", "NOT all")
    table = tables.table(
        f"{report.dataset} version {report.version}: {len(report.episodes)} episodes, {seen}; "
        f"mean error of {report.starts} chunks",
        ["joint", "unit"],
        [f"step {h.step}" for h in report.horizons] + ["% of range" for _ in report.horizons],
    )
    for i, (joint, unit) in enumerate(zip(report.joints, report.units, strict=True)):
        means = [tables.number(horizon.mean[i]) for horizon in report.horizons]
        percents = [tables.number(horizon.percent[i], 3) for horizon in report.horizons]
        table.add_row(Text(joint), Text(unit), *means, *percents)
    tables.show(table)
    for replay in report.replays:
        percent = tables.number(replay.rollout.mean_percent, 3)
        console.out.print(
            Text(f"episode {replay.episode} ({replay.uid}): mean error {percent} % of the range")
        )
