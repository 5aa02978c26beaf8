"""act-data restore: what an older version had."""

from __future__ import annotations

from . import console, curation
from .options import DryRun, Json, Message, Ref, Selection


def restore(
    ref: Ref,
    selection: Selection = None,
    message: Message = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Make a version that has again what an older one had: all of it, or some episodes.

    Example: act-data restore ds@1
    """
    with console.errors():
        from act_data.curate.versions import restore as run

        report = run(ref, selection or (), message=message, dry_run=dry_run)
        curation.answer_change(report, json)
