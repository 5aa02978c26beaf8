# ruff: noqa: N815 - fields carry shape suffixes too
"""How a demonstration was done, as one vector: the encoder half of the CVAE and its latents.

Shape suffixes: B batch, K action chunk, S state dim, A action dim, D hidden dim, T tokens,
Z latent dim, G code groups (`vq_classes`), C codes per group (`vq_codes`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from act_model.config import ModelConfig
from act_model.nn.position import sinusoid_table
from act_model.nn.transformer import Encoder


@dataclass(frozen=True, kw_only=True)
class Style:
    """A drawn style variable and the distribution it was drawn from.

    Attributes:
        z_BZ: The draw; for "vq" the G one-hot codes in a row, (B, G * C).
        mu_BZ: Mean, "gaussian" only.
        logvar_BZ: Log of the variance, "gaussian" only.
        probs_BGC: Probability of each code, "vq" only.
        binaries_BGC: The codes drawn, one-hot, "vq" only.
    """

    z_BZ: Tensor
    mu_BZ: Tensor | None = None
    logvar_BZ: Tensor | None = None
    probs_BGC: Tensor | None = None
    binaries_BGC: Tensor | None = None


class StyleEncoder(nn.Module):
    """Reads [CLS, state, action chunk] and gives back what became of CLS. It sees no picture."""

    table_TD: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.cls_D = nn.Parameter(torch.randn(dim))
        self.state = nn.Linear(config.state_dim, dim)
        self.action = nn.Linear(config.action_dim, dim)
        self.encoder = Encoder(
            config.style_layers, dim, config.heads, config.feedforward_dim, config.dropout
        )
        table_TD = sinusoid_table(config.chunk_size + 2, dim)
        self.register_buffer("table_TD", table_TD, persistent=False)

    def forward(self, state_BS: Tensor, actions_BKA: Tensor, is_pad_BK: Tensor) -> Tensor:
        """(B, D). K is at most the chunk size; padded actions have no influence, even as NaN."""
        # Hidden keys alone would not do: attention weighs them with 0, and 0 * NaN is NaN.
        actions_BKA = actions_BKA.masked_fill(is_pad_BK[..., None], 0)
        state_B1D = self.state(state_BS)[:, None]
        actions_BKD = self.action(actions_BKA)
        cls_B1D = self.cls_D.expand_as(state_B1D)
        tokens_BTD = torch.cat([cls_B1D.to(state_B1D.dtype), state_B1D, actions_BKD], dim=1)
        keep_BT = functional.pad(~is_pad_BK, (2, 0), value=True)
        table_TD = self.table_TD[: tokens_BTD.shape[1]]
        out_B1D: Tensor = self.encoder(tokens_BTD, table_TD, keep_BT, first=1)
        return out_B1D[:, 0]


class GaussianLatent(nn.Module):
    """A diagonal normal distribution (Zhao et al., 2023). Its prior's mean is z = 0."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.size = config.latent_dim
        self.parameters_of = nn.Linear(config.hidden_dim, 2 * config.latent_dim)

    def forward(self, cls_BD: Tensor) -> Style:
        """Draws z while training, takes its mean otherwise."""
        # float32 also under autocast: exp() of a bfloat16 is off by up to 1 %.
        mu_BZ, logvar_BZ = self.parameters_of(cls_BD).float().chunk(2, dim=-1)
        z_BZ = mu_BZ
        if self.training:
            z_BZ = mu_BZ + torch.randn_like(mu_BZ) * (logvar_BZ / 2).exp()
        return Style(z_BZ=z_BZ.to(cls_BD.dtype), mu_BZ=mu_BZ, logvar_BZ=logvar_BZ)

    def without_actions(self, like_BS: Tensor) -> Style:
        """z = 0 for each row of `like_BS`."""
        return Style(z_BZ=like_BS.new_zeros(like_BS.shape[0], self.size))


class VqLatent(nn.Module):
    """G categorical variables of C codes each, with straight-through gradients.

    Without actions a prior says the codes. Where there is none, z is the mean of all codes, 1 / C
    everywhere: it lies amid the one-hot codes that the decoder is trained on, which zeros do not.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.groups = config.vq_classes
        self.codes = config.vq_codes
        self.size = self.groups * self.codes
        self.logits = nn.Linear(config.hidden_dim, self.size)

    def forward(self, cls_BD: Tensor) -> Style:
        """Draws one code per group while training, takes the likeliest otherwise."""
        logits_BGC = self.logits(cls_BD).float().unflatten(1, (self.groups, self.codes))
        probs_BGC = logits_BGC.softmax(dim=-1)
        if self.training:
            codes_BG = torch.multinomial(probs_BGC.flatten(0, 1), 1).view(-1, self.groups)
        else:
            codes_BG = probs_BGC.argmax(dim=-1)
        binaries_BGC = functional.one_hot(codes_BG, self.codes).to(probs_BGC.dtype)
        # Forward the codes, backward the probabilities (Bengio et al., 2013).
        through_BGC = binaries_BGC - probs_BGC.detach() + probs_BGC
        return Style(
            z_BZ=through_BGC.flatten(1).to(cls_BD.dtype),
            probs_BGC=probs_BGC,
            binaries_BGC=binaries_BGC,
        )

    def without_actions(self, like_BS: Tensor) -> Style:
        """The mean of all codes for each row of `like_BS`."""
        return Style(z_BZ=like_BS.new_full((like_BS.shape[0], self.size), 1 / self.codes))
