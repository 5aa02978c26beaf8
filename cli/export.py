"""act-model export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from . import console
from .options import Checkpoint, Json

if TYPE_CHECKING:
    from act_model.export.records import ExportReport


def export(
    checkpoint: Checkpoint = None,
    to: Annotated[Literal["onnx"], typer.Option(help="What to write.")] = "onnx",
    out: Annotated[
        Path | None, typer.Option(help="File to write [beside the checkpoint: best.onnx].")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Refuse a file that predicts other actions than torch.")
    ] = False,
    json: Json = False,
) -> None:
    """Write a policy as one ONNX file, from a robot's observation to its actions.

    `act-model deploy --runtime onnx` takes it from where it is written by default.

    Example: act-model export run/best --to onnx --check
    """
    with console.errors():
        from act_model.export.onnx_file import export_onnx
        from act_model.lineage import find_checkpoint
        from act_model.policy import Policy
        from act_model.runtime import onnx_file_of

        folder = find_checkpoint(checkpoint)
        report = export_onnx(Policy.load(folder, "cpu"), out or onnx_file_of(folder), check=check)
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            _print_export(report)


def _print_export(report: ExportReport) -> None:
    parity = "not compared with torch (--check does)"
    if report.parity is not None:
        parity = (
            f"largest difference from torch over {report.checked} observations "
            f"{report.parity:.1e} normalised, {report.parity_units:.1e} in the robot's units"
        )
    console.out.print(
        Text(
            f"{report.checkpoint} -> {report.file}, {report.bytes / 2**20:.1f} MiB, opset "
            f"{report.opset}\n  {', '.join(report.inputs)} -> {', '.join(report.outputs)}\n"
            f"  {parity}"
        ),
        soft_wrap=True,
    )
