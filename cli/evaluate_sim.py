"""act-model evaluate --sim."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from . import console, tables
from .simulate import print_rates

if TYPE_CHECKING:
    from act_model.sim.records import SimEvaluation


def evaluate_in_sim(options: dict[str, Any], *, json: bool) -> None:
    """Run a policy in the simulator and print how far it came; `options` are of SimRequest."""
    from act_model.lineage import find_checkpoint
    from act_model.sim.rollouts import SimRequest
    from act_model.sim.rollouts import evaluate_in_sim as run

    checkpoint = find_checkpoint(options.pop("checkpoint"))
    given = {name: value for name, value in options.items() if value is not None}
    request = console.options(SimRequest, checkpoint=checkpoint, **given)
    with console.progress("simulate") as advance:
        report = run(request, progress=advance)
    if json:
        console.write_json(report.model_dump(mode="json"))
    else:
        _print_report(report)


def _print_report(report: SimEvaluation) -> None:
    for condition in report.conditions:
        print_rates(
            f"{report.task}, sensors {report.realism}: {condition.chunks}, a prediction every "
            f"{condition.execute} ticks",
            condition.rates,
        )
        if condition.inference_p50_ms is not None:
            p50, p95 = tables.ms(condition.inference_p50_ms), tables.ms(condition.inference_p95_ms)
            console.out.print(Text(f"a prediction takes {p50} ms (median), p95 {p95} ms"))
    for note in report.notes:
        console.warn(note)
    best = max(report.conditions, key=lambda c: c.rates.held.share)
    last = list(best.rates.stages.values())[-1]
    console.out.print(
        Text(
            f"{report.checkpoint} (step {report.step}): success in {last.count} of {last.of} "
            f"episodes on seeds {report.seeds[0]} to {report.seeds[-1]}, held to the end in "
            f"{best.rates.held.count}"
        )
    )
    if report.page is not None:
        console.say(f"see {report.page}")
