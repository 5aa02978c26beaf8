"""act-model report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from . import console, tables
from .options import Json

if TYPE_CHECKING:
    from act_model.run_report.records import RunReport


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a training run.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page [RUN/report.html].")
    ] = None,
    json: Json = False,
) -> None:
    """Write one HTML page about a training run: finished, stopped, or still going on.

    Example: act-model report runs/ds
    """
    with console.errors():
        from act_model.run_report import report_run

        found = report_run(run, out=out)
        if json:
            console.write_json(found.model_dump(mode="json"))
        else:
            _print_report(found)


def _print_report(report: RunReport) -> None:
    """Where the run stands, and where the page is."""
    for note in report.notes:
        console.warn(note)
    of = f" of {report.steps}" if report.steps is not None else ""
    best = ""
    if report.best_step is not None:
        best = f", best held-out L1 {tables.number(report.best_l1)} at step {report.best_step}"
    console.out.print(
        Text(
            f"{report.run}: {report.state}, step {report.step}{of}{best} -> {report.page} "
            f"({report.page_bytes / 1e6:.1f} MB)"
        ),
        soft_wrap=True,
    )
