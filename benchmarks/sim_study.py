"""Does soft synchronisation matter? Success in closed loop by how recordings were synchronised.

    python benchmarks/sim_study.py --work study/                  # all that is missing
    python benchmarks/sim_study.py --work study/ --only sync --seeds 1
    python benchmarks/sim_study.py --work study/ --write docs/study.md    # tables and pictures
    python benchmarks/sim_study.py --quick                        # a few steps, for the tests

Demonstrations of Transfer Cube are recorded once for each level of realism, and every way to
synchronise (`study/datasets.py`) makes a dataset of the same recordings. A small policy that sees
joints and cube is trained on each, with several seeds, and let loose on 50 fresh seeds of the
simulator, whose sensors are as bad as those that were recorded. `jpeg` trains the policy of
`make demo-pixels` on pictures of different quality; that takes an hour a row.

Whatever is finished is a line of `rows.jsonl` in the work folder; the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from act_data.ingest import IngestSettings, ingest
from act_data.records import SYNC_REASON
from act_data.store import open_dataset
from act_data.types import Reason
from act_model.recipe import TrainRequest, train
from act_model.sim.demonstrations import SimulateRequest, simulate
from act_model.sim.records import Realism
from act_model.sim.rollouts import Chunks, SimRequest, evaluate_in_sim
from act_model.sim.tasks import TASKS
from benchmarks.study.datasets import SYNCS, dataset, robot_file
from benchmarks.study.page import written

TASK = TASKS["transfer_cube"]
NETWORK = Path(__file__).parent / "study" / "network.yaml"
PIXELS = Path(__file__).parent.parent / "examples" / "sim_pixels.yaml"
PAGE = Path(__file__).parent.parent / "docs" / "study.md"
REALISMS: tuple[Realism, ...] = get_args(Realism)
QUALITIES = (95, 50, 10)
QUICK_CELLS = (("bad", "newest"), ("bad", "get_frame"), ("none", "10"))
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Amount:
    demos: int = 50
    steps: int = 1200
    pixel_steps: int = 2400
    episodes: int = 50
    ticks: int = TASK.ticks
    size: tuple[int, int] = (120, 160)


QUICK = Amount(demos=2, steps=2, pixel_steps=2, episodes=1, ticks=8, size=(32, 32))


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training.

    Attributes:
        of: "sync" or "jpeg".
        way: How recordings were synchronised, or the quality of pictures.
        chunks: Ways to act; each is a row.
    """

    of: str
    realism: Realism
    way: str
    seed: int
    chunks: tuple[Chunks, ...]

    def key(self, chunks: str) -> str:
        return f"{self.of} {self.realism} {self.way} seed {self.seed} {chunks}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("sim_study"), help="kept, resumed")
    parser.add_argument("--seeds", type=int, default=3, help="of training [3]")
    parser.add_argument("--only", choices=["sync", "jpeg"], help="one of the questions")
    parser.add_argument("--realism", choices=REALISMS, help="of one level; calls go side by side")
    parser.add_argument("--write", type=Path, help="put what is there into this page, and end")
    parser.add_argument("--quick", action="store_true", help="a few steps, nothing is kept")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    asked = [
        c
        for c in cells(options.seeds)
        if options.only in (None, c.of) and options.realism in (None, c.realism)
    ]
    if options.quick:
        with TemporaryDirectory() as scratch:
            some = [c for c in cells(1) if (c.realism, c.way) in QUICK_CELLS]
            rows = measured(Path(scratch), some, QUICK)
            page = Path(shutil.copy(PAGE, scratch))
            written(page, rows, asked_ways())
    elif options.write is not None:
        rows = finished(options.work / "rows.jsonl")
        written(options.write, rows, asked_ways())
    else:
        rows = measured(options.work.absolute(), asked, Amount())
    if options.json:
        print(json.dumps({"rows": rows}))
        return
    for row in rows:
        print(f"{row['key']:44} success {row['success']:5.0%}  held {row['held']:5.0%}")


def cells(seeds: int) -> list[Cell]:
    """All of them, seed after seed, so that whatever is measured is comparable."""
    both: tuple[Chunks, ...] = ("open-loop", "ensemble")
    return [
        Cell(of="sync", realism=r, way=way, seed=seed, chunks=both if way == "hold" else both[:1])
        for seed in range(seeds)
        for r in REALISMS
        for way in SYNCS
    ] + [
        Cell(of="jpeg", realism="none", way=str(quality), seed=seed, chunks=both[1:])
        for seed in range(seeds)
        for quality in QUALITIES
    ]


def asked_ways() -> Mapping[str, Sequence[str]]:
    """What a whole study has, by question: what is missing is told as such."""
    return {"sync": SYNCS, "jpeg": [str(q) for q in QUALITIES]}


def measured(work: Path, asked: Sequence[Cell], amount: Amount) -> list[Row]:
    """The rows of `asked`, those of earlier calls included."""
    os.environ["ACT_REGISTRY"] = str(work / "registry.db")
    work.mkdir(parents=True, exist_ok=True)
    path = work / "rows.jsonl"
    done = {row["key"] for row in finished(path)}
    for cell in asked:
        if all(cell.key(chunks) in done for chunks in cell.chunks):
            continue
        for row in trained(cell, work, amount):
            if row["key"] in done:
                continue
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{row['key']}: {row['success']:.0%}", file=sys.stderr, flush=True)
    keys = {cell.key(chunks) for cell in asked for chunks in cell.chunks}
    return [row for row in finished(path) if row["key"] in keys]


def finished(path: Path) -> list[Row]:
    """What earlier calls measured."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def trained(cell: Cell, work: Path, amount: Amount) -> list[Row]:
    """One training, and a row for each way to act."""
    folder = work / f"{cell.of}-{cell.realism}"
    bags = recorded(cell, folder, amount)
    data = dataset(cell.way, bags, folder) if cell.of == "sync" else pictures(cell, bags, folder)
    run = folder / f"run-{cell.way}-{cell.seed}"
    shutil.rmtree(run, ignore_errors=True)
    began = perf_counter()
    report = train(
        TrainRequest(
            dataset=str(data),
            out=run,
            config=NETWORK if cell.of == "sync" else PIXELS,
            size="tiny",
            steps=amount.steps if cell.of == "sync" else amount.pixel_steps,
            image_size=None if cell.of == "sync" else amount.size,
            seed=cell.seed,
        )
    )
    took = perf_counter() - began
    evaluation = evaluate_in_sim(
        SimRequest(
            checkpoint=Path(report.checkpoint),
            task=TASK.name,
            episodes=amount.episodes,
            chunks=cell.chunks,
            realism=cell.realism,
            robot=str(robot_file(cell.way, folder)) if cell.of == "sync" else None,
            ticks=amount.ticks,
        )
    )
    whole = took + evaluation.wall_s
    reader = open_dataset(data)
    shutil.rmtree(run)
    return [
        {
            "key": cell.key(condition.chunks),
            "of": cell.of,
            "realism": cell.realism,
            "way": cell.way,
            "seed": cell.seed,
            "chunks": condition.chunks,
            "episodes": amount.episodes,
            "success": list(condition.rates.stages.values())[-1].share,
            "held": condition.rates.held.share,
            "frames": sum(entry.length for entry in reader.episodes),
            "valid": float(
                sum(
                    (reader.read(SYNC_REASON, i) == Reason.OK).all(axis=1).sum()
                    for i in range(len(reader.episodes))
                )
            ),
            "val_l1": report.best_l1,
            "wall_s": whole,
        }
        for condition in evaluation.conditions
    ]


def recorded(cell: Cell, folder: Path, amount: Amount) -> Path:
    """The recordings of a level of realism, made once."""
    bags = folder / "bags"
    if (folder / "recorded").exists():
        return bags
    shutil.rmtree(folder, ignore_errors=True)
    simulate(
        SimulateRequest(
            task=TASK.name,
            out=bags,
            episodes=amount.demos,
            realism=cell.realism,
            cameras=("top",) if cell.of == "jpeg" else (),
            size=amount.size,
        )
    )
    (folder / "recorded").touch()
    return bags


def pictures(cell: Cell, bags: Path, folder: Path) -> Path:
    """The recordings as a dataset whose pictures have the quality of `cell`."""
    path = folder / f"quality-{cell.way}.zarr"
    ingest([bags], path, IngestSettings(codec="jpeg", quality=int(cell.way)))
    return path


if __name__ == "__main__":
    main()
