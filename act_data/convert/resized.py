"""A source whose pictures have another size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from act_data.convert.foreign import Foreign, ForeignArray, ForeignEpisode, Row
from act_data.decode import resize
from act_data.store import jpeg
from act_data.types import EncodedImage, Value


def resized(foreign: Foreign, size: tuple[int, int]) -> Foreign:
    """`foreign` with every picture in (H, W) `size`; colours averaged, of depth the nearest."""
    pictures = {a.name for a in foreign.arrays if _is_picture(a)}
    arrays = [_resized_array(a, size) if a.name in pictures else a for a in foreign.arrays]
    episodes = [_resized_episode(e, pictures, size) for e in foreign.episodes]
    variant = f"{foreign.variant}, pictures resized to {size[0]}x{size[1]}"
    return replace(foreign, arrays=arrays, episodes=episodes, variant=variant)


def _resized_episode(
    episode: ForeignEpisode, pictures: set[str], size: tuple[int, int]
) -> ForeignEpisode:
    def rows() -> Iterator[Row]:
        for row in episode.rows():
            values: dict[str, Value] = dict(row.values)
            for name in pictures & values.keys():
                value = values[name]
                picture = jpeg.decode(value.data) if isinstance(value, EncodedImage) else value
                values[name] = resize.resized(picture, size)
            yield replace(row, values=values)

    return replace(episode, rows=rows)


def _resized_array(array: ForeignArray, size: tuple[int, int]) -> ForeignArray:
    was = array.original
    once = was is not None and (was.height, was.width) == array.shape[:2]
    return replace(array, shape=(*size, *array.shape[2:]), jpeg="", original=was if once else None)


def _is_picture(array: ForeignArray) -> bool:
    return array.dtype in (np.uint8, np.uint16) and len(array.shape) >= 2
