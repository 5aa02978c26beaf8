"""The ACT objective: masked reconstruction of the actions plus a weighted KL on the style.

Shape suffixes: B batch, K action chunk, A action dim, Z latent dim, G code groups, C codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from act_data.errors import InputError
from act_model.config import LossConfig
from act_model.nn.act import ActOutput

_ACTIVE_VARIANCE = 0.01  # Burda et al., 2016: a dimension whose posterior mean varies by more


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The objective and its unweighted parts, float32 scalars.

    Attributes:
        total: reconstruction + kl_weight * (kl without its free bits) + prior
            + is_pad_weight * is_pad.
        reconstruction: Mean over the valid elements.
        kl: From the posterior to the standard normal, free bits included: sum over Z, mean over
            B; 0 where no gaussian style was encoded.
        is_pad: Binary cross-entropy, mean over all steps; 0 without an is_pad head.
        prior: Nats by which the prior misses the codes that the style encoder drew: mean over
            groups and B; 0 without a prior.
        active_latents: Dimensions of z that tell the samples of this batch apart: those whose
            mean varies by more than 0.01; code groups that use more than one code for "vq".
    """

    total: Tensor
    reconstruction: Tensor
    kl: Tensor
    is_pad: Tensor
    prior: Tensor
    active_latents: Tensor

    def parts(self) -> dict[str, Tensor]:
        """Everything but `total`, by name: what a log shows."""
        names = ("reconstruction", "kl", "is_pad", "prior", "active_latents")
        return {name: getattr(self, name) for name in names}


def act_loss(
    output: ActOutput, actions_BKA: Tensor, is_pad_BK: Tensor, config: LossConfig
) -> Losses:
    """How far `output` is from the demonstrated chunk.

    Padded steps and a prefix of committed actions have no influence on the reconstruction,
    whatever stands there; a batch of nothing else gives a reconstruction of 0.

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
    ignored_BK = is_pad_BK if output.prefix_BK is None else is_pad_BK | output.prefix_BK
    error_BKA = error_BKA.masked_fill(ignored_BK[..., None], 0)
    # Divide by the elements that count, not by B*K*A: a mean over padding shrinks the loss of
    # every episode that is shorter than the chunk (the original takes that mean).
    valid = (~ignored_BK).sum().clamp(min=1) * error_BKA.shape[-1]
    reconstruction = _distance(error_BKA, config).sum() / valid

    kl = paid = is_pad = prior = active = reconstruction.new_zeros(())
    if output.mu_BZ is not None and output.logvar_BZ is not None:
        mu_BZ, logvar_BZ = output.mu_BZ.float(), output.logvar_BZ.float()
        # Kingma and Welling, 2014, appendix B.
        kl_Z = -0.5 * (1 + logvar_BZ - mu_BZ.square() - logvar_BZ.exp()).mean(dim=0)
        kl = kl_Z.sum()
        paid = (kl_Z - config.free_bits).clamp(min=0).sum() if config.free_bits else kl
        active = (mu_BZ.detach().var(dim=0, correction=0) > _ACTIVE_VARIANCE).sum().float()
    if output.binaries_BGC is not None:
        binaries_BGC = output.binaries_BGC.detach()
        active = ((binaries_BGC.sum(dim=0) > 0).sum(dim=-1) > 1).sum().float()
        if output.prior_logits_BGC is not None:
            log_prior_BGC = output.prior_logits_BGC.float().log_softmax(dim=-1)
            # A mean: gradients are clipped together, and a sum over groups would drown the rest.
            prior = -(binaries_BGC * log_prior_BGC).sum(dim=-1).mean()
    if output.is_pad_BK1 is not None:
        is_pad = functional.binary_cross_entropy_with_logits(
            output.is_pad_BK1[..., 0].float(), is_pad_BK.float()
        )
    elif config.is_pad_weight > 0:
        raise InputError(
            f"is_pad_weight is {config.is_pad_weight!r}, and the model has no is_pad head",
            hint="Set is_pad_head in the model, or is_pad_weight to 0.",
        )
    total = reconstruction + config.kl_weight * paid + config.is_pad_weight * is_pad + prior
    return Losses(
        total=total,
        reconstruction=reconstruction,
        kl=kl,
        is_pad=is_pad,
        prior=prior,
        active_latents=active,
    )


def _distance(error: Tensor, config: LossConfig) -> Tensor:
    """Elementwise; "smooth_l1" turns from squares to lines at 1, as torch's default."""
    if config.kind == "l1":
        return error.abs()
    if config.kind == "l2":
        return error.square()
    return functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="none")
