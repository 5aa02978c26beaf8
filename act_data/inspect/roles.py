"""What each stream is to a policy: seen, or commanded; and the arrays that this makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from act_data.inspect.drafts import (
    PICTURES,
    ArrayDraft,
    Draft,
    Sorted,
    good_fields,
    has_joint_field,
    short_type,
)
from act_data.inspect.pace import coverage, window
from act_data.inspect.words import LEADER_WORDS, picture_name, role_word, side, side_order, words
from act_data.types import StreamKind

# An observation that is there for less of the recording than this must not hold up the rest.
_REQUIRED_SHARE = 0.8
# A command that is there for less than this commands something else, or nothing.
_COMMAND_SHARE = 0.2
# What is there for less than this was said once.
_LEAST_SHARE = 0.05

_BASE_FIELDS = ("linear.x", "angular.z")
# A twist with one of these in its name moves a hand, not wheels.
_HAND_WORDS = frozenset({"arm", "ee", "eef", "effector", "gripper", "hand", "servo", "tcp", "tool"})
_POSES = ("geometry_msgs/msg/Pose", "geometry_msgs/msg/PoseStamped")
_SENSORS = ("sensor_msgs/msg/LaserScan",)
_STATES = (StreamKind.JOINT_STATE, StreamKind.ODOMETRY)


@dataclass(kw_only=True)
class Plan:
    """Who sees and who commands.

    Attributes:
        streams: In the order of the file.
        commands: Those of them that command a robot.
        shift_reason: Why the action is shifted; "" when it is not.
        notes: What a person should know about the choice as a whole.
    """

    streams: list[Draft] = field(default_factory=list)
    commands: list[Draft] = field(default_factory=list)
    arrays: list[ArrayDraft] = field(default_factory=list)
    action_shift: int = 0
    shift_reason: str = ""
    notes: list[str] = field(default_factory=list)


def plan(found: Sorted) -> Plan:
    """The arrays that the streams of a recording make. What is not used is left out with a reason.

    Pictures are observations. Of everything else, what is named as a command commands (leaders
    before command messages before targets of a hand), twists do unless they are named as a state,
    and the rest is seen. Where nothing commands joints, or a base with odometry, their own state
    one tick later stands for the command.
    """
    span = window(list(found.drafts.values())) if found.drafts else (0.0, 0.0)
    _without_what_misses(found, span)
    _without_further_numbers(found)
    made = Plan()
    joints = _of(found, lambda d: d.kind is StreamKind.JOINT_STATE)
    _in_one_order(joints)
    leaders = [d for d in joints if _commands(d)]
    followers = [d for d in joints if d not in leaders]
    if leaders and not followers:
        followers, leaders = leaders, []
        made.notes.append(
            "Only joint states named as commands are there, so they are also what is seen."
        )
    odometry = _odometry(found)
    base = _of(found, lambda d: _is_base(d) and _commands(d))
    targets = _of(found, lambda d: not _is_base(d) and d not in joints and _commands(d))
    targets = _preferred(found, targets, leaders, made)
    _observe_joints(made, followers, span, found)
    _observe_base(made, odometry)
    rest = [d for d in found.drafts.values() if d not in (*joints, *base, *targets, *odometry)]
    _observe_others(made, rest, span)
    _command_joints(made, followers, leaders, targets, base)
    _command_base(made, odometry, base)
    for draft in leaders + targets + base:
        made.streams.append(draft)
        made.commands.append(draft)
    return made


def _of(found: Sorted, wanted: Callable[[Draft], bool]) -> list[Draft]:
    drafts = [d for d in found.drafts.values() if d.kind not in PICTURES and wanted(d)]
    return sorted(drafts, key=lambda d: side_order(d.card.topic))


def _commands(draft: Draft) -> bool:
    """Whether a stream that is no picture tells a robot what to do."""
    command, word = role_word(draft.card.topic)
    if draft.kind is StreamKind.TWIST:
        return command or not (word or "odom" in words(draft.card.topic))
    senses = draft.kind in (StreamKind.ODOMETRY, StreamKind.IMU, StreamKind.WRENCH)
    return command and not senses and draft.card.type not in _SENSORS


def _is_base(draft: Draft) -> bool:
    return draft.kind is StreamKind.TWIST and not _HAND_WORDS & set(words(draft.card.topic))


def _is_wheels(draft: Draft) -> bool:
    return bool(draft.joints) and all("wheel" in joint.lower() for joint in draft.joints)


def _why_command(draft: Draft) -> str:
    command, word = role_word(draft.card.topic)
    if not command:
        return "A Twist is a command unless its name says otherwise: action."
    return f"Named {word!r}: action."


def _without_what_misses(found: Sorted, span: tuple[float, float]) -> None:
    for draft in list(found.drafts.values()):
        share = coverage(draft.card, span)
        command = draft.kind not in PICTURES and _commands(draft)
        if share < (_COMMAND_SHARE if command else _LEAST_SHARE):
            named = "named as a command, but " if command else ""
            found.leave_out(draft, f"{named}there for {100 * share:.0f} % of the recording only")


def _without_further_numbers(found: Sorted) -> None:
    """Messages of any other type are seen only where nothing else tells the robot's state."""

    def further(draft: Draft) -> bool:
        known = draft.card.type in (*_POSES, *_SENSORS)
        return draft.kind is StreamKind.NUMERIC and not known and not _commands(draft)

    tells = [
        d
        for d in found.drafts.values()
        if d.kind in (*_STATES, StreamKind.MULTI_ARRAY) or d.card.type in _POSES
    ]
    if not any(not _commands(d) or d.kind is StreamKind.JOINT_STATE for d in tells):
        return
    for draft in [d for d in found.drafts.values() if further(d)]:
        paths = ", ".join(f.path for f in good_fields(draft.card)[:12])
        found.leave_out(
            draft, f"not needed for the state; `kind: numeric, field: [{paths}]` would read it"
        )


def _odometry(found: Sorted) -> list[Draft]:
    """The one odometry that is used: of several, they all tell of the same motion."""
    several = _of(found, lambda d: d.kind is StreamKind.ODOMETRY)
    several.sort(key=lambda d: (-d.card.messages, len(d.card.topic)))
    for draft in several[1:]:
        found.leave_out(
            draft, f"another odometry beside {several[0].card.topic}, which has as many or more"
        )
    return several[:1]


def _preferred(
    found: Sorted, targets: list[Draft], leaders: list[Draft], made: Plan
) -> list[Draft]:
    """Of several ways to command joints, the first of: leaders, command messages, a hand's pose."""
    hands = [d for d in targets if d.kind is StreamKind.TWIST or d.card.type in _POSES]
    messages = [d for d in targets if d not in hands]
    kept, what = (messages, "command messages") if messages else (hands, "")
    if leaders:
        kept, what = [], "joint states of leaders"
    for draft in [d for d in targets if d not in kept]:
        found.leave_out(draft, f"a command, but {what} are the action here")
    if len(kept) > 1:
        shown = ", ".join(d.card.topic for d in kept)
        made.notes.append(f"All of these commands are put together in `action`: {shown}.")
    return kept


def _in_one_order(joints: Sequence[Draft]) -> None:
    """The same joints in the same order, whichever driver lists them."""
    orders: dict[frozenset[str], Draft] = {}
    for draft in joints:
        first = orders.setdefault(frozenset(draft.joints), draft)
        if draft.joints != first.joints:
            draft.joints = first.joints
            draft.reasons.append(f"Its driver lists them in another order than {first.topic}'s.")


# --- what is seen -----------------------------------------------------------------------------


def _observe_joints(
    made: Plan, followers: list[Draft], span: tuple[float, float], found: Sorted
) -> None:
    for draft in list(followers):
        share = coverage(draft.card, span)
        if share < _REQUIRED_SHARE and len(followers) > 1:
            followers.remove(draft)
            found.leave_out(draft, f"there for {100 * share:.0f} % of the recording only")
    if not followers:
        return
    for draft in followers:
        _, word = role_word(draft.card.topic)
        draft.reasons.append(
            f"Named {word!r}: observation." if word else "Joint states are seen: observation."
        )
    made.streams += followers
    order = "left before right, " if any(side(d.card.topic) for d in followers) else ""
    joined = f"Joint positions, {order}in order of their topics."
    made.arrays.append(_array("qpos", "observation", followers, [joined]))
    for name, path, unit in (("qvel", "velocity", "rad/s"), ("effort", "effort", "N.m")):
        own = [d for d in followers if not d.fields and has_joint_field(d, path)]
        if own and len(own) == len(followers):
            made.arrays.append(
                ArrayDraft(
                    name=name,
                    role="observation",
                    parts=[(d.name, path) for d in own],
                    reasons=[f"The {path} of the same messages."],
                    unit=unit,
                )
            )
        else:
            empty = ", ".join(d.card.topic for d in followers if d not in own)
            made.notes.append(f"No {name}: {empty} does not fill {path} in every message.")


def _observe_base(made: Plan, odometry: list[Draft]) -> None:
    for draft in odometry:
        draft.fields = _moving(draft, "twist.twist.")
        draft.unit = "m/s, rad/s"
        draft.reasons.append(
            "Odometry: its velocity is an observation (its pose drifts; "
            "`field: [pose.pose.position]` would read it)."
        )
        made.streams.append(draft)
        made.arrays.append(_array("base_vel", "observation", odometry, ["The base's velocity."]))


def _observe_others(made: Plan, rest: Sequence[Draft], span: tuple[float, float]) -> None:
    names = {"action", "base_action", *(array.name for array in made.arrays)}
    for draft in sorted(rest, key=lambda d: (d.kind not in PICTURES, d.kind, d.card.topic)):
        share = coverage(draft.card, span)
        if share < _REQUIRED_SHARE:
            draft.required = False
            draft.reasons.append(
                f"There for {100 * share:.0f} % of the recording: not required, masked elsewhere."
            )
        if draft.kind in PICTURES:
            prefix = "images/" if draft.kind is StreamKind.IMAGE else "depth/"
            taken = {n.removeprefix(prefix) for n in names if n.startswith(prefix)}
            topic = draft.card.topic
            if draft.kind is StreamKind.DEPTH:
                topic = topic.replace("/depth/", "/")
            name = prefix + picture_name(topic, taken)
            reason = "A camera."
        else:
            name, reason = draft.name, f"{short_type(draft.card)}: observation."
            while name in names:
                name += "_state"
        names.add(name)
        made.streams.append(draft)
        made.arrays.append(_array(name, "observation", [draft], [reason]))


# --- what is commanded ------------------------------------------------------------------------


def _command_joints(
    made: Plan,
    followers: list[Draft],
    leaders: list[Draft],
    targets: list[Draft],
    base: list[Draft],
) -> None:
    if leaders or targets:
        for draft in leaders + targets:
            draft.reasons.append(_why_command(draft))
        reason = "The leaders' joints." if leaders else "What was commanded."
        if leaders and any(role_word(d.card.topic)[1] not in LEADER_WORDS for d in leaders):
            reason = "Joint states that are named as commands."
        made.arrays.append(_array("action", "action", leaders + targets, [reason]))
        led = {side(d.card.topic) for d in leaders + targets}
        alone = [d.card.topic for d in followers if side(d.card.topic) not in led]
        if alone and "" not in led:
            made.notes.append(
                f"Seen but not commanded, since no command has its side: {', '.join(alone)}."
            )
    elif base and followers and all(_is_wheels(d) for d in followers):
        made.notes.append("The joints are wheels, which the commands of the base turn.")
    elif followers:
        topics = ", ".join(d.card.topic for d in followers)
        _shift(made, f"nothing commands {topics}")
        reasons = ["No leader and no command: the same joints one tick later stand for it."]
        made.arrays.append(_array("action", "action", followers, reasons))


def _command_base(made: Plan, odometry: list[Draft], base: list[Draft]) -> None:
    if base:
        for draft in base:
            draft.fields = _moving(draft, "")
            draft.unit = "m/s, rad/s"
            draft.reasons.append(_why_command(draft))
        reasons = ["What the base was told."]
        if len(base) > 1:
            reasons.append("Delete those of its streams that do not move your robot.")
        made.arrays.append(_array("base_action", "action", base, reasons))
    elif odometry:
        _shift(made, f"nothing commands the base of {odometry[0].card.topic}")
        reasons = ["No command of the base: its velocity one tick later stands for it."]
        made.arrays.append(_array("base_action", "action", odometry, reasons))


def _shift(made: Plan, why: str) -> None:
    made.action_shift = 1
    made.shift_reason = f"{made.shift_reason}; {why}" if made.shift_reason else why


def _moving(draft: Draft, prefix: str) -> tuple[str, ...]:
    """Forward and turning speed, and each further component that was ever not zero."""
    moves = {f.path for f in good_fields(draft.card) if f.moves}
    base = [prefix + path for path in _BASE_FIELDS]
    fields = tuple(p for p in draft.fields if p in base or p in moves)
    still = [p.removeprefix(prefix) for p in draft.fields if p not in fields]
    if still:
        draft.reasons.append(f"Zero throughout and left out: {', '.join(still)}.")
    return fields


def _array(name: str, role: str, drafts: Sequence[Draft], reasons: list[str]) -> ArrayDraft:
    return ArrayDraft(
        name=name,
        role="action" if role == "action" else "observation",
        parts=[(d.name, "") for d in drafts],
        reasons=reasons,
    )
