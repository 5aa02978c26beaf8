"""Work for a GPU that is recorded once as a CUDA graph and replayed from then on.

A prediction from one observation is some hundred small kernels, a training step a thousand.
Launched one after the other from Python they take longer than they run; replayed they follow each
other without a gap.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

_WARM_UP = 3  # libraries choose their kernels and take their memory before anything is recorded


@dataclass(frozen=True, slots=True)
class _Recording:
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    graph: torch.cuda.CUDAGraph


class Recorded:
    """`call`, recorded for every combination of shapes and of autocast that it meets.

    Args:
        call: Of tensors on `device`. Does the same work for all values: no branches on them,
            nothing fetched from the device. Random numbers come from the device's own generator.
        device: A GPU.
    """

    def __init__(self, call: Callable[..., tuple[Tensor, ...]], device: torch.device | str) -> None:
        self._call = call
        self._device = torch.device(device)
        self._recordings: dict[object, _Recording] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What `call` gives for `inputs`, from wherever; valid until the next call."""
        kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        key = (kind, *((each.shape, each.dtype) for each in inputs))
        recording = self._recordings.get(key)
        if recording is None:
            recording = self._recordings[key] = self._record(inputs, kind)
        for place, value in zip(recording.inputs, inputs, strict=True):
            place.copy_(value, non_blocking=True)
        recording.graph.replay()
        return recording.outputs

    def _record(self, inputs: tuple[Tensor, ...], kind: torch.dtype | None) -> _Recording:
        autocast: AbstractContextManager[object] = nullcontext()
        if kind is not None:
            # Weights that autocast had kept would be gone with it, and read again by every replay.
            autocast = torch.autocast("cuda", dtype=kind, cache_enabled=False)
        # What is drawn while recording changes nothing that is drawn after it.
        drawn = torch.random.fork_rng([self._device], device_type="cuda")
        with torch.cuda.device(self._device), drawn, autocast:
            places = tuple(torch.empty_like(each, device=self._device) for each in inputs)
            for place, value in zip(places, inputs, strict=True):
                place.copy_(value)
            now, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(now)
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UP):
                    self._call(*places)
            now.wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            # Other threads read data ahead meanwhile, and pin its memory.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                outputs = self._call(*places)
        return _Recording(inputs=places, outputs=outputs, graph=graph)
