"""act-model deploy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from act_data.errors import ActError

from . import console, tables
from .options import HELD_OUT, Checkpoint, Json, MsgPath, Runtime

if TYPE_CHECKING:
    from act_model.launch import Deployment
    from act_model.plan import Plan
    from act_model.safety.records import Box


def deploy(
    checkpoint: Checkpoint = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="ros1[:MASTER], ros2[:DOMAIN], foxglove, sim:TASK[#SEED], DATASET#EPISODE or a "
            "bag [a held-out episode of its dataset]."
        ),
    ] = None,
    msg_path: MsgPath = None,
    recover: Annotated[
        bool, typer.Option("--recover", help="Read what is left of a damaged bag.")
    ] = False,
    robot: Annotated[
        str | None, typer.Option(help="Preset or YAML for streams and commands [the policy's].")
    ] = None,
    mode: Annotated[
        Literal["replay", "shadow", "sim", "step", "live"],
        typer.Option(
            help="replay: simulated time; shadow: real time; neither moves anything. sim: moves a "
            "simulation; step: moves, one prediction per Enter; live: moves."
        ),
    ] = "replay",
    sink: Annotated[
        str | None,
        typer.Option(
            help="Where commands go: ros1, ros2, mcap:FILE, null, jsonl:FILE [the robot itself]."
        ),
    ] = None,
    chunks: Annotated[
        Literal["open-loop", "ensemble", "crossfade", "align", "prefix"],
        typer.Option(help="How chunks become actions."),
    ] = "open-loop",
    execute: Annotated[
        int | None,
        typer.Option(
            min=1, help="Ticks between predictions, at most [as time allows; ensemble: 1]."
        ),
    ] = None,
    fade: Annotated[int, typer.Option(min=1, help="Ticks of a crossfade or align.")] = 8,
    ensemble_m: Annotated[float, typer.Option(help="Weights exp(-m i), oldest first.")] = 0.01,
    max_ticks: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    control_hz: Annotated[
        float | None, typer.Option(help="Commands per second [the policy's rate].")
    ] = None,
    max_age_ms: Annotated[
        float, typer.Option(help="Oldest observation that may be acted on.")
    ] = 500.0,
    hold_s: Annotated[float, typer.Option(min=0, help="How long to hold before stopping.")] = 1.0,
    first_command: Annotated[
        Literal["refuse", "ramp"] | None,
        typer.Option(help="When it is far from the robot [refuse; sim: ramp]."),
    ] = None,
    tracking_tolerance: Annotated[
        float, typer.Option(min=0, help="Share of its range a joint may be off; 0: any.")
    ] = 0.25,
    urdf: Annotated[Path | None, typer.Option(help="The robot's own joint limits.")] = None,
    workspace: Annotated[
        Path | None, typer.Option(help="Boxes that tips of the --urdf stay in (YAML).")
    ] = None,
    margin: Annotated[
        float, typer.Option(min=0, help="Share of its demonstrated range a joint may exceed.")
    ] = 0.05,
    log: Annotated[Path | None, typer.Option(help="Write every action there (JSONL).")] = None,
    record: Annotated[
        Path | None, typer.Option(help="Rollouts become episodes of this *.zarr.")
    ] = None,
    task: Annotated[str, typer.Option(help="What is done, kept with the episodes.")] = "",
    latency_ms: Annotated[
        float, typer.Option(min=0, help="Of each prediction, in simulated time.")
    ] = 0.0,
    process: Annotated[
        bool | None,
        typer.Option(help="The policy in a process of its own [where a robot is moved live]."),
    ] = None,
    armed: Annotated[bool, typer.Option("--armed", help="Do not wait for Enter.")] = False,
    estop_file: Annotated[
        Path | None, typer.Option(help="When it appears, everything stops.")
    ] = None,
    fifo: Annotated[
        bool, typer.Option("--fifo", help="SCHED_FIFO and locked memory, where permitted.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the contract and the plan, and run nothing.")
    ] = False,
    runtime: Runtime = "torch",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    json: Json = False,
) -> None:
    """Run a policy on a robot, a simulation or a recording.

    Called bare: the newest checkpoint, on an episode that it was not trained on, compared with what
    the demonstrator did. Nothing is moved but in the modes sim, step and live.

    Example: act-model deploy --explain
    """
    with console.errors():
        from act_model.launch import deploy as run
        from act_model.launch import explain as plan
        from act_model.plan import DeployRequest

        request = console.options(
            DeployRequest,
            checkpoint=checkpoint,
            source=source,
            msg_path=tuple(msg_path or ()),
            recover=recover,
            robot=robot,
            sink=sink,
            mode=mode,
            chunks=chunks,
            execute=execute,
            fade=fade,
            ensemble_m=ensemble_m,
            max_ticks=max_ticks,
            control_hz=control_hz,
            max_age_ms=max_age_ms,
            hold_s=hold_s,
            first_command=first_command,
            tracking_tolerance=tracking_tolerance,
            urdf=urdf,
            workspace=workspace,
            margin=margin,
            log=log,
            record=record,
            task=task,
            latency_ms=latency_ms,
            process=process,
            armed=armed,
            estop_file=estop_file,
            fifo=fifo,
            runtime=runtime,
            device=device,
        )
        if explain:
            planned = plan(request)
            if json:
                console.write_json(planned.model_dump(mode="json"))
            else:
                _print_plan(planned)
            return
        result = run(request, say=console.say)
        if json:
            console.write_json(result.model_dump(mode="json"))
        else:
            _print_deployment(result)
        if result.rollout.error:
            raise ActError(result.rollout.error, hint=result.rollout.hint)


def _print_plan(plan: Plan) -> None:
    """The contract, and what will be done with it."""
    c = plan.contract
    states = ", ".join(f"{v.name} ({len(v.names)}, {v.unit or 'no unit'})" for v in c.state)
    cameras = ", ".join(f"{x.name} {x.height}x{x.width}" for x in (*c.cameras, *c.depth))
    rows = (
        ("policy", f"{plan.checkpoint} (step {plan.step}, {plan.runtime})"),
        ("robot", f"{c.robot}: {plan.source} ({HELD_OUT[plan.held_out]})"),
        ("sees", f"{states}; {cameras or 'no camera'}, at {c.rate_hz:g} Hz, {c.color_order}"),
        ("mode", f"{plan.mode.value}, {'MOVES the robot' if plan.moves else 'moves nothing'}"),
        ("commands to", plan.sink),
        ("commands", f"{plan.control_hz:g} per second, from chunks of {c.chunk_size} actions"),
        ("chunks", f"{plan.chunks}, a prediction every {plan.execute} ticks at the latest"),
        ("in time", plan.reserve),
        ("holds", f"when the robot was not seen for {plan.rules.max_age_ms:g} ms, or the policy "
         f"is silent; stops after {plan.rules.hold_s:g} s of it"),
        ("first command", f"{plan.rules.first_command} beyond {plan.rules.first_tolerance:.0%} of "
         "an element's range"),
        ("watchdog", "a process of its own" if plan.watchdog else "none"),
        ("policy runs in", "a process of its own" if plan.process else "this process"),
        ("limits from", plan.limits_from),
        ("workspace", "; ".join(map(_box, plan.workspace)) or "anywhere"),
        ("recorded", plan.record or "not"),
        ("logged", plan.log or "not"),
    )  # fmt: skip
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        console.out.print(Text(f"{name:<{width}}  {text}"), soft_wrap=True)
    table = tables.table(
        "limits", ["element", "unit"], ["low", "high", "per second", "per second^2"]
    )
    for e in plan.elements:
        table.add_row(
            Text(e.name),
            Text(e.unit),
            tables.number(e.low),
            tables.number(e.high),
            tables.number(e.velocity),
            tables.number(e.acceleration),
        )
    tables.show(table)


def _box(box: Box) -> str:
    """One box on one line."""
    axes = ", ".join(
        f"{axis} {low:g} to {high:g}"
        for axis, low, high in zip("xyz", box.min, box.max, strict=True)
    )
    return f"{box.frame}{f' of {box.stream}' if box.stream else ''} in {axes} m"


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
    if r.commands:
        console.out.print(
            Text(
                f"  {r.commands} commands to {result.sink}, {r.held_ticks} ticks held, "
                f"{r.taken_over_ticks} taken over; queue depth p50 "
                f"{tables.number(r.queue_depth_p50)} min {tables.number(r.queue_depth_min)}, "
                f"{r.late_chunks} late chunks, {r.discarded_actions} discarded actions, "
                f"{r.splice_mismatches} splice mismatches\n"
                f"  seam jump p99 {tables.number(r.seam_jump_p99)} max "
                f"{tables.number(r.seam_jump_max)}"
                + (f"; scheduling: {r.scheduling}" if r.scheduling else "")
            )
        )
    if r.recorded:
        console.out.print(Text(f"  recorded {len(r.recorded)} episodes: {', '.join(r.recorded)}"))
    interventions = ", ".join(f"{name} {n}" for name, n in r.safety.items() if n) or "none"
    console.out.print(Text(f"  safety interventions: {interventions}"))
    for hit in r.hits:
        console.out.print(
            Text(
                f"    {hit.name}: position {hit.position}, velocity {hit.velocity}, "
                f"acceleration {hit.acceleration}"
            )
        )
    if not r.joints:
        return
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
