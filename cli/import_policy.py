"""act-model import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from . import console
from .options import Json

if TYPE_CHECKING:
    from act_model.legacy import ImportReport


def import_policy(
    path: Annotated[Path, typer.Argument(help="The folder of an ACT policy, or its .ckpt.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The new checkpoint folder.")],
    like: Annotated[str, typer.Option(help="A dataset of its robot: a path, a name, name@3.")],
    camera: Annotated[
        list[str] | None,
        typer.Option(help="The dataset's cameras in the order of the policy [its own names]."),
    ] = None,
    state: Annotated[
        list[str] | None, typer.Option(help="Arrays that make up the state [qpos].")
    ] = None,
    action: Annotated[
        list[str] | None, typer.Option(help="Arrays that make up the action [action].")
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option("--allow-pickle", help="Read a .ckpt's weights, in a confined process."),
    ] = False,
    heads: Annotated[
        int | None, typer.Option(min=1, help="Attention heads of a .ckpt [8].")
    ] = None,
    vq_classes: Annotated[
        int | None, typer.Option(min=1, help="Groups of codes of a VQ .ckpt, its --vq_class.")
    ] = None,
    json: Json = False,
) -> None:
    """Turn an ACT checkpoint of another program into one of ours.

    LeRobot's, and with --allow-pickle those of tonyzhaozh/act, act-plus-plus and aloha-devel.

    Example: act-model import pretrained_model/ --out imported/ --like pick_cup
    """
    with console.errors():
        from act_data.registry import Registry
        from act_data.store import open_dataset
        from act_model.legacy import ImportRequest, import_checkpoint

        resolved = Registry().resolve(like)
        request = ImportRequest(
            path=path,
            out=out,
            cameras=tuple(camera or ()),
            state=tuple(state or ("qpos",)),
            action=tuple(action or ("action",)),
            allow_pickle=allow_pickle,
            heads=heads,
            vq_classes=vq_classes,
        )
        report = import_checkpoint(request, open_dataset(resolved.path, resolved.version))
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            _print_import(report)


def _print_import(report: ImportReport) -> None:
    lines = [
        f"{report.source} ({report.dialect}) -> {report.checkpoint}",
        f"  {report.weights:,} weights, cameras {', '.join(report.cameras) or 'none'}, "
        f"decoder layers {report.decoder_layers}",
    ]
    if report.left_out:
        lines.append(f"  left out, no prediction reads them: {len(report.left_out)} tensors")
    if report.fresh:
        lines.append(f"  it had no style encoder: {len(report.fresh)} tensors of ours are random")
    console.out.print(Text("\n".join(lines)), soft_wrap=True)
