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
    place = first.data_ptr()
    del first
    again = buffers.take(SHAPE, "uint8")
    assert again.data_ptr() == place
    assert (again.shape, again.dtype) == (SHAPE, torch.uint8)


@pytest.mark.parametrize(
    "look",
    [
        pytest.param(lambda tensor: tensor, id="the-tensor"),
        pytest.param(lambda tensor: tensor[1], id="a-row"),
        pytest.param(lambda tensor: tensor.permute(1, 0), id="turned"),
        pytest.param(lambda tensor: tensor.numpy(), id="an-array"),
        pytest.param(lambda tensor: tensor.numpy()[:1], id="a-view-of-an-array"),
        pytest.param(
            lambda tensor: tensor.numpy().reshape(-1)[1:].view(np.int8), id="a-view-of-a-view"
        ),
        pytest.param(lambda tensor: memoryview(tensor.numpy()), id="a-memoryview"),
    ],
)
def test_memory_that_somebody_looks_at_is_left_alone(look: Callable[[Any], Any]) -> None:
    buffers = Buffers(4)
    tensor = buffers.take(SHAPE, "uint8")
    tensor.fill_(7)
    seen = look(tensor)
    del tensor
    gc.collect()
    buffers.take(SHAPE, "uint8").fill_(9)
    assert (np.asarray(seen) == 7).all()


def test_another_size_or_type_is_other_memory() -> None:
    buffers = Buffers(4)
    place = buffers.take(SHAPE, "uint8").data_ptr()
    wide, deep = buffers.take((3, 3), "uint8"), buffers.take(SHAPE, "uint16")
    assert (wide.shape, deep.dtype) == ((3, 3), torch.uint16)
    assert buffers.take(SHAPE, "uint8").data_ptr() == place


def test_no_more_than_the_limit_is_kept() -> None:
    buffers = Buffers(2)
    held = [buffers.take(SHAPE, "uint8") for _ in range(5)]
    places = {tensor.data_ptr() for tensor in held}
    assert len(places) == 5
    kept = {tensor.data_ptr() for tensor in held[:2]}
    del held
    again = [buffers.take(SHAPE, "uint8") for _ in range(2)]
    assert {tensor.data_ptr() for tensor in again} == kept


def test_threads_never_get_the_same_memory() -> None:
    buffers = Buffers(4)

    def fill(number: int) -> bool:
        mine = buffers.take((4096,), "int64")
        mine.fill_(number)
        return bool((mine == number).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(fill, range(2000)))


def test_another_process_begins_with_memory_of_its_own() -> None:
    buffers = Buffers(3)
    kept = buffers.take(SHAPE, "uint8")
    copy = pickle.loads(pickle.dumps(buffers))
    assert copy.take(SHAPE, "uint8").data_ptr() != kept.data_ptr()
