"""act-data diff: what lies between two versions."""

from __future__ import annotations

from typing import Annotated

import typer

from . import console, curation
from .completion import complete_ref
from .options import Json, Ref


def diff(
    before: Ref,
    after: Annotated[
        str,
        typer.Argument(
            help="The other one, of this or of another dataset.", autocompletion=complete_ref
        ),
    ],
    threshold: Annotated[
        float,
        typer.Option(min=0, help="Tell statistics that moved further, in standard deviations."),
    ] = 0.1,
    json: Json = False,
) -> None:
    """Say what lies between two versions: episodes, splits, annotations, schema, statistics.

    Example: act-data diff ds@1 ds@2
    """
    with console.errors():
        from act_data.curate.diff import diff as run

        found = run(before, after, threshold=threshold)
        if json:
            console.write_json(found.model_dump(mode="json"))
        else:
            curation.print_difference(found)
