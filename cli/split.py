"""act-data split: which episodes are held out of training."""

from __future__ import annotations

from typing import Annotated

import typer

from . import console, curation
from .options import DryRun, Json, Message, Ref


def split(
    ref: Ref,
    val_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Hold out this share, by content: a rule that stays."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the rule: deal anew [0].")] = None,
    val: Annotated[
        list[str] | None,
        typer.Option(help="Hold out exactly these: numbers, ranges, uids. May be given again."),
    ] = None,
    val_where: Annotated[
        str | None, typer.Option(help="Hold out exactly those for which this is true.")
    ] = None,
    message: Message = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Divide the episodes anew into training and validation, by rule or by list.

    Under a rule, what is added later never moves an episode that is there.

    Example: act-data split ds.zarr --val-share 0.2 --seed 7
    """
    with console.errors():
        from act_data.curate.versions import split as run

        report = run(
            ref,
            val_share=val_share,
            seed=seed,
            val=val or (),
            val_where=val_where,
            message=message,
            dry_run=dry_run,
        )
        curation.answer_change(report, json)
