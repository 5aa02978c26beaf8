"""Values between two samples: straight lines, the short way round a circle, slerp."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Joint angles do not wrap: a joint that turned past pi went there the long way. Only a stream
# whose unit is this one (a heading, a yaw) is interpolated the short way round.
WRAPPED_ANGLE = "rad (wrapped)"

Vector = NDArray[np.floating[Any]]


def between(
    first: Vector,
    second: Vector,
    weight: float,
    *,
    quaternions: tuple[int, ...] = (),
    wrapped: bool = False,
) -> NDArray[np.float32]:
    """`(1 - weight) * first + weight * second`, (D,) float32.

    Args:
        quaternions: Where unit quaternions (4 numbers, any order) begin; these are slerped.
        wrapped: All numbers are angles; the result is in [-pi, pi).
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    if wrapped:
        turn = np.mod(b - a + np.pi, 2 * np.pi) - np.pi
        return (np.mod(a + weight * turn + np.pi, 2 * np.pi) - np.pi).astype(np.float32)
    value = (1 - weight) * a + weight * b
    for start in quaternions:
        part = slice(start, start + 4)
        value[part] = slerp(a[part], b[part], weight)
    return value.astype(np.float32)


def slerp(first: Vector, second: Vector, weight: float) -> Vector:
    """The unit quaternion on the shorter arc (Shoemake, 1985); a zero quaternion stays linear."""
    norms = np.linalg.norm(first), np.linalg.norm(second)
    if not (min(norms) > 0 and np.isfinite(norms).all()):
        return (1 - weight) * first + weight * second
    a, b = first / norms[0], second / norms[1]
    cosine = float(np.dot(a, b))
    if cosine < 0:  # q and -q are the same rotation
        b, cosine = -b, -cosine
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-4:  # the arc is a line here, and its sine no divisor
        line: Vector = (1 - weight) * a + weight * b
        return line / float(np.linalg.norm(line))
    sines = np.sin((1 - weight) * angle), np.sin(weight * angle)
    arc: Vector = (sines[0] * a + sines[1] * b) / np.sin(angle)
    return arc


def quaternion_starts(paths: tuple[str, ...]) -> tuple[int, ...]:
    """Where four paths in a row are x, y, z and w of one field."""
    return tuple(
        i
        for i in range(len(paths) - 3)
        if paths[i].endswith(".x")
        and paths[i : i + 4] == tuple(f"{paths[i][:-2]}.{axis}" for axis in "xyzw")
    )
