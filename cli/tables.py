"""How tables for people look."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from . import console


def table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    """An empty table: columns of text to the left, of numbers to the right."""
    table = Table(
        title=Text(title), title_justify="left", header_style="bold", box=None, pad_edge=False
    )
    for name in left:
        table.add_column(name, overflow="fold", min_width=8)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def show(table: Table) -> None:
    """The title on a line of its own: rich would break it to the width of the columns."""
    title, table.title = table.title, None
    if title:
        console.out.print(title, style="italic", soft_wrap=True)
    console.out.print(table)


def number(value: float | None, digits: int = 4) -> str:
    """A number of so many digits, "-" for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def ms(value: float | None) -> str:
    """Milliseconds, "-" for none."""
    return "-" if value is None else f"{value:.1f}"
