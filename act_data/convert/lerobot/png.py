"""PNG files, written. Reading them is a matter of `decode`."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def encode(picture: NDArray[np.generic]) -> bytes:
    """The (H, W, 3) uint8 RGB `picture` as a PNG file; zlib level 1, as LeRobot writes."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "PNG", compress_level=1)
    return file.getvalue()
