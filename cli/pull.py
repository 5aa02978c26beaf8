"""act-data pull and clone: a dataset from a remote, whole and proven, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from act_data.errors import InputError

from . import console, travelled
from .options import DryRun, Json

if TYPE_CHECKING:
    from act_data.remotes import PullReport

Address = Annotated[str, typer.Argument(help="REMOTE/NAME, REMOTE/NAME@v3 or REMOTE/NAME@TAG.")]


def pull(
    address: Address,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="*.zarr [NAME.zarr in this folder].")
    ] = None,
    cameras: Annotated[
        str | None, typer.Option(help="Only these, by comma; none for none [all].")
    ] = None,
    episodes: Annotated[
        str | None, typer.Option(help="Only these: numbers, 0-9, uids, by comma [all].")
    ] = None,
    rebase: Annotated[
        bool, typer.Option("--rebase", help="Put one's own new versions on top of the remote's.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Bring one version of a dataset here, or bring the one that is here up to it.

    With --rebase that also goes when both sides have new versions: what yours did is done again on
    top of theirs. With --cameras or --episodes a part of it, which is a dataset of its own. Run it
    again after an interruption.

    Example: act-data pull s3://team/datasets/ds --cameras cam_high
    """
    with console.errors():
        from act_data.remotes import pull as run
        from act_data.remotes import rebase as on_top

        if rebase:
            if cameras is not None or episodes is not None:
                raise InputError("a part has no versions to rebase", hint="Leave --rebase out.")
            with console.progress("pull", of_bytes=True) as advance:
                report = on_top(address, out, dry_run=dry_run, progress=advance)
            _print(report, json)
            return
        with console.progress("pull", of_bytes=True) as advance:
            report = run(
                address,
                out,
                cameras=_words(cameras),
                episodes=_words(episodes),
                dry_run=dry_run,
                progress=advance,
            )
        _print(report, json)


def clone(
    address: Address,
    out: Annotated[Path, typer.Argument(help="*.zarr to write.")],
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Bring a dataset here with every version that the remote holds.

    Example: act-data clone s3://team/datasets/ds ds.zarr
    """
    with console.errors():
        from act_data.remotes import clone as run

        with console.progress("clone", of_bytes=True) as advance:
            report = run(address, out, dry_run=dry_run, progress=advance)
        _print(report, json)


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _print(report: PullReport, json: bool) -> None:
    if json:
        console.write_json(report.model_dump(mode="json"))
        travelled.exit_with_loss(report)
        return
    part = "a part of " if report.part else ""
    fetches = "would fetch" if report.dry_run else "fetched"
    console.say(
        f"{part}{report.dataset}@v{report.version}, {report.episodes} episodes: {fetches} "
        f"{report.fetched_bytes / 1e6:.1f} MB"
    )
    if not report.dry_run and not report.name:
        console.warn("not registered: the registry knows other content under its identity")
    for step in report.rebased:
        verb = "would be" if report.dry_run else "is"
        became = "was done there, too" if step.after is None else f"{verb} version {step.after}"
        message = f": {step.message!r}" if step.message else ""
        console.say(f"your version {step.before} {became}{message}")
    for note in report.notes:
        console.warn(note)
    console.out.print(Text(report.path), soft_wrap=True)
    travelled.say_tags(report)
    travelled.exit_with_loss(report)
