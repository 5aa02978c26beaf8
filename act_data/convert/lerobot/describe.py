"""Statistics as LeRobot writes them, from the same code as `act-data stats`.

They are exact and over all frames, pictures in [0, 1] with shape (3, 1, 1); lerobot itself takes
some of the frames, at a smaller size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.records import FeatureStats
from act_data.stats import Histogram, describe_pictures, describe_vectors

Stats = dict[str, Any]
_NUMBERS = ("min", "max", "mean", "std", "q01", "q10", "q50", "q90", "q99")


def of_rows(parts: Sequence[NDArray[np.generic]]) -> Stats:
    """Of a vector; `parts` are (T, D)."""
    found = describe_vectors(parts)
    return {
        **{name: list(_numbers(found, name)) for name in _NUMBERS},
        "count": [sum(len(part) for part in parts)],
    }


def of_pictures(histogram: Histogram, frames: int) -> Stats:
    """Of colour pictures."""
    found = describe_pictures(histogram)
    return {
        **{name: [[[v / 255.0]] for v in _numbers(found, name)] for name in _NUMBERS},
        "count": [frames],
    }


def flattened(stats: Mapping[str, Stats]) -> dict[str, Any]:
    """As columns of `meta/episodes`."""
    return {
        f"stats/{key}/{name}": value
        for key, described in stats.items()
        for name, value in described.items()
    }


def _numbers(found: FeatureStats, name: str) -> list[float]:
    # A dimension without one finite value has no number; LeRobot has no word for that.
    return [0.0 if value is None else value for value in getattr(found, name)]
