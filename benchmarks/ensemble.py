"""One tick of temporal ensembling: ours beside the dense table of the original ACT, in turns.

    python benchmarks/ensemble.py            # K = 32 and 100, A = 14, a table for 10,000 ticks
    python benchmarks/ensemble.py --quick    # a second, for a machine that should not judge time
    python benchmarks/ensemble.py --json

The table of the original is (T, T + K, A) float64; it grows into memory as ticks touch it, so its
size is virtual. A tick writes one chunk, reads one column, looks for rows without an exact zero and
averages them. Both sides get the same chunks in the same tick, and must agree.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from act_model.chunking import TemporalEnsemble

M = 0.01
ACTION_DIM = 14
WARM_UP = 20  # ticks that are not timed


class DenseTable:
    """What imitate_episodes.py does, restated in numpy."""

    def __init__(self, ticks: int, chunk_size: int, action_dim: int) -> None:
        self.table = np.zeros((ticks, ticks + chunk_size, action_dim))
        self._size = chunk_size

    def tick(self, t: int, chunk_KA: NDArray[np.float32]) -> NDArray[np.float64]:
        self.table[t, t : t + self._size] = chunk_KA
        column = self.table[:, t]
        populated = column[np.all(column != 0, axis=1)]
        weights = np.exp(-M * np.arange(len(populated)))
        mean: NDArray[np.float64] = (populated * (weights / weights.sum())[:, None]).sum(axis=0)
        return mean


@dataclass(frozen=True, kw_only=True)
class Row:
    """One chunk size. Times are of one tick: take a chunk, give an action."""

    chunk_size: int
    table_ticks: int
    timed_ticks: int
    ours_p50_us: float
    ours_p99_us: float
    ours_bytes: int
    table_p50_us: float
    table_p99_us: float
    table_bytes: int

    @property
    def ratio(self) -> float:
        return self.table_p50_us / self.ours_p50_us


def measure(chunk_size: int, table_ticks: int, timed: int) -> Row:
    rng = np.random.default_rng(0)
    chunks = rng.normal(size=(64, chunk_size, ACTION_DIM)).astype(np.float32)
    table = DenseTable(table_ticks, chunk_size, ACTION_DIM)
    ours = TemporalEnsemble(chunk_size, ACTION_DIM, m=M)
    ours_ns, table_ns = [], []
    for t in range(WARM_UP + timed):
        chunk_KA = chunks[t % len(chunks)]
        began = time.perf_counter_ns()
        ours.add(t, chunk_KA)
        action = ours.next(t)
        between = time.perf_counter_ns()
        expected = table.tick(t, chunk_KA)
        ended = time.perf_counter_ns()
        assert action is not None
        np.testing.assert_allclose(action, expected, rtol=1e-4, atol=1e-5)
        if t >= WARM_UP:
            ours_ns.append(between - began)
            table_ns.append(ended - between)
    return Row(
        chunk_size=chunk_size,
        table_ticks=table_ticks,
        timed_ticks=timed,
        ours_p50_us=float(np.percentile(ours_ns, 50)) / 1e3,
        ours_p99_us=float(np.percentile(ours_ns, 99)) / 1e3,
        ours_bytes=ours.nbytes,
        table_p50_us=float(np.percentile(table_ns, 50)) / 1e3,
        table_p99_us=float(np.percentile(table_ns, 99)) / 1e3,
        table_bytes=table.table.nbytes,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a table for 500 ticks, 60 timed")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    table_ticks, timed = (500, 60) if options.quick else (10_000, 500)
    rows = [measure(chunk_size, table_ticks, timed) for chunk_size in (32, 100)]
    if options.json:
        print(json.dumps({"rows": [{**asdict(row), "ratio": row.ratio} for row in rows]}))
        return
    print(f"one tick, A = {ACTION_DIM}, table for {table_ticks} ticks, {timed} ticks timed")
    print(f"{'K':>4} {'':6} {'p50 us':>9} {'p99 us':>9} {'bytes':>16}")
    for row in rows:
        print(
            f"{row.chunk_size:>4} {'table':6} {row.table_p50_us:>9.1f} {row.table_p99_us:>9.1f} "
            f"{row.table_bytes:>16,}"
        )
        print(
            f"{'':4} {'ours':6} {row.ours_p50_us:>9.1f} {row.ours_p99_us:>9.1f} "
            f"{row.ours_bytes:>16,}   {row.ratio:.0f} x faster at p50"
        )


if __name__ == "__main__":
    main()
