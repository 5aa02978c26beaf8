from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from act_model.nn.transformer import Attention, Decoder, DecoderLayer, EncoderLayer

DIM, HEADS, INNER = 12, 3, 20


def copy_attention(ours: Attention, theirs: nn.MultiheadAttention) -> None:
    """Copies their weights. Their key bias is made large: it must not matter."""
    with torch.no_grad():
        theirs.in_proj_bias.copy_(torch.randn(3 * DIM) * 3)
        weights, biases = theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3)
        for layer, weight in zip((ours.query, ours.key, ours.value), weights, strict=True):
            layer.weight.copy_(weight)
        ours.query.bias.copy_(biases[0])
        ours.value.bias.copy_(biases[2])
        ours.out.load_state_dict(theirs.out_proj.state_dict())


def copy_rest(
    ours: EncoderLayer | DecoderLayer,
    theirs: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer,
) -> None:
    ours.feed_forward[0].load_state_dict(theirs.linear1.state_dict())
    ours.feed_forward[3].load_state_dict(theirs.linear2.state_dict())
    for i, norm in enumerate(ours.norms):
        their_norm = getattr(theirs, f"norm{i + 1}")
        with torch.no_grad():
            their_norm.weight.copy_(torch.rand(DIM) + 0.5)
            their_norm.bias.copy_(torch.randn(DIM))
        norm.load_state_dict(their_norm.state_dict())


def no_position(tokens: int) -> Tensor:
    return torch.zeros(tokens, DIM)


def test_attention_equals_that_of_torch_whatever_its_key_bias() -> None:
    torch.manual_seed(0)
    ours = Attention(DIM, HEADS, dropout=0.0)
    theirs = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
    copy_attention(ours, theirs)
    query, key, value = torch.randn(2, 4, DIM), torch.randn(2, 7, DIM), torch.randn(2, 7, DIM)
    keep = torch.rand(2, 7) > 0.4
    keep[:, 0] = True
    for mask in (None, keep):
        expected, _ = theirs(query, key, value, None if mask is None else ~mask)
        torch.testing.assert_close(ours(query, key, value, mask), expected, atol=2e-6, rtol=1e-5)


def test_an_encoder_layer_equals_that_of_torch() -> None:
    torch.manual_seed(1)
    ours = EncoderLayer(DIM, HEADS, INNER, dropout=0.0)
    theirs = nn.TransformerEncoderLayer(DIM, HEADS, INNER, dropout=0.0, batch_first=True)
    copy_attention(ours.attention, theirs.self_attn)
    copy_rest(ours, theirs)
    x = torch.randn(2, 6, DIM)
    torch.testing.assert_close(ours(x, no_position(6)), theirs(x), atol=1e-5, rtol=1e-5)


def test_a_decoder_layer_equals_that_of_torch() -> None:
    torch.manual_seed(2)
    ours = DecoderLayer(DIM, HEADS, INNER, dropout=0.0)
    theirs = nn.TransformerDecoderLayer(DIM, HEADS, INNER, dropout=0.0, batch_first=True)
    copy_attention(ours.self_attention, theirs.self_attn)
    copy_attention(ours.cross_attention, theirs.multihead_attn)
    copy_rest(ours, theirs)
    x, memory = torch.randn(2, 4, DIM), torch.randn(2, 6, DIM)
    torch.testing.assert_close(
        ours(x, no_position(4), memory, memory), theirs(x, memory), atol=1e-5, rtol=1e-5
    )


def test_positions_join_queries_and_keys_but_not_values() -> None:
    torch.manual_seed(3)
    layer = EncoderLayer(DIM, HEADS, INNER, dropout=0.0)
    x, position = torch.randn(1, 6, DIM), torch.randn(6, DIM)
    mixed = layer.attention(x + position, x + position, x)
    x1 = layer.norms[0](x + mixed)
    expected = layer.norms[1](x1 + layer.feed_forward(x1))
    torch.testing.assert_close(layer(x, position), expected)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(4)
    layer = Attention(DIM, HEADS, dropout=0.5)
    x = torch.randn(1, 6, DIM)
    assert not torch.equal(layer(x, x, x), layer(x, x, x))
    layer.eval()
    assert torch.equal(layer(x, x, x), layer(x, x, x))


def test_the_decoder_gives_back_its_last_layer() -> None:
    """The original took the first of seven."""
    torch.manual_seed(5)
    decoder = Decoder(3, DIM, HEADS, INNER, dropout=0.0)
    queries, memory, position = torch.randn(4, DIM), torch.randn(2, 6, DIM), torch.randn(6, DIM)
    seen: list[Tensor] = []
    decoder.layers[-1].register_forward_hook(lambda _m, _i, output: seen.append(output))
    out = decoder(queries.expand(2, -1, -1), queries, memory, position)
    assert torch.equal(out, decoder.norm(seen[0]))


@pytest.mark.parametrize(
    ("start", "reads"), [pytest.param("queries", True), pytest.param("zeros", False)]
)
def test_one_decoder_layer_is_enough_for_actions_to_read_each_other(
    start: str, reads: bool
) -> None:
    """From a target of zeros, as in the original, self-attention is the same for every query."""
    torch.manual_seed(6)
    decoder = Decoder(1, DIM, HEADS, INNER, dropout=0.0)
    queries, memory, position = torch.randn(4, DIM), torch.randn(1, 6, DIM), torch.randn(6, DIM)

    def decode() -> Tensor:
        from_here = queries if start == "queries" else torch.zeros_like(queries)
        out: Tensor = decoder(from_here[None], queries, memory, position)
        return out

    before = decode()
    queries[2] += 1
    changed = (decode() - before).abs().amax(-1)[0]
    assert changed[2] > 1e-3
    assert (changed[[0, 1, 3]] > 1e-3).all() == reads
