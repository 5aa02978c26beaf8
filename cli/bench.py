"""act-model bench."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from . import console, tables
from .options import Checkpoint, Json, Runtime

if TYPE_CHECKING:
    from act_model.bench import BenchReport


def bench(
    checkpoint: Checkpoint = None,
    runtime: Runtime = "torch",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    predictions: Annotated[int, typer.Option(min=1, help="How many are timed.")] = 50,
    json: Json = False,
) -> None:
    """Time a policy on this machine, from an observation to actions.

    Example: act-model bench run/best --runtime onnx
    """
    with console.errors():
        from act_model.bench import bench as run
        from act_model.lineage import find_checkpoint

        with console.progress("bench") as advance:
            report = run(
                find_checkpoint(checkpoint),
                runtime=runtime,
                device=device,
                predictions=predictions,
                progress=advance,
            )
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            _print_bench(report)


def _print_bench(report: BenchReport) -> None:
    table = tables.table(
        f"{report.checkpoint} (step {report.step}), {report.runtime} on {report.device}, "
        f"{report.threads} threads, {report.predictions} predictions",
        ["part"],
        ["p50 ms", "p95 ms", "p99 ms"],
    )
    for name, latency in (*report.parts.items(), ("observation to actions", report.total)):
        values = (latency.p50_ms, latency.p95_ms, latency.p99_ms)
        table.add_row(Text(name), *(f"{value:.2f}" for value in values))
    tables.show(table)
    gpu = report.peak_gpu_memory_mib
    console.out.print(
        Text(
            f"ready after {report.ready_s:.1f} s, peak memory {report.peak_memory_mib:.0f} MiB"
            f"{'' if gpu is None else f', on the GPU {gpu:.0f} MiB'}; a tick is "
            f"{report.budget_ms:.1f} ms"
        )
    )
