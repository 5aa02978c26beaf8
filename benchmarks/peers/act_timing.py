"""What everybody who takes part in act_step.py does, in whatever environment: needs torch alone.

A process is told a `Setup`, builds a network, prints one line of JSON about it, and then answers
every line on stdin with the milliseconds that one more training step or prediction took, and those
of its CPU time.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

JOINTS = 14


@dataclass(frozen=True)
class Setup:
    """What is timed.

    Attributes:
        what: "train": from pictures as the network sees them, on the device, to new weights.
            "predict": from one observation as a robot delivers it to actions in its units.
        precision: "bf16" is autocast.
        small: A narrow network, for a machine that should not judge time.
    """

    what: str
    precision: str = "fp32"
    device: str = "cpu"
    threads: int = 1
    batch: int = 2
    cameras: int = 3
    height: int = 480
    width: int = 640
    chunk: int = 100
    decoder_layers: int = 1
    channels_last: bool = False
    compile: bool = False
    small: bool = False

    def dump(self) -> str:
        """For a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Setup:
        """The inverse."""
        return cls(**json.loads(text))

    def sizes(self) -> dict[str, int]:
        """Hidden and feed-forward width, and encoder layers."""
        hidden, inner, layers = (64, 128, 1) if self.small else (512, 3200, 4)
        return {"hidden": hidden, "inner": inner, "layers": layers}

    def autocast(self) -> AbstractContextManager[Any]:
        """Around a forward pass."""
        return torch.autocast(
            torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bf16"
        )

    def camera_names(self) -> list[str]:
        """Of an observation."""
        return [f"cam_{n}" for n in range(self.cameras)]


def batch_of(setup: Setup) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures (B, N, 3, H, W), states (B, S), actions (B, K, A), padding (B, K): all the same."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Tensor:
        values = rng.standard_normal(shape, dtype=np.float32)
        return torch.from_numpy(values).to(setup.device)

    images = normal(setup.batch, setup.cameras, 3, setup.height, setup.width)
    is_pad = torch.zeros(setup.batch, setup.chunk, dtype=torch.bool, device=setup.device)
    is_pad[-1, setup.chunk // 2 :] = True
    return images, normal(setup.batch, JOINTS), normal(setup.batch, setup.chunk, JOINTS), is_pad


def observation_of(setup: Setup) -> tuple[dict[str, Any], Any]:
    """Pictures (H, W, 3) uint8 by camera, and joints (S,) float32."""
    rng = np.random.default_rng(0)
    size = (setup.height, setup.width, 3)
    pictures = {name: rng.integers(0, 256, size, np.uint8) for name in setup.camera_names()}
    return pictures, rng.normal(size=JOINTS).astype(np.float32)


def answer(setup: Setup, network: torch.nn.Module, once: Callable[[], object]) -> None:
    """Tell about the network, then time `once` for each line on stdin."""
    torch.set_num_threads(setup.threads)
    if setup.what == "predict":
        network.requires_grad_(False)
    facts: dict[str, Any] = {"parameters": sum(p.numel() for p in network.parameters())}
    if not setup.compile:
        with FlopCounterMode(display=False) as counter:
            once()
        facts["gflop"] = counter.get_total_flops() / 1e9
        parameters = [p for p in network.parameters() if p.requires_grad]
        if setup.what == "train":
            dead = [p for p in parameters if p.grad is None or p.grad.abs().max() < 1e-12]
            facts["dead_share"] = sum(p.numel() for p in dead) / facts["parameters"]
    print(json.dumps(facts), flush=True)
    gpu = torch.device(setup.device).type == "cuda"
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        once()
        if gpu:
            torch.cuda.synchronize()
        taken, cpu = time.perf_counter() - start, time.process_time() - cpu
        print(taken * 1e3, cpu * 1e3, flush=True)
