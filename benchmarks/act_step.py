"""A training step and a prediction beside LeRobot's ACT and the original's own code, in turns.

    python benchmarks/act_step.py --act PATH        # 3 cameras 480x640, batch 2; minutes
    python benchmarks/act_step.py --device cuda --batch 8 --act PATH
    python benchmarks/act_step.py --quick           # ours alone and small: seconds
    python benchmarks/act_step.py --json

PATH is a checkout of tonyzhaozh/act; without it that row is left out. Everybody is a process of its
own, in an environment of its own, with the same pictures, the same number of threads and dropout
0.1, and they take turns: one step each, round after round.

train     from normalised pictures on the device to new weights: forward, loss, backward, gradient
          clipping (the original has none), AdamW
predict   from one observation, uint8 pictures and joints, to a chunk of 100 actions in radians

LeRobot's default has one decoder layer, and so have the rows "1 layer"; the original has seven and
uses one. In "bf16" the forward pass is under autocast. Our batch norms are always part of their
convolutions, and those of the backbone run with channels last; on a GPU a row has all weights in
that order, and one is compiled.

Ratios are of the medians, and of those of CPU time, which other programs disturb less. `busy` is
what the processor does in that time (FLOP of the step by torch's count) as a share of what it does
in a large matrix product of the same precision, measured in the same run: on a GPU the usual "MFU".

Then `act-model train` itself runs on a store of JPEG pictures that is made for it: samples per
second, the share of the time that it waited for data, and the hours that 100,000 steps at batch 8
take at that pace.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent / "peers")]

from act_timing import Setup  # type: ignore[import-not-found]  # noqa: E402

from benchmarks.peers import ACT, LEROBOT, NEWER, python_with  # noqa: E402

STEPS, BATCH = 100_000, 8  # what LeRobot's recipe trains


@dataclass
class Contender:
    """One process that takes part.

    Attributes:
        command: Starts it; the setup follows, and `after` that.
        times: Of its turns, in milliseconds.
        cpu: The same in CPU time: with one thread on a CPU, what the others' work does not change.
    """

    name: str
    setup: Setup
    command: list[str]
    after: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """Started, with its network built."""
        words = [*self.command, self.setup.dump(), *self.after]
        env = {**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}
        env |= {"OMP_NUM_THREADS": str(self.setup.threads), "PYTHONWARNINGS": "ignore"}
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        ) as process:
            try:
                assert process.stdout is not None
                self.facts = json.loads(process.stdout.readline() or "{}")
                if not self.facts:
                    raise RuntimeError(f"{self.name} did not start: {words}")
                yield process
            finally:
                process.kill()

    def turn(self, process: subprocess.Popen[str]) -> tuple[float, float]:
        """One more step: milliseconds, and those of CPU time."""
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        taken, cpu = process.stdout.readline().split()
        return float(taken), float(cpu)


def contenders(setup: Setup, args: argparse.Namespace) -> list[Contender]:
    """Who takes part in one of the two contests."""
    peers = HERE.parent / "peers"
    ours = [sys.executable, str(peers / "act_ours.py")]
    found = []
    gpu = setup.device != "cpu"
    if not args.quick and (python := python_with("lerobot", LEROBOT, NEWER)):
        command = [str(python), str(peers / "act_lerobot.py")]
        found.append(Contender("LeRobot", setup, command))
        found.append(Contender("LeRobot, bf16", replace(setup, precision="bf16"), command))
    if args.act is not None and (python := python_with("act", ACT, NEWER)):
        command = [str(python), str(peers / "act_originals.py"), "time"]
        after = ["act", str(args.act.resolve())]
        found.append(Contender("original", replace(setup, decoder_layers=7), command, after))
    for layers in (1,) if args.quick else (1, 4):
        name = f"ours, {layers} layer{'s' if layers > 1 else ''}"
        own = replace(setup, decoder_layers=layers)
        found.append(Contender(name, own, ours))
        found.append(Contender(f"{name}, bf16", replace(own, precision="bf16"), ours))
        if gpu:
            last = replace(own, precision="bf16", channels_last=True)
            found.append(Contender(f"{name}, bf16, channels last", last, ours))
            compiled = replace(last, compile=True)
            found.append(Contender(f"{name}, bf16, compiled", compiled, ours))
    return found


def contest(setup: Setup, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one table."""
    entrants = contenders(setup, args)
    with ExitStack() as stack:
        processes = [stack.enter_context(entrant.running()) for entrant in entrants]
        for number in range(args.rounds + 1):
            for entrant, process in zip(entrants, processes, strict=True):
                taken, cpu = entrant.turn(process)
                if number:  # the first one warms up
                    entrant.times.append(taken)
                    entrant.cpu.append(cpu)
    median = {entrant.name: statistics.median(entrant.times) for entrant in entrants}
    cpu_ms = {entrant.name: statistics.median(entrant.cpu) for entrant in entrants}
    peaks = {p: matmul_flops(setup, p) for p in {entrant.setup.precision for entrant in entrants}}
    counted = {e.name: e.facts["gflop"] for e in entrants if "gflop" in e.facts}
    rows = []
    for entrant in entrants:
        name, own = entrant.name, entrant.setup
        gflop: float = counted.get(name) or counted[name.removesuffix(", compiled")]
        seconds = median[name] / 1e3
        rows.append(
            {
                "what": own.what,
                "name": name,
                "median_ms": median[name],
                "cpu_ms": cpu_ms[name],
                "of_lerobot": _ratio(median, name, "LeRobot"),
                "cpu_of_lerobot": _ratio(cpu_ms, name, "LeRobot"),
                "of_original": _ratio(median, name, "original"),
                "samples_per_s": (own.batch if own.what == "train" else 1) / seconds,
                "gflop": gflop,
                "busy": gflop * 1e9 / seconds / peaks[own.precision],
                "parameters": entrant.facts["parameters"],
                "dead_share": entrant.facts.get("dead_share"),
            }
        )
    return rows


def _ratio(median: dict[str, float], name: str, peer: str) -> float | None:
    return median[name] / median[peer] if peer in median else None


def matmul_flops(setup: Setup, precision: str) -> float:
    """Operations per second of a large matrix product, the best of a few."""
    import torch

    torch.set_num_threads(setup.threads)
    side = 512 if setup.small else 8192 if setup.device != "cpu" else 2048
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(side, side, device=setup.device).to(kind)
    taken = []
    for _ in range(6):
        start = time.perf_counter()
        a @ a
        if setup.device != "cpu":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return 2 * side**3 / min(taken)


def from_store(setup: Setup, args: argparse.Namespace) -> list[dict[str, Any]]:
    """`act-model train` on a store of its own, by precision."""
    import numpy as np

    from benchmarks.peers.loaders import JOINTS, SHAPE, write_dataset

    steps = 4 if args.quick else args.store_steps
    rows = []
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        length = 40 if args.quick else 300
        rng = np.random.default_rng(0)
        pictures = [[_scene(rng, SHAPE) for _ in range(setup.cameras)] for _ in range(20)]
        frames = [pictures[t % len(pictures)] for t in range(length)]
        numbers = rng.normal(size=(length, 2, JOINTS)).astype(np.float32)
        write_dataset(folder / "ds.zarr", frames, numbers)
        for precision in ("fp32",) if args.quick else ("fp32", "bf16"):
            row = _trained(folder, setup, precision, steps)
            rows.append({"what": "store", "name": f"act-model train, {precision}", **row})
    return rows


def _scene(rng: Any, shape: tuple[int, ...]) -> Any:
    """A picture that costs a JPEG decoder what a camera's costs: shapes, and a little noise."""
    import numpy as np

    coarse = rng.integers(0, 256, (shape[0] // 16, shape[1] // 16, 3))
    smooth = coarse.repeat(16, axis=0).repeat(16, axis=1)
    return np.clip(smooth + rng.normal(scale=2, size=shape), 0, 255).astype(np.uint8)


def _trained(folder: Path, setup: Setup, precision: str, steps: int) -> dict[str, Any]:
    config = folder / f"{precision}.json"
    model = {"decoder_layers": 1, "image_size": [setup.height, setup.width]}
    if setup.small:
        model |= {"hidden_dim": 64, "feedforward_dim": 128, "encoder_layers": 1, "style_layers": 1}
    train = {"precision": precision, "channels_last": setup.device != "cpu"}
    config.write_text(json.dumps({"model": model, "train": train}))
    run = folder / precision
    words = [
        Path(sys.executable).with_name("act-model"), "train", folder / "ds.zarr", "--out", run,
        "--config", config, "--steps", steps, "--batch-size", setup.batch, "--chunk", setup.chunk,
        "--workers", 2, "--backbone-weights", "none", "--device", setup.device,
        "--val-every", steps,
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": str(setup.threads), "ACT_REGISTRY": str(folder / "r")}
    subprocess.run([str(w) for w in words], check=True, env=env, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    taken = [line for line in lines if "samples_per_s" in line][1:]  # the first one warms up
    pace = statistics.median(line["samples_per_s"] for line in taken)
    spent = sum(1 / line["samples_per_s"] for line in taken)
    return {
        "samples_per_s": pace,
        "data_wait": sum(line["data_wait"] / line["samples_per_s"] for line in taken) / spent,
        "hours_of_100k": STEPS * BATCH / pace / 3600,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="timed turns of each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=2, help="of a training step")
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--act", type=Path, help="a checkout of tonyzhaozh/act")
    parser.add_argument("--store-steps", type=int, default=20, help="of act-model train; 0: none")
    parser.add_argument("--quick", action="store_true", help="a small network, and no peers")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    setup = Setup(
        "train", device=args.device, threads=threads, batch=args.batch, cameras=args.cameras
    )
    if args.quick:
        args.rounds = 2
        setup = replace(setup, small=True, height=96, width=128, cameras=1, chunk=20)
    rows = contest(setup, args) + contest(replace(setup, what="predict"), args)
    if args.store_steps:
        rows += from_store(setup, args)
    if args.json:
        print(json.dumps({"setup": json.loads(setup.dump()), "rows": rows}, indent=2))
    else:
        print_tables(setup, rows)


def print_tables(setup: Setup, rows: list[dict[str, Any]]) -> None:
    """For people."""
    print(
        f"{setup.device}, {setup.threads} threads, {setup.cameras} cameras "
        f"{setup.height}x{setup.width}, batch {setup.batch} in training"
    )
    heads = ("median ms", "CPU ms", "of LeRobot", "in CPU", "of original", "GFLOP", "busy")
    for what in ("train", "predict"):
        print(f"{what:32}" + "".join(f"{head:>12}" for head in heads) + f"{'parameters':>13}  dead")
        for row in rows:
            if row["what"] == what:
                ratios = [row["of_lerobot"], row["cpu_of_lerobot"], row["of_original"]]
                shown = "".join(f"{'-' if r is None else format(r, '.2f'):>12}" for r in ratios)
                dead = "" if row["dead_share"] is None else f"{row['dead_share']:6.1%}"
                print(
                    f"{row['name']:32}{row['median_ms']:12.1f}{row['cpu_ms']:12.1f}{shown}"
                    f"{row['gflop']:12.1f}{row['busy']:12.0%}"
                    f"{row['parameters']:13,}{dead}"
                )
    for row in rows:
        if row["what"] == "store":
            print(
                f"{row['name']:32}{row['samples_per_s']:8.2f} samples/s, waits for data "
                f"{row['data_wait']:.1%}, 100k steps at batch 8: {row['hours_of_100k']:.1f} h"
            )


if __name__ == "__main__":
    main()
