"""The structure of the original ACT, restated from torch.nn modules.

MultiheadAttention, a decoder of 7 layers that starts from zeros and of which the first one's output
is used, an is_pad head that no loss reads. The ResNet is ours.

Shape suffixes: B batch, N cameras, C channels, H height, W width, K action chunk, S state dim,
A action dim, D hidden dim, T tokens, h and w of a feature map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from act_model.config import ModelConfig
from act_model.nn.backbone import CameraBackbone
from act_model.nn.position import SinePosition2d, sinusoid_table


class OriginalEncoderLayer(nn.Module):
    """DETR's post-norm layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, inner = config.hidden_dim, config.feedforward_dim
        self.attention = nn.MultiheadAttention(dim, config.heads, config.dropout)
        self.linear1, self.linear2 = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_TBD: Tensor, position_T1D: Tensor, pad_BT: Tensor | None) -> Tensor:
        placed = x_TBD + position_T1D
        mixed = self.attention(placed, placed, x_TBD, key_padding_mask=pad_BT)[0]
        x_TBD = self.norm1(x_TBD + self.dropout(mixed))
        hidden = self.dropout(self.linear1(x_TBD).relu())
        out_TBD: Tensor = self.norm2(x_TBD + self.dropout(self.linear2(hidden)))
        return out_TBD


class OriginalDecoderLayer(OriginalEncoderLayer):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.cross = nn.MultiheadAttention(config.hidden_dim, config.heads, config.dropout)
        self.norm3 = nn.LayerNorm(config.hidden_dim)

    def decode(self, x_KBD: Tensor, query_K1D: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        placed = x_KBD + query_K1D
        x_KBD = self.norm1(x_KBD + self.dropout(self.attention(placed, placed, x_KBD)[0]))
        read = self.cross(x_KBD + query_K1D, memory + position, memory)[0]
        x_KBD = self.norm2(x_KBD + self.dropout(read))
        hidden = self.dropout(self.linear1(x_KBD).relu())
        out_KBD: Tensor = self.norm3(x_KBD + self.dropout(self.linear2(hidden)))
        return out_KBD


class OriginalAct(nn.Module):
    """Seven decoder layers, one used; cameras without identity; sequence first."""

    table: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, layer = config.hidden_dim, OriginalEncoderLayer
        self.config = config
        self.backbone = CameraBackbone(config.backbone, 1, per_camera=False)
        self.input_proj = nn.Conv2d(self.backbone.channels, dim, 1)
        self.cells = SinePosition2d(dim)
        self.style_layers = nn.ModuleList(layer(config) for _ in range(config.style_layers))
        self.encoder_layers = nn.ModuleList(layer(config) for _ in range(config.encoder_layers))
        self.decoder_layers = nn.ModuleList(OriginalDecoderLayer(config) for _ in range(7))
        self.decoder_norm = nn.LayerNorm(dim)
        self.cls, self.queries = nn.Embedding(1, dim), nn.Embedding(config.chunk_size, dim)
        self.extra_position = nn.Embedding(2, dim)
        self.style_state = nn.Linear(config.state_dim, dim)
        self.style_action = nn.Linear(config.action_dim, dim)
        self.latent_proj = nn.Linear(dim, 2 * config.latent_dim)
        self.latent_out = nn.Linear(config.latent_dim, dim)
        self.state = nn.Linear(config.state_dim, dim)
        self.action_head = nn.Linear(dim, config.action_dim)
        self.is_pad_head = nn.Linear(dim, 1)
        self.register_buffer("table", sinusoid_table(config.chunk_size + 2, dim)[:, None])

    def forward(
        self, images_BNCHW: Tensor, state_BS: Tensor, actions_BKA: Tensor, is_pad_BK: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch = len(state_BS)
        cls_1BD = self.cls.weight[:, None].expand(-1, batch, -1)
        actions_KBD = self.style_action(actions_BKA).transpose(0, 1)
        style = torch.cat([cls_1BD, self.style_state(state_BS)[None], actions_KBD])
        pad_BT = torch.cat([is_pad_BK.new_zeros(batch, 2), is_pad_BK], dim=1)
        for layer in self.style_layers:
            style = layer(style, self.table, pad_BT)
        mu, logvar = self.latent_proj(style[0]).chunk(2, dim=-1)
        z = mu + torch.randn_like(mu) * (logvar / 2).exp()

        maps, cells = [], []
        for n in range(images_BNCHW.shape[1]):  # camera by camera
            features_BDhw = self.input_proj(self.backbone(images_BNCHW[:, n : n + 1])[:, 0])
            maps.append(features_BDhw.flatten(2).permute(2, 0, 1))
            cells.append(self.cells(features_BDhw))
        memory = torch.cat([self.latent_out(z)[None], self.state(state_BS)[None], *maps])
        position = torch.cat([self.extra_position.weight, *cells])[:, None]
        for layer in self.encoder_layers:
            memory = layer(memory, position, None)
        query_K1D = self.queries.weight[:, None]
        x_KBD = torch.zeros_like(query_K1D).expand(-1, batch, -1)
        kept = []
        for layer in self.decoder_layers:
            assert isinstance(layer, OriginalDecoderLayer)
            x_KBD = layer.decode(x_KBD, query_K1D, memory, position)
            kept.append(self.decoder_norm(x_KBD))
        decoded_BKD = torch.stack(kept)[0].transpose(0, 1)
        self.is_pad_head(decoded_BKD)
        return self.action_head(decoded_BKD), mu, logvar
