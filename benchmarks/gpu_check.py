"""What a GPU must do as the CPU does: predictions, training in every precision, resuming, memory.

    python benchmarks/gpu_check.py                  # on the first GPU, a minute or two
    python benchmarks/gpu_check.py --quick          # seconds: the CPU beside itself, small
    python benchmarks/gpu_check.py --json

predict    the actions of the published network for three noisy observations of three 480x640
           cameras, beside those of the CPU; replayed from a CUDA graph, and launched one by one
replay     five training steps replayed from a CUDA graph, and launched one kernel after the other
train      30 steps in every precision on a store of pictures: the loss falls, and the step needs
           no more memory than was foretold
resume     20 steps at once, and 10 and 10 more, give the same weights but for rounding
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from act_data.stats import compute
from act_data.store import open_dataset
from act_model.checkpoint import contract_of
from act_model.config import ModelConfig, TrainConfig
from act_model.dataset import EpisodeChunks
from act_model.families.act import SIZES
from act_model.memory import memory_need
from act_model.policy import Policy
from act_model.ranks import Ranks
from act_model.step import Stepper
from act_model.train import StepReport, model_config, train
from act_model.transforms import Transform
from benchmarks.peers import loaders
from benchmarks.peers.serving import observation, save_checkpoint

KINDS: dict[str, dict[str, object]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "bf16, channels last": {"precision": "bf16", "channels_last": True},
    "bf16, compiled": {"precision": "bf16", "channels_last": True, "compile": True},
    "fp16": {"precision": "fp16"},
}
TOLERANCE = 5e-3  # of actions about 1 in size: convolutions on a GPU round to TF32
STEPS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="[cuda; cpu with --quick]")
    parser.add_argument("--quick", action="store_true", help="small networks, fp32 alone")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    options.device = options.device or ("cpu" if options.quick else "cuda")
    rows = []
    with TemporaryDirectory() as scratch:
        for row in checks(Path(scratch), options):
            rows.append(row)
            if not options.json:
                print("  ".join(f"{name} {_shown(value)}" for name, value in row.items()))
    if options.json:
        print(json.dumps({"device": options.device, "rows": rows}))
    if not all(row["good"] for row in rows):
        sys.exit(1)


def checks(folder: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All of them, each told when it is done."""
    os.environ["ACT_REGISTRY"] = str(folder / "registry.db")
    yield from predictions(folder, options)
    loaders.make(folder, 40 if options.quick else 120)
    yield replaying(folder, options)
    for kind in ["fp32"] if options.quick else KINDS:
        yield training(folder, options, kind)
    yield resuming(folder, options)


def predictions(folder: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The same observations on the CPU, one kernel after the other, and as a rollout does it."""
    size = (96, 128) if options.quick else (480, 640)
    fields = SIZES["tiny" if options.quick else "act"].model
    model = ModelConfig.model_validate(
        {
            "state_dim": 14,
            "action_dim": 14,
            "cameras": loaders.CAMERAS,
            "image_size": size,
            **fields,
        }
    )
    save_checkpoint(folder / "best", model, size)
    here, there = (Policy.load(folder / "best", device) for device in ("cpu", options.device))
    rng = np.random.default_rng(1)
    seen = [observation(model, size) for _ in range(3)]
    for each in seen[1:]:
        for name, array in each.items():
            noise = rng.integers(0, 256, array.shape, np.uint8)
            each[name] = noise if array.dtype == np.uint8 else rng.normal(size=14).astype("f4")
    wanted = [here.predict(each) for each in seen]

    def one_by_one(each: dict[str, Any]) -> Any:
        with torch.inference_mode():
            actions = there.family.predict(there.network, there.inputs(each)).actions_BKA
            return there.transform.unaction(actions)[0].cpu().numpy()

    for name, predict in (("one by one", one_by_one), ("as deployed", there.predict)):
        found = [predict(each) for each in seen]
        error = max(float(np.abs(a - b).max()) for a, b in zip(found, wanted, strict=True))
        taken = []
        for turn in range(4 if options.quick else 60):
            began = perf_counter()
            predict(seen[turn % 3])
            taken.append(perf_counter() - began)
        yield {"what": f"predict, {name}", "good": error <= TOLERANCE, "error": error,
               "median_ms": 1e3 * median(taken[2:])}  # fmt: skip


class Launched(Stepper):
    """Launches every kernel from Python."""

    def _replays(self, *_: object) -> bool:
        return False


def replaying(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The largest difference of a loss, relative to it."""
    config = _config(options)
    reader = open_dataset(folder / "ds.zarr")
    model = model_config(reader.schema, config, _model(options))
    contract = contract_of(reader.schema, config, model.chunk_size, cameras=model.cameras, depth=())
    device = torch.device(config.device)
    transform = Transform(model, contract, compute(reader, "all"), config).to(device)
    chunks = EpisodeChunks(
        reader, [0], config=config, chunk_size=model.chunk_size, cameras=model.cameras
    )
    losses = []
    for kind in (Launched, Stepper):
        stepper = kind(model, config, device, Ranks())
        with closing(chunks.batches(pinned=device.type == "cuda")) as batches:
            taken = [stepper.take(transform, [next(batches)], n, "none") for n in range(5)]
        losses.append(np.array([each.losses["loss"] for each in taken]))
    error = float((np.abs(losses[0] - losses[1]) / losses[0]).max())
    return {"what": "replay of steps", "good": error <= 1e-2, "error": error}


def training(folder: Path, options: argparse.Namespace, kind: str) -> dict[str, Any]:
    """One kind of step."""
    began = perf_counter()
    config = _config(options, **KINDS[kind])
    reader = open_dataset(folder / "ds.zarr")
    model = model_config(reader.schema, config, _model(options))
    device = torch.device(config.device)
    reports: list[StepReport] = []
    foretold = _foretold(reader, model, config, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
    train(
        reader, out=folder / kind.replace(", ", "-"), config=config, model=_model(options),
        on_step=reports.append,
    )  # fmt: skip
    losses = [report.losses["loss"] for report in reports]
    first, last = (float(np.mean(part)) for part in (losses[:5], losses[-5:]))
    row = {
        "what": f"train, {kind}",
        "good": bool(np.isfinite(losses).all()) and last < first,
        "first_loss": first,
        "last_loss": last,
        "samples_per_s": median([report.samples_per_s for report in reports[5:]]),
        "wall_s": perf_counter() - began,
    }
    if device.type == "cuda":
        row["peak_mib"] = (torch.cuda.max_memory_allocated() - before) / 2**20
        row["foretold_mib"] = foretold / 2**20
    return row


def _foretold(reader: Any, model: Any, config: TrainConfig, device: torch.device) -> int:
    stepper = Stepper(model, config, device, Ranks())
    contract = contract_of(reader.schema, config, model.chunk_size, cameras=model.cameras, depth=())
    need = memory_need(stepper.family, stepper.net, model, config, contract, device, Ranks())
    weights = sum(p.numel() * p.element_size() for p in stepper.net.parameters())
    return weights + need.of(config.batch_size)


def resuming(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The largest difference of a weight between a run and one that was resumed."""
    reader = open_dataset(folder / "ds.zarr")
    config = _config(options).model_copy(update={"steps": 20})
    half = config.model_copy(update={"steps": 10})
    train(reader, out=folder / "whole", config=config, model=_model(options))
    train(reader, out=folder / "parts", config=half, model=_model(options))
    train(reader, out=folder / "parts", config=config, model=_model(options), resume=True)
    whole, parts = (_weights(folder / name / "last") for name in ("whole", "parts"))
    error = max(float((whole[name] - parts[name]).abs().max()) for name in whole)
    return {"what": "resume", "good": error <= 1e-3, "error": error}


def _weights(folder: Path) -> dict[str, Tensor]:
    (file,) = folder.glob("model*.safetensors")
    return load_file(file)


def _config(options: argparse.Namespace, **changes: object) -> TrainConfig:
    fields = {"steps": STEPS, "batch_size": 4, "val_every": 1000, "lr": 1e-4, "workers": 4}
    return TrainConfig.model_validate({**fields, "device": options.device, **changes})


def _model(options: argparse.Namespace) -> dict[str, object]:
    if options.quick:
        return {**SIZES["tiny"].model, "image_size": (48, 64), "chunk_size": 10}
    return {**SIZES["act"].model, "chunk_size": 100}


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
