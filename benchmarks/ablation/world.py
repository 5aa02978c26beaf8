"""Drive up to a bench, then reach an object on one side of it past a post: a small world of numpy.

A base drives straight on until the object is in reach, then the tool goes around a post to the
object, left or right of it. What a policy sees: the tool's place, the base's measured velocity, and
two cameras of 48x48 pixels, one per side. Both look outwards and are mirrored, so a picture tells
how far out and ahead the object is, and only the camera that sees it tells on which side.

Every trap is one that recorded robots have:

- the object is in one of two pictures that look alike;
- demonstrations pass the post on either side, two of three on its left, and no picture tells which;
- they wait up to 0.6 s before they start, and drive as fast as they please;
- the base's command is recorded as its measured velocity, as Mobile ALOHA and cobot_magic do, so
  that state and first action are the same number;
- they end a few ticks after the object is reached, inside of the last action chunks.

Lengths in metres, forward and to the left of the base; a tick is 0.1 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

TICK_S = 0.1
CAMERAS = ("left", "right")
SIDE_PX = 48
REACHED_M, STOPPED_M_S, POST_M, HELD_TICKS = 0.08, 0.05, 0.07, 3
DETOUR_M = 0.2
LIMIT_TICKS = 90

_NEAR_M, _FAR_M, _IN_M, _OUT_M = -0.1, 1.6, -0.1, 0.6  # what a camera sees: ahead, and outwards
_ROWS, _COLUMNS = np.mgrid[0:SIDE_PX, 0:SIDE_PX].astype(np.float32)
_OBJECT, _POST, _TOOL = (200, 60, 50), (70, 90, 190), (240, 240, 230)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where things are when an episode begins.

    Attributes:
        distance: That the base has to drive until the object is at `object`.
        object: Forward and left of the base, once it is there.
        post: Likewise, halfway to it.
    """

    distance: float
    object: Floats
    post: Floats


def scene_of(rng: np.random.Generator) -> Scene:
    side = 1.0 if rng.random() < 0.5 else -1.0
    place = np.array([rng.uniform(0.3, 0.5), side * rng.uniform(0.3, 0.45)])
    return Scene(distance=rng.uniform(0.5, 1.0), object=place, post=place / 2)


@dataclass(slots=True)
class World:
    """One episode as it goes on. A base does what it was told, one tick later."""

    scene: Scene
    rng: np.random.Generator
    tool: Floats = field(default_factory=lambda: np.zeros(2))
    velocity: float = 0.0
    driven: float = 0.0
    collided: bool = False
    held: int = 0

    @property
    def to_go(self) -> float:
        return self.scene.distance - self.driven

    @property
    def succeeded(self) -> bool:
        return self.held >= HELD_TICKS and not self.collided

    def observe(self) -> dict[str, NDArray[np.generic]]:
        return {
            "qpos": self.tool.astype(np.float32),
            "base_vel": np.array([self.velocity], np.float32),
            **{f"images/{camera}": self._picture(camera) for camera in CAMERAS},
        }

    def act(self, tool: Floats, velocity: float) -> None:
        """One tick; the tool goes at most 0.12 m."""
        way = tool - self.tool
        self.tool = self.tool + way * min(1.0, 0.12 / max(float(np.hypot(*way)), 1e-9))
        self.driven += self.velocity * TICK_S
        self.velocity = float(np.clip(velocity, -0.6, 0.6))
        ahead = np.array([self.to_go, 0.0])
        self.collided |= _far(self.tool, self.scene.post + ahead) < POST_M
        near = _far(self.tool, self.scene.object + ahead) < REACHED_M
        self.held = self.held + 1 if near and abs(self.velocity) < STOPPED_M_S else 0

    def _picture(self, camera: str) -> NDArray[np.uint8]:
        side = 1.0 if camera == "left" else -1.0
        picture = np.full((SIDE_PX, SIDE_PX, 3), 110.0 + self.rng.uniform(-12, 12), np.float32)
        ahead = np.array([self.to_go, 0.0])
        for place, size_m, colour in (
            (self.scene.post + ahead, 0.07, _POST),
            (self.scene.object + ahead, 0.07, _OBJECT),
            (self.tool, 0.05, _TOOL),
        ):
            row = SIDE_PX * (1 - (place[0] - _NEAR_M) / (_FAR_M - _NEAR_M))
            column = SIDE_PX * (side * place[1] - _IN_M) / (_OUT_M - _IN_M)
            if not -4 < column < SIDE_PX + 4:
                continue  # it is on the other side
            tall, wide = (size_m * SIDE_PX / m for m in (_FAR_M - _NEAR_M, _OUT_M - _IN_M))
            away = ((_ROWS - row) / tall) ** 2 + ((_COLUMNS - column) / wide) ** 2
            cover = np.clip(1.5 - away, 0, 1)[..., None]
            picture += cover * (np.array(colour, np.float32) - picture)
        picture += self.rng.normal(0, 4, picture.shape).astype(np.float32)
        return np.clip(picture, 0, 255).astype(np.uint8)


def demonstration(
    scene: Scene, rng: np.random.Generator, *, left: bool
) -> Iterator[tuple[World, dict[str, NDArray[np.float32]]]]:
    """The world at each tick and what was recorded as its actions: "action", "base_action".

    `left` of the post is the way, or right of it.
    """
    world = World(scene, rng)
    wait, cruise = int(rng.integers(0, 7)), rng.uniform(0.25, 0.45)
    for tick in range(LIMIT_TICKS):
        if tick >= wait and world.to_go < 0.02:
            break
        faster = min(world.velocity + cruise / 3, cruise, 2.5 * world.to_go)
        command = 0.0 if tick < wait else faster
        yield world, _recorded(world, world.tool)
        world.act(world.tool, command)
    ticks = int(rng.integers(14, 21))
    target = scene.object + np.array([world.to_go, 0.0])
    across = DETOUR_M * np.array([-target[1], target[0]]) / np.hypot(*target)
    if not left:
        across = -across
    for tick in range(1, ticks + 5):
        x = min(tick / ticks, 1.0)
        s = x**3 * (10 + x * (6 * x - 15))  # minimum jerk
        tool = s * target + np.sin(np.pi * s) * across
        yield world, _recorded(world, tool)
        world.act(tool, 0.0)


def _recorded(world: World, tool: Floats) -> dict[str, NDArray[np.float32]]:
    return {
        "action": tool.astype(np.float32),
        "base_action": np.array([world.velocity], np.float32),
    }


def _far(a: Floats, b: Floats) -> float:
    return float(np.hypot(*(a - b)))
