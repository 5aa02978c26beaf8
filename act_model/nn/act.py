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
Z latent dim, G code groups, C codes per group (of "vq"), P committed actions.
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
from act_model.nn.prior import CodePrior
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
        prior_logits_BGC: What the prior says about those codes from the observation.
        prefix_BK: True at committed actions: they were given, and stand in `actions_BKA` as they
            are. None where the model knows no prefix.
    """

    actions_BKA: Tensor
    mu_BZ: Tensor | None = None
    logvar_BZ: Tensor | None = None
    is_pad_BK1: Tensor | None = None
    probs_BGC: Tensor | None = None
    binaries_BGC: Tensor | None = None
    prior_logits_BGC: Tensor | None = None
    prefix_BK: Tensor | None = None


class ActCvae(nn.Module):
    """The ACT network. Its weights are random: `load_backbone_weights` fills the ResNets.

    Attributes:
        backbone: None for a model without cameras.

    Raises:
        InputError: `config` contradicts itself; all contradictions are named.
    """

    tempting_S: Tensor
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

        self.prior: CodePrior | None = None
        if config.latent == "vq" and config.vq_prior != "uniform":
            self.prior = CodePrior(config)

        self.state_token = nn.Linear(config.state_dim, dim)
        self.state_position_D = nn.Parameter(torch.randn(dim))
        tempting = set(config.state_dropout_dims or range(config.state_dim))
        tempting_S = torch.tensor([d in tempting for d in range(config.state_dim)])
        self.register_buffer("tempting_S", tempting_S, persistent=False)

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
            self.depth_stems = DepthStems(len(config.depth), config.depth_stem)
            self.depth_token = nn.Conv2d(depth_nn.CHANNELS, dim, kernel_size=1, bias=False)
            cameras_of_depth = [config.cameras.index(name) for name in config.depth]
            self.register_buffer(
                "depth_to_camera_M", torch.tensor(cameras_of_depth), persistent=False
            )

        self.encoder = Encoder(config.encoder_layers, *sizes)
        self.queries_KD = nn.Parameter(torch.randn(config.chunk_size, dim))
        if config.max_prefix:
            self.committed_token = nn.Linear(config.action_dim, dim)
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
        committed_BPA: Tensor | None = None,
    ) -> ActOutput:
        """Predict a chunk of actions for each row.

        In training mode it draws from torch's random stream: dropout, the style, which states are
        hidden, and how many of the demonstrated actions a row takes as committed.

        Args:
            images_BNCHW: (B, N, 3, H, W) ImageNet-normalised, in the order of `config.cameras`;
                (B, 0, ...) without cameras.
            state_BS: (B, S) normalised.
            actions_BKA: (B, K, A) normalised; the style is read from them. None: z = 0, or what
                the prior says for "vq", as at deployment.
            is_pad_BK: (B, K), True past the episode's end. None: nowhere.
            depth_BM1HW: (B, M, 1, H, W) scaled metres, in the order of `config.depth`.
            committed_BPA: (B, P, A) normalised, P up to `config.max_prefix`: the first actions of
                the chunk, which the robot will execute whatever is predicted. Evaluation only.

        Raises:
            InputError: A tensor does not have the shape that `config` demands.
        """
        self._check_input(images_BNCHW, state_BS, actions_BKA, is_pad_BK, depth_BM1HW)
        _check_committed(self.config, committed_BPA, training=self.training)
        state_BS = self._hide_states(state_BS)
        tokens_BTD, position_TD = self.state_token(state_BS)[:, None], self.state_position_D[None]
        if self.backbone is not None:
            image_BTD, image_position_TD = self._see(self.backbone, images_BNCHW, depth_BM1HW)
            tokens_BTD = torch.cat([tokens_BTD, image_BTD], dim=1)
            position_TD = torch.cat([position_TD, image_position_TD])

        style, prior_logits_BGC = None, None
        if self.latent is not None:
            style = self._style(state_BS, actions_BKA, is_pad_BK, tokens_BTD, position_TD)
            if self.prior is not None and style.binaries_BGC is not None:
                prior_logits_BGC = self.prior(tokens_BTD, position_TD, style.binaries_BGC)
            tokens_BTD = torch.cat([self.z_token(style.z_BZ)[:, None], tokens_BTD], dim=1)
            position_TD = torch.cat([self.z_position_D[None], position_TD])

        memory_BTD = self.encoder(tokens_BTD, position_TD)
        start_BKD = self.queries_KD.expand(state_BS.shape[0], -1, -1)
        if self.config.decoder_start == "zeros":
            start_BKD = torch.zeros_like(start_BKD)
        prefix_BK, given_BKA = self._committed(state_BS, actions_BKA, is_pad_BK, committed_BPA)
        if prefix_BK is not None:
            known_BKD = self.committed_token(given_BKA)
            start_BKD = torch.where(prefix_BK[..., None], start_BKD + known_BKD, start_BKD)
        decoded_BKD = self.decoder(start_BKD, self.queries_KD, memory_BTD, position_TD)
        predicted_BKA = self.action_head(decoded_BKD)
        if prefix_BK is not None:
            predicted_BKA = torch.where(prefix_BK[..., None], given_BKA, predicted_BKA)
        return ActOutput(
            actions_BKA=predicted_BKA,
            mu_BZ=None if style is None else style.mu_BZ,
            logvar_BZ=None if style is None else style.logvar_BZ,
            is_pad_BK1=None if self.is_pad_head is None else self.is_pad_head(decoded_BKD),
            probs_BGC=None if style is None else style.probs_BGC,
            binaries_BGC=None if style is None else style.binaries_BGC,
            prior_logits_BGC=prior_logits_BGC,
            prefix_BK=prefix_BK,
        )

    def _hide_states(self, state_BS: Tensor) -> Tensor:
        """Some rows of a training batch without the dimensions that tempt to be repeated."""
        config = self.config
        if not self.training or not config.state_dropout:
            return state_BS
        rows_B1 = torch.rand(state_BS.shape[0], 1, device=state_BS.device) < config.state_dropout
        # 0 is the mean, where states have zero mean.
        return state_BS.masked_fill(rows_B1 & self.tempting_S, 0)

    def _style(
        self,
        state_BS: Tensor,
        actions_BKA: Tensor | None,
        is_pad_BK: Tensor | None,
        tokens_BTD: Tensor,
        position_TD: Tensor,
    ) -> Style:
        assert self.latent is not None
        assert self.style is not None
        if actions_BKA is not None:
            if is_pad_BK is None:
                is_pad_BK = torch.zeros(
                    actions_BKA.shape[:2], dtype=torch.bool, device=actions_BKA.device
                )
            style: Style = self.latent(self.style(state_BS, actions_BKA, is_pad_BK))
            return style
        if self.prior is None:
            return self.latent.without_actions(state_BS)
        sample = self.config.vq_prior == "sample"
        return Style(z_BZ=self.prior.pick(tokens_BTD, position_TD, sample=sample).flatten(1))

    def _committed(
        self,
        state_BS: Tensor,
        actions_BKA: Tensor | None,
        is_pad_BK: Tensor | None,
        committed_BPA: Tensor | None,
    ) -> tuple[Tensor | None, Tensor]:
        """Which actions of the chunk are given (B, K), and what they are (B, K, A), else 0."""
        config = self.config
        given_BKA = state_BS.new_zeros(state_BS.shape[0], config.chunk_size, config.action_dim)
        if not config.max_prefix:
            return None, given_BKA
        lengths_B1 = torch.zeros(state_BS.shape[0], 1, dtype=torch.long, device=state_BS.device)
        if committed_BPA is not None:
            lengths_B1 += committed_BPA.shape[1]
            given_BKA[:, : committed_BPA.shape[1]] = committed_BPA
        elif self.training and actions_BKA is not None:
            # Any delay up to the longest, none included (arXiv 2512.05964).
            lengths_B1 = torch.randint_like(lengths_B1, config.max_prefix + 1)
            given_BKA = actions_BKA
        step_K = torch.arange(config.chunk_size, device=state_BS.device)
        prefix_BK = step_K < lengths_B1
        if is_pad_BK is not None:
            prefix_BK = prefix_BK & ~is_pad_BK
        # Filled, not multiplied: what stands under padding may be NaN.
        return prefix_BK, given_BKA.masked_fill(~prefix_BK[..., None], 0)

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


def _check_committed(config: ModelConfig, committed: Tensor | None, *, training: bool) -> None:
    if committed is None:
        return
    if training:
        raise InputError(
            "committed actions were given in training mode, where the demonstration gives them",
            hint="Call eval() first.",
        )
    length = committed.shape[1] if committed.ndim == 3 else -1
    _expect("committed", committed, (length, config.action_dim))
    if length > config.max_prefix:
        raise InputError(
            f"{length} committed actions, the model takes up to {config.max_prefix}",
            hint="Train with a larger max_prefix, or ask for a prediction earlier.",
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
    if beyond := [d for d in config.state_dropout_dims if d >= config.state_dim]:
        problems.append(f"state_dropout_dims {beyond!r} are not below state_dim {config.state_dim}")
    if config.max_prefix >= config.chunk_size:
        problems.append(
            f"max_prefix {config.max_prefix} leaves nothing of a chunk of {config.chunk_size}"
        )
    if problems:
        raise InputError(
            "the model configuration contradicts itself: " + "; ".join(problems),
            hint="Correct these settings; hidden_dim 512 with 8 heads is the published size.",
        )
