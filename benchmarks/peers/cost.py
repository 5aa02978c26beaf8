"""What reading samples costs a process and the workers that it starts. Needs nothing but Python."""

from __future__ import annotations

import json
import os
import random
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import active_children
from pathlib import Path
from typing import Any

BATCH = 8
WORKERS = 2
CHUNK = 100  # actions of a sample

Read = Callable[[Sequence[int]], Any]
"""Reads the samples at some steps."""
Load = Callable[[Sequence[int]], Iterable[Any]]
"""Goes through the samples at some steps, batch by batch."""


def order(steps: int, samples: int) -> list[int]:
    """`samples` steps of an episode of `steps`, the same ones for everybody."""
    rng = random.Random(0)
    return [rng.randrange(steps) for _ in range(samples)]


def of_reading(read: Read, steps: int, samples: int) -> dict[str, float]:
    """Milliseconds of CPU and of time per sample, the first batch aside."""
    picks = order(steps, samples)
    read(picks[:BATCH])
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for start in range(0, samples, BATCH):
        read(picks[start : start + BATCH])
    return _per_sample(time.process_time() - cpu_s, time.perf_counter() - began_s, samples)


def of_loading(load: Load, steps: int, samples: int) -> dict[str, float]:
    """The same with everything that a loader starts, from its beginning to its end."""
    began_s, cpu_s = time.perf_counter(), _all_s()
    for batch in load(order(steps, samples)):
        del batch
    return _per_sample(_all_s() - cpu_s, time.perf_counter() - began_s, samples)


def of_memory(load: Load, steps: int, samples: int) -> dict[str, float]:
    """The most memory that the process and its workers held beyond what it began with, in MiB."""
    before = _family_bytes()
    most = max(_family_bytes() for _ in load(order(steps, samples)))
    return {"mib": (most - before) / 2**20}


def tell(cost: dict[str, float]) -> None:
    """For the process that asked."""
    print(json.dumps(cost))


def _family_bytes() -> int:
    """Of this process and its children; pages that several share count once (PSS)."""
    kilobytes = 0
    for process in (os.getpid(), *(child.pid for child in active_children())):
        with Path(f"/proc/{process}/smaps_rollup").open() as lines:
            kilobytes += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes * 1024


def _all_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _per_sample(cpu_s: float, wall_s: float, samples: int) -> dict[str, float]:
    return {"cpu_ms": cpu_s / samples * 1e3, "wall_ms": wall_s / samples * 1e3}
