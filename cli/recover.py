"""act-data recover: complete recordings out of damaged ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from . import console, tables
from .options import Json, MsgPath, Typestore

if TYPE_CHECKING:
    from act_data.records import FileRecovery, RecoveryReport

_DONE_WITH_LOSS = 3


def recover(
    sources: Annotated[list[Path], typer.Argument(help="Bags, or folders of bags.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="*.bag or *.mcap for one file; else a folder.")
    ],
    msg_path: MsgPath = None,
    typestore: Typestore = None,
    json: Json = False,
) -> None:
    """Write all that can be read of damaged recordings as complete ones: .bag, or .mcap of ROS 2.

    Exit code 3: something is lost; the table says what.

    Example: act-data recover recording.bag.active --out recording.bag
    """
    with console.errors():
        from act_data.recover import recover as run
        from act_data.sources import Reading, given_types

        reading = Reading(types=given_types(msg_path or (), typestore))
        with console.progress("recover") as advance:
            report = run(sources, out, reading, progress=advance)
        if json:
            console.write_json(report.model_dump(mode="json"))
        else:
            _print_report(report)
        if not report.whole:
            raise typer.Exit(_DONE_WITH_LOSS)


def _print_report(report: RecoveryReport) -> None:
    for file in report.files:
        print_recovery(file.recovery)
        console.out.print(Text(f"  -> {file.out}"), soft_wrap=True)
    for unreadable in report.unreadable:
        console.warn(unreadable.error)


def print_recovery(recovery: FileRecovery) -> None:
    """One file: what was read of each topic, what was lost, and where."""
    console.out.print(Text(recovery.summary), soft_wrap=True)
    table = tables.table("", ["topic", "type"], ["messages", "lost"])
    for name, topic in recovery.topics.items():
        table.add_row(Text(name), Text(topic.type), str(topic.messages), str(topic.lost))
    if recovery.unattributed or recovery.nameless:
        lost = recovery.unattributed + recovery.nameless
        table.add_row(Text("(of topics that cannot be told)"), Text(""), "-", str(lost))
    tables.show(table)
    for gap in recovery.gaps[:20]:
        console.out.print(Text(f"  byte {gap.offset}, {gap.bytes} bytes: {gap.what}"))
    if more := len(recovery.gaps[20:]) + recovery.more_gaps:
        console.out.print(Text(f"  and {more} more such places"))
