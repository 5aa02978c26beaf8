"""The paper's Transfer Cube: 50 scripted demonstrations, 480x640, chunk 100, from bags to success.

    python benchmarks/transfer_cube.py prepare --work cube/      # bags, dataset: needs no GPU
    python benchmarks/transfer_cube.py train --work cube/ --minutes 9    # on a GPU; again: goes on
    python benchmarks/transfer_cube.py evaluate --work cube/ --episodes 500
    python benchmarks/transfer_cube.py prepare --task insertion --work insertion/    # and so on
    python benchmarks/transfer_cube.py --quick                   # all three, tiny, on a CPU

It trains the published network by examples/sim_gpu.yaml. `train` stops after `--minutes` with
a checkpoint and is resumed exactly by the next call. `evaluate` writes `results.json` and
`results.md` into the work folder. MFU is the share of what a large bfloat16 matrix product reaches
on the same device; the forward pass is counted as PyTorch counts it, the backward pass as twice
that.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from act_data.ingest import IngestSettings, ingest
from act_model.policy import Policy
from act_model.recipe import TrainRequest, train
from act_model.sim.demonstrations import SimulateRequest, simulate
from act_model.sim.rollouts import SimRequest, evaluate_in_sim
from act_model.train import StepReport
from benchmarks.peers.compute import forward_flops, matmul_flops

CONFIG = Path(__file__).resolve().parent.parent / "examples" / "sim_gpu.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["prepare", "train", "evaluate"])
    parser.add_argument("--work", type=Path, default=Path("transfer_cube"))
    parser.add_argument("--task", choices=["transfer_cube", "insertion"], default="transfer_cube")
    parser.add_argument("--config", type=Path, default=CONFIG, help="of the training run")
    parser.add_argument("--demos", type=int, default=50)
    parser.add_argument("--steps", type=int, help="of the whole training [as the config says]")
    parser.add_argument("--minutes", type=float, default=9.0, help="of one call of train [9]")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="all three steps, tiny, on a CPU")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    if options.quick:
        with TemporaryDirectory() as scratch:
            options.work, options.demos, options.episodes = Path(scratch), 2, 1
            options.steps, options.jobs, options.config = 3, 1, None
            prepare(options)
            options.minutes = 0.0  # every sitting ends as soon as it may
            while not trained(options)["done"]:
                pass
            found = evaluated(options)
        print(json.dumps(found) if options.json else found)
        return
    os.environ["ACT_REGISTRY"] = str(options.work.absolute() / "registry.db")
    if options.what == "prepare":
        prepare(options)
    elif options.what == "train":
        print(json.dumps(trained(options)))
    elif options.what == "evaluate":
        print(json.dumps(evaluated(options)))
    else:
        parser.error("name what to do: prepare, train or evaluate; or --quick")


def prepare(options: argparse.Namespace) -> None:
    """Bags and the dataset that they become. It is made on a CPU and carried to the GPU."""
    work = options.work
    os.environ["ACT_REGISTRY"] = str(work.absolute() / "registry.db")
    simulate(
        SimulateRequest(
            task=options.task,
            out=work / "bags",
            episodes=options.demos,
            cameras=("top",),
            size=(48, 64) if options.quick else (480, 640),
            jpeg=95,
            jobs=options.jobs,
        )
    )
    ingest([work / "bags"], work / "demos.zarr", IngestSettings(jobs=options.jobs))


def trained(options: argparse.Namespace) -> dict[str, object]:
    """One sitting: until the steps are done, or the minutes are over."""
    work = options.work
    until = perf_counter() + 60 * options.minutes
    rates: list[float] = []
    waited_s: list[float] = []
    spent_s: list[float] = []

    def on_step(report: StepReport) -> None:
        rates.append(report.samples_per_s)
        waited_s.append(report.seconds["data"])
        spent_s.append(sum(report.seconds.values()))
        if perf_counter() >= until and report.step < report.steps:
            signal.raise_signal(signal.SIGINT)  # ends after the next step, with a checkpoint

    began = perf_counter()
    done = True
    try:
        train(
            TrainRequest(
                dataset=str(work / "demos.zarr"),
                out=work / "run",
                config=options.config,
                size="tiny" if options.quick else "act",
                steps=options.steps,
                chunk=4 if options.quick else None,
                val_every=1 if options.quick else None,
                resume=(work / "run").exists(),
            ),
            on_step=on_step,
        )
    except KeyboardInterrupt:
        done = False
    sitting = {
        "steps": len(rates),
        "wall_s": perf_counter() - began,
        "rates": rates[1:] or rates,
        "waited_s": sum(waited_s),
        "spent_s": sum(spent_s),
        "matmul_tflop_per_s": _matmul_flops() / 1e12,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }
    with (work / "sittings.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(sitting) + "\n")
    return {
        "done": done,
        "steps": len(rates),
        "samples_per_s": _median(rates),
        "data_wait": sum(waited_s) / max(sum(spent_s), 1e-9),
    }


def evaluated(options: argparse.Namespace) -> dict[str, object]:
    """Success over fixed seeds, and what training cost; also into the work folder."""
    work = options.work
    last, best = work / "run" / "last", work / "run" / "best"
    report = evaluate_in_sim(
        SimRequest(
            checkpoint=best if best.is_dir() else last,
            task=options.task,
            episodes=options.episodes,
            chunks=("open-loop", "ensemble"),
            execute=4 if options.quick else 100,
            ticks=8 if options.quick else None,
            jobs=options.jobs,
            page=work / "page",
            videos=0 if options.quick else 3,
        )
    )
    lines = (work / "sittings.jsonl").read_text(encoding="utf-8").splitlines()
    sittings = [json.loads(line) for line in lines]
    rates = [rate for sitting in sittings for rate in sitting["rates"]]
    policy = Policy.load(Path(report.checkpoint), "cpu")
    flops = 3 * forward_flops(policy)  # backward costs twice what forward does
    rate = _median(rates)
    matmul = _median([sitting["matmul_tflop_per_s"] for sitting in sittings])
    spent_s = sum(sitting["spent_s"] for sitting in sittings)
    rows = [
        {
            "name": f"{c.chunks}, every {c.execute}",
            "episodes": options.episodes,
            "success": list(c.rates.stages.values())[-1].share,
            "low": list(c.rates.stages.values())[-1].low,
            "high": list(c.rates.stages.values())[-1].high,
            "held": c.rates.held.share,
        }
        for c in report.conditions
    ]
    found: dict[str, object] = {
        "device": sittings[-1]["device"],
        "steps": sum(sitting["steps"] for sitting in sittings),
        "sittings": len(sittings),
        "train_s": sum(sitting["wall_s"] for sitting in sittings),
        "samples_per_s": rate,
        "gflop_per_sample": flops / 1e9,
        "tflop_per_s": flops * rate / 1e12,
        "mfu": flops * rate / 1e12 / matmul,
        "data_wait": sum(sitting["waited_s"] for sitting in sittings) / max(spent_s, 1e-9),
        "rows": rows,
    }
    (work / "results.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (work / "results.md").write_text(_table(found, rows), encoding="utf-8")
    return found


def _matmul_flops() -> float:
    cuda = torch.cuda.is_available()
    side, device = (8192, "cuda") if cuda else (768, "cpu")
    return matmul_flops(side, device, times=5, dtype=torch.bfloat16)


def _median(rates: list[float]) -> float:
    return sorted(rates)[len(rates) // 2] if rates else 0.0


def _table(found: dict[str, object], rows: list[dict[str, object]]) -> str:
    lines = [
        f"{found['device']}: {found['steps']} steps in {found['train_s']:.0f} s, "
        f"{found['samples_per_s']:.1f} samples/s, {found['tflop_per_s']:.2f} TFLOP/s, "
        f"MFU {found['mfu']:.0%}, {found['data_wait']:.1%} of it waiting for data",
        "",
        "| chunks | episodes | success | 95 % | held |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['name']} | {r['episodes']} | {r['success']:.0%} | {r['low']:.0%} to {r['high']:.0%} "
        f"| {r['held']:.0%} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
