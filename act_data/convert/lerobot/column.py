"""The columns of the data files, and their rows while they wait."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from act_data.convert.lerobot.layout import COUNTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the data files.

    Attributes:
        dtype: Of numpy: "float32", "int64", ...; "image" for PNG or JPEG files.
        shape: Of one row; (1,) is a plain number.
    """

    dtype: str
    shape: tuple[int, ...] = (1,)


class Held:
    """Rows of numbers, one after the other in one block of memory that doubles when it is full.

    Thousands of small arrays between the pictures that come and go would leave holes in the heap
    that no picture fits into: half a megabyte per step was seen.
    """

    def __init__(self, column: Column) -> None:
        self._block = np.empty((64, *column.shape), column.dtype)
        self._count = 0

    def append(self, row: NDArray[np.generic]) -> None:
        """Add one row."""
        if self._count == len(self._block):
            self._block = np.concatenate([self._block, np.empty_like(self._block)])
        self._block[self._count] = row.reshape(self._block.shape[1:])
        self._count += 1

    def clear(self) -> None:
        """Forget all rows."""
        self._count = 0

    @property
    def rows(self) -> NDArray[np.generic]:
        """(n, *shape) what was added since the last `clear`; valid until the next call."""
        return self._block[: self._count]


def counted_columns() -> dict[str, Column]:
    """The columns of `COUNTED`."""
    return {n: Column(dtype="float32" if n == "timestamp" else "int64") for n in COUNTED}
