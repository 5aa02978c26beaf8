"""act-data lineage: where something came from, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from . import console
from .completion import complete_ref
from .options import Json

if TYPE_CHECKING:
    from act_data.curate.records import Lineage

SHOWN = 20


def lineage(
    asked: Annotated[
        str,
        typer.Argument(
            help="A recording or its sha256, an episode (ds#3 or a uid), a dataset version, "
            "a checkpoint folder, or a JSON report of a rollout.",
            autocompletion=complete_ref,
        ),
    ],
    json: Json = False,
) -> None:
    """Walk from recording to checkpoint, both ways.

    Example: act-data lineage runs/pour/best
    """
    with console.errors():
        from act_data.curate.lineage import lineage as run

        found = run(asked)
        if json:
            console.write_json(found.model_dump(mode="json"))
        else:
            _print(found)


def _print(found: Lineage) -> None:
    """Every thing in the order of its making, and what it was made of."""
    order = ("recording", "episode", "version", "stats", "checkpoint", "rollout")
    labels = {node.id: node.label for node in found.nodes}
    for kind in order:
        nodes = [node for node in found.nodes if node.kind == kind]
        for node in nodes[:SHOWN]:
            of: dict[str, list[str]] = {}
            for edge in found.edges:
                if edge.to == node.id:
                    of.setdefault(edge.how, []).append(labels[edge.of])
            sign = ">" if node.id in found.asked else " "
            console.out.print(Text(f"{sign} {kind} {node.label}"), soft_wrap=True)
            for how, things in of.items():
                more = f", ... {len(things)} in all" if len(things) > 5 else ""
                text = f"      {how}: {', '.join(things[:5])}{more}"
                console.out.print(Text(text), soft_wrap=True)
        if len(nodes) > SHOWN:
            console.out.print(Text(f"  ... and {len(nodes) - SHOWN} more of kind {kind}"))
    for note in found.notes:
        console.say(note)
