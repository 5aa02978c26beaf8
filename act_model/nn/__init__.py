"""The ACT network."""

from act_model.nn.act import ActCvae, ActOutput
from act_model.nn.backbone import load_backbone_weights
from act_model.nn.loss import Losses, act_loss

__all__ = ["ActCvae", "ActOutput", "Losses", "act_loss", "load_backbone_weights"]
