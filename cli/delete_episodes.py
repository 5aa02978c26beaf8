"""act-data delete-episodes: a version without them."""

from __future__ import annotations

from . import console, curation
from .options import DryRun, Json, Message, Ref, Selection, Where


def delete_episodes(
    ref: Ref,
    selection: Selection = None,
    where: Where = None,
    message: Message = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Make a version without some episodes. Their bytes stay: older versions need them.

    Example: act-data delete-episodes ds.zarr 3 7-9 --message "gripper was loose"
    """
    with console.errors():
        from act_data.curate.versions import delete_episodes as run

        report = run(ref, selection or (), where=where, message=message, dry_run=dry_run)
        curation.answer_change(report, json)
