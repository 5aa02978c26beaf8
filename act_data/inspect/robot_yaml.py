"""A proposed robot as a YAML file in which every guess is explained."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from act_data.inspect.drafts import ArrayDraft, Draft
from act_data.inspect.words import YAML_WORDS
from act_data.robot.yaml_lines import MAX_BYTES
from act_data.types import StreamKind

WIDTH = 100
_MAX_BYTES = MAX_BYTES - 2048  # a robot file may have no more
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")


def robot_yaml(
    *,
    name: str,
    head: Sequence[str],
    fps: float,
    fps_reason: str,
    shift: int,
    shift_reason: str,
    clock_reason: str,
    streams: Sequence[tuple[Draft, int, str]],
    arrays: Sequence[ArrayDraft],
    left_out: Mapping[str, str],
) -> str:
    """The file.

    Args:
        head: Paragraphs at its top.
        streams: With tolerance in ms and the reason for it.
        left_out: By topic, why it is not used.
    """
    lines: list[str] = []
    for paragraph in head:
        lines += _comment(paragraph)
    lines += ["", f"name: {_word(name)}"]
    lines += [*_comment(f"fps: {fps_reason}."), f"fps: {fps:g}"]
    lines += [*_comment(f"clock: {clock_reason}"), "clock: auto"]
    if shift:
        lines += _comment(
            f"action_shift: {shift_reason}, so action[t] is what the state was at tick t + {shift}."
        )
        lines.append(f"action_shift: {shift}")
    lines += ["", "streams:"]
    for draft, tolerance_ms, reason in streams:
        lines += _stream(draft, tolerance_ms, reason)
    lines += ["", "arrays:"]
    for array in arrays:
        lines += _array(array)
    if left_out:
        room = _MAX_BYTES - sum(len(line.encode()) + 1 for line in lines)
        lines += ["", *_not_used(left_out, room)]
    return "\n".join(lines) + "\n"


def _not_used(left_out: Mapping[str, str], room: int) -> Iterator[str]:
    """A comment about each topic that is not used, as many as there is room for."""
    yield from _comment("Not used:")
    for number, (topic, why) in enumerate(left_out.items()):
        lines = _comment(f"- {topic}: {why}", indent="    ")
        room -= sum(len(line.encode()) + 1 for line in lines)
        if room < 0:
            yield from _comment(f"- and {len(left_out) - number} more topics")
            return
        yield from lines


def _stream(draft: Draft, tolerance_ms: int, reason: str) -> Iterator[str]:
    yield f"  {draft.name}:"
    for why in draft.reasons:
        yield from _comment(why, before="    ")
    yield f"    topic: {draft.topic}"
    yield f"    kind: {draft.kind.value}"
    if draft.fields:
        yield from _list("field", [_word(f) for f in draft.fields])
    if draft.joints:
        yield from _list("joints", [_word(j) for j in draft.joints])
    elif draft.shape:
        yield f"    shape: [{', '.join(map(str, draft.shape))}]"
    if draft.unit:
        yield f"    unit: {_word(draft.unit)}"
    yield from _comment(f"Tolerance: {reason}.", before="    ")
    yield f"    tolerance_ms: {tolerance_ms}"
    if not draft.required:
        yield "    required: false"


def _array(array: ArrayDraft) -> Iterator[str]:
    yield f"  {array.name}:"
    for why in array.reasons:
        yield from _comment(why, before="    ")
    yield f"    role: {array.role}"
    parts = [
        f"{{stream: {stream}, field: {_word(field)}}}" if field else stream
        for stream, field in array.parts
    ]
    yield from _list("from", parts)
    if array.unit:
        yield f"    unit: {_word(array.unit)}"


def _list(key: str, items: Sequence[str]) -> Iterator[str]:
    """A list on one line where it fits, else over several."""
    one = f"    {key}: [{', '.join(items)}]"
    if len(one) <= WIDTH:
        yield one
        return
    yield f"    {key}:"
    for item in items:
        yield f"      - {item}"


def _comment(text: str, *, before: str = "", indent: str = "") -> list[str]:
    """`text` as comment lines, whatever it holds: no part of it can end the comment."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return textwrap.wrap(
        plain,
        WIDTH,
        initial_indent=f"{before}# ",
        subsequent_indent=f"{before}# {indent}",
        break_on_hyphens=False,
    )


def _word(text: str) -> str:
    """A scalar, quoted where YAML could read it as anything but this text."""
    if _PLAIN.fullmatch(text) and text.lower() not in YAML_WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)


def clock_sentence(streams: Sequence[Draft]) -> str:
    """By which clocks the streams are stamped."""
    by_clock: dict[str, list[str]] = {}
    for draft in streams:
        by_clock.setdefault(draft.card.clock.value, []).append(draft.name)
    parts = [f"{clock}: {', '.join(names)}" for clock, names in sorted(by_clock.items())]
    return (
        "header stamps where these can be believed, receive times elsewhere. "
        f"Found were {'; '.join(parts)}."
    )


def training_hint(arrays: Sequence[ArrayDraft], streams: Sequence[Draft]) -> str:
    """How to train with these arrays, where they are not the ones that training takes by itself."""
    pictures = {d.name for d in streams if d.kind in (StreamKind.IMAGE, StreamKind.DEPTH)}
    states = [a.name for a in arrays if a.role == "observation" and a.parts[0][0] not in pictures]
    if not any(a.role == "action" for a in arrays):
        return "Nothing here looks like a command, so there is no action to train on."
    if not states or "qpos" in states:
        return ""
    flags = " ".join(f"--state {name}" for name in states)
    return f"There is no `qpos`. To train: act-model train ds.zarr {flags}"
