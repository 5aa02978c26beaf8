"""What lies on the table, what is to be done with it, and how far it has come.

Places, shapes and stages are those of gym-aloha (Zhao et al., 2023): the same seed gives the same
scene there and here, and `reward` is its reward.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError

Touching = Collection[tuple[str, str]]

# Both arms at rest: six joints in radians and the two fingers in metres, left then right.
_REST = (0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.02239, -0.02239)
START_POSE = np.array([*_REST, *_REST])

_LEFT, _RIGHT = "vx300s_left/10_left_gripper_finger", "vx300s_right/10_right_gripper_finger"
_SOCKET = tuple(f"socket-{i}" for i in (1, 2, 3, 4))
_LEVEL = (1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        name: As people type it.
        words: The instruction, as a dataset stores it.
        scene: File name of gym-aloha's scene.
        objects: What can move, in the scene's order.
        stages: Names of rewards 1 to 4.
        ticks: Length of a demonstration.
        place: Position and quaternion of every object for a seed, (7 * objects,).
        reward: 0 to 4 from what touches what.
    """

    name: str
    words: str
    scene: str
    objects: tuple[str, ...]
    stages: tuple[str, str, str, str]
    ticks: int
    place: Callable[[int], NDArray[np.float64]]
    reward: Callable[[Touching], int]


def _place_cube(seed: int) -> NDArray[np.float64]:
    rng = np.random.RandomState(seed)  # gym-aloha's, so that seeds mean the same
    return np.array([*rng.uniform([0.0, 0.4, 0.05], [0.2, 0.6, 0.05]), *_LEVEL])


def _place_peg_and_socket(seed: int) -> NDArray[np.float64]:
    rng = np.random.RandomState(seed)
    peg = rng.uniform([0.1, 0.4, 0.05], [0.2, 0.6, 0.05])
    socket = rng.uniform([-0.2, 0.4, 0.05], [-0.1, 0.6, 0.05])
    return np.array([*peg, *_LEVEL, *socket, *_LEVEL])


def _transfer_reward(touching: Touching) -> int:
    lifted = ("red_box", "table") not in touching
    if ("red_box", _LEFT) in touching:
        return 4 if lifted else 3
    if ("red_box", _RIGHT) in touching:
        return 2 if lifted else 1
    return 0


def _insertion_reward(touching: Touching) -> int:
    def socket(other: str) -> bool:
        return any((part, other) in touching for part in _SOCKET)

    both = ("red_peg", _RIGHT) in touching and socket(_LEFT)
    lifted = ("red_peg", "table") not in touching and not socket("table")
    if ("red_peg", "pin") in touching:
        return 4
    if lifted and any(("red_peg", part) in touching for part in _SOCKET):
        return 3
    if both:
        return 2 if lifted else 1
    return 0


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="transfer_cube",
            words="pick up the red cube with the right arm and hand it to the left arm",
            scene="bimanual_viperx_transfer_cube.xml",
            objects=("cube",),
            stages=("touched", "lifted", "reached", "transferred"),
            ticks=400,
            place=_place_cube,
            reward=_transfer_reward,
        ),
        Task(
            name="insertion",
            words="pick up peg and socket and insert the peg into the socket",
            scene="bimanual_viperx_insertion.xml",
            objects=("peg", "socket"),
            stages=("touched", "lifted", "met", "inserted"),
            ticks=400,
            place=_place_peg_and_socket,
            reward=_insertion_reward,
        ),
    )
}


def task_named(name: str) -> Task:
    """The task called `name`.

    Raises:
        InputError: There is none.
    """
    if name not in TASKS:
        raise InputError(
            f"there is no simulated task {name!r}", hint=f"Use one of: {', '.join(TASKS)}."
        )
    return TASKS[name]
