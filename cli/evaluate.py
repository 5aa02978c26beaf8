"""act-model evaluate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from . import console, tables
from .options import HELD_OUT, Checkpoint, Json

if TYPE_CHECKING:
    from act_model.evaluate import EvaluationReport


def evaluate(
    checkpoint: Checkpoint = None,
    dataset: Annotated[
        str | None, typer.Option(help="A path or name [what the policy was trained on].")
    ] = None,
    starts: Annotated[int, typer.Option(min=1, help="Chunks per held-out episode.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    json: Json = False,
) -> None:
    """Measure a policy on the held-out episodes: error by horizon and by joint.

    Example: act-model evaluate
    """
    with console.errors():
        from act_model.launch import EvaluationRequest
        from act_model.launch import evaluate as run

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
