from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from act_data.errors import InputError
from act_model.config import LossConfig
from act_model.nn import ActOutput, Losses, act_loss

Kind = Literal["l1", "l2", "smooth_l1"]
KINDS: tuple[Kind, ...] = ("l1", "l2", "smooth_l1")


def loss(predicted: Tensor, actions: Tensor, is_pad: Tensor, **config: Any) -> Losses:
    return act_loss(ActOutput(actions_BKA=predicted), actions, is_pad, LossConfig(**config))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        pytest.param("l1", (1 + 2 + 0.5 + 0) / 4, id="l1"),
        pytest.param("l2", (1 + 4 + 0.25 + 0) / 4, id="l2"),
        pytest.param("smooth_l1", (0.5 + 1.5 + 0.125 + 0) / 4, id="smooth_l1"),
    ],
)
def test_the_loss_is_the_mean_over_the_valid_elements(kind: Kind, expected: float) -> None:
    actions = torch.zeros(1, 3, 2)
    predicted = torch.tensor([[[1.0, -2.0], [0.5, 0.0], [100.0, 100.0]]])
    is_pad = torch.tensor([[False, False, True]])
    output = ActOutput(
        actions_BKA=predicted,
        mu_BZ=torch.tensor([[1.0, 0.0]]),
        logvar_BZ=torch.tensor([[0.0, 0.0]]),
        is_pad_BK1=torch.zeros(1, 3, 1),
    )
    config = LossConfig(kind=kind, kl_weight=10, is_pad_weight=2)
    losses = act_loss(output, actions, is_pad, config)
    assert losses.reconstruction.item() == pytest.approx(expected)
    assert losses.kl.item() == pytest.approx(0.5)
    assert losses.is_pad.item() == pytest.approx(np.log(2))
    assert losses.total.item() == pytest.approx(expected + 5 + 2 * np.log(2))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 3)),
    kind=st.sampled_from(KINDS),
)
def test_the_loss_equals_a_loop_over_the_elements(
    seed: int, shape: tuple[int, int, int], kind: Kind
) -> None:
    rng = np.random.default_rng(seed)
    predicted, actions = rng.normal(size=(2, *shape)) * 2
    is_pad = rng.random(shape[:2]) < rng.random()
    total, count = 0.0, 0
    for b, k, a in np.ndindex(*shape):
        if not is_pad[b, k]:
            e = abs(predicted[b, k, a] - actions[b, k, a])
            total += {"l1": e, "l2": e**2, "smooth_l1": e**2 / 2 if e < 1 else e - 0.5}[kind]
            count += 1
    expected = total / max(count, 1)
    losses = loss(*map(torch.from_numpy, (predicted, actions, is_pad)), kind=kind)
    assert losses.reconstruction.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("junk", [1e6, float("nan"), float("inf")])
def test_what_stands_under_padding_changes_neither_loss_nor_gradient(
    kind: Kind, junk: float
) -> None:
    torch.manual_seed(0)
    predicted, actions = torch.randn(3, 4, 2, requires_grad=True), torch.randn(3, 4, 2)
    is_pad = torch.arange(4) >= torch.tensor([[4], [2], [1]])
    clean = loss(predicted, actions, is_pad, kind=kind).total
    (clean_gradient,) = torch.autograd.grad(clean, predicted)
    dirty = loss(predicted, actions.masked_fill(is_pad[..., None], junk), is_pad, kind=kind).total
    (gradient,) = torch.autograd.grad(dirty, predicted)
    assert torch.equal(dirty, clean)
    assert torch.equal(gradient, clean_gradient)
    assert (gradient[is_pad] == 0).all()
    assert (gradient[~is_pad] != 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_appending_padding_does_not_change_the_loss(kind: Kind) -> None:
    """The original divides by all elements: 41 % less loss on 120 steps at chunk 100."""
    torch.manual_seed(0)
    predicted, actions = torch.randn(2, 3, 5, 2)
    is_pad = torch.zeros(3, 5, dtype=torch.bool)
    tail = torch.randn(3, 7, 2)
    longer = loss(
        torch.cat([predicted, tail], 1),
        torch.cat([actions, torch.zeros_like(tail)], 1),
        torch.cat([is_pad, torch.ones(3, 7, dtype=torch.bool)], 1),
        kind=kind,
    )
    short = loss(predicted, actions, is_pad, kind=kind)
    assert abs(longer.reconstruction.item() - short.reconstruction.item()) <= 1e-6


def test_the_kl_is_that_of_torch_distributions() -> None:
    torch.manual_seed(0)
    mu, logvar = torch.randn(2, 6, 4)
    output = ActOutput(actions_BKA=torch.zeros(6, 1, 1), mu_BZ=mu, logvar_BZ=logvar)
    kl = act_loss(output, torch.zeros(6, 1, 1), torch.zeros(6, 1).bool(), LossConfig()).kl
    posterior = Normal(mu, (logvar / 2).exp())
    expected = kl_divergence(posterior, Normal(0.0, 1.0)).sum(-1).mean()
    torch.testing.assert_close(kl, expected)


def test_gradient_flows_when_all_but_one_step_is_padding() -> None:
    predicted = torch.ones(2, 3, 2, requires_grad=True)
    is_pad = torch.ones(2, 3, dtype=torch.bool)
    is_pad[1, 0] = False
    loss(predicted, torch.zeros(2, 3, 2), is_pad).total.backward()
    assert predicted.grad is not None
    assert predicted.grad[1, 0].tolist() == [0.5, 0.5]
    assert predicted.grad.sum() == 1


def test_a_batch_of_nothing_but_padding_costs_nothing() -> None:
    predicted = torch.ones(2, 3, 2, requires_grad=True)
    losses = loss(predicted, torch.zeros(2, 3, 2), torch.ones(2, 3, dtype=torch.bool))
    losses.total.backward()
    assert losses.total.item() == 0
    assert predicted.grad is not None
    assert (predicted.grad == 0).all()


def test_half_precision_predictions_are_compared_in_float32() -> None:
    torch.manual_seed(0)
    predicted, actions = torch.randn(2, 64, 100, 14)
    is_pad = torch.zeros(64, 100, dtype=torch.bool)
    half = predicted.bfloat16()
    losses = loss(half, actions, is_pad)
    assert losses.total.dtype == torch.float32
    torch.testing.assert_close(losses.total, loss(half.float(), actions, is_pad).total)


def test_weighing_an_is_pad_head_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"is_pad_weight is 0\.5") as error:
        loss(
            torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.zeros(1, 1).bool(), is_pad_weight=0.5
        )
    assert "is_pad_head" in error.value.hint


def styled(mu: Tensor, logvar: Tensor) -> ActOutput:
    return ActOutput(actions_BKA=torch.zeros(len(mu), 1, 1), mu_BZ=mu, logvar_BZ=logvar)


def objective(output: ActOutput, **config: Any) -> Losses:
    rows, steps, _ = output.actions_BKA.shape
    pad = torch.zeros(rows, steps, dtype=torch.bool)
    return act_loss(output, torch.zeros_like(output.actions_BKA), pad, LossConfig(**config))


def test_free_bits_let_a_dimension_carry_some_information_for_nothing() -> None:
    """KL per dimension 0.5, 0.02 and 0; of 0.1 nats each, only the first one's excess is paid."""
    mu = torch.tensor([[1.0, 0.2, 0.0]], requires_grad=True)
    losses = objective(styled(mu, torch.zeros(1, 3)), kl_weight=10, free_bits=0.1)
    assert losses.kl.item() == pytest.approx(0.52)
    assert losses.total.item() == pytest.approx(10 * 0.4)
    (gradient,) = torch.autograd.grad(losses.total, mu)
    assert gradient[0].tolist() == pytest.approx([10.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("step", "weight"),
    [
        pytest.param(0, 0.0, id="none-at-first"),
        pytest.param(25, 2.5, id="a-quarter-of-the-way"),
        pytest.param(100, 10.0, id="all-when-annealed"),
        pytest.param(10**6, 10.0, id="all-from-then-on"),
    ],
)
def test_the_kl_weight_rises_over_the_annealing_steps(step: int, weight: float) -> None:
    config = LossConfig(kl_weight=10, kl_anneal_steps=100)
    assert config.at(step).kl_weight == pytest.approx(weight)


def test_without_annealing_the_objective_is_the_same_at_every_step() -> None:
    config = LossConfig()
    assert config.at(0) is config


def test_the_latents_that_tell_samples_apart_are_counted() -> None:
    rng = torch.Generator().manual_seed(0)
    mu = torch.randn(64, 4, generator=rng) * torch.tensor([1.0, 0.5, 0.01, 0.0])
    assert objective(styled(mu, torch.zeros(64, 4))).active_latents.item() == 2


def test_code_groups_that_use_one_code_are_not_counted() -> None:
    codes = torch.nn.functional.one_hot(torch.tensor([[0, 1], [0, 2], [0, 1]]), 3).float()
    output = ActOutput(actions_BKA=torch.zeros(3, 1, 1), binaries_BGC=codes)
    assert objective(output).active_latents.item() == 1


def test_the_prior_pays_for_the_codes_it_did_not_expect() -> None:
    codes = torch.nn.functional.one_hot(torch.tensor([[0, 1]]), 2).float()
    logits = torch.tensor([[[0.0, 0.0], [0.0, np.log(3)]]])  # 1/2 and 3/4
    output = ActOutput(
        actions_BKA=torch.zeros(1, 1, 1), binaries_BGC=codes, prior_logits_BGC=logits
    )
    losses = objective(output)
    assert losses.prior.item() == pytest.approx((np.log(2) + np.log(4 / 3)) / 2)
    assert losses.total.item() == pytest.approx(losses.prior.item())


def test_committed_actions_carry_no_loss() -> None:
    predicted = torch.ones(2, 4, 1, requires_grad=True)
    prefix = torch.tensor([[True, True, False, False], [False] * 4])
    output = ActOutput(actions_BKA=predicted, prefix_BK=prefix)
    losses = act_loss(output, torch.zeros(2, 4, 1), torch.zeros(2, 4).bool(), LossConfig())
    assert losses.reconstruction.item() == 1
    (gradient,) = torch.autograd.grad(losses.total, predicted)
    expected = torch.tensor([[0, 0, 1 / 6, 1 / 6], [1 / 6] * 4])
    torch.testing.assert_close(gradient[..., 0], expected)


def test_every_part_of_the_loss_has_a_name_for_the_log() -> None:
    parts = objective(styled(torch.ones(2, 3), torch.zeros(2, 3))).parts()
    assert list(parts) == ["reconstruction", "kl", "is_pad", "prior", "active_latents"]
    assert parts["kl"].item() == pytest.approx(1.5)
