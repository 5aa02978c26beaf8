"""One training step, as a function of the weights, the batch and (seed, step) alone.

A batch may be computed in parts, one after the other or by several processes. Each part has random
streams of its own and a share in the loss by what it holds, so a step is the same whoever computes
which part.

Shape suffixes: B batch, K action chunk, A action dim.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from act_data.errors import ActError, StoreError
from act_model.average import WeightAverage
from act_model.checkpoint import TrainerRecord
from act_model.config import LossConfig, NetworkConfig, TrainConfig
from act_model.dataset import Batch
from act_model.families import Family, NetworkInput, Objective, family_of
from act_model.ranks import Ranks
from act_model.recorded import Recorded
from act_model.transforms import Draw, Transform

# Purposes of a random stream; a number each, so that no two share one.
_INIT, _STEP, _AUGMENT = range(3)

_RAW = "raw"  # the weights themselves, where a checkpoint's are their average
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a step was like.

    Attributes:
        losses: "loss" and its parts, the latter averaged over the parts of the batch.
        grad_norm: Before clipping.
        lr: Of everything but the backbone; `lr_backbone` of that.
        seconds: By what they went to: "transfer", "forward", "backward", "optimiser". A GPU works
            while the program goes on: there they tell when the program waited.
    """

    losses: Mapping[str, float]
    grad_norm: float
    lr: float
    lr_backbone: float
    seconds: Mapping[str, float]


class Stepper:
    """Takes the training steps of one network.

    Attributes:
        net: In training mode.
        optimizer: Of its parameters.
        scaler: Of the loss, for "fp16".
    """

    def __init__(
        self, model: NetworkConfig, config: TrainConfig, device: torch.device, ranks: Ranks
    ) -> None:
        self.family: Family[Any, Any] = family_of(model)
        self.net = new_network(model, config).to(device)
        if config.channels_last:
            self.net.to(memory_format=torch.channels_last)
        self.optimizer = new_optimizer(self.net, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self._config = config
        self._device = device
        self._ranks = ranks
        self._names: Sequence[str] = ()  # of what the loss is made of
        self._same_work = device.type == "cuda" and self.family.replays(model)
        self._recorded: Recorded | None = None

    def take(self, transform: Transform, parts: Sequence[Batch], step: int, good: str) -> Taken:
        """Take step `step` + 1.

        Args:
            transform: On the device.
            parts: Those parts of the batch that this process computes, in the robot's units.
            step: Steps before this one.
            good: The checkpoint before this step, for the error.

        Raises:
            ActError: Its loss or gradient is not finite; the weights are as they were.
        """
        config, laps = self._config, _Laps()
        rates = self._set_rates(step)
        valid = [int((~part.is_pad).sum()) for part in parts]
        all_valid = max(1.0, self._ranks.total(sum(valid)))
        draws = transform.draws(
            config.batch_size,
            torch.Generator().manual_seed(_seed(config.seed, step, _AUGMENT)),
        )
        # A replay writes its gradients where it did before; elsewhere they add up.
        replays = self._replays(config.loss, draws, parts, step)
        if not replays:
            self.net.zero_grad(set_to_none=True)
        numbers: list[Tensor] = []
        for number, part, here in zip(self._ranks.mine(config.parts), parts, valid, strict=True):
            torch.manual_seed(_seed(config.seed, step, _STEP, number))  # dropout, style, noise
            if replays:
                numbers.append(self._replay(transform, part, here / all_valid))
                laps.end("forward")
                continue
            batch = part.to(self._device)
            laps.end("transfer")
            size = len(batch.state)
            some = draws[number * size : (number + 1) * size]
            objective = self._objective(transform, batch, some, step)
            share = self._share(objective, here / all_valid)
            laps.end("forward")
            torch.autograd.backward(self.scaler.scale(share))
            laps.end("backward")
            self._names = tuple(objective.parts)
            numbers.append(_numbers(objective, share, config.parts))
        losses, grad_norm = self._step(torch.stack(numbers).sum(dim=0), self._names, step, good)
        laps.end("optimiser")
        return Taken(losses=losses, grad_norm=grad_norm, seconds=laps.seconds, **rates)

    def _replays(
        self, loss: LossConfig, draws: Sequence[Draw], parts: Sequence[Batch], step: int
    ) -> bool:
        """Whether this step is the same work as all others, but for its numbers."""
        return (
            self._same_work
            and self._config.precision != "fp16"  # whose scaler changes what it multiplies with
            and not draws  # every sample is augmented in an order of its own
            and len(parts) == 1
            and loss.at(step) == loss
        )

    def _replay(self, transform: Transform, part: Batch, weight: float) -> Tensor:
        """What `take` does with a part of a batch, from its pictures to its gradients."""
        cameras = len(part.images)

        def learn(
            weight: Tensor, state: Tensor, actions: Tensor, is_pad: Tensor, *pictures: Tensor
        ) -> tuple[Tensor, ...]:
            self.net.zero_grad(set_to_none=True)
            batch = Batch(
                images=pictures[:cameras],
                depth=pictures[cameras:],
                state=state,
                actions=actions,
                is_pad=is_pad,
            )
            objective = self._objective(transform, batch, (), self._config.loss.kl_anneal_steps)
            share = self._share(objective, weight)
            torch.autograd.backward(share)
            self._names = tuple(objective.parts)
            return (_numbers(objective, share, self._config.parts),)

        if self._recorded is None:
            self._recorded = Recorded(learn, self._device)
        (numbers,) = self._recorded(
            torch.tensor(weight), part.state, part.actions, part.is_pad, *part.images, *part.depth
        )
        return numbers

    def _share(self, objective: Objective, weight: float | Tensor) -> Tensor:
        """Of the loss: means over valid elements weigh by these, means over samples the same."""
        rest = objective.total - objective.masked
        return objective.masked * weight + rest / self._config.parts

    def _objective(
        self, transform: Transform, batch: Batch, draws: Sequence[Draw], step: int
    ) -> Objective:
        seen = NetworkInput(
            images=transform.images(batch.images, draws),
            state=transform.state(batch.state),
            depth=transform.depth(batch.depth, draws),
        )
        actions_BKA = transform.action(batch.actions)
        kind = _AUTOCAST.get(self._config.precision)
        with torch.autocast(self._device.type, dtype=kind, enabled=kind is not None):
            return self.family.objective(
                self.net, seen, actions_BKA, batch.is_pad, self._config.loss.at(step)
            )

    def _step(
        self, sums: Tensor, names: Sequence[str], step: int, good: str
    ) -> tuple[dict[str, float], float]:
        self._ranks.add_gradients(self.net)
        self.scaler.unscale_(self.optimizer)
        norm = gradient_norm(self.net)
        # One synchronisation with the device per step, for all the numbers together.
        *values, grad_norm = torch.cat([sums, norm.detach().double()[None]]).tolist()
        values = [self._ranks.total(value) for value in values]
        losses = dict(zip(("loss", *names), values, strict=True))
        finite = losses if self.scaler.is_enabled() else {**losses, "grad_norm": grad_norm}
        check_finite(finite, step + 1, good)
        clip_gradient(self.net, norm, self._config.grad_clip or math.inf)
        self.scaler.step(self.optimizer)  # with "fp16" it skips a step whose gradient overflowed
        self.scaler.update()
        return losses, grad_norm

    def _set_rates(self, step: int) -> dict[str, float]:
        factor = rate_factor(self._config, step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_lr"] * factor
        config = self._config
        return {"lr": config.lr * factor, "lr_backbone": config.lr_backbone * factor}


def _numbers(objective: Objective, share: Tensor, parts: int) -> Tensor:
    """The part's share in the loss, and in each thing that it is made of."""
    logged = (share, *(value / parts for value in objective.parts.values()))
    return torch.stack([value.detach().double() for value in logged])


class _Laps:
    """Where the time between two points of a step went."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("transfer", "forward", "backward", "optimiser"), 0.0)
        self._last = time.perf_counter()

    def end(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] += now - self._last
        self._last = now


def new_network(model: NetworkConfig, config: TrainConfig) -> nn.Module:
    """The network with the random weights of `config.seed`, in training mode, on the CPU."""
    torch.manual_seed(_seed(config.seed, 0, _INIT))
    network: nn.Module = family_of(model).build(model)
    return network.train()


def new_optimizer(net: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW, one kernel for all, with the backbone at its own rate, as in the original."""
    backbone = [p for name, p in net.named_parameters() if name.startswith("backbone.")]
    others = [p for name, p in net.named_parameters() if not name.startswith("backbone.")]
    groups = [{"params": others, "lr": config.lr, "full_lr": config.lr}]
    if backbone:
        rate = config.lr_backbone
        groups.append({"params": backbone, "lr": rate, "full_lr": rate})
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def gradient_norm(net: nn.Module) -> Tensor:
    """The norm of all gradients together, a scalar on their device."""
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def clip_gradient(net: nn.Module, norm: Tensor, limit: float) -> None:
    """Scale the gradients, whose norm is `norm`, to one of `limit`, where it is larger.

    To the bit what `torch.nn.utils.clip_grad_norm_` does, which multiplies by 1 where it is not.
    """
    if norm.item() + 1e-6 > limit:
        torch.nn.utils.clip_grads_with_norm_(net.parameters(), limit, norm)


def rate_factor(config: TrainConfig, step: int) -> float:
    """What the learning rates are multiplied with in the step after `step` steps."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    if config.schedule == "constant":
        return 1.0
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def check_finite(numbers: Mapping[str, float], step: int, good: str) -> None:
    """See that step `step` may be taken.

    Raises:
        ActError: One of its numbers is not finite; names `good`, the checkpoint before it.
    """
    for name, value in numbers.items():
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
    parameters = dict(net.named_parameters())
    # torch numbers the parameters group by group; the file names them.
    names = {parameter: name for name, parameter in parameters.items()}
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
        if tensor.shape == parameters[name].shape:
            # The fused kernel walks memory: moments must lie there as their parameter does.
            tensor = torch.empty_like(parameters[name]).copy_(tensor)
        if quantity == _RAW:
            raw[name] = tensor
        else:
            state[number[name]][quantity] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    if average is not None:
        average.load_raw(raw)


def scale_of(scaler: torch.amp.GradScaler) -> dict[str, float | int]:
    """Fields of TrainerRecord that bring `scaler` back; none where nothing is scaled."""
    state = scaler.state_dict()
    return {"scale": state["scale"], "scale_steps": state["_growth_tracker"]} if state else {}


def restore_scale(scaler: torch.amp.GradScaler, record: TrainerRecord) -> None:
    """Bring a new `scaler` to where that of `record` was."""
    if record.scale is not None and scaler.is_enabled():
        now = {"scale": record.scale, "_growth_tracker": record.scale_steps}
        scaler.load_state_dict({**scaler.state_dict(), **now})


def _seed(seed: int, step: int, purpose: int, part: int = 0) -> int:
    """Seed of one random stream of one step, in [0, 2^63)."""
    entropy = (seed % 2**64, step, purpose, part)
    words = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return int(words[0]) >> 1
