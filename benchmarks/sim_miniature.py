"""Policies trained from simulated bags, in closed loop on fresh seeds, beside two baselines.

    python benchmarks/sim_miniature.py                    # state and one 120x160 camera, 3 seeds
    python benchmarks/sim_miniature.py --sees state       # about 10 minutes on 2 quiet cores
    python benchmarks/sim_miniature.py --quick            # a few steps, for the tests

The whole path for each: demonstrations as bags, ingest, training with several seeds, 50 episodes
each on seeds that no demonstration has. The baselines see the same: a replay of the demonstration
that began most alike, and the network after one step.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from act_data.ingest import IngestSettings, ingest
from act_data.interfaces import DatasetReader
from act_data.records import StatsRecord
from act_data.store import open_dataset
from act_model.chunking import ActionQueue
from act_model.config import Contract
from act_model.policy import Policy
from act_model.recipe import TrainRequest, train
from act_model.sim.demonstrations import SimulateRequest, simulate
from act_model.sim.records import StageRates, rates_of
from act_model.sim.rollouts import FIRST_SEED, SimRequest, evaluate_in_sim, roll_out
from act_model.sim.sensors import Pictures, timing_of
from act_model.sim.simulation import Simulation
from act_model.sim.tasks import TASKS

EXAMPLES = Path(__file__).parent.parent / "examples"
TASK = TASKS["transfer_cube"]
SIZE = (120, 160)
Row = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Amount:
    demos: int
    steps: Mapping[str, int]
    episodes: int
    training_seeds: int
    ticks: int
    jobs: int


FULL = Amount(
    demos=50,
    steps={"state": 2000, "pixels": 2400},
    episodes=50,
    training_seeds=3,
    ticks=TASK.ticks,
    jobs=2,
)
QUICK = Amount(
    demos=3, steps={"state": 2, "pixels": 2}, episodes=1, training_seeds=1, ticks=12, jobs=1
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sees", choices=["state", "pixels", "both"], default="both")
    parser.add_argument("--quick", action="store_true", help="a few steps")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    amount = QUICK if options.quick else FULL
    kinds = ["state", "pixels"] if options.sees == "both" else [options.sees]
    rows: list[Row] = []
    with TemporaryDirectory() as scratch:
        os.environ["ACT_REGISTRY"] = str(Path(scratch, "registry.db"))
        for kind in kinds:
            rows += measured(kind, amount, Path(scratch, kind))
    if options.json:
        print(json.dumps({"rows": rows}))
        return
    print(f"{'policy':34}{'n':>5}{'lifted':>8}{'success':>9}{'95 %':>12}{'held':>7}{'train s':>9}")
    for row in rows:
        print(
            f"{row['name']:34}{row['episodes']:5}{row['lifted']:8.0%}{row['success']:9.0%}"
            f"{row['low']:6.0%}-{row['high']:<5.0%}{row['held']:7.0%}{row['train_s']:9.0f}"
        )


def measured(kind: str, amount: Amount, folder: Path) -> list[Row]:
    cameras = ("top",) if kind == "pixels" else ()
    simulate(
        SimulateRequest(
            task=TASK.name,
            out=folder / "bags",
            episodes=amount.demos,
            cameras=cameras,
            size=SIZE,
            jobs=amount.jobs,
        )
    )
    path = folder / "cube.zarr"
    ingest([folder / "bags"], path, IngestSettings())
    reader = open_dataset(path)
    rows = []
    for seed in range(amount.training_seeds):
        rows.append(trained(kind, amount, folder, seed, amount.steps[kind]))
    rows.append(trained(kind, amount, folder, 0, 1, name=f"{kind}: untrained (1 step)"))
    rows.append(replayed(kind, amount, reader, folder / f"run-0-{amount.steps[kind]}"))
    return rows


def trained(kind: str, amount: Amount, folder: Path, seed: int, steps: int, name: str = "") -> Row:
    out = folder / f"run-{seed}-{steps}"
    began = perf_counter()
    report = train(
        TrainRequest(
            dataset=str(folder / "cube.zarr"),
            out=out,
            config=EXAMPLES / f"sim_{kind}.yaml",
            size="tiny",
            steps=steps,
            seed=seed,
        )
    )
    took = perf_counter() - began
    said(f"{kind}, training seed {seed}: {steps} steps in {took:.0f} s")
    evaluation = evaluate_in_sim(
        SimRequest(
            checkpoint=Path(report.checkpoint),
            task=TASK.name,
            episodes=amount.episodes,
            chunks=("ensemble",),
            ticks=amount.ticks,
            jobs=amount.jobs,
        )
    )
    rates = evaluation.conditions[0].rates
    return row(name or f"{kind}: {steps} steps, training seed {seed}", rates, took)


def replayed(kind: str, amount: Amount, reader: DatasetReader, run: Path) -> Row:
    """The baseline that any policy must beat to have learned more than a look-up."""
    policy = Policy.load(run / "best" if (run / "best").is_dir() else run / "last", "cpu")
    contract = policy.contract
    pictures = Pictures(
        cameras=tuple(c.name for c in contract.cameras), height=SIZE[0], width=SIZE[1]
    )
    simulation = Simulation(TASK, pictures=pictures, timing=timing_of("none"))
    trials = []
    for seed in range(FIRST_SEED, FIRST_SEED + amount.episodes):
        nearest = NearestDemonstration(contract, policy.stats, reader)
        queue = ActionQueue(contract.chunk_size, 14)
        trials.append(roll_out(nearest, simulation, seed, queue, ticks=amount.ticks).trial)
    simulation.close()
    return row(f"{kind}: replay of the nearest demo", rates_of(TASK.stages, trials), 0.0)


class NearestDemonstration:
    """Plays the training demonstration whose first observation is nearest to the first it sees."""

    def __init__(self, contract: Contract, stats: StatsRecord, reader: DatasetReader) -> None:
        self.contract = contract
        self.stats = stats
        self._reader = reader
        self._names = [v.name for v in contract.state] + [
            f"images/{c.name}" for c in contract.cameras
        ]
        self._actions: NDArray[np.float32] | None = None
        self._done = 0

    def predict(self, observation: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        if self._actions is None:
            train = [i for i, e in enumerate(self._reader.episodes) if e.split == "train"]
            far = [self._distance(observation, episode) for episode in train]
            nearest = train[int(np.argmin(far))]
            self._actions = self._reader.read("action", nearest).astype(np.float32)
        size = self.contract.chunk_size
        rows = np.minimum(np.arange(self._done, self._done + size), len(self._actions) - 1)
        self._done += size
        chunk: NDArray[np.float32] = self._actions[rows]
        return chunk

    def _distance(self, observation: Mapping[str, NDArray[np.generic]], episode: int) -> float:
        return sum(
            float(
                np.abs(
                    observation[name].astype(np.float64)
                    - self._reader.read(name, episode, 0, 1)[0].astype(np.float64)
                ).mean()
            )
            for name in self._names
        )


def row(name: str, rates: StageRates, train_s: float) -> Row:
    stages = list(rates.stages.values())
    return {
        "name": name,
        "episodes": stages[-1].of,
        "lifted": stages[1].share,
        "success": stages[-1].share,
        "low": stages[-1].low,
        "high": stages[-1].high,
        "held": rates.held.share,
        "train_s": train_s,
    }


def said(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
