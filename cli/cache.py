"""act-data cache: a raw, perhaps smaller copy for those with memory to spare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from . import console
from .options import Json, Ref


def cache(
    ref: Ref,
    raw: Annotated[
        bool, typer.Option("--raw", help="Uncompressed pictures: what a cache is; needs no flag.")
    ] = True,
    resize: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH of all pictures [as they are].")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="*.zarr [cache folder].")] = None,
    json: Json = False,
) -> None:
    """Copy a dataset with raw pictures, so that reading one costs a copy and not a decode.

    Train on what it prints. Run it again after an interruption: it is completed.

    Example: act-data cache ds.zarr --raw --resize 240x320
    """
    with console.errors():
        from act_data.convert import cache as run

        size = None if resize is None else console.height_width("--resize", resize)
        with console.progress("cache") as advance:
            report = run(ref, size=size, out=out, progress=advance)
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            steps = sum(e.steps for e in report.episodes)
            console.say(f"{report.added} new of {len(report.episodes)} episodes, {steps} steps")
            console.out.print(Text(report.dataset), soft_wrap=True)
