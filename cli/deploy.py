"""act-model deploy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from act_data.errors import ActError

from . import console, tables
from .options import HELD_OUT, Checkpoint, Json, Runtime

if TYPE_CHECKING:
    from act_model.launch import Deployment


def deploy(
    checkpoint: Checkpoint = None,
    source: Annotated[
        str | None,
        typer.Option(help="DATASET#EPISODE or a bag [a held-out episode of its dataset]."),
    ] = None,
    robot: Annotated[
        str | None, typer.Option(help="Preset or YAML for a bag's streams [the policy's].")
    ] = None,
    mode: Annotated[
        Literal["replay", "shadow"],
        typer.Option(help="replay: simulated time; shadow: real time. Neither moves anything."),
    ] = "replay",
    chunks: Annotated[
        Literal["open-loop", "ensemble"], typer.Option(help="How chunks become actions.")
    ] = "open-loop",
    execute: Annotated[
        int | None,
        typer.Option(
            min=1, help="Ticks between predictions [a chunk, in shadow 3/4 of it; ensemble: 1]."
        ),
    ] = None,
    ensemble_m: Annotated[float, typer.Option(help="Weights exp(-m i), oldest first.")] = 0.01,
    max_ticks: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    log: Annotated[Path | None, typer.Option(help="Write every action there (JSONL).")] = None,
    runtime: Runtime = "torch",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    json: Json = False,
) -> None:
    """Run a policy on a recording and compare it with what the demonstrator did.

    Called bare: the newest checkpoint, on an episode that it was not trained on. No hardware is
    ever moved.

    Example: act-model deploy
    """
    with console.errors():
        from act_model.launch import DeployRequest
        from act_model.launch import deploy as run

        request = console.options(
            DeployRequest,
            checkpoint=checkpoint,
            source=source,
            robot=robot,
            mode=mode,
            chunks=chunks,
            execute=execute,
            ensemble_m=ensemble_m,
            max_ticks=max_ticks,
            log=log,
            runtime=runtime,
            device=device,
        )
        result = run(request)
        if json:
            console.write_json(result.model_dump(mode="json"))
        else:
            _print_deployment(result)
        if result.rollout.error:
            raise ActError(result.rollout.error, hint=result.rollout.hint)


def _print_deployment(result: Deployment) -> None:
    """How a rollout went: time, then every joint against the demonstrator."""
    r = result.rollout
    console.out.print(
        Text(
            f"{r.mode} of {result.checkpoint} (step {result.step}) on {result.source} "
            f"({HELD_OUT[result.held_out]})\n"
            f"  {r.ticks} ticks at {r.nominal_hz:g} Hz, stopped: {r.stop.value}; "
            f"{r.chunks} predictions, {r.starved_ticks} starved ticks, "
            f"{r.invalid_observations} invalid observations\n"
            f"  inference p50 {tables.ms(r.inference_p50_ms)} p95 {tables.ms(r.inference_p95_ms)} "
            f"p99 {tables.ms(r.inference_p99_ms)} ms, observation age p50 "
            f"{tables.ms(r.observation_age_p50_ms)} ms"
        )
    )
    if r.rate_hz is not None:
        console.out.print(
            Text(
                f"  rate {r.rate_hz:.3f} Hz, jitter p50 {tables.number(r.jitter_p50_ms)} p99 "
                f"{tables.number(r.jitter_p99_ms)} max {tables.number(r.jitter_max_ms)} ms, "
                f"{r.deadline_misses} missed deadlines"
            )
        )
    interventions = ", ".join(f"{name} {n}" for name, n in r.safety.items() if n) or "none"
    console.out.print(Text(f"  safety interventions: {interventions}"))
    table = tables.table(
        f"against the demonstrator, {r.compared_ticks} ticks",
        ["joint", "unit"],
        ["mean", "p95", "max", "mean % of range"],
    )
    for j in r.joints:
        table.add_row(
            *(
                Text(j.name),
                Text(j.unit),
                tables.number(j.mean),
                tables.number(j.p95),
                tables.number(j.max),
            ),
            tables.number(j.mean_percent, 3),
        )
    tables.show(table)
    if r.mean_percent is not None:
        console.out.print(Text(f"mean error {r.mean_percent:.2f} % of the joints' range"))
