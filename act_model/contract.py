"""What a policy and a robot must agree on, checked before anything moves. Light: without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError
from act_model.config import CameraContract, Contract, VectorContract


def blank_observation(contract: Contract) -> dict[str, NDArray[np.generic]]:
    """An observation of zeros with the right names and shapes: to warm a policy up."""
    return {name: np.zeros(shape, dtype) for name, shape, dtype in _arrays_of(contract)}


def _arrays_of(contract: Contract) -> tuple[tuple[str, tuple[int, ...], np.dtype[Any]], ...]:
    """Name, shape and dtype of what an observation consists of."""
    vectors = [(v.name, (len(v.names),), np.dtype(np.float32)) for v in contract.state]
    pictures = [
        (f"images/{camera.name}", (camera.height, camera.width, 3), np.dtype(np.uint8))
        for camera in contract.cameras
    ]
    depth = [
        (f"depth/{camera.name}", (camera.height, camera.width), np.dtype(np.uint16))
        for camera in contract.depth
    ]
    return (*vectors, *pictures, *depth)


def check_observation(contract: Contract, observation: Mapping[str, NDArray[np.generic]]) -> None:
    """Refuse an observation that is not what the policy was trained on.

    Raises:
        InputError: Lists every array that is missing or has another shape or dtype, or a state
            that is not finite.
    """
    problems = []
    for name, shape, dtype in _arrays_of(contract):
        array = observation.get(name)
        if array is None:
            problems.append(f"{name}: policy {shape} {dtype}, robot nothing")
        elif array.shape != shape or array.dtype != dtype:
            problems.append(f"{name}: policy {shape} {dtype}, robot {array.shape} {array.dtype}")
        elif len(shape) == 1 and not np.isfinite(array).all():
            problems.append(f"{name}: policy finite numbers, robot {array.tolist()!r}")
    if problems:
        raise InputError(
            "the observation does not fit the policy: " + "; ".join(problems),
            hint=f"The robot delivers: {', '.join(observation)}.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One difference between what a policy needs and what a robot offers."""

    what: str
    policy: str
    robot: str


def mismatches(policy: Contract, robot: Contract) -> list[Mismatch]:
    """Everything that keeps `policy` from `robot`; what a robot offers beyond is no mismatch."""
    found: list[Mismatch] = []

    def compare(what: str, wanted: object, offered: object) -> None:
        if wanted != offered:
            found.append(Mismatch(what=what, policy=str(wanted), robot=str(offered)))

    compare("rate [Hz]", round(policy.rate_hz, 6), round(robot.rate_hz, 6))
    compare("colour order", policy.color_order, robot.color_order)
    compare("action shift", policy.action_shift, robot.action_shift)
    for role, wanted, offered in (
        ("state", policy.state, robot.state),
        ("action", policy.action, robot.action),
    ):
        _compare_vectors(role, wanted, offered, found)
    for kind, cameras, there in (
        ("images", policy.cameras, robot.cameras),
        ("depth", policy.depth, robot.depth),
    ):
        sizes = {camera.name: camera for camera in there}
        for camera in cameras:
            other = sizes.get(camera.name)
            compare(f"{kind}/{camera.name}", _size(camera), _size(other) if other else "nothing")
    for name, sync in policy.streams.items():
        if name in robot.streams:
            compare(f"sync of {name}", sync.policy.value, robot.streams[name].policy.value)
    return found


def check_contract(policy: Contract, robot: Contract) -> None:
    """Refuse a robot that the policy was not trained for, before anything moves.

    Raises:
        InputError: Lists every mismatch, both sides beside each other.
    """
    found = mismatches(policy, robot)
    if not found:
        return
    rows = [("", f"policy ({policy.robot})", f"robot ({robot.robot})")]
    rows += [(m.what, m.policy, m.robot) for m in found]
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    table = "\n".join(f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows)
    raise InputError(
        f"the robot does not fit the policy in {len(found)} point{'s'[: len(found) > 1]}:\n{table}",
        hint="Deploy a policy that was trained on data of this robot, or correct its preset.",
    )


def _compare_vectors(
    role: str,
    wanted: Sequence[VectorContract],
    offered: Sequence[VectorContract],
    found: list[Mismatch],
) -> None:
    there = {vector.name: vector for vector in offered}
    for vector in wanted:
        what, other = f"{role} {vector.name}", there.get(vector.name)
        if other is None:
            found.append(Mismatch(what=what, policy=_joints(vector.names), robot="nothing"))
            continue
        if vector.unit != other.unit:
            found.append(Mismatch(what=f"{what} unit", policy=vector.unit, robot=other.unit))
        if vector.names == other.names:
            continue
        if len(vector.names) != len(other.names):
            what, a, b = f"{what} size", vector.names, other.names
        elif sorted(vector.names) == sorted(other.names):
            what, a, b = f"{what} order", vector.names, other.names
        else:  # only the names that differ: a robot has many joints
            pairs = [(n, m) for n, m in zip(vector.names, other.names, strict=True) if n != m]
            what = f"{what} names"
            a, b = tuple(n for n, _ in pairs), tuple(m for _, m in pairs)
        found.append(Mismatch(what=what, policy=_joints(a), robot=_joints(b)))


def _joints(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names)}"


def _size(camera: CameraContract) -> str:
    return f"{camera.height}x{camera.width}"  # HxW, as everywhere
