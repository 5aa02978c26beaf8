"""The ACT network."""

from act_model.nn.act import ActCvae, ActOutput
from act_model.nn.backbone import imagenet_at_hand, load_backbone_weights
from act_model.nn.loss import Losses, act_loss

__all__ = [
    "ActCvae",
    "ActOutput",
    "Losses",
    "act_loss",
    "imagenet_at_hand",
    "load_backbone_weights",
]
