# ruff: noqa: N815 - fields carry shape suffixes too
"""ACT: a conditional VAE whose transformer predicts a whole chunk of actions.

Zhao et al., "Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware", 2023. Where
this network departs from the published code, decision 0002 says why.

    images -> ResNet -> 1x1 -+
    depth  -> stem   -> 1x1 -+-> tokens -+
    state  -------------------> token ---+-> encoder -> decoder(K queries) -> actions
    actions -> style encoder -> z token -+

Shape suffixes: B batch, N cameras, M depth cameras, C channels, H height, W width, h and w the
same after the backbone, S state dim, A action dim, K action chunk, D hidden dim, T tokens,
Z latent dim, G code groups, C codes per group (of "vq").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from act_data.errors import InputError
from act_model.config import ModelConfig
from act_model.nn import depth as depth_nn
from act_model.nn.backbone import STRIDE, CameraBackbone
from act_model.nn.depth import DepthStems
from act_model.nn.position import LearnedPosition2d, SinePosition2d
from act_model.nn.style import GaussianLatent, Style, StyleEncoder, VqLatent
from act_model.nn.transformer import Decoder, Encoder


@dataclass(frozen=True, kw_only=True)
class ActOutput:
    """What the network says about a batch.

    Attributes:
        actions_BKA: Predicted chunk, normalised as the targets are.
        mu_BZ: Mean of z, where the style was encoded ("gaussian" and actions given).
        logvar_BZ: Log variance of z, likewise.
        is_pad_BK1: Logits of "the episode is over by this step", with the is_pad head.
        probs_BGC: Probability of each code, where the style was encoded ("vq").
        binaries_BGC: The codes drawn, one-hot, likewise.
    """

    actions_BKA: Tensor
    mu_BZ: Tensor | None = None
    logvar_BZ: Tensor | None = None
    is_pad_BK1: Tensor | None = None
    probs_BGC: Tensor | None = None
    binaries_BGC: Tensor | None = None


class ActCvae(nn.Module):
    """The ACT network. Its weights are random: `load_backbone_weights` fills the ResNets.

    Attributes:
        backbone: None for a model without cameras.

    Raises:
        InputError: `config` contradicts itself; all contradictions are named.
    """

    depth_to_camera_M: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        _check_config(config)
        self.config = config
        dim = config.hidden_dim
        sizes = (dim, config.heads, config.feedforward_dim, config.dropout)

        self.style: StyleEncoder | None = None
        self.latent: GaussianLatent | VqLatent | None = None
        if config.latent != "none":
            self.style = StyleEncoder(config)
            self.latent = (GaussianLatent if config.latent == "gaussian" else VqLatent)(config)
            self.z_token = nn.Linear(self.latent.size, dim)
            self.z_position_D = nn.Parameter(torch.randn(dim))

        self.state_token = nn.Linear(config.state_dim, dim)
        self.state_position_D = nn.Parameter(torch.randn(dim))

        self.backbone: CameraBackbone | None = None
        if config.cameras:
            self.backbone = CameraBackbone(
                config.backbone, len(config.cameras), per_camera=config.backbone_per_camera
            )
            self.image_token = nn.Conv2d(self.backbone.channels, dim, kernel_size=1)
            self.cell_position = _cell_position(config)
            # Without it, swapping two cameras of a shared backbone changes nothing at all.
            self.camera_ND = nn.Parameter(torch.randn(len(config.cameras), dim))
        if config.depth:
            self.depth_stems = DepthStems(len(config.depth))
            self.depth_token = nn.Conv2d(depth_nn.CHANNELS, dim, kernel_size=1, bias=False)
            cameras_of_depth = [config.cameras.index(name) for name in config.depth]
            self.register_buffer(
                "depth_to_camera_M", torch.tensor(cameras_of_depth), persistent=False
            )

        self.encoder = Encoder(config.encoder_layers, *sizes)
        self.queries_KD = nn.Parameter(torch.randn(config.chunk_size, dim))
        self.decoder = Decoder(config.decoder_layers, *sizes)
        self.action_head = nn.Linear(dim, config.action_dim)
        self.is_pad_head = nn.Linear(dim, 1) if config.is_pad_head else None

    def forward(
        self,
        images_BNCHW: Tensor,
        state_BS: Tensor,
        actions_BKA: Tensor | None = None,
        is_pad_BK: Tensor | None = None,
        depth_BM1HW: Tensor | None = None,
    ) -> ActOutput:
        """Predict a chunk of actions for each row.

        Args:
            images_BNCHW: (B, N, 3, H, W) ImageNet-normalised, in the order of `config.cameras`;
                (B, 0, ...) without cameras.
            state_BS: (B, S) normalised.
            actions_BKA: (B, K, A) normalised; the style is read from them. None: z = 0, or the
                mean code for "vq", as at deployment.
            is_pad_BK: (B, K), True past the episode's end. None: nowhere.
            depth_BM1HW: (B, M, 1, H, W) scaled metres, in the order of `config.depth`.

        Raises:
            InputError: A tensor does not have the shape that `config` demands.
        """
        self._check_input(images_BNCHW, state_BS, actions_BKA, is_pad_BK, depth_BM1HW)
        style = self._encode_style(state_BS, actions_BKA, is_pad_BK)
        tokens_B1D = [self.state_token(state_BS)[:, None]]
        positions_D: list[Tensor] = [self.state_position_D]
        if style is not None:
            tokens_B1D.insert(0, self.z_token(style.z_BZ)[:, None])
            positions_D.insert(0, self.z_position_D)
        tokens_BTD, position_TD = torch.cat(tokens_B1D, dim=1), torch.stack(positions_D)
        if self.backbone is not None:
            image_BTD, image_position_TD = self._see(self.backbone, images_BNCHW, depth_BM1HW)
            tokens_BTD = torch.cat([tokens_BTD, image_BTD], dim=1)
            position_TD = torch.cat([position_TD, image_position_TD])

        memory_BTD = self.encoder(tokens_BTD, position_TD)
        decoded_BKD = self.decoder(self.queries_KD, memory_BTD, position_TD)
        return ActOutput(
            actions_BKA=self.action_head(decoded_BKD),
            mu_BZ=None if style is None else style.mu_BZ,
            logvar_BZ=None if style is None else style.logvar_BZ,
            is_pad_BK1=None if self.is_pad_head is None else self.is_pad_head(decoded_BKD),
            probs_BGC=None if style is None else style.probs_BGC,
            binaries_BGC=None if style is None else style.binaries_BGC,
        )

    def _encode_style(
        self, state_BS: Tensor, actions_BKA: Tensor | None, is_pad_BK: Tensor | None
    ) -> Style | None:
        if self.style is None or self.latent is None:
            return None
        if actions_BKA is None:
            return self.latent.without_actions(state_BS)
        if is_pad_BK is None:
            is_pad_BK = torch.zeros(
                actions_BKA.shape[:2], dtype=torch.bool, device=actions_BKA.device
            )
        style: Style = self.latent(self.style(state_BS, actions_BKA, is_pad_BK))
        return style

    def _see(
        self, backbone: CameraBackbone, images_BNCHW: Tensor, depth_BM1HW: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Tokens (B, N h w, D) and positions (N h w, D) of all pictures, camera by camera."""
        features_BNChw = backbone(images_BNCHW)
        batch, cameras = features_BNChw.shape[:2]
        seen_BNDhw = self.image_token(features_BNChw.flatten(0, 1)).unflatten(0, (batch, cameras))
        if depth_BM1HW is not None:
            depth_BMChw = self.depth_stems(depth_BM1HW)
            near_BMDhw = self.depth_token(depth_BMChw.flatten(0, 1)).unflatten(0, (batch, -1))
            # The sum of two 1x1 convolutions is one 1x1 convolution over both maps' channels.
            seen_BNDhw = seen_BNDhw.index_add(1, self.depth_to_camera_M, near_BMDhw)
        cell_TD = self.cell_position(seen_BNDhw)
        position_NTD = cell_TD + self.camera_ND[:, None]
        return seen_BNDhw.flatten(3).transpose(2, 3).flatten(1, 2), position_NTD.flatten(0, 1)

    def _check_input(
        self,
        images_BNCHW: Tensor,
        state_BS: Tensor,
        actions_BKA: Tensor | None,
        is_pad_BK: Tensor | None,
        depth_BM1HW: Tensor | None,
    ) -> None:
        config = self.config
        _expect("state", state_BS, (config.state_dim,))
        if config.cameras:
            _expect("images", images_BNCHW, (len(config.cameras), 3, None, None))
        if actions_BKA is not None:
            _expect("actions", actions_BKA, (config.chunk_size, config.action_dim))
        if is_pad_BK is not None:
            _expect("is_pad", is_pad_BK, (config.chunk_size,))
        if depth_BM1HW is not None:
            _expect("depth", depth_BM1HW, (len(config.depth), 1, *images_BNCHW.shape[-2:]))
        elif config.depth:
            raise InputError(
                f"the model needs depth of {list(config.depth)!r}, and got none",
                hint="Pass depth_BM1HW.",
            )


def _expect(what: str, tensor: Tensor, shape: Sequence[int | None]) -> None:
    """Refuse a tensor whose shape after the batch is not `shape` (None: any)."""
    found = tuple(tensor.shape[1:])
    fits = len(found) == len(shape) and all(
        want is None or have == want for have, want in zip(found, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in ("batch", *shape))
        raise InputError(
            f"{what} has shape {tuple(tensor.shape)}, the model expects ({wanted})",
            hint="Feed the network through the transforms of its own checkpoint.",
        )


def _cell_position(config: ModelConfig) -> SinePosition2d | LearnedPosition2d:
    if config.position == "sine":
        return SinePosition2d(config.hidden_dim)
    height, width = config.image_size
    return LearnedPosition2d(config.hidden_dim, (-(-height // STRIDE), -(-width // STRIDE)))


def _check_config(config: ModelConfig) -> None:
    problems = []
    if config.hidden_dim % config.heads:
        problems.append(f"hidden_dim {config.hidden_dim} is not a multiple of heads {config.heads}")
    if config.hidden_dim % 4:
        problems.append(
            f"hidden_dim {config.hidden_dim} is not a multiple of 4, as sine and cosine of rows "
            "and columns need"
        )
    for kind, names in (("cameras", config.cameras), ("depth", config.depth)):
        if len(set(names)) < len(names):
            problems.append(f"{kind} {list(names)!r} names one twice")
    if unseen := [name for name in config.depth if name not in config.cameras]:
        problems.append(f"depth {unseen!r} is not among the cameras {list(config.cameras)!r}")
    if problems:
        raise InputError(
            "the model configuration contradicts itself: " + "; ".join(problems),
            hint="Correct these settings; hidden_dim 512 with 8 heads is the published size.",
        )
