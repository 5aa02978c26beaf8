"""What the name of a topic gives away: whose it is, what it is for, and what to call it."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection

from act_data.robot.preset import RESERVED

ACTION_WORDS = frozenset({
    "action", "cmd", "cmds", "command", "commanded", "commands", "desired", "expert", "gello",
    "goal", "goals", "lead", "leader", "master", "reference", "setpoint", "setpoints", "target",
    "targets", "teleop",
})  # fmt: skip
OBSERVATION_WORDS = frozenset({
    "actual", "current", "feedback", "follower", "measured", "observation", "puppet", "slave",
    "state", "states",
})  # fmt: skip
# Of the ones above, those that name a device whose every topic is an action.
LEADER_WORDS = frozenset({"expert", "gello", "lead", "leader", "master", "teleop"})

# What YAML reads as something else than these letters.
YAML_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
# Parts of a name that say what is true of every topic of the kind.
_PICTURE_PARTS = frozenset({
    "camera", "color", "colour", "compressed", "compressedDepth", "image", "image_color",
    "image_mono", "image_raw", "image_rect", "image_rect_color", "image_rect_raw", "raw", "rgb",
})  # fmt: skip
_VECTOR_WORDS = frozenset({"joint", "joints", "state", "states", "data", "raw"})


def words(topic: str) -> tuple[str, ...]:
    """The words of a topic in lower case: "/puppet/jointState_left" has four."""
    return tuple(word.lower() for word in _WORD.findall(topic))


def role_word(topic: str) -> tuple[bool, str]:
    """Whether a topic is named as a command, and the word that says so; "" when none does.

    A word for a command outweighs one for a state: "/master/joint_states", "/puppet/commands".
    """
    found = words(topic)
    for word in found:
        # ROS's own actions have topics like /arm/_action/feedback.
        if word in ACTION_WORDS and (word != "action" or found[-1] == "action"):
            return True, word
    return False, next((word for word in found if word in OBSERVATION_WORDS), "")


def side(topic: str) -> str:
    """ "left", "right" or "" as a topic's name has it; the last word that says so counts."""
    return next((_SIDES[word] for word in reversed(words(topic)) if word in _SIDES), "")


def side_order(topic: str) -> tuple[str, str]:
    """A sort key by which left comes before right, and equal sides in order of the name."""
    return side(topic), topic


def picture_name(topic: str, taken: Collection[str]) -> str:
    """A short name for a camera that is not among `taken`: "/camera_f/color/image_raw"."""
    parts = [part for part in topic.split("/") if part]
    telling = [part for part in parts if part not in _PICTURE_PARTS]
    return _free("_".join(telling or parts[:1]), parts, taken)


def vector_name(topic: str, taken: Collection[str], default: str) -> str:
    """A short name for anything else: "/puppet/joint_left" is "puppet_left"."""
    parts = [part for part in topic.split("/") if part]
    split = [word for part in parts for word in part.split("_") if word]
    telling = [word for word in split if word.lower() not in _VECTOR_WORDS]
    return _free("_".join(telling) or default, parts, taken)


def _free(wish: str, parts: list[str], taken: Collection[str]) -> str:
    """The wish, else the whole topic, else that with a number; always an identifier."""
    for name in (wish, "_".join(parts)):
        if (found := _identifier(name)) not in taken:
            return found
    number = 2
    while (found := _identifier(f"{'_'.join(parts)}_{number}")) in taken:
        number += 1
    return found


def _identifier(name: str) -> str:
    found = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "topic"
    odd = keyword.iskeyword(found) or found.lower() in YAML_WORDS or found in RESERVED
    if odd or found[0].isdigit():
        found = f"t_{found}"
    return found
