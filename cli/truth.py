"""act-model truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from . import console, tables
from .options import Json, Ref

if TYPE_CHECKING:
    from act_model.sim.records import Distribution, TruthReport


def truth(
    dataset: Ref,
    robot: Annotated[
        str | None, typer.Option(help="Preset or YAML it was ingested with [its own].")
    ] = None,
    json: Json = False,
) -> None:
    """Compare the synchronisation of simulated recordings with simulated time.

    Example: act-model truth ds.zarr
    """
    with console.errors():
        from act_data.check import open_ref
        from act_model.sim.truth import truth_of

        report = truth_of(open_ref(dataset), robot)
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            _print_report(report)


def _print_report(report: TruthReport) -> None:
    table = tables.table(
        f"{report.dataset} version {report.version}: {report.valid_rows} of {report.rows} rows "
        "valid; distance of sample and tick [ms]",
        ["stream"],
        ["n", "reused", "reported p50", "p99", "max", "true p50", "p99", "max", "wrong by max"],
    )
    for name, stream in report.streams.items():
        told = [*_numbers(stream.reported), *_numbers(stream.true)]
        table.add_row(
            Text(name),
            str(stream.samples),
            str(stream.reused),
            *told,
            tables.ms(stream.error.max_ms),
        )
    tables.show(table)
    spread = " / ".join(_numbers(report.spread))
    console.out.print(Text(f"between the samples of one row: {spread} ms (p50 / p99 / max)"))


def _numbers(values: Distribution) -> list[str]:
    return [tables.ms(value) for value in (values.p50_ms, values.p99_ms, values.max_ms)]
