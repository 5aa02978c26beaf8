"""One training step, as a function of the weights, the batch and (seed, step) alone.

Shape suffixes: B batch, K action chunk, A action dim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from act_data.errors import ActError, StoreError
from act_model.average import WeightAverage
from act_model.config import NetworkConfig, TrainConfig
from act_model.dataset import Batch
from act_model.families import Family, NetworkInput, family_of
from act_model.transforms import Transform

# Purposes of a random stream; a number each, so that no two share one.
_INIT, _STEP, _AUGMENT = range(3)

_RAW = "raw"  # the weights themselves, where a checkpoint's are their average


def new_network(model: NetworkConfig, config: TrainConfig) -> nn.Module:
    """The network with the random weights of `config.seed`, in training mode, on the CPU."""
    torch.manual_seed(_seed(config.seed, 0, _INIT))
    network: nn.Module = family_of(model).build(model)
    return network.train()


def new_optimizer(net: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with the backbone at its own rate, as in the original."""
    backbone = [p for name, p in net.named_parameters() if name.startswith("backbone.")]
    others = [p for name, p in net.named_parameters() if not name.startswith("backbone.")]
    groups = [{"params": others, "lr": config.lr}]
    if backbone:
        groups.append({"params": backbone, "lr": config.lr_backbone})
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)


def backward(
    family: Family[Any, Any],
    net: nn.Module,
    transform: Transform,
    batch: Batch,
    config: TrainConfig,
    step: int,
) -> tuple[dict[str, float], float]:
    """Leave the gradients of `batch` in `net`, clipped.

    Args:
        family: Of `net`.
        net: The network, in training mode.
        transform: On the device of `net`, as `batch` is.
        batch: In the robot's units.
        config: The loss, the augmentation, the clipping, the seed.
        step: Steps before this one.

    Returns:
        "loss" and its parts, and the norm of the gradient before clipping.
    """
    generator = torch.Generator().manual_seed(_seed(config.seed, step, _AUGMENT))
    draws = transform.draws(len(batch.state), generator)
    torch.manual_seed(_seed(config.seed, step, _STEP))  # dropout, style noise, levels of noise
    seen = NetworkInput(
        images=transform.images(batch.images, draws),
        state=transform.state(batch.state),
        depth=transform.depth(batch.depth, draws),
    )
    actions_BKA = transform.action(batch.actions)
    objective = family.objective(net, seen, actions_BKA, batch.is_pad, config.loss.at(step))
    net.zero_grad(set_to_none=True)
    torch.autograd.backward(objective.total)
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), config.grad_clip or math.inf)
    numbers = (objective.total, *objective.parts.values(), norm)
    # One synchronisation with the device per step, for all the numbers together.
    *values, grad_norm = torch.stack([number.detach() for number in numbers]).tolist()
    return dict(zip(("loss", *objective.parts), values, strict=True)), grad_norm


def check_finite(losses: Mapping[str, float], grad_norm: float, step: int, good: str) -> None:
    """See that step `step` may be taken.

    Raises:
        ActError: Its loss or gradient is not finite; names `good`, the checkpoint before it.
    """
    for name, value in {**losses, "grad_norm": grad_norm}.items():
        if not math.isfinite(value):
            raise ActError(
                f"{name} is {value!r} at step {step}; the last good checkpoint is {good}",
                hint="Lower lr, or set grad_clip, and start again or resume.",
            )


def moments(
    net: nn.Module, optimizer: torch.optim.AdamW, average: WeightAverage | None
) -> dict[str, Tensor]:
    """AdamW's tensors by "<parameter>/<quantity>", and the raw weights beside an average."""
    tensors = {
        f"{name}/{quantity}": tensor
        for name, parameter in net.named_parameters()
        for quantity, tensor in optimizer.state[parameter].items()
    }
    if average is not None:
        tensors |= {f"{name}/{_RAW}": weights for name, weights in average.raw().items()}
    return tensors


def load_moments(
    net: nn.Module,
    optimizer: torch.optim.AdamW,
    average: WeightAverage | None,
    saved: Mapping[str, Tensor],
) -> None:
    """Put what `moments` gave back into a new optimizer, and a new average, of the same network.

    Raises:
        StoreError: They are those of another network.
    """
    # torch numbers the parameters group by group; the file names them.
    names = {parameter: name for name, parameter in net.named_parameters()}
    order = [names[p] for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {i: {} for i in range(len(order))}
    number = {name: i for i, name in enumerate(order)}
    raw: dict[str, Tensor] = {}
    for key, tensor in saved.items():
        name, _, quantity = key.rpartition("/")
        if name not in number:
            raise StoreError(
                f"the saved optimizer has {name!r}, the network has no such parameter",
                hint="The checkpoint is of another version of the toolkit: start a new run.",
            )
        if quantity == _RAW:
            raw[name] = tensor
        else:
            state[number[name]][quantity] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    if average is not None:
        average.load_raw(raw)


def _seed(seed: int, step: int, purpose: int) -> int:
    """Seed of one random stream of one step, in [0, 2^63)."""
    words = np.random.SeedSequence((seed % 2**64, step, purpose)).generate_state(1, np.uint64)
    return int(words[0]) >> 1
