"""Memory for batches, used again when nobody looks at the batch any more.

The system clears every page of fresh memory before it hands it over, which costs a tenth of
decoding a batch of pictures into it. In a worker of torch's DataLoader it costs as much as
decoding: there a batch is copied into fresh shared memory besides. So a worker decodes into shared
memory, and the process that receives the pictures says in their last byte when it is done with
them.
"""

from __future__ import annotations

import math
import os
import sys
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info


def _references(arrays: list[NDArray[np.generic]], n: int) -> int:
    return sys.getrefcount(arrays[n])


# Of an array that only the list refers to, however this Python counts. A tensor made of the array,
# or any view of it, is one more.
_NOBODY = _references([np.empty(0)], 0)


class Buffers:
    """Tensors of the sizes that batches have. May be used by several threads."""

    def __init__(self, limit: int) -> None:
        """Args: limit: How many are kept; more than that come and go as usual."""
        self._limit = limit
        self._kept: list[NDArray[np.generic]] = []
        self._shared: list[Tensor] = []
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[Buffers], tuple[int]]:
        return Buffers, (self._limit,)  # another process has its own memory

    def take(self, shape: tuple[int, ...], dtype: str) -> Tensor:
        """A tensor in C order with whatever it held before."""
        with self._lock:
            if get_worker_info() is not None:
                return self._take_shared(shape, dtype)
            for n in range(len(self._kept)):
                if _references(self._kept, n) != _NOBODY:
                    continue
                kept = self._kept[n]
                if kept.shape == shape and kept.dtype == np.dtype(dtype):
                    return torch.from_numpy(kept)
            fresh = np.empty(shape, dtype)
            if len(self._kept) < self._limit:
                self._kept.append(fresh)
            return torch.from_numpy(fresh)

    def _take_shared(self, shape: tuple[int, ...], dtype: str) -> Tensor:
        kind: torch.dtype = getattr(torch, dtype)
        size = math.prod(shape) * kind.itemsize + 1
        memory = next((m for m in self._shared if len(m) == size and not m[-1]), None)
        if memory is None:
            memory = torch.zeros(size, dtype=torch.uint8)
            memory.share_memory_()  # type: ignore[no-untyped-call]
            if len(self._shared) < self._limit:
                self._shared.append(memory)
        memory[-1] = 1
        return memory[:-1].view(kind).view(shape)


def received(tensor: Tensor) -> Tensor:
    """`tensor` of a worker, who may use its memory again as soon as nobody looks at it here."""
    if tensor.untyped_storage().nbytes() != tensor.nbytes + 1:
        return tensor  # not from these buffers
    return torch.from_numpy(np.asarray(_Lent(tensor)))


class _Lent:
    """What arrays made of it refer to: it goes when the last of them goes."""

    def __init__(self, tensor: Tensor) -> None:
        array = tensor.numpy()
        self.__array_interface__: dict[str, Any] = array.__array_interface__
        self._memory = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
        self._process = os.getpid()

    def __del__(self) -> None:
        if os.getpid() == self._process:  # a forked child holds the same objects
            self._memory[-1] = 0
