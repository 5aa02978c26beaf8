# ruff: noqa: N815 - fields carry shape suffixes too
"""The network of a diffusion policy: a transformer that denoises a chunk of actions.

    images -> ResNet -> 1x1 -+
    depth  -> stem   -> 1x1 -+-> tokens -+
    state  -------------------> token ---+-> encoder -> memory
    noisy actions + level ------------------> decoder(memory) -> actions, or their noise

The memory depends on the observation alone, so it is made once per prediction.

Shape suffixes: B batch, N cameras, M depth cameras, C channels, H height, W width, h and w the
same after the backbone, S state dim, A action dim, K action chunk, D hidden dim, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from act_data.errors import InputError
from act_model.families.diffusion.noise import NoiseSchedule
from act_model.families.family import NetworkInput
from act_model.networks import DiffusionConfig
from act_model.nn import depth as depth_nn
from act_model.nn.backbone import CameraBackbone
from act_model.nn.depth import DepthStems
from act_model.nn.position import SinePosition2d, sinusoid_table
from act_model.nn.transformer import DecoderLayer, Encoder


@dataclass(frozen=True, slots=True)
class Memory:
    """What was observed: encoded tokens, and the same with their positions added."""

    tokens_BTD: Tensor
    placed_BTD: Tensor


class Denoiser(nn.Module):
    """The network. Its weights are random: `load_backbone_weights` fills the ResNets.

    Attributes:
        backbone: None for a model without cameras.
        schedule: The noise that it is trained on.

    Raises:
        InputError: `config` contradicts itself; all contradictions are named.
    """

    depth_to_camera_M: Tensor
    level_table_LD: Tensor

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        _check_config(config)
        self.config = config
        self.schedule = NoiseSchedule(
            config.levels, config.steps, predicts_noise=config.predict == "noise"
        )
        dim = config.hidden_dim
        sizes = (dim, config.heads, config.feedforward_dim, config.dropout)

        self.state_token = nn.Linear(config.state_dim, dim)
        self.state_position_D = nn.Parameter(torch.randn(dim))
        self.backbone: CameraBackbone | None = None
        if config.cameras:
            self.backbone = CameraBackbone(
                config.backbone, len(config.cameras), per_camera=config.backbone_per_camera
            )
            self.image_token = nn.Conv2d(self.backbone.channels, dim, kernel_size=1)
            self.cell_position = SinePosition2d(dim)
            self.camera_ND = nn.Parameter(torch.randn(len(config.cameras), dim))
        if config.depth:
            self.depth_stems = DepthStems(len(config.depth))
            self.depth_token = nn.Conv2d(depth_nn.CHANNELS, dim, kernel_size=1, bias=False)
            cameras_of_depth = [config.cameras.index(name) for name in config.depth]
            self.register_buffer(
                "depth_to_camera_M", torch.tensor(cameras_of_depth), persistent=False
            )
        self.encoder = Encoder(config.encoder_layers, *sizes)

        self.action_token = nn.Linear(config.action_dim, dim)
        self.action_position_KD = nn.Parameter(torch.randn(config.chunk_size, dim))
        self.register_buffer("level_table_LD", sinusoid_table(config.levels, dim), persistent=False)
        self.level_token = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.layers = nn.ModuleList(DecoderLayer(*sizes) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, config.action_dim)

    def forward(self, seen: NetworkInput, noisy_BKA: Tensor, levels_B: Tensor) -> Tensor:
        """What `schedule.target` is to be, (B, K, A).

        Args:
            seen: Observations, in the order of `config.cameras` and `config.depth`.
            noisy_BKA: Normalised actions under noise.
            levels_B: Of the noise, integers.
        """
        return self.denoise(self.observe(seen), noisy_BKA, levels_B)

    def observe(self, seen: NetworkInput) -> Memory:
        """The part that depends on the observation alone."""
        tokens_BTD = self.state_token(seen.state)[:, None]
        position_TD = self.state_position_D[None]
        if self.backbone is not None:
            image_BTD, image_position_TD = self._see(self.backbone, seen)
            tokens_BTD = torch.cat([tokens_BTD, image_BTD], dim=1)
            position_TD = torch.cat([position_TD, image_position_TD])
        memory_BTD = self.encoder(tokens_BTD, position_TD)
        return Memory(memory_BTD, memory_BTD + position_TD)

    def denoise(self, memory: Memory, noisy_BKA: Tensor, levels_B: Tensor) -> Tensor:
        """As `forward`, for an observation that is already encoded."""
        level_BD = self.level_token(self.level_table_LD[levels_B])
        x_BKD = self.action_token(noisy_BKA) + self.action_position_KD + level_BD[:, None]
        for layer in self.layers:
            x_BKD = layer(x_BKD, self.action_position_KD, memory.tokens_BTD, memory.placed_BTD)
        out_BKA: Tensor = self.head(self.norm(x_BKD))
        return out_BKA

    def _see(self, backbone: CameraBackbone, seen: NetworkInput) -> tuple[Tensor, Tensor]:
        """Tokens (B, N h w, D) and positions (N h w, D) of all pictures, camera by camera."""
        features_BNChw = backbone(seen.images)
        batch, cameras = features_BNChw.shape[:2]
        seen_BNDhw = self.image_token(features_BNChw.flatten(0, 1)).unflatten(0, (batch, cameras))
        if seen.depth is not None:
            depth_BMChw = self.depth_stems(seen.depth)
            near_BMDhw = self.depth_token(depth_BMChw.flatten(0, 1)).unflatten(0, (batch, -1))
            seen_BNDhw = seen_BNDhw.index_add(1, self.depth_to_camera_M, near_BMDhw)
        position_NTD = self.cell_position(seen_BNDhw) + self.camera_ND[:, None]
        return seen_BNDhw.flatten(3).transpose(2, 3).flatten(1, 2), position_NTD.flatten(0, 1)


def _check_config(config: DiffusionConfig) -> None:
    problems = []
    if config.hidden_dim % config.heads:
        problems.append(f"hidden_dim {config.hidden_dim} is not a multiple of heads {config.heads}")
    if config.hidden_dim % 4:
        problems.append(f"hidden_dim {config.hidden_dim} is not a multiple of 4")
    if config.steps > config.levels:
        problems.append(f"steps {config.steps} is more than levels {config.levels}")
    for kind, names in (("cameras", config.cameras), ("depth", config.depth)):
        if len(set(names)) < len(names):
            problems.append(f"{kind} {list(names)!r} names one twice")
    if unseen := [name for name in config.depth if name not in config.cameras]:
        problems.append(f"depth {unseen!r} is not among the cameras {list(config.cameras)!r}")
    if problems:
        raise InputError(
            "the model configuration contradicts itself: " + "; ".join(problems),
            hint="Correct these settings; hidden_dim 512 with 8 heads is the default size.",
        )
