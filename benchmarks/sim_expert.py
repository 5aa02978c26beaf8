"""How often the scripted expert of the simulator succeeds on fresh seeds, and what it costs.

    python benchmarks/sim_expert.py            # 100 seeds of each task
    python benchmarks/sim_expert.py --quick    # 3 of each

The motion is planned in the space of the tools and replayed in that of the joints, through the
sensors that a recording would have. Seeds from 20000 on: none was looked at when it was written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Generator
from time import perf_counter
from typing import TypeVar

from act_model.sim.demonstrations import demonstrate
from act_model.sim.expert import Expert
from act_model.sim.records import rates_of
from act_model.sim.sensors import Pictures, timing_of
from act_model.sim.simulation import Simulation
from act_model.sim.tasks import TASKS

FIRST_SEED = 20_000
R = TypeVar("R")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100, help="of each task [100]")
    parser.add_argument("--quick", action="store_true", help="3 seeds")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    seeds = 3 if options.quick else options.seeds
    found = {name: measured(name, seeds) for name in TASKS}
    if options.json:
        print(json.dumps(found))
        return
    print(f"{'task':15}{'seeds':>6}{'success':>9}{'held':>6}{'s/episode':>11}")
    for name, row in found.items():
        print(
            f"{name:15}{row['seeds']:6.0f}{row['success']:9.0f}{row['held']:6.0f}"
            f"{row['episode_s']:11.3f}"
        )


def measured(name: str, seeds: int) -> dict[str, float]:
    task = TASKS[name]
    simulation = Simulation(task, pictures=Pictures(), timing=timing_of("none"))
    expert = Expert(task)
    began = perf_counter()
    trials = [
        outcome(demonstrate(simulation, expert, seed))
        for seed in range(FIRST_SEED, FIRST_SEED + seeds)
    ]
    took = perf_counter() - began
    rates = rates_of(task.stages, trials)
    return {
        "seeds": seeds,
        "success": list(rates.stages.values())[-1].count,
        "held": rates.held.count,
        "episode_s": took / seeds,
    }


def outcome(steps: Generator[object, None, R]) -> R:
    """What a generator returns, whatever it gives before."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: R = end.value
            return result


if __name__ == "__main__":
    main()
