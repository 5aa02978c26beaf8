"""Policies trained from simulated bags, in closed loop on fresh seeds, beside two baselines.

    python benchmarks/sim_miniature.py                    # state and one 120x160 camera, 3 seeds
    python benchmarks/sim_miniature.py --sees state       # about 10 minutes on 2 quiet cores
    python benchmarks/sim_miniature.py --sees state --policy both  # and diffusion: 3 x as long
    python benchmarks/sim_miniature.py --quick            # a few steps, for the tests

The whole path for each: demonstrations as bags, ingest, training with several seeds, 50 episodes
each on seeds that no demonstration has. The baselines see the same: a replay of the demonstration
that began most alike, and the network after one step. Where a policy sees pictures, both ways to
act are shown: they differ much there.

Whatever is finished is a line of `rows.jsonl` in the work folder: the same command, after whatever
stopped it, goes on with what is missing, training included, and prints all rows.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

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
from act_model.run_folder import LAST
from act_model.sim.demonstrations import SimulateRequest, simulate
from act_model.sim.records import Trial, rates_of
from act_model.sim.rollouts import (
    FIRST_SEED,
    Chunks,
    SimRequest,
    evaluate_in_sim,
    roll_out,
)
from act_model.sim.sensors import Pictures, timing_of
from act_model.sim.simulation import Simulation
from act_model.sim.tasks import TASKS

EXAMPLES = Path(__file__).parent.parent / "examples"
TASK = TASKS["transfer_cube"]
SIZE = (120, 160)
CHUNKS: Mapping[str, tuple[Chunks, ...]] = {
    "state": ("ensemble",),
    "pixels": ("open-loop", "ensemble"),
}
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Amount:
    demos: int
    steps: Mapping[tuple[str, str], int]
    episodes: int
    training_seeds: int
    ticks: int


FULL = Amount(
    demos=50,
    steps={("state", "act"): 2000, ("state", "diffusion"): 6000, ("pixels", "act"): 2400},
    episodes=50,
    training_seeds=3,
    ticks=TASK.ticks,
)
QUICK = Amount(demos=3, steps=dict.fromkeys(FULL.steps, 2), episodes=1, training_seeds=1, ticks=12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sees", choices=["state", "pixels", "both"], default="both")
    parser.add_argument("--policy", choices=["act", "diffusion", "both"], default="act")
    parser.add_argument("--work", type=Path, default=Path("sim_miniature"), help="kept, resumed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--quick", action="store_true", help="a few steps, nothing is kept")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    kinds = ["state", "pixels"] if options.sees == "both" else [options.sees]
    policies = ["act", "diffusion"] if options.policy == "both" else [options.policy]
    runs = [run for run in FULL.steps if run[0] in kinds and run[1] in policies]
    if options.quick:
        runs = [run for run in FULL.steps if run[0] in kinds]
        with TemporaryDirectory() as scratch:
            rows = measured(runs, QUICK, Path(scratch), jobs=1)
    else:
        rows = measured(runs, FULL, options.work.absolute(), jobs=options.jobs)
    if options.json:
        print(json.dumps({"rows": rows}))
        return
    print(f"{'policy':46}{'n':>5}{'lifted':>8}{'success':>9}{'95 %':>12}{'held':>7}{'train s':>9}")
    for row in rows:
        print(
            f"{row['name']:46}{row['episodes']:5}{row['lifted']:8.0%}{row['success']:9.0%}"
            f"{row['low']:6.0%}-{row['high']:<5.0%}{row['held']:7.0%}{row['train_s']:9.0f}"
        )


def measured(runs: list[tuple[str, str]], amount: Amount, work: Path, jobs: int) -> list[Row]:
    """All rows of `runs` (what is seen, policy), those that an earlier call finished included."""
    os.environ["ACT_REGISTRY"] = str(work / "registry.db")
    work.mkdir(parents=True, exist_ok=True)
    done = Rows(work / "rows.jsonl")
    names = []
    for kind, policy in runs:
        steps = amount.steps[kind, policy]
        folder = work / kind
        recorded(kind, amount, folder, jobs)
        who = kind if policy == "act" else f"{kind}, {policy}"
        for seed in range(amount.training_seeds):
            name = f"{who}: {steps} steps, training seed {seed}"
            names += acted(done, name, kind, policy, amount, folder, seed, steps, jobs)
        name = f"{who}: untrained (1 step)"
        names += acted(done, name, kind, policy, amount, folder, 0, 1, jobs)
        if policy == "act":
            names.append(f"{kind}: replay of the nearest demo")
            if names[-1] not in done:
                reader = open_dataset(folder / "cube.zarr")
                done.add(replayed(amount, reader, folder / f"run-0-{steps}", names[-1]))
    return [done[name] for name in names]


class Rows:
    """Finished rows by name, in a file that only grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._rows: dict[str, Row] = {row["name"]: row for row in map(json.loads, lines)}

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def __getitem__(self, name: str) -> Row:
        return self._rows[name]

    def add(self, row: Row) -> None:
        self._rows[row["name"]] = row
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{row['name']}: {row['success']:.0%}", file=sys.stderr, flush=True)


def recorded(kind: str, amount: Amount, folder: Path, jobs: int) -> None:
    """The dataset of `kind`, from bags that are deleted once they are ingested."""
    if (folder / "cube.zarr").is_dir() and not (folder / "bags").is_dir():
        return
    shutil.rmtree(folder, ignore_errors=True)
    simulate(
        SimulateRequest(
            task=TASK.name,
            out=folder / "bags",
            episodes=amount.demos,
            cameras=("top",) if kind == "pixels" else (),
            size=SIZE,
            jobs=jobs,
        )
    )
    ingest([folder / "bags"], folder / "cube.zarr", IngestSettings(jobs=jobs))
    shutil.rmtree(folder / "bags")


def acted(
    done: Rows,
    name: str,
    kind: str,
    policy: str,
    amount: Amount,
    folder: Path,
    seed: int,
    steps: int,
    jobs: int,
) -> list[str]:
    """Train a policy and let it act in every way of `kind`; the names of the rows in `done`."""
    several = len(CHUNKS[kind]) > 1
    names: dict[str, str] = {
        chunks: f"{name}, {chunks}" if several else name for chunks in CHUNKS[kind]
    }
    missing = tuple(chunks for chunks in CHUNKS[kind] if names[chunks] not in done)
    if missing:
        out = folder / "-".join(["run", *([] if policy == "act" else [policy]), f"{seed}-{steps}"])
        checkpoint, took_s = trained(kind, policy, folder, out, seed, steps)
        evaluation = evaluate_in_sim(
            SimRequest(
                checkpoint=checkpoint,
                task=TASK.name,
                episodes=amount.episodes,
                chunks=missing,
                ticks=amount.ticks,
                jobs=jobs,
            )
        )
        for condition in evaluation.conditions:
            trials = [rollout.trial for rollout in condition.rollouts]
            done.add(row(names[condition.chunks], trials, took_s))
    return list(names.values())


def trained(
    kind: str, policy: str, folder: Path, out: Path, seed: int, steps: int
) -> tuple[Path, float]:
    """The checkpoint of a run, finished if it was begun, and the seconds of this sitting."""
    resume = (out / LAST).is_dir()
    if not resume:
        shutil.rmtree(out, ignore_errors=True)
    began = perf_counter()
    report = train(
        TrainRequest(
            dataset=str(folder / "cube.zarr"),
            out=out,
            config=EXAMPLES / f"sim_{kind}.yaml",
            policy=policy,
            size="tiny",
            steps=steps,
            seed=seed,
            resume=resume,
        )
    )
    return Path(report.checkpoint), perf_counter() - began


def replayed(amount: Amount, reader: DatasetReader, run: Path, name: str) -> Row:
    """The baseline that any policy must beat to have learned more than a look-up."""
    policy = Policy.load(run / "best" if (run / "best").is_dir() else run / LAST, "cpu")
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
    return row(name, trials, 0.0)


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


def row(name: str, trials: list[Trial], train_s: float) -> Row:
    """Of one policy; `train_s` is that of the last sitting where training was resumed."""
    rates = rates_of(TASK.stages, trials)
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
        "rewards": [trial.reward for trial in trials],
    }


if __name__ == "__main__":
    main()
