"""act-data search: episodes by words, by a condition, and what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from . import console, tables
from .completion import complete_ref
from .options import Json, Where

if TYPE_CHECKING:
    from act_data.registry import SearchResult

SHOWN = 12  # values of a facet; the rest is counted


def search(
    text: Annotated[
        str, typer.Argument(help="Words of task, operator or notes; pou* for how one begins.")
    ] = "",
    where: Where = None,
    within: Annotated[
        str | None,
        typer.Option(
            "--in",
            help="One dataset or version [the newest of each].",
            autocompletion=complete_ref,
        ),
    ] = None,
    datasets: Annotated[
        bool, typer.Option("--datasets", help="List datasets instead of episodes.")
    ] = False,
    facets: Annotated[
        bool,
        typer.Option("--facets", help="Also count by robot, camera, rate, month and quality."),
    ] = False,
    limit: Annotated[int, typer.Option(min=0, max=1_000_000, help="List so many episodes.")] = 50,
    json: Json = False,
) -> None:
    """Find episodes in the registry: by words, by a condition, in all datasets or in one.

    Example: act-data search "pour tea" --where "success and length > 100" --facets
    """
    with console.errors():
        from act_data.registry import Registry

        found = Registry().search(
            text,
            where=where or "",
            within=within,
            limit=0 if datasets else limit,
            facets=facets,
        )
        if json:
            console.write_json(found.model_dump(mode="json"))
            return
        if datasets:
            _print_datasets(found)
        elif found.episodes:
            _print_episodes(found)
        _print_facets(found)
        listed = len(found.episodes)
        cut = f"; the first {listed} are listed" if 0 < listed < found.matched else ""
        console.say(
            f"{found.matched} episodes, {found.steps} steps, in {len(found.datasets)} datasets{cut}"
        )


def _print_episodes(found: SearchResult) -> None:
    table = tables.table("", ["episode", "task", "operator", "recorded", "success"], ["steps"])
    for e in found.episodes:
        success = {True: "yes", False: "no", None: "-"}[e.success]
        words = (Text(word) for word in (e.ref, e.task, e.operator))
        table.add_row(*words, e.recorded or "-", success, str(e.length))
    tables.show(table)


def _print_datasets(found: SearchResult) -> None:
    table = tables.table("", ["dataset"], ["episodes", "steps"])
    for d in found.datasets:
        table.add_row(Text(d.ref), str(d.episodes), str(d.steps))
    tables.show(table)


def _print_facets(found: SearchResult) -> None:
    for facet in found.facets:
        table = tables.table(facet.name, ["value"], ["episodes"])
        for value in facet.values[:SHOWN]:
            table.add_row(Text(value.value), str(value.episodes))
        tables.show(table)
        if len(facet.values) > SHOWN:
            console.out.print(Text(f"... and {len(facet.values) - SHOWN} more"))
