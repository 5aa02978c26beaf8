from __future__ import annotations

from collections.abc import Callable

import torch

from act_model.config import ModelConfig
from act_model.nn.style import GaussianLatent, StyleEncoder, VqLatent

Configure = Callable[..., ModelConfig]


def test_padded_actions_do_not_reach_the_style_even_as_nan(tiny: Configure) -> None:
    torch.manual_seed(0)
    encoder = StyleEncoder(tiny())
    state, actions = torch.randn(2, 3), torch.randn(2, 5, 2)
    is_pad = torch.tensor([[False] * 5, [False, False, True, True, True]])
    before = encoder(state, actions, is_pad)
    actions[1, 2:] = torch.tensor([float("nan"), 1e9])
    assert torch.equal(encoder(state, actions, is_pad), before)
    actions[1, 1] += 1
    changed = (encoder(state, actions, is_pad) - before).abs().amax(-1)
    assert changed[0] == 0
    assert changed[1] > 1e-3


def test_appending_padding_does_not_change_the_style(tiny: Configure) -> None:
    torch.manual_seed(1)
    encoder = StyleEncoder(tiny(chunk_size=9))
    state, actions = torch.randn(2, 3), torch.randn(2, 9, 2)
    is_pad = torch.arange(9).expand(2, -1) >= 6
    short = encoder(state, actions[:, :6], is_pad[:, :6])
    torch.testing.assert_close(encoder(state, actions, is_pad), short, atol=1e-6, rtol=0)


def test_a_chunk_of_nothing_but_padding_has_a_finite_style(tiny: Configure) -> None:
    encoder = StyleEncoder(tiny())
    style = encoder(torch.randn(1, 3), torch.randn(1, 5, 2), torch.ones(1, 5, dtype=torch.bool))
    assert style.isfinite().all()


def test_the_order_of_the_actions_is_part_of_the_style(tiny: Configure) -> None:
    torch.manual_seed(2)
    encoder = StyleEncoder(tiny())
    state, actions, is_pad = torch.randn(1, 3), torch.randn(1, 5, 2), torch.zeros(1, 5).bool()
    flipped = encoder(state, actions.flip(1), is_pad)
    assert (encoder(state, actions, is_pad) - flipped).abs().max() > 1e-3


def test_gaussian_draws_have_the_moments_they_were_asked_for(tiny: Configure) -> None:
    torch.manual_seed(3)
    latent = GaussianLatent(tiny())
    with torch.no_grad():
        latent.parameters_of.bias[4:] = 1.5
    style = latent(torch.randn(1, 16).expand(20_000, -1))
    assert style.mu_BZ is not None
    assert style.logvar_BZ is not None
    # 20,000 draws: the mean is within 5 of its standard errors, the spread within 3 %.
    torch.testing.assert_close(style.z_BZ.mean(0), style.mu_BZ[0], rtol=0, atol=5 * 4 / 20_000**0.5)
    torch.testing.assert_close(style.z_BZ.std(0), (style.logvar_BZ[0] / 2).exp(), rtol=0.03, atol=0)


def test_vq_draws_are_one_hot_and_as_frequent_as_their_probability(tiny: Configure) -> None:
    torch.manual_seed(4)
    latent = VqLatent(tiny())
    style = latent(torch.randn(1, 16).expand(20_000, -1))
    assert style.probs_BGC is not None
    assert style.binaries_BGC is not None
    assert style.binaries_BGC.shape == (20_000, 3, 4)
    assert set(style.binaries_BGC.unique().tolist()) == {0.0, 1.0}
    assert (style.binaries_BGC.sum(-1) == 1).all()
    frequency = style.binaries_BGC.mean(0)
    torch.testing.assert_close(frequency, style.probs_BGC[0], rtol=0, atol=0.02)
    torch.testing.assert_close(style.z_BZ, style.binaries_BGC.flatten(1))


def test_vq_gradients_pass_straight_through_to_the_probabilities(tiny: Configure) -> None:
    torch.manual_seed(5)
    latent = VqLatent(tiny())
    style = latent(torch.randn(2, 16))
    weight = torch.randn(2, 12)
    through = torch.autograd.grad(
        (style.z_BZ * weight).sum(), latent.logits.weight, retain_graph=True
    )
    assert style.probs_BGC is not None
    soft = torch.autograd.grad((style.probs_BGC.flatten(1) * weight).sum(), latent.logits.weight)
    torch.testing.assert_close(through, soft)


def test_without_actions_the_style_is_zero_or_the_mean_code(tiny: Configure) -> None:
    state = torch.randn(3, 3)
    assert torch.equal(GaussianLatent(tiny()).without_actions(state).z_BZ, torch.zeros(3, 4))
    assert torch.equal(VqLatent(tiny()).without_actions(state).z_BZ, torch.full((3, 12), 0.25))
