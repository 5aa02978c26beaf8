"""act-model train."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from . import console, tables
from .options import Json, Ref
from .training_view import training

if TYPE_CHECKING:
    from act_model.recipe import TrainReport


def train(
    dataset: Ref,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run folder [runs/<dataset>].")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML or JSON: fields of model: and train:; flags win over it."),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="act, or diffusion (the extra [diffusion]) [act].")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="As published [act; full for diffusion]; small and tiny suit a CPU."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps [100000].")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=65_536, help="Samples per step [8].")
    ] = None,
    chunk: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Actions predicted at once, K [100].")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(min=1e-9, max=1, help="Learning rate [of --size].")
    ] = None,
    lr_backbone: Annotated[
        float | None,
        typer.Option(min=1e-9, max=1, help="Learning rate of the cameras' ResNet [of --size]."),
    ] = None,
    state: Annotated[
        list[str] | None, typer.Option(help="Observation arrays, repeatable [qpos].")
    ] = None,
    action: Annotated[
        list[str] | None, typer.Option(help="Action arrays, repeatable [all].")
    ] = None,
    camera: Annotated[list[str] | None, typer.Option(help="Cameras, repeatable [all].")] = None,
    depth: Annotated[list[str] | None, typer.Option(help="Depth pictures, repeatable.")] = None,
    image_size: Annotated[
        str | None, typer.Option(help="HxW at the network's door [as recorded].")
    ] = None,
    backbone_weights: Annotated[
        str | None, typer.Option(help="auto, none, imagenet, or a safetensors file [auto].")
    ] = None,
    kl_weight: Annotated[
        float | None, typer.Option(min=0, max=1e6, help="Weight of the KL term [10].")
    ] = None,
    loss: Annotated[
        Literal["l1", "l2", "smooth_l1"] | None, typer.Option(help="Reconstruction [l1].")
    ] = None,
    augment: Annotated[
        bool | None,
        typer.Option("--augment/--no-augment", help="Crop, rotation, colour jitter [no]."),
    ] = None,
    val_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between validations [1000].")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Threads that read ahead [1].")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random [0].")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps [auto].")] = None,
    cotrain: Annotated[
        list[str] | None,
        typer.Option(help="DATASET=SHARE of every batch, repeatable: other data of the robot."),
    ] = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave damaged episodes out, and say which.")
    ] = False,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Event files, too, in RUN/tensorboard (the extra)."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run in --out stopped.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a policy, the ACT CVAE or a diffusion policy, on a registered dataset.

    Example: act-model train ds.zarr --size small --steps 2000
    """
    with console.errors():
        from act_model.ranks import speaks
        from act_model.recipe import TrainRequest
        from act_model.recipe import train as run

        request = console.options(
            TrainRequest,
            dataset=dataset,
            out=out,
            config=config,
            policy=policy,
            size=size,
            steps=steps,
            batch_size=batch_size,
            chunk=chunk,
            lr=lr,
            lr_backbone=lr_backbone,
            state=state,
            action=action,
            cameras=camera,
            depth=depth,
            image_size=image_size and console.height_width("--image-size", image_size),
            backbone_weights=backbone_weights,
            kl_weight=kl_weight,
            loss=loss,
            augment=augment,
            val_every=val_every,
            workers=workers,
            seed=seed,
            device=device,
            cotrain=cotrain or (),
            skip_damaged=skip_damaged,
            tensorboard=tensorboard,
            resume=resume,
        )
        with training(console.err) if speaks() else nullcontext() as on_step:
            report = run(request, on_step=on_step)
        if not speaks():
            return
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            _print_train_report(report)


def _print_train_report(report: TrainReport) -> None:
    """Where a run stands, and what to do next."""
    for note in report.notes:
        console.warn(note)
    table = tables.table("held-out episodes", ["metric"], ["value"])
    for name, value in report.metrics.items():
        table.add_row(Text(name), tables.number(value))
    if report.metrics:
        tables.show(table)
    best = f", best at {report.best_step}" if report.best_step is not None else ""
    console.out.print(
        Text(
            f"{report.steps} steps over {report.samples} samples of {report.dataset} version "
            f"{report.version}{best} -> {report.checkpoint}"
        )
    )
    console.say(f"see it with `act-model report {report.run}`, run it with `act-model deploy`")
