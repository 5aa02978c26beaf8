"""Streams and arrays of a robot that is being proposed, each with the reasons for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from act_data.inspect.cards import FieldCard, TopicCard
from act_data.inspect.topic import kind_of
from act_data.inspect.words import picture_name, vector_name
from act_data.types import StreamKind

PICTURES = (StreamKind.IMAGE, StreamKind.DEPTH)

_TOPIC = re.compile(r"/?[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*")  # what a robot file can name
_TRANSPORT = re.compile(r"/(compressed|compressedDepth)$")
_MAX_JOINTS = 256
# A field that is so often not a number would mask what is asked of it.
_NOT_FINITE_SHARE = 0.2


@dataclass(kw_only=True)
class Draft:
    """One stream on its way into a robot file.

    Attributes:
        reasons: Why it is as it is, one sentence each.
        fields: Field paths, for kinds that have them.
        shape: Empty where the file needs none.
    """

    card: TopicCard
    kind: StreamKind
    name: str
    reasons: list[str]
    fields: tuple[str, ...] = ()
    joints: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    unit: str = ""
    required: bool = True

    @property
    def topic(self) -> str:
        """As a robot file has to spell it."""
        return f"/{self.card.topic.removeprefix('/')}"


@dataclass(kw_only=True)
class ArrayDraft:
    """One array on its way into a robot file.

    Attributes:
        parts: Streams, and the field of each where it is not the stream's own.
    """

    name: str
    role: Literal["observation", "action"]
    parts: list[tuple[str, str]]
    reasons: list[str]
    unit: str = ""


@dataclass(kw_only=True)
class Sorted:
    """The topics of a recording, sorted into what can be read and what not.

    Attributes:
        drafts: By topic name.
        left_out: By topic name, why.
    """

    drafts: dict[str, Draft] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def leave_out(self, draft: Draft, why: str) -> None:
        """Do without a stream after all."""
        del self.drafts[draft.card.topic]
        self.left_out[draft.card.topic] = why


def sort(cards: Iterable[TopicCard]) -> Sorted:
    """A draft for every topic that an ingest could read as it is."""
    found = Sorted()
    names: set[str] = set()
    for card in cards:
        why = _unfit(card)
        if why:
            found.left_out[card.topic] = why
            continue
        draft = _draft(card, names)
        names.add(draft.name)
        found.drafts[card.topic] = draft
    _once_per_camera(found)
    return found


def short_type(card: TopicCard) -> str:
    """The type without its package."""
    return card.type.rsplit("/", 1)[-1]


def good_fields(card: TopicCard) -> list[FieldCard]:
    """The field paths of a topic that hold numbers often enough."""
    fields = card.numbers.fields if card.numbers else ()
    return [f for f in fields if f.not_finite <= _NOT_FINITE_SHARE * card.messages]


def _unfit(card: TopicCard) -> str:
    """Why no ingest can read a topic; "" when one can."""
    if not card.messages:
        return "not one message"
    if card.problem:
        return card.problem
    if card.messages < 2 or not card.rate_hz:
        return f"{card.messages} message, or several of one time: nothing to synchronise"
    if not _TOPIC.fullmatch(card.topic):
        return "a robot file cannot name it: letters, digits and underscores only"
    if card.pictures is not None and len(card.pictures.sizes) > 1:
        sizes = ", ".join(f"{height}x{width}" for height, width in card.pictures.sizes[:4])
        return f"its pictures change their size ({sizes}); an episode has one size"
    if card.joints is not None:
        return _unfit_joints(card)
    if card.pictures is not None:
        return ""
    if kind_of(card) is None:
        outs = card.numbers.left_out if card.numbers else {}
        shown = "; ".join(f"{path}: {why}" for path, why in list(outs.items())[:4])
        return f"no numbers that every message has ({shown})" if shown else "it holds no numbers"
    if not good_fields(card):
        return "its numbers are NaN or infinite too often"
    return ""


def _unfit_joints(card: TopicCard) -> str:
    joints = card.joints
    assert joints is not None
    if not _joint_field(card):
        return "neither position, velocity nor effort is there in every message"
    if joints.sometimes and not joints.names:
        return (
            "its messages have no joint in common, as when several nodes publish on one topic: "
            "give each a topic of its own"
        )
    if not joints.names and not joints.count:
        return "its joints have no names, and their number changes"
    odd = [n for n in joints.names if not n.isprintable() or max(map(ord, n), default=0) > 0xFFFF]
    if odd or "" in joints.names:
        return f"a joint is called {(odd or [''])[0]!a}, which a robot file cannot spell"
    if len(joints.names) > _MAX_JOINTS:
        return f"{len(joints.names)} joints are more than {_MAX_JOINTS}"
    return ""


def _joint_field(card: TopicCard) -> str:
    """The first of position, velocity and effort that is there and finite; "" for none."""
    joints = card.joints
    assert joints is not None
    limit = _NOT_FINITE_SHARE * card.messages
    return next((f for f in joints.fields if joints.not_finite.get(f, 0) <= limit), "")


def has_joint_field(draft: Draft, field: str) -> bool:
    """Whether every message of a joint stream fills `field`, with numbers as a rule."""
    joints = draft.card.joints
    return (
        joints is not None
        and field in joints.fields
        and joints.not_finite.get(field, 0) <= _NOT_FINITE_SHARE * draft.card.messages
    )


def _draft(card: TopicCard, names: set[str]) -> Draft:
    kind = kind_of(card)
    assert kind is not None  # _unfit has seen to it
    if card.pictures is not None:
        return _pictures(card, kind, names)
    if card.joints is not None:
        return _joints(card, names)
    good = good_fields(card)
    rest = [f for f in card.numbers.fields if f not in good] if card.numbers else []
    reasons = [f"{short_type(card)}, read as {kind.value}."]
    if rest:
        reasons.append(f"Not finite too often, left out: {', '.join(f.path for f in rest)}.")
    if card.numbers and card.numbers.left_out:
        outs = list(card.numbers.left_out.items())
        shown = "; ".join(f"{path} ({why})" for path, why in outs[:4])
        reasons.append(f"Not read: {shown}{' and more' if outs[4:] else ''}.")
    free = kind in (StreamKind.NUMERIC, StreamKind.MULTI_ARRAY)
    return Draft(
        card=card,
        kind=kind,
        name=vector_name(card.topic, names, kind.value),
        reasons=reasons,
        fields=tuple(f.path for f in good),
        shape=(sum(f.width for f in good),) if free else (),
    )


def _pictures(card: TopicCard, kind: StreamKind, names: set[str]) -> Draft:
    pictures = card.pictures
    assert pictures is not None
    ((height, width),) = pictures.sizes
    encodings = ", ".join(pictures.encodings)
    reasons = [f"{short_type(card)} of {height}x{width}, encoding {encodings}: {kind.value}."]
    if pictures.padded:
        reasons.append("Its rows are padded; the padding is taken off.")
    camera = picture_name(card.topic, set())
    depth = kind is StreamKind.DEPTH
    wish = f"{camera}_depth" if depth and "depth" not in camera.split("_") else camera
    return Draft(
        card=card,
        kind=kind,
        name=wish if wish not in names else picture_name(card.topic, names),
        reasons=reasons,
        shape=(height, width) if depth else (height, width, 3),
        unit="mm" if depth else "",
    )


def _joints(card: TopicCard, names: set[str]) -> Draft:
    joints = card.joints
    assert joints is not None
    field = _joint_field(card)
    reasons = [f"JointState with {', '.join(joints.fields)}."]
    if not joints.names:
        reasons.append(f"Its {joints.count} joints have no names: they are taken in their order.")
    if joints.sometimes:
        shown = ", ".join(joints.sometimes[:8])
        reasons.append(f"Only the joints that every message has; left out: {shown}.")
    if field != "position":
        reasons.append(f"It has no position that can be used, so {field} is read.")
    units = {"position": "rad", "velocity": "rad/s", "effort": "N.m"}
    return Draft(
        card=card,
        kind=StreamKind.JOINT_STATE,
        name=vector_name(card.topic, names, "joints"),
        reasons=reasons,
        fields=() if field == "position" else (field,),
        joints=joints.names,
        shape=() if joints.names else (joints.count,),
        unit=units[field],
    )


def _once_per_camera(found: Sorted) -> None:
    """Of several transports of one picture keep the one with the most messages, raw if equal."""
    by_camera: dict[str, list[Draft]] = {}
    for draft in found.drafts.values():
        if draft.kind in PICTURES:
            by_camera.setdefault(_TRANSPORT.sub("", draft.card.topic), []).append(draft)
    for drafts in by_camera.values():
        first, *rest = sorted(drafts, key=lambda d: (-d.card.messages, len(d.card.topic)))
        for draft in rest:
            found.leave_out(
                draft, f"the same pictures as {first.card.topic}, which has as many or more"
            )
