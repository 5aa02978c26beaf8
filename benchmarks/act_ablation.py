"""Which of ACT's mended defects matter: each is put back alone, and the robot is let loose.

    python benchmarks/act_ablation.py --work ablation/ --jobs 2    # 5 seeds of every row
    python benchmarks/act_ablation.py --quick                      # a few steps, for the tests

The task (`ablation/world.py`) gives every defect a chance to do harm. Demonstrations are written
with the store, trained on with the trainer, and rolled out in closed loop with the policy and the
action queue of a deployment. A seed decides demonstrations, weights, batches and the scenes of the
rollout, for all rows alike: rows are compared seed by seed.

Results are lines of `results.jsonl` in the work folder; a second call does what is missing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from act_data.store import open_dataset
from act_model.config import TrainConfig
from act_model.nn import ActCvae
from act_model.policy import Policy
from act_model.train import train
from benchmarks.ablation.choosing import Chooser
from benchmarks.ablation.defects import with_defects
from benchmarks.ablation.episodes import dataset, rolled_out
from benchmarks.ablation.rows import QUICK, ROWS, Amount, Row, network, training
from benchmarks.ablation.verdict import choices, show, table
from benchmarks.ablation.vision import offer

FIRST_SEED = 1  # with 0 the task was made
Task = tuple[Path, Amount, int, tuple[str, ...]]  # work folder, amount, seed, rows of one training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("act_ablation"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each [1]")
    parser.add_argument("--only", action="append", choices=list(ROWS), help="this row; repeatable")
    parser.add_argument("--quick", action="store_true", help="a few steps of every row, one seed")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    names = options.only or list(ROWS)
    if options.quick:
        with TemporaryDirectory() as scratch:
            results = measured(Path(scratch), QUICK, names, seeds=1, jobs=0)
    else:
        results = measured(options.work, Amount(), names, options.seeds, options.jobs)
    rows = table(results)
    if options.json:
        print(json.dumps({"rows": rows, "choices": choices(results)}))
        return
    show(rows)
    for what, winner in choices(results).items():
        print(f"{what}: {winner}")


def measured(
    work: Path, amount: Amount, names: Sequence[str], seeds: int, jobs: int
) -> list[dict[str, Any]]:
    """What is in `results.jsonl` about `names`, after what was missing there has been done."""
    work.mkdir(parents=True, exist_ok=True)
    file = work / "results.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    if any(line["amount"] != asdict(amount) for line in done):
        sys.exit(f"{file} holds results of other amounts: name another --work")
    have = {(line["row"], line["seed"]) for line in done}
    together: dict[str, list[str]] = {}
    for name in names:
        together.setdefault(ROWS[name].training, []).append(name)
    wanted = range(FIRST_SEED, FIRST_SEED + seeds)
    tasks: list[Task] = [
        (work, amount, seed, missing)
        for seed in wanted  # seed by seed: what is interrupted can be compared
        for group in together.values()
        if (missing := tuple(name for name in group if (name, seed) not in have))
    ]
    for seed in wanted:
        dataset(work / f"seed-{seed}.zarr", amount, seed)
    with file.open("a", encoding="utf-8") as out:
        for lines in _each(tasks, jobs):
            for line in lines:
                out.write(json.dumps(line) + "\n")
                done.append(line)
            out.flush()
    return [line for line in done if line["row"] in names and line["seed"] in wanted]


def _each(tasks: Sequence[Task], jobs: int) -> Iterator[list[dict[str, Any]]]:
    """The lines of each task; in this process if there are no `jobs`."""
    if not jobs:
        for task in tasks:
            yield trained(task)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for number, lines in enumerate(pool.map(trained, tasks), start=1):
            for line in lines:
                print(
                    f"{number}/{len(tasks)} seed {line['seed']} {line['row']}: "
                    f"{line['success']:.0%}, {line['train_s']:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )
            yield lines


def trained(task: Task) -> list[dict[str, Any]]:
    """Train what the rows of `task` have in common, and roll out the checkpoint of each."""
    work, amount, seed, names = task
    torch.set_num_threads(1)
    offer(work / "backbone")
    row = ROWS[names[0]]
    reader = open_dataset(work / f"seed-{seed}.zarr")
    config = TrainConfig.model_validate({**training(amount, seed), **row.train})
    with TemporaryDirectory(dir=work) as scratch:
        out = Path(scratch, "run")
        chooser = Chooser(out, reader, config, amount, seed)
        model = {**network(amount), **row.model}
        began = time.process_time()
        with with_defects(*row.defects):
            train(reader, out=out, config=config, model=model, on_step=chooser.on_step)
        took = time.process_time() - began
        return [
            {
                "row": name,
                "seed": seed,
                "amount": asdict(amount),
                "l1": chooser.l1[ROWS[name].pick],
                "step": chooser.step[ROWS[name].pick],
                "train_s": took,
                **rolled_out(_policy(chooser, ROWS[name]), amount, seed),
            }
            for name in names
        ]


def _policy(chooser: Chooser, row: Row) -> Policy:
    policy = Policy.load(chooser.folder(row.pick), "cpu")
    net = policy.network
    assert isinstance(net, ActCvae)
    net.config = net.config.model_copy(update={"vq_prior": row.vq_prior})
    return policy


if __name__ == "__main__":
    main()
