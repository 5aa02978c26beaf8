"""The defects that this toolkit has no option for, put back while a network trains.

Weights are switched off as zeros that never learn, so what comes out is an ordinary checkpoint.

Shape suffixes: B batch, K action chunk, A action dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from act_model.config import LossConfig, ModelConfig
from act_model.families import FAMILIES, NetworkInput, Objective
from act_model.families.act import ACT
from act_model.nn import ActCvae
from act_model.nn.transformer import DecoderLayer

Defect = Literal["no camera code", "actions apart", "mean over padding"]


@contextmanager
def with_defects(*defects: Defect) -> Iterator[None]:
    """While it lasts, ACT networks are built and trained with `defects`."""

    def build(config: ModelConfig) -> ActCvae:
        net = ACT.build(config)
        if "no camera code" in defects:
            _silence(net.camera_ND)
        if "actions apart" in defects:
            for layer in net.decoder.layers:
                assert isinstance(layer, DecoderLayer)
                _silence(*layer.self_attention.out.parameters())
        return net

    def objective(
        net: ActCvae, seen: NetworkInput, actions_BKA: Tensor, is_pad_BK: Tensor, loss: LossConfig
    ) -> Objective:
        ours = ACT.objective(net, seen, actions_BKA, is_pad_BK, loss)
        if "mean over padding" not in defects:
            return ours
        masked = ours.masked * (~is_pad_BK).float().mean()
        return replace(ours, total=ours.total - ours.masked + masked, masked=masked)

    FAMILIES["act"] = replace(ACT, build=build, objective=objective)
    try:
        yield
    finally:
        FAMILIES["act"] = ACT


def _silence(*weights: nn.Parameter) -> None:
    for weight in weights:
        weight.requires_grad_(False)
        with torch.no_grad():
            weight.zero_()
