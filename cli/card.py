"""act-data card: a dataset's card, for people and for catalogues."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from . import console
from .options import DryRun, Json, Ref


def card(
    ref: Ref,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Markdown to write [printed].")
    ] = None,
    croissant: Annotated[
        Path | None, typer.Option(help="Croissant 1.1 (JSON-LD) to write, for catalogues.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help='Say it: "CC-BY-4.0", or the address of a text.')
    ] = None,
    cite: Annotated[str | None, typer.Option(help="Say how to cite it; may be BibTeX.")] = None,
    description: Annotated[str | None, typer.Option(help="Say what it is.")] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """What a dataset is: robot, arrays, units, tasks, splits, sync quality, licence, how to cite.

    What you say is kept in the dataset and travels with it.

    Example: act-data card ds --licence CC-BY-4.0 --out card.md --croissant card.json
    """
    with console.errors():
        from act_data.cards import card as run

        report = run(
            ref,
            description=description,
            licence=licence,
            cite=cite,
            out=out,
            croissant_out=croissant,
            dry_run=dry_run,
        )
        if json:
            console.write_json(report.model_dump(mode="json"))
            return
        if report.said:
            verb = "would keep" if dry_run else "kept"
            console.say(f"{verb} in the dataset: {', '.join(report.said)}")
        for path in (report.out, report.croissant):
            if path is not None and not dry_run:
                console.out.print(Text(path), soft_wrap=True)
        if out is None and croissant is None:
            sys.stdout.write(report.markdown)
