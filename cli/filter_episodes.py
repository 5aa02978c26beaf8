"""act-data filter: only the episodes for which a condition is true."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import console, curation
from .options import DryRun, Json, Message, Ref


def filter_episodes(
    ref: Ref,
    where: Annotated[str, typer.Option(help='A condition: "success and length > 100".')],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A new dataset, *.zarr [a version of this one]."),
    ] = None,
    message: Message = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Keep the episodes for which a condition is true, as a version or in a dataset of their own.

    Example: act-data filter ds.zarr --where "success and length > 100 and task = 'pour'"
    """
    with console.errors():
        from act_data.curate.copies import filter_into
        from act_data.curate.versions import keep_where

        if out is None:
            report = keep_where(ref, where, message=message, dry_run=dry_run)
            curation.answer_change(report, json)
            return
        with console.progress("filter") as advance:
            copy = filter_into(ref, where, out, message=message, dry_run=dry_run, progress=advance)
        curation.answer_copy(copy, json)
