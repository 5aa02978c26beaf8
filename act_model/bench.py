"""How long a policy takes from an observation to actions on this machine, and on what."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import nn

from act_data.records import Record
from act_model import runtime as runtimes
from act_model.contract import blank_observation
from act_model.policy import Policy
from act_model.policy_process import ProcessPolicy
from act_model.runtime import RuntimeName

MIB = 2**20


class Latency(Record):
    """Of one part over all timed predictions, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


class BenchReport(Record):
    """One measurement.

    Attributes:
        predictions: Timed ones; those that warm up come before them.
        ready_s: From a new interpreter to a policy in it that has predicted once, as when a robot
            is started.
        load_s: The same in an interpreter that has imported everything.
        total: From an observation as the robot delivers it to actions as it takes them.
        parts: "preprocess", "network" and "postprocess". Empty where they are one graph.
        peak_memory_mib: Largest resident memory of the process, interpreter and libraries included.
        peak_gpu_memory_mib: Largest memory of torch's tensors on the GPU; None without one.
        budget_ms: Time between two ticks at the policy's rate.
    """

    checkpoint: str
    step: int
    runtime: RuntimeName
    device: str
    threads: int
    inputs: dict[str, tuple[int, ...]]
    predictions: int
    ready_s: float
    load_s: float
    total: Latency
    parts: dict[str, Latency]
    peak_memory_mib: float
    peak_gpu_memory_mib: float | None
    budget_ms: float


def bench(
    folder: Path,
    *,
    runtime: RuntimeName = "torch",
    device: str = "auto",
    predictions: int = 50,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BenchReport:
    """Predict again and again from one observation of noise.

    Args:
        predictions: How many are timed; a tenth of them, at least 3, go before to warm up.

    Raises:
        As `runtime.load`.
    """
    ready_s = _ready_s(folder, runtime, device)
    began = perf_counter()
    policy = runtimes.load(folder, runtime, device)
    observation = blank_observation(policy.contract)
    rng = np.random.default_rng(0)
    for name, blank in observation.items():
        if blank.dtype == np.uint8:
            observation[name] = rng.integers(0, 256, blank.shape, np.uint8)
    policy.predict(observation)
    load_s = perf_counter() - began
    for _ in range(max(3, predictions // 10)):
        policy.predict(observation)

    marks: list[float] = []
    totals: list[float] = []
    parts: dict[str, list[float]] = {}
    network, on = (policy.network, policy.device) if isinstance(policy, Policy) else (None, None)
    with _marked(network, on, marks):
        for number in range(predictions):
            marks.clear()
            start = perf_counter()
            policy.predict(observation)
            end = perf_counter()
            totals.append(end - start)
            if marks:
                for name, a, b in (
                    ("preprocess", start, marks[0]),
                    ("network", marks[0], marks[-1]),
                    ("postprocess", marks[-1], end),
                ):
                    parts.setdefault(name, []).append(b - a)
            progress(number + 1, predictions)
    gpu = on is not None and on.type == "cuda"
    return BenchReport(
        checkpoint=str(folder),
        step=policy.checkpoint.step,
        runtime=runtime,
        device=str(on) if on is not None else device,
        threads=torch.get_num_threads(),
        inputs={name: array.shape for name, array in observation.items()},
        predictions=predictions,
        ready_s=ready_s,
        load_s=load_s,
        total=_latency(totals),
        parts={name: _latency(times) for name, times in parts.items()},
        peak_memory_mib=_peak_mib(),
        peak_gpu_memory_mib=torch.cuda.max_memory_allocated(on) / MIB if gpu else None,
        budget_ms=1000 / policy.contract.rate_hz,
    )


def _ready_s(folder: Path, runtime: RuntimeName, device: str) -> float:
    began = perf_counter()
    policy = ProcessPolicy(folder, runtime, device)
    try:
        policy.wait()
        policy.predict(blank_observation(policy.contract))
        return perf_counter() - began
    finally:
        policy.close()


@contextmanager
def _marked(
    network: nn.Module | None, device: torch.device | None, marks: list[float]
) -> Iterator[None]:
    """Append to `marks` when `network` is entered and left; on a GPU, when it has come to that."""
    if network is None:
        yield
        return

    def mark(*_: object) -> None:
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)
        marks.append(perf_counter())

    handles = [network.register_forward_pre_hook(mark), network.register_forward_hook(mark)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _latency(seconds: Sequence[float]) -> Latency:
    p50, p95, p99 = np.percentile(np.array(seconds) * 1e3, (50, 95, 99)).tolist()
    return Latency(p50_ms=p50, p95_ms=p95, p99_ms=p99)


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MIB if sys.platform == "darwin" else 1024)
