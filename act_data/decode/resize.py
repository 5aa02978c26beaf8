"""Pictures of another size, as a network's door would make them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def resized(picture: NDArray[np.generic], size: tuple[int, int]) -> NDArray[np.generic]:
    """`picture` in another size.

    Colours are averaged (bilinear with antialiasing, as torchvision does it, rounded to uint8); of
    depth the nearest pixel is taken: the mean of a depth and of no depth is no depth.

    Args:
        picture: (H, W, 3) uint8 RGB, or (H, W) uint16 depth.
        size: (H, W) of the result.
    """
    if picture.dtype == np.uint16:
        rows = ((np.arange(size[0]) + 0.5) * picture.shape[0] / size[0]).astype(np.int64)
        columns = ((np.arange(size[1]) + 0.5) * picture.shape[1] / size[1]).astype(np.int64)
        nearest: NDArray[np.generic] = picture[rows[:, None], columns]
        return nearest
    image = Image.fromarray(np.asarray(picture, dtype=np.uint8))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))
