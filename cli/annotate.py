"""act-data annotate: what people say about episodes."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from . import console, curation
from .options import DryRun, Json, Message, Ref, Selection, Where


def annotate(
    ref: Ref,
    selection: Selection = None,
    where: Where = None,
    task: Annotated[str | None, typer.Option(help="What was done.")] = None,
    operator: Annotated[str | None, typer.Option(help="Who did it.")] = None,
    success: Annotated[
        Literal["yes", "no", "unknown"] | None, typer.Option(help="Whether it succeeded.")
    ] = None,
    notes: Annotated[str | None, typer.Option(help="What else there is to say.")] = None,
    message: Message = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Say something about episodes, in a new version; their bytes and hashes stay as they are.

    Example: act-data annotate ds.zarr 0-4 --task "pour tea" --success yes
    """
    with console.errors():
        from act_data.curate.versions import annotate as run
        from act_data.records import Annotation

        said = Annotation(
            task=task,
            operator=operator,
            success={"yes": True, "no": False}.get(success or ""),
            notes=notes,
        )
        report = run(
            ref,
            selection or (),
            said,
            where=where,
            success_unknown=success == "unknown",
            message=message,
            dry_run=dry_run,
        )
        curation.answer_change(report, json)
