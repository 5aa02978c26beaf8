from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from act_model.nn.dropout import Dropout, dropped
from act_model.nn.transformer import Attention, Encoder
from act_model.step import clip_gradient, gradient_norm


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_dropout_hides_its_share_and_keeps_the_mean(share: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 403)  # no multiple of the four numbers that one draw serves
    seen = dropped(x, share)
    assert seen.unique().tolist() == [0.0, pytest.approx(1 / (1 - share), rel=1e-4)]
    assert seen.mean().item() == pytest.approx(1, abs=0.02 / (1 - share))
    for lane in range(4):  # each quarter of a draw is as random as the others
        hidden = (seen.flatten()[lane::4] == 0).float()
        assert hidden.mean().item() == pytest.approx(share, abs=0.005)
        ahead = (seen.flatten()[(lane + 1) % 4 :: 4] == 0).float()
        both = torch.corrcoef(torch.stack([hidden[:99_000], ahead[:99_000]]))[0, 1]
        assert abs(both.item()) < 0.02


def test_dropout_follows_the_seed_and_does_nothing_in_evaluation() -> None:
    x = torch.randn(3, 70)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(Dropout(0.1)(x))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(Dropout(0.1).eval()(x), x)
    assert torch.equal(dropped(x, 0.0), x)


def test_what_is_hidden_has_no_gradient() -> None:
    x = torch.randn(50, 41, requires_grad=True)
    seen = dropped(x, 0.3)
    (gradient,) = torch.autograd.grad(seen.sum(), x)
    assert torch.equal(gradient == 0, seen == 0)


def test_attention_with_dropout_mixes_what_attention_without_it_mixes() -> None:
    """On a CPU it is another computation. So little is hidden here that nothing is."""
    torch.manual_seed(0)
    attention = Attention(16, 2, dropout=1e-9)
    query, key, value = torch.randn(2, 4, 16), torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    keep = torch.rand(2, 7) > 0.4
    keep[:, 0] = True
    for mask in (None, keep):
        with_dropout = attention.train()(query, key, value, mask)
        without = attention.eval()(query, key, value, mask)
        torch.testing.assert_close(with_dropout, without)


def test_the_first_tokens_alone_are_what_they_are_among_all() -> None:
    torch.manual_seed(0)
    encoder = Encoder(2, 16, 2, 24, dropout=0.1).eval()
    x, position = torch.randn(3, 6, 16), torch.randn(6, 16)
    keep = torch.arange(6) < torch.tensor([[6], [4], [2]])
    torch.testing.assert_close(
        encoder(x, position, keep, first=2), encoder(x, position, keep)[:, :2]
    )


@pytest.mark.parametrize("limit", [0.5, 1e3, math.inf])
def test_clipped_gradients_are_to_the_bit_those_of_torch(limit: float) -> None:
    ours, theirs = nn.Linear(5, 7), nn.Linear(5, 7)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(9, 5)
    for net in (ours, theirs):
        net(x).square().sum().backward()
    norm = gradient_norm(ours)
    clip_gradient(ours, norm, limit)
    assert torch.equal(norm, nn.utils.clip_grad_norm_(theirs.parameters(), limit))
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        assert torch.equal(mine.grad, other.grad)
