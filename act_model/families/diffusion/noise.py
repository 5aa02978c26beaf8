"""Noise on actions, and the way back: the door to diffusers.

Shape suffixes: B batch, K action chunk, A action dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from act_data.errors import InputError


class NoiseSchedule:
    """Levels of noise from hardly any (0) to nothing else (levels - 1), and DDIM's walk back.

    Args:
        levels: How many.
        steps: Of the walk, at most `levels`.
        predicts_noise: What the network that is trained on `target` says.

    Raises:
        InputError: The library that knows the schedules is not installed.
    """

    def __init__(self, levels: int, steps: int, *, predicts_noise: bool) -> None:
        try:
            from diffusers.schedulers.scheduling_ddim import DDIMScheduler
        except ImportError as e:
            raise InputError(
                f"a diffusion policy needs diffusers, which cannot be imported: {e}",
                hint="Install it: pip install 'act-toolkit[diffusion]'.",
            ) from None
        self.levels = levels
        self._steps = steps
        self._predicts_noise = predicts_noise
        # As in diffusion_policy: the squared cosine of Nichol and Dhariwal (2021), and clipping
        # of the estimate to [-1, 1], where normalised actions lie.
        self._scheduler: Any = DDIMScheduler(
            num_train_timesteps=levels,
            beta_schedule="squaredcos_cap_v2",
            prediction_type="epsilon" if predicts_noise else "sample",
            clip_sample=True,
        )

    def noisy(self, actions_BKA: Tensor, noise_BKA: Tensor, levels_B: Tensor) -> Tensor:
        """`actions_BKA` under noise of the levels `levels_B`."""
        noisy_BKA: Tensor = self._scheduler.add_noise(actions_BKA, noise_BKA, levels_B)
        return noisy_BKA

    def target(self, actions_BKA: Tensor, noise_BKA: Tensor) -> Tensor:
        """What the network is to say of them."""
        return noise_BKA if self._predicts_noise else actions_BKA

    def walk(self, start_BKA: Tensor, denoise: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Actions (B, K, A) from the noise `start_BKA`; draws nothing.

        Args:
            start_BKA: Standard normal.
            denoise: The network: of noisy actions and their levels (B,).
        """
        self._scheduler.set_timesteps(self._steps)
        walked_BKA = start_BKA
        for level in self._scheduler.timesteps.tolist():
            level_B = torch.full((len(start_BKA),), level, device=start_BKA.device)
            said_BKA = denoise(walked_BKA, level_B).to(start_BKA.dtype)
            walked_BKA = self._scheduler.step(said_BKA, level, walked_BKA).prev_sample
        return walked_BKA
