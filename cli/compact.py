"""act-data compact: one version of a dataset and nothing else."""

from __future__ import annotations

from . import console, curation
from .options import DryRun, Json, Message, NewDataset, Ref


def compact(
    ref: Ref,
    out: NewDataset,
    message: Message = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Make a dataset of one version: no holes, no older versions, the same content hash.

    Example: act-data compact ds@prod --out release.zarr
    """
    with console.errors():
        from act_data.curate.copies import compact as run

        with console.progress("compact") as advance:
            report = run(ref, out, message=message, dry_run=dry_run, progress=advance)
        curation.answer_copy(report, json)
