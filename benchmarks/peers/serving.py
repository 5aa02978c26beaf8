"""A checkpoint of a given size with random weights, and `act-model serve` around it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from act_data.records import FeatureStats, StatsRecord
from act_model import checkpoint
from act_model.config import (
    CameraContract,
    Contract,
    DatasetRef,
    ModelConfig,
    TrainConfig,
    VectorContract,
)
from act_model.nn import ActCvae

JOINTS = 14


def save_checkpoint(folder: Path, model: ModelConfig, picture: tuple[int, int]) -> Path:
    """A checkpoint of `model`; its robot's pictures are `picture` (H, W)."""
    joints = tuple(f"joint_{i}" for i in range(JOINTS))
    contract = Contract(
        robot="bench",
        rate_hz=50.0,
        chunk_size=model.chunk_size,
        state=(VectorContract(name="qpos", names=joints, unit="rad"),),
        action=(VectorContract(name="action", names=joints, unit="rad"),),
        cameras=tuple(
            CameraContract(name=name, height=picture[0], width=picture[1], codec="jpeg", quality=95)
            for name in model.cameras
        ),
    )
    torch.manual_seed(0)
    checkpoint.save(
        folder,
        weights=ActCvae(model).state_dict(),
        model=model,
        train=TrainConfig(),
        contract=contract,
        stats=_stats(),
        dataset=DatasetRef(
            path="none.zarr", uid="none", version=1, content_hash="", train=(), val=()
        ),
        step=1,
        metrics={},
    )
    return folder


def observation(model: ModelConfig, picture: tuple[int, int]) -> dict[str, NDArray[np.generic]]:
    """Noise, the same every time."""
    rng = np.random.default_rng(0)
    seen: dict[str, NDArray[np.generic]] = {"qpos": rng.normal(size=JOINTS).astype(np.float32)}
    for name in model.cameras:
        seen[f"images/{name}"] = rng.integers(0, 256, (*picture, 3), np.uint8)
    return seen


def _stats() -> StatsRecord:
    def all_of(value: float) -> tuple[float, ...]:
        return (value,) * JOINTS

    numbers = {"mean": 0.0, "std": 1.0, "min": -3.0, "max": 3.0}
    quantiles = {"q01": -2.3, "q10": -1.3, "q50": 0.0, "q90": 1.3, "q99": 2.3}
    feature = FeatureStats.model_validate(
        {"count": (1000,) * JOINTS, "nan": (0,) * JOINTS}
        | {name: all_of(value) for name, value in (numbers | quantiles).items()}
    )
    return StatsRecord(
        dataset="none",
        version=1,
        content_hash="",
        split="train",
        episodes=1,
        steps=1000,
        features={"qpos": feature, "action": feature},
    )


@contextmanager
def served(folder: Path, bind: str = "127.0.0.1:0") -> Iterator[str]:
    """`act-model serve` of `folder` on this machine; its address."""
    program = Path(sys.executable).with_name("act-model")
    log = folder.with_name("serve.log")
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [program, "serve", folder, "--bind", bind, "--device", "cpu"],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        ) as process,
    ):
        try:
            while (said := re.search(r"^serving .* at (\S+)\n", log.read_text(), re.M)) is None:
                if process.poll() is not None:
                    raise RuntimeError(log.read_text())
                time.sleep(0.1)
            yield said[1]
            process.send_signal(signal.SIGTERM)
            process.wait(10)
        finally:
            process.kill()
