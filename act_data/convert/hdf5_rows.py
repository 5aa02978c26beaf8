"""Rows of guarded HDF5 arrays: numbers in blocks, pictures one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from act_data.convert.foreign import Row, blocks
from act_data.store.hdf5 import GuardedFile
from act_data.types import Value

Decode = Callable[[NDArray[np.generic], int], Value]


def rows(
    path: Path, numbers: Mapping[str, str], pictures: Mapping[str, tuple[str, Decode]], length: int
) -> Iterator[Row]:
    """The steps of one episode.

    Args:
        numbers: Where each array lies in the file, by name.
        pictures: Where, and what makes a picture of a row (given with its number).

    Raises:
        StoreError: An array is damaged, or nothing that is safe to read.
    """
    with GuardedFile(path) as file:
        low = {name: file.array(where) for name, where in numbers.items()}
        high = {name: (file.array(where), decode) for name, (where, decode) in pictures.items()}
        step_bytes = sum(math.prod(a.shape[1:]) * a.dtype.itemsize for a in low.values())
        for start, stop in blocks(length, step_bytes):
            block = {name: array.read(start, stop) for name, array in low.items()}
            for t in range(start, stop):
                values: dict[str, Value] = {n: found[t - start] for n, found in block.items()}
                for name, (array, decode) in high.items():
                    values[name] = decode(array.read(t, t + 1)[0], t)
                yield Row(values=values)
