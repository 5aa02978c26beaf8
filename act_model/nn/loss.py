"""The ACT objective: masked reconstruction of the actions plus a weighted KL on the style.

Shape suffixes: B batch, K action chunk, A action dim, Z latent dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from act_data.errors import InputError
from act_model.config import LossConfig
from act_model.nn.act import ActOutput


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The objective and its unweighted parts, float32 scalars.

    Attributes:
        total: reconstruction + kl_weight * kl + is_pad_weight * is_pad.
        reconstruction: Mean over the valid elements.
        kl: From the posterior to the standard normal: sum over Z, mean over B; 0 where no
            gaussian style was encoded.
        is_pad: Binary cross-entropy, mean over all steps; 0 without an is_pad head.
    """

    total: Tensor
    reconstruction: Tensor
    kl: Tensor
    is_pad: Tensor


def act_loss(
    output: ActOutput, actions_BKA: Tensor, is_pad_BK: Tensor, config: LossConfig
) -> Losses:
    """How far `output` is from the demonstrated chunk.

    Padded steps have no influence, whatever stands there; a batch of nothing but padding gives
    a reconstruction of 0.

    Args:
        output: Of a forward pass with the same batch.
        actions_BKA: (B, K, A) demonstrated, normalised.
        is_pad_BK: (B, K) bool, True past the episode's end.
        config: Which distance, and the weights.

    Raises:
        InputError: `config` weighs an is_pad head that the model does not have.
    """
    # float32 also under autocast: a mean over thousands of bfloat16 terms loses digits.
    error_BKA = output.actions_BKA.float() - actions_BKA.float()
    # Filled, not multiplied: 0 * NaN is NaN, in the loss and in its gradient.
    error_BKA = error_BKA.masked_fill(is_pad_BK[..., None], 0)
    # Divide by the elements that count, not by B*K*A: a mean over padding shrinks the loss of
    # every episode that is shorter than the chunk (the original takes that mean).
    valid = (~is_pad_BK).sum().clamp(min=1) * error_BKA.shape[-1]
    reconstruction = _distance(error_BKA, config).sum() / valid

    kl = is_pad = reconstruction.new_zeros(())
    if output.mu_BZ is not None and output.logvar_BZ is not None:
        mu_BZ, logvar_BZ = output.mu_BZ.float(), output.logvar_BZ.float()
        # Kingma and Welling, 2014, appendix B.
        kl = -0.5 * (1 + logvar_BZ - mu_BZ.square() - logvar_BZ.exp()).sum(dim=-1).mean()
    if output.is_pad_BK1 is not None:
        is_pad = functional.binary_cross_entropy_with_logits(
            output.is_pad_BK1[..., 0].float(), is_pad_BK.float()
        )
    elif config.is_pad_weight > 0:
        raise InputError(
            f"is_pad_weight is {config.is_pad_weight!r}, and the model has no is_pad head",
            hint="Set is_pad_head in the model, or is_pad_weight to 0.",
        )
    total = reconstruction + config.kl_weight * kl + config.is_pad_weight * is_pad
    return Losses(total=total, reconstruction=reconstruction, kl=kl, is_pad=is_pad)


def _distance(error: Tensor, config: LossConfig) -> Tensor:
    """Elementwise; "smooth_l1" turns from squares to lines at 1, as torch's default."""
    if config.kind == "l1":
        return error.abs()
    if config.kind == "l2":
        return error.square()
    return functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="none")
