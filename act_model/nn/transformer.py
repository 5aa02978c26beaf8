"""The post-norm transformer of DETR (Carion et al., 2020), on fused attention.

Shape suffixes: B batch, S memory tokens, Q query tokens, T either of them, D hidden dim,
H heads, E dim of one head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from act_model.nn.dropout import Dropout, dropped


class Attention(nn.Module):
    """Multi-head attention, equal to `torch.nn.MultiheadAttention` without its key bias.

    A key bias adds the same number to all scores of a query, which the softmax removes: those
    weights would never receive a gradient.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        for projection in (self.query, self.key, self.value):
            # The published gain: Xavier over the three of them as one (3 D, D) matrix.
            nn.init.xavier_uniform_(projection.weight, gain=0.5**0.5)
        nn.init.xavier_uniform_(self.out.weight)
        for projection in (self.query, self.value, self.out):
            nn.init.zeros_(projection.bias)

    def forward(
        self, query_BQD: Tensor, key_BSD: Tensor, value_BSD: Tensor, keep_BS: Tensor | None = None
    ) -> Tensor:
        """(B, Q, D). `keep_BS` is False at tokens that nobody may read."""
        mixed_BHQE = _attend(
            self._split(self.query(query_BQD)),
            self._split(self.key(key_BSD)),
            self._split(self.value(value_BSD)),
            None if keep_BS is None else keep_BS[:, None, None, :],
            self.dropout if self.training else 0.0,
        )
        out_BQD: Tensor = self.out(mixed_BHQE.transpose(1, 2).flatten(2))
        return out_BQD

    def weights(self, query_BQD: Tensor, key_BSD: Tensor) -> Tensor:
        """(B, Q, S): how much of each token a query reads, the mean over the heads."""
        query_BHQE = self._split(self.query(query_BQD))
        key_BHSE = self._split(self.key(key_BSD))
        scores_BHQS = query_BHQE * query_BHQE.shape[-1] ** -0.5 @ key_BHSE.transpose(2, 3)
        weights_BQS: Tensor = scores_BHQS.softmax(dim=-1).mean(dim=1)
        return weights_BQS

    def _split(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) to (B, H, T, E)."""
        batch, tokens, _ = x_BTD.shape
        return x_BTD.view(batch, tokens, self.heads, -1).transpose(1, 2)


@contextmanager
def watched(attention: Attention) -> Iterator[list[Tensor]]:
    """A list of the weights (B, Q, S) of every time that `attention` is used in the block."""
    seen: list[Tensor] = []
    handle = attention.register_forward_pre_hook(
        lambda _, arguments: seen.append(attention.weights(*arguments[:2]))
    )
    try:
        yield seen
    finally:
        handle.remove()


def _attend(
    query_BHQE: Tensor,
    key_BHSE: Tensor,
    value_BHSE: Tensor,
    keep_B11S: Tensor | None,
    dropout: float,
) -> Tensor:
    """(B, H, Q, E): torch's fused attention, but on a CPU with dropout, where it is not fused."""
    if not dropout or query_BHQE.device.type != "cpu":
        return functional.scaled_dot_product_attention(
            query_BHQE, key_BHSE, value_BHSE, attn_mask=keep_B11S, dropout_p=dropout
        )
    scores_BHQS = query_BHQE * query_BHQE.shape[-1] ** -0.5 @ key_BHSE.transpose(2, 3)
    if keep_B11S is not None:
        scores_BHQS = scores_BHQS.masked_fill(~keep_B11S, -torch.inf)
    return dropped(scores_BHQS.softmax(dim=-1), dropout) @ value_BHSE


class FeedForward(nn.Sequential):
    """Two layers with a ReLU, token by token."""

    def __init__(self, dim: int, inner_dim: int, dropout: float) -> None:
        widen, narrow = nn.Linear(dim, inner_dim), nn.Linear(inner_dim, dim)
        nn.init.xavier_uniform_(widen.weight)
        nn.init.xavier_uniform_(narrow.weight)
        super().__init__(widen, nn.ReLU(), Dropout(dropout), narrow)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward; positions join queries and keys, never values."""

    def __init__(self, dim: int, heads: int, inner_dim: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, dropout)
        self.feed_forward = FeedForward(dim, inner_dim, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x_BSD: Tensor,
        position_SD: Tensor,
        keep_BS: Tensor | None = None,
        first: int | None = None,
    ) -> Tensor:
        """(B, S, D), or what becomes of the `first` tokens."""
        placed_BSD = x_BSD + position_SD
        mixed_BTD = self.attention(placed_BSD[:, :first], placed_BSD, x_BSD, keep_BS)
        x_BTD = self.norms[0](x_BSD[:, :first] + self.dropout(mixed_BTD))
        out_BTD: Tensor = self.norms[1](x_BTD + self.dropout(self.feed_forward(x_BTD)))
        return out_BTD


class DecoderLayer(nn.Module):
    """Self-attention among the queries, attention to the memory, feed-forward."""

    def __init__(self, dim: int, heads: int, inner_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(dim, heads, dropout)
        self.cross_attention = Attention(dim, heads, dropout)
        self.feed_forward = FeedForward(dim, inner_dim, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.dropout = Dropout(dropout)

    def forward(
        self, x_BQD: Tensor, position_QD: Tensor, memory_BSD: Tensor, placed_memory_BSD: Tensor
    ) -> Tensor:
        """(B, Q, D). `placed_memory_BSD` is the memory with its positions added."""
        placed_BQD = x_BQD + position_QD
        mixed_BQD = self.self_attention(placed_BQD, placed_BQD, x_BQD)
        x_BQD = self.norms[0](x_BQD + self.dropout(mixed_BQD))
        read_BQD = self.cross_attention(x_BQD + position_QD, placed_memory_BSD, memory_BSD)
        x_BQD = self.norms[1](x_BQD + self.dropout(read_BQD))
        out_BQD: Tensor = self.norms[2](x_BQD + self.dropout(self.feed_forward(x_BQD)))
        return out_BQD


class Encoder(nn.Module):
    """A stack of encoder layers."""

    def __init__(self, layers: int, dim: int, heads: int, inner_dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(dim, heads, inner_dim, dropout) for _ in range(layers)
        )

    def forward(
        self,
        x_BSD: Tensor,
        position_SD: Tensor,
        keep_BS: Tensor | None = None,
        first: int | None = None,
    ) -> Tensor:
        """(B, S, D), or of the `first` tokens; `keep_BS` is False at padding.

        What the last layer makes of the other tokens is not computed then.
        """
        *layers, last = self.layers
        for layer in layers:
            x_BSD = layer(x_BSD, position_SD, keep_BS)
        out_BTD: Tensor = last(x_BSD, position_SD, keep_BS, first)
        return out_BTD


class Decoder(nn.Module):
    """A stack of decoder layers; what comes out is the LAST one's, normalised.

    The original reads the first layer's output, so six of its seven are never trained.
    """

    def __init__(self, layers: int, dim: int, heads: int, inner_dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(dim, heads, inner_dim, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, start_BQD: Tensor, queries_QD: Tensor, memory_BSD: Tensor, position_SD: Tensor
    ) -> Tensor:
        """(B, Q, D), one vector per query.

        Args:
            start_BQD: What the first layer mixes. The original starts from zeros: the first
                self-attention then has equal values to mix, so that with one layer no action ever
                depends on another's query.
            queries_QD: Positions of the queries, in every layer.
            memory_BSD: What the encoder made of the observation.
            position_SD: Positions of the memory.
        """
        placed_memory_BSD = memory_BSD + position_SD
        x_BQD = start_BQD
        for layer in self.layers:
            x_BQD = layer(x_BQD, queries_QD, memory_BSD, placed_memory_BSD)
        out_BQD: Tensor = self.norm(x_BQD)
        return out_BQD
