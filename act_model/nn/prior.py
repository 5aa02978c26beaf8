"""Which style codes fit what the robot sees: the conditional prior of the "vq" latent.

Shape suffixes: B batch, T observation tokens, D hidden dim, G code groups, C codes per group, L
groups but the last.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from act_model.config import ModelConfig
from act_model.nn.transformer import Attention


class CodePrior(nn.Module):
    """p(codes | observation), one group after the other, so that codes are drawn that go together.

    A neural autoregressive distribution (Larochelle and Murray, 2011) that starts from what the
    policy sees. act-plus-plus trains its prior afterwards, and that one sees no observation. This
    one learns beside the policy from the codes that the style encoder draws. It reads the policy's
    tokens and sends no gradient into them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, groups, codes = config.hidden_dim, config.vq_classes, config.vq_codes
        self.codes = codes
        # Without cameras there is one token, and nothing to choose from.
        self.look: Attention | None = None
        if config.cameras:
            self.look = Attention(dim, config.heads, dropout=0.0)
            self.query_D = nn.Parameter(torch.randn(dim))
        self.start = nn.Linear(dim, dim)
        self.drawn_LCD = nn.Parameter(torch.randn(groups - 1, codes, dim) * dim**-0.5)
        self.logits_GDC = nn.Parameter(torch.randn(groups, dim, codes) * dim**-0.5)
        self.bias_GC = nn.Parameter(torch.zeros(groups, codes))

    def forward(self, tokens_BTD: Tensor, position_TD: Tensor, codes_BGC: Tensor) -> Tensor:
        """(B, G, C) logits of every group given the observation and the groups before it."""
        with torch.autocast(tokens_BTD.device.type, enabled=False):
            context_BD = self._observe(tokens_BTD, position_TD)
            before_BLC = codes_BGC.detach()[:, :-1].to(context_BD.dtype)
            added_BLD = torch.einsum("blc,lcd->bld", before_BLC, self.drawn_LCD).cumsum(dim=1)
            context_BGD = context_BD[:, None] + functional.pad(added_BLD, (0, 0, 1, 0))
            logits_BGC = torch.einsum("bgd,gdc->bgc", context_BGD.tanh(), self.logits_GDC)
            return logits_BGC + self.bias_GC

    def pick(self, tokens_BTD: Tensor, position_TD: Tensor, *, sample: bool) -> Tensor:
        """(B, G, C) one-hot codes: drawn, or the likeliest of each group in turn."""
        with torch.autocast(tokens_BTD.device.type, enabled=False):
            context_BD = self._observe(tokens_BTD, position_TD)
            picked: list[Tensor] = []
            for g, (logits_DC, bias_C) in enumerate(
                zip(self.logits_GDC, self.bias_GC, strict=True)
            ):
                if picked:
                    context_BD = context_BD + picked[-1] @ self.drawn_LCD[g - 1]
                probs_BC = (context_BD.tanh() @ logits_DC + bias_C).softmax(dim=-1)
                code_B = torch.multinomial(probs_BC, 1)[:, 0] if sample else probs_BC.argmax(-1)
                picked.append(functional.one_hot(code_B, self.codes).to(context_BD.dtype))
            return torch.stack(picked, dim=1).to(tokens_BTD.dtype)

    def _observe(self, tokens_BTD: Tensor, position_TD: Tensor) -> Tensor:
        """(B, D): what the observation says, before any code is drawn."""
        dtype = self.start.weight.dtype
        tokens_BTD, position_TD = tokens_BTD.detach().to(dtype), position_TD.detach().to(dtype)
        seen_B1D = tokens_BTD[:, :1]
        if self.look is not None:
            query_B1D = self.query_D.expand(tokens_BTD.shape[0], 1, -1)
            seen_B1D = self.look(query_B1D, tokens_BTD + position_TD, tokens_BTD)
        context_BD: Tensor = self.start(seen_B1D[:, 0])
        return context_BD
