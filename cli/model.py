"""act-model: train a policy, measure it, run it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from act_data.errors import ActError

from . import console

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Train, evaluate and deploy ACT policies.",
)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Size = Literal["act", "small", "tiny"]
Checkpoint = Annotated[
    Path | None, typer.Argument(help="A checkpoint folder [the newest registered one].")
]


@app.command()
def train(
    dataset: Annotated[str, typer.Argument(help="A path, a name, or name@version.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run folder [runs/<dataset>].")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML or JSON: fields of model: and train:; flags win over it."),
    ] = None,
    size: Annotated[
        Size, typer.Option(help="act: as published; small and tiny train on a CPU.")
    ] = "act",
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
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run in --out stopped.")
    ] = False,
    json: Json = False,
) -> None:
    """Train the ACT CVAE on a registered dataset.

    Example: act-model train ds.zarr --size small --steps 2000
    """
    with console.errors():
        from act_model.recipe import TrainRequest
        from act_model.recipe import train as run

        from . import tables

        request = console.options(
            TrainRequest,
            dataset=dataset,
            out=out,
            config=config,
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
            image_size=image_size,
            backbone_weights=backbone_weights,
            kl_weight=kl_weight,
            loss=loss,
            augment=augment,
            val_every=val_every,
            workers=workers,
            seed=seed,
            device=device,
            resume=resume,
        )
        with console.training() as on_step:
            report = run(request, on_step=on_step)
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            tables.train_report(report)


@app.command()
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

        from . import tables

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
            device=device,
        )
        result = run(request)
        if json:
            console.write_json(result.model_dump(mode="json"))
        else:
            tables.deployment(result)
        if result.rollout.error:
            raise ActError(result.rollout.error, hint=result.rollout.hint)


@app.command()
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

        from . import tables

        request = EvaluationRequest(
            checkpoint=checkpoint, dataset=dataset, starts=starts, device=device
        )
        with console.progress("evaluate") as advance:
            report = run(request, progress=advance)
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            tables.evaluation(report)


def main() -> None:
    """Entry point of `act-model`."""
    app()
