"""Bilinear demosaicing of a Bayer picture: what most drivers would have done themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def demosaic(mosaic: NDArray[np.uint8], pattern: str) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of a (H, W) mosaic whose top left 2 x 2 pixels are `pattern`, e.g. "rggb".

    Each missing value is the rounded mean of its nearest 2 or 4 measured neighbours; measured
    values stay as they are. The picture is mirrored about its edge pixels, which keeps the
    pattern. H and W are at least 2.
    """
    height, width = mosaic.shape
    padded = np.pad(mosaic, 1, mode="reflect").astype(np.uint16)
    out = np.empty((height, width, 3), np.uint8)
    for channel, name in enumerate("rgb"):
        plane = np.zeros_like(padded)
        for place, letter in enumerate(pattern):
            if letter == name:
                row, column = divmod(place, 2)
                # Padding by one shifts the parity of both axes by one.
                here = (slice(1 - row, None, 2), slice(1 - column, None, 2))
                plane[here] = padded[here]
        out[:, :, channel] = (_cross(plane) if name == "g" else _square(plane)) + 2 >> 2
    return out


def _square(plane: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Sum under [[1, 2, 1], [2, 4, 2], [1, 2, 1]]: red and blue lie on every second row."""
    rows = plane[:-2] + 2 * plane[1:-1] + plane[2:]
    summed: NDArray[np.uint16] = rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]
    return summed


def _cross(plane: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Sum under [[0, 1, 0], [1, 4, 1], [0, 1, 0]]: green lies on every row."""
    summed: NDArray[np.uint16] = (
        plane[:-2, 1:-1]
        + plane[2:, 1:-1]
        + plane[1:-1, :-2]
        + plane[1:-1, 2:]
        + 4 * plane[1:-1, 1:-1]
    )
    return summed
