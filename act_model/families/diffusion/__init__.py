"""Diffusion policy: a chunk of actions is drawn by denoising, seen through the observation.

Chi et al., "Diffusion Policy: Visuomotor Policy Learning via Action Diffusion", 2023; here with
their transformer, on the pictures' features of ACT. In training a demonstrated chunk gets noise of
a random level and the network says what was there; at inference DDIM (Song et al., 2021) walks
from pure noise to a chunk in a few steps. The noise it starts from is the same every time, so a
policy is a function of the observation.

Shape suffixes: B batch, K action chunk, A action dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from act_model.config import LossConfig
from act_model.families.diffusion.network import Denoiser
from act_model.families.family import Family, NetworkInput, Objective, Prediction, Size
from act_model.networks import DiffusionConfig
from act_model.nn.transformer import Attention, DecoderLayer

_SMALL = {"hidden_dim": 256, "feedforward_dim": 1024, "decoder_layers": 4, "dropout": 0.0}
_TINY = {
    "hidden_dim": 128,
    "heads": 4,
    "feedforward_dim": 512,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "dropout": 0.0,
}


def _objective(
    net: Denoiser, seen: NetworkInput, actions_BKA: Tensor, is_pad_BK: Tensor, config: LossConfig
) -> Objective:
    """Mean squared error over the valid elements, at one random noise level per sample."""
    schedule = net.schedule
    levels_B = torch.randint(schedule.levels, (len(actions_BKA),)).to(actions_BKA.device)
    noise_BKA = torch.randn_like(actions_BKA)
    # What stands at padding is no action. As zeros under noise it looks like any step of a walk's
    # beginning; held last actions would tell the network where the episode ends.
    actions_BKA = actions_BKA.masked_fill(is_pad_BK[..., None], 0)
    output_BKA = net(seen, schedule.noisy(actions_BKA, noise_BKA, levels_B), levels_B)
    error_BKA = (output_BKA - schedule.target(actions_BKA, noise_BKA)).float()
    # Filled, not multiplied: 0 * NaN is NaN, in the loss and in its gradient.
    error_BKA = error_BKA.masked_fill(is_pad_BK[..., None], 0)
    valid = (~is_pad_BK).sum().clamp(min=1) * error_BKA.shape[-1]
    loss = error_BKA.square().sum() / valid
    return Objective(total=loss, masked=loss, parts={"denoising": loss})


def _predict(net: Denoiser, seen: NetworkInput) -> Prediction:
    config, batch = net.config, len(seen.state)
    noise = torch.Generator().manual_seed(config.noise_seed)
    start_1KA = torch.randn(1, config.chunk_size, config.action_dim, generator=noise)
    memory = net.observe(seen)
    return Prediction(
        actions_BKA=net.schedule.walk(
            start_1KA.to(seen.state).expand(batch, -1, -1),
            lambda noisy_BKA, level_B: net.denoise(memory, noisy_BKA, level_B),
        )
    )


def _attention(net: Denoiser) -> Attention:
    last = net.layers[-1]
    assert isinstance(last, DecoderLayer)
    return last.cross_attention


DIFFUSION = Family(
    name="diffusion",
    config=DiffusionConfig,
    build=Denoiser,
    objective=_objective,
    predict=_predict,
    attention=_attention,
    sizes={
        "full": Size(model={}, lr=1e-4, lr_backbone=1e-5),
        "small": Size(model=_SMALL, lr=2e-4, lr_backbone=2e-5),
        "tiny": Size(model=_TINY, lr=5e-4, lr_backbone=5e-5),
    },
    # A schedule of noise has one scale, so every action must fill about the same range.
    train={"normalise": "symmetric", "ema": 0.999},
)
