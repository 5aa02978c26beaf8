"""How much of a training step is waiting for data: 3 cameras 480x640, batches of 8.

    python benchmarks/train_wait.py                                    # minutes on 2 cores
    python benchmarks/train_wait.py --device cuda --precision bf16 --size act --workers 12
    python benchmarks/train_wait.py --quick                            # seconds, small
    python benchmarks/train_wait.py --json

The trainer's own step, fed in turn by

memory        one batch again and again: nothing is read, what a step costs by itself
ours          `act-model train`'s loader from an act-zarr store of JPEG pictures
ours raw      the same from what `act-data cache --raw` makes
ALOHA HDF5    raw pictures in the layout of the original, its dataset through torch's DataLoader

`wait` is the share of the time of all steps that the trainer stood still for its next batch, the
first two steps left out. Where the loader shares its cores with the trainer, as on a CPU, it also
makes steps slower: `x memory` is the quickest step against that of a batch that is there already.

The smallest network, whose steps leave the loader the least time, with pictures as recorded and
with pictures that are resized to 120x160 at its door: there a step is short and the reading is the
same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.utils.data import DataLoader, RandomSampler

from act_data.stats import compute
from act_data.store import open_dataset
from act_model.checkpoint import contract_of
from act_model.config import TrainConfig
from act_model.dataset import Batch, EpisodeChunks
from act_model.families.act import SIZES
from act_model.policy import device_of
from act_model.ranks import Ranks
from act_model.step import Stepper
from act_model.train import model_config
from act_model.transforms import Transform
from benchmarks.peers import loaders
from benchmarks.peers.cost import BATCH, CHUNK, WORKERS

MAX_WAIT = 0.05
WARM_UP = 2
DOORS = ((480, 640), (120, 160))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--size", choices=list(SIZES), default="tiny", help="of ACT [tiny]")
    parser.add_argument("--steps", type=int, default=0, help="timed, of each row [6 and 20; 100]")
    parser.add_argument("--workers", type=int, default=WORKERS, help="of every loader [2]")
    parser.add_argument("--quick", action="store_true", help="one door, 2 steps, few pictures")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    doors = DOORS[1:] if options.quick else DOORS
    config = TrainConfig(
        batch_size=BATCH,
        workers=options.workers,
        device=options.device,
        precision=options.precision,
        channels_last=options.device != "cpu",
        lr=1e-5,
    )
    rows = []
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        loaders.make(folder, 16 if options.quick else 150)
        for door in doors:
            steps = options.steps or _steps(options, door)
            rows += rows_of(folder, config, options.size, door, steps)
    verdict = {
        f"ours waits <= {MAX_WAIT:.0%} of a step": all(
            row["wait"] <= MAX_WAIT for row in rows if row["feed"].startswith("ours")
        )
    }
    setup = {
        "device": options.device,
        "precision": options.precision,
        "network": options.size,
        "batch": BATCH,
        "workers": options.workers,
        "cores": os.cpu_count(),
    }
    if options.json:
        print(json.dumps({"setup": setup, "rows": rows, "verdict": verdict}))
        return
    print(", ".join(f"{name} {value}" for name, value in setup.items()))
    print(
        f"{'door':10}{'feed':14}{'steps':>6}{'step ms':>10}{'x memory':>10}{'wait':>9}{'per s':>9}"
    )
    for row in rows:
        print(
            f"{row['door']:10}{row['feed']:14}{row['steps']:6}{row['step_ms']:10.1f}"
            f"{row['of_memory']:10.2f}{row['wait']:9.2%}{row['samples_per_s']:9.1f}"
        )
    for text, holds in verdict.items():
        print(f"{text}: {'yes' if holds else 'NO'}")


def _steps(options: argparse.Namespace, door: tuple[int, int]) -> int:
    if options.quick:
        return 2
    if options.device != "cpu":
        return 100
    return 6 if door == DOORS[0] else 20


def rows_of(
    folder: Path, config: TrainConfig, size: str, door: tuple[int, int], steps: int
) -> list[dict[str, Any]]:
    """A row for every feed, each with a network of its own from the same random weights."""
    rows: list[dict[str, Any]] = []
    for feed in ("memory", "ours", "ours raw", "ALOHA HDF5"):
        with closing(batches_of(feed, folder, config)) as batches:
            step_s, wait_s = measured(batches, folder, config, size, door, steps)
        least_ms = 1e3 * min(step_s)
        rows.append(
            {
                "door": f"{door[0]}x{door[1]}",
                "feed": feed,
                "steps": steps,
                "step_ms": 1e3 * statistics.median(step_s),
                "least_ms": least_ms,
                "of_memory": least_ms / (rows[0]["least_ms"] if rows else least_ms),
                "wait": sum(wait_s) / sum(step_s),
                "samples_per_s": config.batch_size * steps / sum(step_s),
            }
        )
    return rows


def measured(
    batches: Iterator[Batch],
    folder: Path,
    config: TrainConfig,
    size: str,
    door: tuple[int, int],
    steps: int,
) -> tuple[list[float], list[float]]:
    """Seconds of each step, and of its waiting for `batches`."""
    reader = open_dataset(folder / "ds.zarr")
    model = model_config(
        reader.schema, config, {**SIZES[size].model, "image_size": door, "chunk_size": CHUNK}
    )
    device = device_of(config.device)
    contract = contract_of(reader.schema, config, CHUNK, cameras=model.cameras, depth=())
    stats = compute(reader, "all")
    transform = Transform(model, contract, stats, config).to(device)
    stepper = Stepper(model, config, device, Ranks())
    step_s, wait_s = [], []
    for step in range(WARM_UP + steps):
        started = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - started
        stepper.take(transform, [batch], step, "none")  # ends when the device is done
        if step >= WARM_UP:
            step_s.append(time.perf_counter() - started)
            wait_s.append(waited)
    return step_s, wait_s


def batches_of(feed: str, folder: Path, config: TrainConfig) -> Any:
    """The batches of one feed, without end; to be closed."""
    if feed == "ALOHA HDF5":
        return _aloha(folder, config)
    store = folder / ("raw.zarr" if feed == "ours raw" else "ds.zarr")
    chunks = EpisodeChunks(
        open_dataset(store), [0], config=config, chunk_size=CHUNK, cameras=loaders.CAMERAS
    )
    if feed == "memory":
        batch = chunks.drawn(torch.arange(config.batch_size).numpy())
        return (batch for _ in itertools.count())
    return chunks.batches(pinned=config.device != "cpu")


def _aloha(folder: Path, config: TrainConfig) -> Iterator[Batch]:
    dataset = loaders.Aloha(folder / "aloha.hdf5", as_float=False)
    count = open_dataset(folder / "ds.zarr").episodes[0].length
    sampler = RandomSampler(range(count), replacement=True, num_samples=10**9)
    loader = DataLoader(
        dataset, batch_size=config.batch_size, sampler=sampler, num_workers=config.workers
    )
    for images_BNCHW, qpos, actions, is_pad in loader:
        images_BNHWC = images_BNCHW.permute(0, 1, 3, 4, 2)
        yield Batch(
            images=tuple(images_BNHWC.unbind(1)),
            depth=(),
            state=qpos,
            actions=actions,
            is_pad=is_pad,
        )


if __name__ == "__main__":
    main()
