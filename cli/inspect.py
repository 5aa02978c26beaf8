"""act-data inspect: what is in a recording, and a robot file for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from . import console, tables
from .options import Json, MsgPath, Typestore
from .recover import print_recovery

if TYPE_CHECKING:
    from act_data.inspect import Inspection, Proposal, RecordingCard, TopicCard

_DONE_WITH_LOSS = 3


def inspect(
    sources: Annotated[list[Path], typer.Argument(help="Bags, or folders of bags.")],
    write: Annotated[
        Path | None, typer.Option(help="Write the proposed robot to this YAML file.")
    ] = None,
    msg_path: MsgPath = None,
    typestore: Typestore = None,
    json: Json = False,
) -> None:
    """What is in recordings: topics, rates, clocks, pictures, joints, damage; and a robot for them.

    Exit code 3: a recording is damaged; the page says what could be read of it.

    Example: act-data inspect recording.bag --write robot.yaml
    """
    with console.errors():
        from act_data.inspect import check_new, write_robot
        from act_data.inspect import inspect as run
        from act_data.sources import Reading, given_types

        if write is not None:
            check_new(write)
        with console.progress("inspect") as advance:
            found = run(
                sources, Reading(types=given_types(msg_path or (), typestore)), progress=advance
            )
        if not json:
            for card in found.recordings:
                _print_recording(card)
        try:
            if write is not None:
                found = write_robot(found, write)
        finally:  # the page is there, robot or not
            if json:
                console.write_json(found.model_dump(mode="json"))
        if not json:
            _print_proposal(found)
        if any(card.damage for card in found.recordings):
            raise typer.Exit(_DONE_WITH_LOSS)


def _print_recording(card: RecordingCard) -> None:
    """One recording: a line about it, a table of topics, what is odd, which presets fit."""
    files = f", {len(card.files)} files" if len(card.files) != 1 else ""
    compression = ", ".join(card.compression) or "-"
    messages = sum(t.messages for t in card.topics)
    console.out.print(
        Text(
            f"{card.name}: {card.kind}{files}, {card.bytes / 2**20:.1f} MiB, compression "
            f"{compression}, {card.duration_s:.1f} s, {messages} messages"
        ),
        soft_wrap=True,
    )
    if card.damage:
        console.out.print(Text(f"  DAMAGED: {card.damage}"), soft_wrap=True)
        console.out.print(Text(f"  way out: {card.way_out}"), soft_wrap=True)
    for recovery in card.recovery:
        print_recovery(recovery)
    if card.topics:
        _print_topics(card)
    told = {recovery.summary for recovery in card.recovery}
    own = [note for note in card.notes if note not in told]
    for note in (*own, *(note for topic in card.topics for note in topic.notes)):
        console.out.print(Text(f"  {note}"), soft_wrap=True)
    for preset in card.presets:
        if not preset.misses:
            console.out.print(Text(f"  preset {preset.name} fits: {preset.reads} streams"))
            continue
        first, *more = preset.misses
        others = f" (and {len(more)} more)" if more else ""
        console.out.print(Text(f"  preset {preset.name} does not: {first}{others}"), soft_wrap=True)


def _print_topics(card: RecordingCard) -> None:
    table = tables.table(
        "",
        ["topic", "type", "what"],
        ["n", "Hz", "period ms", "p99", "max", "drops", "seq", "from s", "to s"],
    )
    table.add_column("clock")
    table.add_column("latency ms", justify="right")
    table.add_column("p99", justify="right")
    for topic in card.topics:
        short = topic.type.rsplit("/", 1)[-1]
        promised = topic.promised
        lost = promised is not None and promised != topic.messages
        gaps = "-" if topic.seq_gaps is None else str(topic.seq_gaps)
        table.add_row(
            *(Text(topic.topic), Text(short), Text(_what(topic))),
            f"{topic.messages} of {promised}" if lost else str(topic.messages),
            *(tables.number(topic.rate_hz), tables.ms(topic.period_p50_ms)),
            *(tables.ms(topic.period_p99_ms), tables.ms(topic.period_max_ms)),
            *(str(topic.estimated_drops), gaps),
            *(_seconds(topic.first_s), _seconds(topic.last_s)),
            Text(_clock(topic)),
            *(tables.ms(topic.latency_p50_ms), tables.ms(topic.latency_p99_ms)),
        )
    tables.show(table)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _what(topic: TopicCard) -> str:
    """What the messages hold, in a few words."""
    if not topic.messages:
        return ""
    if topic.pictures is not None and topic.pictures.sizes:
        sizes = ", ".join(f"{height}x{width}" for height, width in topic.pictures.sizes[:3])
        return f"{sizes} {', '.join(topic.pictures.encodings)}"
    if topic.joints is not None and not topic.problem:
        count = len(topic.joints.names) or topic.joints.count
        names = ", ".join(topic.joints.names[:7]) + (", ..." if topic.joints.names[7:] else "")
        return f"{count} joints: {names or 'without names'}"
    if topic.problem:
        return topic.problem if len(topic.problem) <= 60 else f"{topic.problem[:57]}..."
    paths = [field.path for field in topic.numbers.fields] if topic.numbers else []
    return ", ".join(paths[:4]) + (", ..." if paths[4:] else "") if paths else "no numbers"


def _clock(topic: TopicCard) -> str:
    behind = topic.clock_behind_s
    if not topic.messages:
        return "-"
    if behind is None:
        return topic.clock.value
    where = "behind" if behind > 0 else "ahead"
    drift = f", {topic.drift_ppm:+.0f} ppm" if topic.clock.value == "drifting" else ""
    return f"{topic.clock.value}, {abs(behind):.1f} s {where}{drift}"


def _print_proposal(found: Inspection) -> None:
    proposal = found.proposal
    if proposal is None:
        return
    if not proposal.yaml:
        console.say(f"no robot can be proposed: {_reasons(proposal)}")
        return
    for name, lacks in proposal.others.items():
        console.warn(f"{name} lacks of the proposed robot: {'; '.join(lacks)}")
    if found.written is not None:
        console.say(f"a robot for {proposal.recording} is written to {found.written}")
        return
    console.say("--write robot.yaml writes a robot that ingests it")


def _reasons(proposal: Proposal) -> str:
    return "; ".join(proposal.why_none[:8]) or "there is no topic"
