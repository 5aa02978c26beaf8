from __future__ import annotations

import gc
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from act_model.buffers import Buffers

SHAPE = (2, 3)


def test_memory_that_nobody_looks_at_is_used_again() -> None:
    buffers = Buffers(4)
    first = buffers.take(SHAPE, "uint8")
    place = first.ctypes.data
    del first
    again = buffers.take(SHAPE, "uint8")
    assert again.ctypes.data == place
    assert (again.shape, again.dtype) == (SHAPE, np.uint8)


@pytest.mark.parametrize(
    "look",
    [
        pytest.param(lambda array: array, id="the-array"),
        pytest.param(lambda array: array[:1], id="a-view"),
        pytest.param(lambda array: array.reshape(-1)[1:].view(np.int8), id="a-view-of-a-view"),
        pytest.param(torch.from_numpy, id="a-tensor"),
        pytest.param(lambda array: torch.from_numpy(array)[1], id="a-row-of-a-tensor"),
        pytest.param(lambda array: torch.from_numpy(array).permute(1, 0), id="a-turned-tensor"),
        pytest.param(memoryview, id="a-memoryview"),
    ],
)
def test_memory_that_somebody_looks_at_is_left_alone(look: Callable[[Any], Any]) -> None:
    buffers = Buffers(4)
    array = buffers.take(SHAPE, "uint8")
    array[...] = 7
    seen = look(array)
    del array
    gc.collect()
    buffers.take(SHAPE, "uint8")[...] = 9
    assert (np.asarray(seen) == 7).all()


def test_another_size_or_type_is_other_memory() -> None:
    buffers = Buffers(4)
    place = buffers.take(SHAPE, "uint8").ctypes.data
    wide, deep = buffers.take((3, 3), "uint8"), buffers.take(SHAPE, "uint16")
    assert (wide.shape, deep.dtype) == ((3, 3), np.uint16)
    assert buffers.take(SHAPE, "uint8").ctypes.data == place


def test_no_more_than_the_limit_is_kept() -> None:
    buffers = Buffers(2)
    held = [buffers.take(SHAPE, "uint8") for _ in range(5)]
    places = {array.ctypes.data for array in held}
    assert len(places) == 5
    kept = {array.ctypes.data for array in held[:2]}
    del held
    again = [buffers.take(SHAPE, "uint8") for _ in range(2)]
    assert {array.ctypes.data for array in again} == kept


def test_threads_never_get_the_same_memory() -> None:
    buffers = Buffers(4)

    def fill(number: int) -> bool:
        mine = torch.from_numpy(buffers.take((4096,), "int64"))
        mine.fill_(number)
        return bool((mine == number).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(fill, range(2000)))


def test_another_process_begins_with_memory_of_its_own() -> None:
    buffers = Buffers(3)
    kept = buffers.take(SHAPE, "uint8")
    copy = pickle.loads(pickle.dumps(buffers))
    assert copy.take(SHAPE, "uint8").ctypes.data != kept.ctypes.data
