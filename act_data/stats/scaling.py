"""Scalings of an array made from its statistics, and their inverses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from act_data.errors import DataError
from act_data.records import FeatureStats

Kind = Literal["mean_std", "unit", "symmetric"]

# A range below this is noise or nothing, in any SI unit that a joint or a base is measured in;
# diffusion_policy's range_eps.
_SMALLEST_RANGE = 1e-4


@dataclass(frozen=True, slots=True)
class Normaliser:
    """An affine scaling of D dimensions and its inverse.

    In float32, `unscale(scale(x))` differs from x by at most 4 units in the last place of
    max(|x|, |x - offset|): three roundings of x - offset and one of x, each of half an epsilon.

    Attributes:
        offset: (D,) float32, taken away first.
        factor: (D,) float32, then divided by; never 0.
    """

    offset: NDArray[np.float32]
    factor: NDArray[np.float32]

    def scale(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        """`values` (..., D) in physical units as the network sees them, float32."""
        return (values.astype(np.float32) - self.offset) / self.factor

    def unscale(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        """`values` (..., D) of the network in physical units, float32."""
        return values.astype(np.float32) * self.factor + self.offset


def normaliser(kind: Kind, stats: FeatureStats, *, std_floor: float) -> Normaliser:
    """The scaling of `kind` for one array.

    A constant dimension is only moved (factor 1), to 0 by every kind: dividing by a floor would
    turn the smallest deviation on a robot into the loudest input.

    Args:
        kind: "mean_std" gives zero mean and unit deviation, "unit" maps [min, max] to [0, 1]
            (the VAE notes), "symmetric" to [-1, 1] (diffusion policies).
        stats: Of the array, one number per dimension.
        std_floor: Smallest deviation that "mean_std" divides by, in the array's own unit.

    Raises:
        DataError: A dimension without a single finite value.
    """
    for d, count in enumerate(stats.count):
        if count == 0:
            name = stats.names[d] if d < len(stats.names) else str(d)
            raise DataError(
                f"dimension {d} ({name!r}) has no finite value to normalise by",
                hint="Take the array out of state and action, or record it again.",
            )
    mean, std, low, high = (
        np.array(numbers, np.float64) for numbers in (stats.mean, stats.std, stats.min, stats.max)
    )
    if kind == "mean_std":
        offset, factor = mean, np.maximum(std, std_floor)
        constant = low == high
    elif kind == "unit":
        offset, factor = low, high - low
        constant = factor < _SMALLEST_RANGE
    else:
        offset, factor = low / 2 + high / 2, (high - low) / 2
        constant = 2 * factor < _SMALLEST_RANGE
    return Normaliser(offset.astype(np.float32), np.where(constant, 1.0, factor).astype(np.float32))
