"""What a network costs, and what a device can do: floating-point operations."""

from __future__ import annotations

from time import perf_counter

import torch
from torch.utils.flop_counter import FlopCounterMode

from act_model.contract import blank_observation
from act_model.policy import Policy


def forward_flops(policy: Policy) -> float:
    """Of one observation, the style encoder of training not included."""
    policy.network.requires_grad_(False)  # the counter hooks into gradients where there are any
    with FlopCounterMode(display=False) as counter:
        policy.predict(blank_observation(policy.contract))
    return float(counter.get_total_flops())


def matmul_flops(side: int, device: str, times: int, dtype: torch.dtype = torch.float32) -> float:
    """FLOP/s of a matrix product of side x side: the best of `times`, after one."""
    a = torch.randn(side, side, device=device).to(dtype)
    best_s = float("inf")
    for turn in range(times + 1):
        began = perf_counter()
        torch.matmul(a, a)
        if device == "cuda":
            torch.cuda.synchronize()
        if turn:
            best_s = min(best_s, perf_counter() - began)
    return 2 * side**3 / best_s
