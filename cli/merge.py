"""act-data merge: several datasets as one."""

from __future__ import annotations

from typing import Annotated

import typer

from . import console, curation
from .completion import complete_ref
from .options import DryRun, Json, Message, NewDataset


def merge(
    refs: Annotated[
        list[str],
        typer.Argument(
            help="Paths, names, or name@version: two or more.", autocompletion=complete_ref
        ),
    ],
    out: NewDataset,
    message: Message = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Make a dataset of the episodes of several; each keeps its uid, hash, split and history.

    Example: act-data merge monday.zarr tuesday.zarr --out week.zarr
    """
    with console.errors():
        from act_data.curate.copies import merge as run

        with console.progress("merge") as advance:
            report = run(refs, out, message=message, dry_run=dry_run, progress=advance)
        curation.answer_copy(report, json)
