"""Whether a training run fits into memory, told before its first step.

Shape suffixes: B batch, N cameras, M depth cameras, S state dim, A action dim, K action chunk.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from act_data.errors import InputError
from act_model.config import Contract, NetworkConfig, TrainConfig
from act_model.families import Family, NetworkInput
from act_model.ranks import Ranks

# What the first convolutions on a CPU leave in memory: their compiled kernels and scratch space.
_KERNELS = 180_000_000
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """Bytes that training takes on its device beside the weights, which are there already.

    Attributes:
        fixed: Gradients, the optimiser's moments, the average of the weights.
        saving: The same once more, while a checkpoint is written; no step is taken then.
        per_sample: What the forward pass of one sample keeps for the backward pass, and its
            pictures in all the batches that are in the loader's hands.
    """

    fixed: int
    saving: int
    per_sample: int

    def of(self, samples: int) -> int:
        """For steps over `samples` at once."""
        return self.fixed + max(self.saving, samples * self.per_sample)

    def largest(self, available: int) -> int:
        """The most samples that fit into `available` bytes; 0 when not one does."""
        if self.fixed + self.saving > available:
            return 0
        return max(0, (available - self.fixed) // self.per_sample)


def check_memory(
    family: Family[Any, Any],
    net: nn.Module,
    model: NetworkConfig,
    config: TrainConfig,
    contract: Contract,
    device: torch.device,
    ranks: Ranks,
) -> None:
    """See that training `net` fits into what is free on `device` now.

    Takes two forward passes, of one sample and of two, in training mode; draws from torch's global
    random stream.

    Raises:
        InputError: It does not fit; says the batch that does.
    """
    available = available_bytes(device)
    if available is None:
        return
    if device.type == "cpu":
        available //= ranks.here
    need = memory_need(family, net, model, config, contract, device, ranks)
    at_once = config.batch_size // config.parts
    if need.of(at_once) <= available:
        return
    fits = need.largest(available)
    said = (
        f"training {at_once} samples at once takes about {need.of(at_once) / 1e9:.1f} GB beside "
        f"the weights, and {available / 1e9:.1f} GB are free on {device}"
    )
    if not fits:
        raise InputError(
            f"{said}; not even one sample fits",
            hint="Take a smaller --size, --image-size or --chunk, or another machine.",
        )
    parts = next(n for n in range(1, config.batch_size + 1)
                 if config.batch_size % n == 0 and config.batch_size // n <= fits)  # fmt: skip
    raise InputError(
        f"{said}; {fits} samples fit",
        hint=f"Use --batch-size {fits}, or keep the batch and set parts: {parts} in --config.",
    )


def memory_need(
    family: Family[Any, Any],
    net: nn.Module,
    model: NetworkConfig,
    config: TrainConfig,
    contract: Contract,
    device: torch.device,
    ranks: Ranks,
) -> MemoryNeed:
    """What training `net`, which is on `device` and in training mode, will take there."""
    # A backbone of somebody else's may take note of what it sees, as batch norms do.
    noted = {name: buffer.clone() for name, buffer in net.named_buffers()}
    one, two = (_kept_for_backward(family, net, model, config, device, n) for n in (1, 2))
    for name, buffer in net.named_buffers():
        buffer.copy_(noted[name])
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    copies = 3 + (1 if config.ema else 0)  # gradient, two moments, average
    sent = 2 if ranks.world > 1 else 0  # all gradients in one message, and its pieces
    on_cpu = device.type == "cpu"
    pictures = sum(c.height * c.width * 3 for c in contract.cameras)
    pictures += sum(c.height * c.width * 2 for c in contract.depth)
    batches = config.workers + 4  # as many as EpisodeChunks has buffers for
    return MemoryNeed(
        fixed=(copies + sent) * weights + (_KERNELS if on_cpu and model.cameras else 0),
        saving=(copies - 1) * weights if on_cpu else 0,
        per_sample=max(1, two - one) + (batches * pictures if on_cpu else 0),
    )


def available_bytes(device: torch.device) -> int | None:
    """What is free on `device` now, for a process in this container; None where nobody says."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    known = [n for n in (_free_here(), _free_in_cgroup()) if n is not None]
    return min(known) if known else None


def _free_here() -> int | None:
    """What Linux says that programs can still take, its caches given up."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _free_in_cgroup() -> int | None:
    """What the limit of this container leaves, its caches given up; None without a limit."""
    with contextlib.suppress(OSError, ValueError):  # no such limit here, or "max"
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
        stat = {name: int(value) for name, value in (line.split() for line in lines)}
        return limit - used + stat["inactive_file"] + stat["active_file"]
    return None


def _kept_for_backward(
    family: Family[Any, Any],
    net: nn.Module,
    model: NetworkConfig,
    config: TrainConfig,
    device: torch.device,
    batch: int,
) -> int:
    """Bytes that autograd holds between forward and backward of `batch` samples, weights left out.

    Every storage counts once, however many tensors look at it.
    """
    height, width = model.image_size
    depth = torch.zeros(batch, len(model.depth), 1, height, width, device=device)
    seen = NetworkInput(
        images=torch.zeros(batch, len(model.cameras), 3, height, width, device=device),
        state=torch.zeros(batch, model.state_dim, device=device),
        depth=depth if model.depth else None,
    )
    actions_BKA = torch.zeros(batch, model.chunk_size, model.action_dim, device=device)
    is_pad_BK = torch.zeros(batch, model.chunk_size, dtype=torch.bool, device=device)
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    held: dict[int, Tensor] = {}

    nothing = torch.empty(0)

    def pack(tensor: Tensor) -> Tensor:
        # Held, since a freed address would come again; detached, since a tensor that its own
        # graph holds would never be freed.
        held[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return nothing

    kind = _AUTOCAST.get(config.precision)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast(device.type, dtype=kind, enabled=kind is not None),
    ):
        objective = family.objective(net, seen, actions_BKA, is_pad_BK, config.loss)
    total = sum(t.untyped_storage().nbytes() for at, t in held.items() if at not in weights)
    del objective
    return total
