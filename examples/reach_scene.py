"""The scene of the example recordings: two arms, a block, and what three cameras see of them.

Everything is a function of time, so that cameras, joints and commands can be sampled at their own
rates. Lengths are metres, angles radians; the world is the plane that the front camera looks at,
x to the right, y up, the table at y = 0.
"""

from __future__ import annotations

import io
import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

DURATION_S = 4.0
LAG_S = 0.04  # the puppet does now what its master did 40 ms ago
WIDTH, HEIGHT = 96, 72
JPEG_QUALITY = 80

_BASES = {"left": np.array([-0.32, 0.0]), "right": np.array([0.32, 0.0])}
_LINKS = (0.25, 0.25, 0.07)  # upper arm, forearm, gripper
_OPEN, _CLOSED = 0.80, 0.15
_COLOURS = {"left": (60, 100, 190), "right": (200, 120, 40)}
_REACH, _GRASP, _LIFT, _HOLD = 0.4, 1.9, 2.4, 3.4  # when each phase begins or ends, seconds


def block_places(count: int, seed: int = 0) -> NDArray[np.float64]:
    """(count, 2) places of the block on the table, spread evenly over the common workspace."""
    rng = np.random.default_rng(seed)
    along = (np.arange(count) + rng.uniform(0.2, 0.8, count)) / count
    rng.shuffle(along)
    height = (np.arange(count) + rng.uniform(0.2, 0.8, count)) / count
    return np.stack([-0.22 + 0.27 * along, 0.04 + 0.14 * height], axis=1)


@dataclass(frozen=True)
class Reach:
    """One demonstration: the left arm takes the block and lifts it, the right arm follows it.

    Attributes:
        block: (2,) where the block lies before it is taken.
    """

    block: NDArray[np.float64]
    _poses: dict[str, list[tuple[float, NDArray[np.float64]]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        up, aside = np.array([0.0, 0.14]), np.array([0.20, 0.06])
        poses = {}
        for side, grips in (("left", True), ("right", False)):
            goal = self.block if side == "left" else self.block + aside
            home = np.array([-0.17, 0.30]) if side == "left" else np.array([0.17, 0.30])
            closed = _CLOSED if grips else 0.5 * (_OPEN + _CLOSED)
            poses[side] = [
                (_REACH, _joints(side, home, _OPEN)),
                (_GRASP, _joints(side, goal, _OPEN)),
                (_LIFT, _joints(side, goal, closed)),
                (_HOLD, _joints(side, goal + up, closed)),
            ]
        object.__setattr__(self, "_poses", poses)

    def master(self, side: str, t: float) -> NDArray[np.float64]:
        """(7,) commanded joint positions at `t` seconds: minimum jerk between the poses."""
        poses = self._poses[side]
        for (start, pose), (stop, following) in itertools.pairwise(poses):
            if t < stop:
                s = min(max((t - start) / (stop - start), 0.0), 1.0)
                return pose + (following - pose) * s**3 * (10 - 15 * s + 6 * s * s)
        return poses[-1][1]

    def puppet(self, side: str, t: float) -> NDArray[np.float64]:
        """(7,) joint positions of the arm that follows."""
        return self.master(side, t - LAG_S)

    def base_speed(self, t: float) -> tuple[float, float]:
        """(m/s forward, rad/s) of the base, which rolls a little while the arms reach."""
        s = min(max((t - _REACH) / (_GRASP - _REACH), 0.0), 1.0)
        bump = 30 * s**2 * (1 - s) ** 2
        return 0.04 * bump, 0.10 * float(self.block[0] + 0.085) * bump

    def picture(self, camera: str, t: float) -> bytes:
        """The JPEG that camera "f" (front), "l" or "r" (wrists) takes at `t`."""
        scale = 2  # drawn larger, then averaged down, for smooth edges
        centre, width = np.array([0.0, 0.30]), 1.0
        if camera != "f":
            centre, width = self._tip("left" if camera == "l" else "right", t), 0.5
        per_metre = WIDTH * scale / width

        def pixel(point: NDArray[np.float64]) -> tuple[float, float]:
            x, y = (point - centre) * per_metre
            return float(x + WIDTH * scale / 2), float(HEIGHT * scale / 2 - y)

        image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), (225, 228, 230))
        draw = ImageDraw.Draw(image)
        table = pixel(np.array([0.0, 0.0]))[1]
        draw.rectangle([0, table, WIDTH * scale, 9 * HEIGHT * scale], fill=(150, 125, 95))
        held = self.puppet("left", t)[6] < 0.5 * (_OPEN + _CLOSED)
        x, y = pixel(self._tip("left", t) if held else self.block)
        half = 0.03 * per_metre
        draw.rectangle([x - half, y - half, x + half, y + half], fill=(205, 40, 45))
        for side, colour in _COLOURS.items():
            points = [pixel(p) for p in _arm(side, self.puppet(side, t))]
            draw.line(points[:-1], fill=colour, width=int(0.035 * per_metre), joint="curve")
            for px, py in points[:-1]:
                r = 0.025 * per_metre
                draw.ellipse([px - r, py - r, px + r, py + r], fill=(50, 50, 55))
            self._draw_gripper(draw, points[-2], points[-1], self.puppet(side, t)[6], per_metre)
        file = io.BytesIO()
        image.reduce(scale).save(file, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0")
        return file.getvalue()

    def _tip(self, side: str, t: float) -> NDArray[np.float64]:
        return _arm(side, self.puppet(side, t))[-1]

    @staticmethod
    def _draw_gripper(
        draw: ImageDraw.ImageDraw,
        wrist: tuple[float, float],
        tip: tuple[float, float],
        opening: float,
        per_metre: float,
    ) -> None:
        along = np.subtract(tip, wrist)
        across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-9)
        gap = across * opening * 0.05 * per_metre
        for finger in (gap, -gap):
            draw.line(
                [wrist, tuple(np.add(wrist, finger)), tuple(np.add(tip, finger))],
                fill=(30, 30, 35),
                width=max(int(0.014 * per_metre), 1),
            )


def _joints(side: str, tip: NDArray[np.float64], opening: float) -> NDArray[np.float64]:
    """(7,) joints that put the fingertips at `tip`, pointing down; the elbow bends outwards.

    Joints 1, 2 and 4 move in the picture's plane; 0, 3 and 5 turn along as a real arm's do.
    """
    upper, fore, hand = _LINKS
    x, y = tip + np.array([0.0, hand]) - _BASES[side]
    reach = float(np.hypot(x, y))
    cosine = np.clip((reach**2 - upper**2 - fore**2) / (2 * upper * fore), -1.0, 1.0)
    bend = float(np.arccos(cosine)) * (-1.0 if side == "left" else 1.0)
    shoulder = float(np.arctan2(y, x)) - float(
        np.arctan2(fore * np.sin(bend), upper + fore * np.cos(bend))
    )
    wrist = (np.pi / 2 - shoulder - bend) % (2 * np.pi) - np.pi  # the hand points down
    return np.array([0.6 * x, shoulder, bend, 0.4 * (y - 0.2), wrist, 0.5 * x - 0.3 * y, opening])


def _arm(side: str, joints: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Base, elbow, wrist and fingertips in the plane."""
    points, angle = [_BASES[side]], 0.0
    for length, turn in zip(_LINKS, (joints[1], joints[2], joints[4]), strict=True):
        angle += turn
        points.append(points[-1] + length * np.array([np.cos(angle), np.sin(angle)]))
    return points
