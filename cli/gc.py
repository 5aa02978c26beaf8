"""act-data gc: bytes that no version needs."""

from __future__ import annotations

from typing import Annotated

import typer

from . import console
from .options import Json, Ref


def gc(
    ref: Ref,
    drop: Annotated[
        list[int] | None, typer.Option(min=1, help="A version to keep no longer; repeatable.")
    ] = None,
    keep_versions: Annotated[
        int | None,
        typer.Option(min=1, help="Drop all but so many of the newest, tagged and trained-on ones."),
    ] = None,
    grace_hours: Annotated[
        float, typer.Option(min=0, help="Spare what is younger and belongs to no version yet.")
    ] = 24.0,
    delete: Annotated[
        bool, typer.Option("--delete/--dry-run", help="Remove it, or only list it.")
    ] = False,
    json: Json = False,
) -> None:
    """List the bytes that no version needs, and with --delete remove them.

    Every version is kept that is not dropped here; a dropped one can no longer be opened.

    Example: act-data gc ds.zarr --keep-versions 3
    """
    with console.errors():
        from act_data.curate.garbage import gc as run

        report = run(
            ref,
            drop=drop or (),
            keep_versions=keep_versions,
            grace_hours=grace_hours,
            delete=delete,
        )
        if json:
            console.write_json(report.model_dump(mode="json"))
            return
        for number, why in report.protected.items():
            console.say(f"version {number} is kept: {why}")
        if report.versions:
            numbers = ", ".join(map(str, report.versions))
            console.say(f"{'dropped' if delete else 'would drop'} version {numbers}")
        if report.spared:
            console.say(f"{report.spared} things younger than {report.grace_hours:g} h are spared")
        console.say(
            f"{'removed' if delete else 'would remove'} {len(report.episodes)} episodes, "
            f"{report.files} shards, {len(report.beside)} folders of killed writers: "
            f"{report.bytes / 1e6:.1f} MB" + ("" if delete else " (act-data gc --delete does it)")
        )
