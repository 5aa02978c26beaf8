"""How curation answers: what lies between two versions, and what a new dataset is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from . import console, tables

if TYPE_CHECKING:
    from act_data.curate.records import CopyReport, CurationReport, Difference, EpisodeName
    from act_data.records import Annotation

SHOWN = 20  # of a kind; the rest is counted


def answer_change(report: CurationReport, json: bool) -> None:
    """What a verb made of a dataset, or would make of it."""
    if json:
        console.write_json(report.model_dump(mode="json"))
        return
    if not report.changed:
        console.say(f"nothing changes: version {report.difference.before.version} says all this")
        return
    print_difference(report.difference)
    after = report.difference.after
    kept = "; its statistics still hold" if report.stats_kept else ""
    verb = "would be" if report.dry_run else "is"
    console.say(f"{report.name}@v{after.version} {verb} {report.message!r}{kept}")


def answer_copy(report: CopyReport, json: bool) -> None:
    """What a new dataset holds, or would hold."""
    if json:
        console.write_json(report.model_dump(mode="json"))
        return
    for uid in report.duplicates[:SHOWN]:
        console.say(f"episode {uid} came twice and is in it once")
    if len(report.duplicates) > SHOWN:
        console.say(f"... and {len(report.duplicates) - SHOWN} more")
    verb = "would be made" if report.dry_run else "made"
    shared = f", {report.linked_bytes / 1e6:.1f} MB of them shared" if report.linked_bytes else ""
    console.say(
        f"{verb} of {', '.join(f'{o.name}@v{o.version}' for o in report.made_from)}: "
        f"{report.episodes} episodes, {report.steps} steps, {report.bytes / 1e6:.1f} MB{shared}"
    )
    console.out.print(Text(report.out), soft_wrap=True)


def print_difference(found: Difference) -> None:
    """What lies between two versions, a line each."""
    one, two = found.before, found.after
    content = "the same content" if found.same_content else "another content"
    _line(
        f"{one.dataset}@v{one.version} ({one.episodes} episodes, {one.steps} steps) -> "
        f"{two.dataset}@v{two.version} ({two.episodes} episodes, {two.steps} steps): {content}"
    )
    _lines("-", [_episode(e) for e in found.removed])
    _lines("+", [_episode(e) for e in found.added])
    for again in found.reingested[:SHOWN]:
        _line(f"~ {_episode(again.before)} -> {again.after.uid}: re-ingested")
        _lines("   ", again.changed)
    _lines("~", [_more(len(found.reingested))] if len(found.reingested) > SHOWN else [])
    _lines(">", [f"{m.uid}: {m.before} -> {m.after}" for m in found.moved])
    _lines("#", [f"{a.uid}: {_said(a.before, a.after)}" for a in found.annotated])
    _lines("!", [f"schema: {change}" for change in found.schema_changes])
    if found.reordered:
        _line("! the episodes stand in another order")
    if found.stats:
        table = tables.table(
            "statistics that moved",
            ["array", "dim"],
            ["mean", "->", "std", "->", "moved by std"],
        )
        for move in found.stats[:SHOWN]:
            table.add_row(
                Text(move.array),
                Text(move.dimension),
                tables.number(move.mean_before),
                tables.number(move.mean_after),
                tables.number(move.std_before),
                tables.number(move.std_after),
                tables.number(move.mean_by, 3),
            )
        tables.show(table)
        _lines("", [_more(len(found.stats))] if len(found.stats) > SHOWN else [])
    for note in found.notes:
        console.say(note)


def _line(text: str) -> None:
    console.out.print(Text(text.rstrip()), soft_wrap=True)


def _lines(sign: str, lines: list[str] | tuple[str, ...]) -> None:
    for line in lines[:SHOWN]:
        _line(f"{sign} {line}")
    if len(lines) > SHOWN:
        _line(f"{sign} {_more(len(lines))}")


def _more(count: int) -> str:
    return f"... and {count - SHOWN} more"


def _episode(episode: EpisodeName) -> str:
    recording = f" of {episode.recording}" if episode.recording else ""
    return f"{episode.uid}{recording}, {episode.steps} steps"


def _said(before: Annotation, after: Annotation) -> str:
    return ", ".join(_changes(before, after))


def _changes(before: Annotation, after: Annotation) -> Iterator[str]:
    for name in ("task", "operator", "success", "notes"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield f"{name} {old!r} -> {new!r}"
