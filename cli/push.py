"""act-data push: a dataset to a folder, s3:// or any other place that fsspec reaches."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from . import console, travelled
from .options import DryRun, Json, Ref


def push(
    ref: Ref,
    remote: Annotated[str, typer.Argument(help="A folder, s3://BUCKET/PATH, or another URL.")],
    name: Annotated[
        str | None, typer.Option(help="What it is called there [what it is called here].")
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Make a remote hold a dataset; only what it lacks travels.

    Without a version, the older ones go with it; tags go with their versions. Run it again after
    an interruption.

    Example: act-data push ds.zarr s3://team/datasets
    """
    with console.errors():
        from act_data.remotes import push as run

        with console.progress("push", of_bytes=True) as advance:
            report = run(ref, remote, name=name, dry_run=dry_run, progress=advance)
        if json:
            console.write_json(report.model_dump(mode="json"))
            travelled.exit_with_loss(report)
            return
        for number, why in report.left_out.items():
            console.warn(f"version {number} is left out: {why}")
        sends = "would send" if dry_run else "sent"
        console.say(
            f"version {report.version}, {report.episodes} episodes, {report.bytes / 1e6:.1f} MB: "
            f"{sends} {report.sent_bytes / 1e6:.1f} MB in {report.sent_blobs} blobs, "
            f"{report.present_blobs} were there"
        )
        console.out.print(
            Text(f"{report.remote}/{report.dataset}@v{report.version}"), soft_wrap=True
        )
        travelled.say_tags(report)
        travelled.exit_with_loss(report)
