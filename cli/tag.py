"""act-data tag and act-data log: names of versions, and what the versions are."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from . import console, tables
from .options import Json, Ref


def tag(
    ref: Ref,
    name: Annotated[
        str | None, typer.Argument(help="The tag to put on that version [show the tags].")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the tag off instead.")] = False,
    json: Json = False,
) -> None:
    """Point a name like prod at a version, or show the tags of a dataset and how they moved.

    Example: act-data tag ds@3 prod
    """
    with console.errors():
        from act_data.registry import Registry

        registry = Registry()
        if name is None:
            known = registry.tags(ref)
            if json:
                console.write_json(known.model_dump(mode="json"))
                return
            for each in known.tags:
                console.out.print(Text(f"{each.name}  version {each.version}"))
            for move in known.log:
                console.out.print(
                    Text(f"  {move.moved}  {move.tag}: {_way(move.before, move.after)}, {move.who}")
                )
            return
        moved = registry.untag(ref, name) if remove else registry.tag(ref, name)
        if json:
            console.write_json(None if moved is None else moved.model_dump(mode="json"))
        elif moved is None:
            console.say(f"{name} points there already")
        else:
            console.say(f"{name}: {_way(moved.before, moved.after)}")


def log(ref: Ref, json: Json = False) -> None:
    """The versions of a dataset, the newest first: when, why, and how many episodes came and went.

    Example: act-data log ds
    """
    with console.errors():
        from act_data.registry import Registry

        found = Registry().log(ref)
        if json:
            console.write_json(found.model_dump(mode="json"))
            return
        table = tables.table(
            f"{found.name}  {found.path}",
            ["version", "created", "tags"],
            ["parent", "episodes", "added", "removed"],
        )
        for v in found.versions:
            table.add_row(
                str(v.number),
                v.created,
                Text(", ".join(v.tags)),
                "-" if v.parent is None else str(v.parent),
                str(v.episodes),
                str(v.added),
                str(v.removed),
            )
        tables.show(table)
        for v in found.versions:
            if v.message:
                console.out.print(Text(f"{v.number}: {v.message}"), soft_wrap=True)


def _way(before: int | None, after: int | None) -> str:
    if before is None:
        return f"version {after}"
    return f"version {before} -> " + ("none" if after is None else str(after))
