"""act-data robots: the presets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from . import console, tables
from .options import Json

if TYPE_CHECKING:
    from act_data.types import RobotSpec


def robots(
    name: Annotated[str | None, typer.Argument(help="Print this preset as YAML.")] = None,
    json: Json = False,
) -> None:
    """The robot presets; with a name, its YAML to start an own one from.

    Example: act-data robots cobot_magic > my_robot.yaml
    """
    with console.errors():
        from act_data.robot import load_robot, preset_names, preset_text

        if name is not None:
            if json:
                console.write_json({"name": name, "yaml": preset_text(name)})
            else:
                console.out.print(Text(preset_text(name)), end="", soft_wrap=True)
            return
        presets = [load_robot(preset) for preset in preset_names()]
        if json:
            console.write_json([{"name": r.name, "description": r.description} for r in presets])
        else:
            _print_robots(presets)


def _print_robots(presets: Sequence[RobotSpec]) -> None:
    """The presets, one line each."""
    table = tables.table("", ["name", "what"], ["fps", "streams"])
    for robot in presets:
        table.add_row(
            robot.name, Text(robot.description), f"{robot.fps:g}", str(len(robot.streams))
        )
    tables.show(table)
