"""Which dimensions of an action belong together: arms, grippers, and the base by its units."""

from __future__ import annotations

from collections.abc import Sequence

from act_model.config import VectorContract

_HANDS = ("gripper", "finger", "hand", "jaw")
# AgileX and ALOHA number the joints of an arm: six that move it, and the seventh is its gripper.
_ARM_JOINTS = tuple(f"joint{i}" for i in range(7))
_VELOCITIES = {"m/s": "base linear", "rad/s": "base angular"}


def action_names(action: Sequence[VectorContract]) -> list[str]:
    """One per dimension of the action; arrays that use the same names are told apart."""
    names = [name for array in action for name in array.names]
    if len(set(names)) < len(names):
        names = [f"{array.name}/{name}" for array in action for name in array.names]
    return names


def action_units(action: Sequence[VectorContract]) -> list[str]:
    """One per dimension; an array of several units lists them in order: "m/s, rad/s"."""
    units: list[str] = []
    for array in action:
        listed = array.unit.split(", ")
        units += listed if len(listed) == len(array.names) else [array.unit] * len(array.names)
    return units


def joint_groups(action: Sequence[VectorContract]) -> dict[str, list[int]]:
    """Dimensions by group, each dimension in one: so that no mean is over radians and m/s."""
    names = [name for array in action for name in array.names]
    groups: dict[str, list[int]] = {}
    for number, (name, unit) in enumerate(zip(names, action_units(action), strict=True)):
        groups.setdefault(_group(name, unit, names), []).append(number)
    return groups


def _group(name: str, unit: str, names: Sequence[str]) -> str:
    if unit in _VELOCITIES:
        return _VELOCITIES[unit]
    owner, _, joint = name.rpartition("/")
    if any(word in joint.lower() for word in _HANDS):
        return "grippers"
    siblings = tuple(n.rpartition("/")[2] for n in names if n.rpartition("/")[0] == owner)
    return "grippers" if siblings == _ARM_JOINTS and joint == _ARM_JOINTS[-1] else "arms"
