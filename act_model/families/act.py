"""ACT as a family of policies: the network of `act_model.nn`, its objective, its sizes.

Shape suffixes: B batch, K action chunk, A action dim.
"""

from __future__ import annotations

from torch import Tensor

from act_model.config import LossConfig, ModelConfig
from act_model.families.family import Family, NetworkInput, Objective, Prediction, Size
from act_model.nn import ActCvae, act_loss
from act_model.nn.transformer import Attention, DecoderLayer

# "act" is Zhao et al. (2023); the other two are sized for a CPU, where lr 1e-5 would need days. A
# backbone with frozen batch norm does not take such rates: at 5e-4 its features grew from 1 to
# 7000 in 12 steps, and the gradient was NaN at the 14th.
SIZES = {
    "act": Size(model={}, lr=1e-5, lr_backbone=1e-5),
    "small": Size(
        model={
            "hidden_dim": 256,
            "feedforward_dim": 1024,
            "decoder_layers": 2,
            "style_layers": 2,
            "dropout": 0.0,
        },
        lr=1e-4,
        lr_backbone=2e-5,
    ),
    "tiny": Size(
        model={
            "hidden_dim": 128,
            "heads": 4,
            "feedforward_dim": 512,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "style_layers": 2,
            "dropout": 0.0,
        },
        lr=5e-4,
        lr_backbone=5e-5,
    ),
}


def _objective(
    net: ActCvae, seen: NetworkInput, actions_BKA: Tensor, is_pad_BK: Tensor, config: LossConfig
) -> Objective:
    output = net(seen.images, seen.state, actions_BKA, is_pad_BK, seen.depth)
    losses = act_loss(output, actions_BKA, is_pad_BK, config)
    return Objective(total=losses.total, masked=losses.reconstruction, parts=losses.parts())


def _predict(net: ActCvae, seen: NetworkInput) -> Prediction:
    """With z = 0: what a robot gets, which cannot look at the actions to come."""
    output = net(seen.images, seen.state, depth_BM1HW=seen.depth, committed_BPA=seen.committed)
    logits_BK1 = output.is_pad_BK1
    return Prediction(
        actions_BKA=output.actions_BKA,
        is_pad_BK=None if logits_BK1 is None else logits_BK1[..., 0].float().sigmoid(),
    )


def _attention(net: ActCvae) -> Attention:
    last = net.decoder.layers[-1]
    assert isinstance(last, DecoderLayer)
    return last.cross_attention


def _replays(config: ModelConfig) -> bool:
    # Codes are looked at on their way, and nobody knows what another's backbone does.
    return config.latent != "vq" and not config.backbone.startswith("plugin:")


ACT = Family(
    name="act",
    config=ModelConfig,
    build=ActCvae,
    objective=_objective,
    predict=_predict,
    attention=_attention,
    replays=_replays,
    sizes=SIZES,
)
