"""A robot file for a recording that nobody wrote one for."""

from __future__ import annotations

import re
from collections.abc import Callable

from act_data.errors import InputError
from act_data.inspect.cards import Proposal, RecordingCard, TopicCard
from act_data.inspect.drafts import sort
from act_data.inspect.pace import floor_ms, tick_rate, tolerance
from act_data.inspect.robot_yaml import clock_sentence, robot_yaml, training_hint
from act_data.inspect.roles import plan
from act_data.robot import parse_robot


def propose(card: RecordingCard, in_every: Callable[[TopicCard], bool]) -> Proposal:
    """The robot file, or why there is none.

    Args:
        card: A recording that could be read.
        in_every: Whether a topic is in all other recordings that are to be of the same robot.
    """
    alone = [topic for topic in card.topics if topic.messages and not in_every(topic)]
    found = sort(topic for topic in card.topics if topic not in alone)
    for topic in alone:
        found.left_out[topic.topic] = "not in every recording; episodes of a dataset are alike"
    made = plan(found)
    if not made.arrays:
        return Proposal(
            recording=card.name,
            yaml="",
            why_none=tuple(f"{topic}: {why}" for topic, why in found.left_out.items()),
        )
    seen = [d for d in made.streams if d not in made.commands]
    fps, fps_reason = tick_rate(seen, made.commands)
    least = floor_ms(made.streams)
    fits = [preset.name for preset in card.presets if not preset.misses]
    head = [
        f"Proposed by `act-data inspect` from {card.name} ({card.duration_s:.1f} s). Every guess "
        "is explained above the line that it made. Read them, and rename what has a better name.",
    ]
    if card.damage:
        head.append("The recording is damaged: ingest it with --recover.")
    if fits:
        head.append(
            f"The preset {fits[0]!r} fits this recording, too: `act-data robots {fits[0]}`."
        )
    head += [*made.notes, training_hint(made.arrays, made.streams)]
    text = robot_yaml(
        name=_robot_name(card.name),
        head=[paragraph for paragraph in head if paragraph],
        fps=fps,
        fps_reason=fps_reason,
        shift=made.action_shift,
        shift_reason=made.shift_reason,
        clock_reason=clock_sentence(made.streams),
        streams=[
            (draft, *tolerance(draft, least, command=draft in made.commands))
            for draft in made.streams
        ],
        arrays=made.arrays,
        left_out=found.left_out,
    )
    try:
        parse_robot("the proposal", text.encode())
    except InputError as e:  # of more streams than a robot file may have
        return Proposal(recording=card.name, yaml="", why_none=(str(e),))
    return Proposal(recording=card.name, yaml=text)


def _robot_name(recording: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", recording).strip("_.-")[:100] or "robot"
