from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from act_model.config import LossConfig, ModelConfig
from act_model.nn import ActCvae, act_loss
from act_model.nn.prior import CodePrior

Configure = Callable[..., ModelConfig]

SIDES = torch.tensor([[0, 0], [1, 1]])  # codes that go together: both left, or both right


def codes_of(observation_B: Tensor) -> Tensor:
    """(B, 2, 2) one-hot. Observation 1: left three times of four; observation 0: always right."""
    left_B = (observation_B == 1) & (torch.rand(len(observation_B)) < 0.75)
    return functional.one_hot(SIDES[(~left_B).long()], 2).float()


def trained_prior(config: ModelConfig) -> tuple[CodePrior, Callable[[Tensor], Tensor]]:
    torch.manual_seed(0)
    prior = CodePrior(config)
    looks = torch.randn(2, 1, config.hidden_dim)

    def tokens(observation_B: Tensor) -> Tensor:
        return looks[observation_B]

    optimizer = torch.optim.Adam(prior.parameters(), lr=1e-2)
    position = torch.zeros(1, config.hidden_dim)
    for _ in range(300):
        observation = torch.randint(2, (512,))
        codes = codes_of(observation)
        logits = prior(tokens(observation), position, codes)
        loss = -(codes * logits.log_softmax(-1)).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return prior, tokens


def test_the_prior_matches_the_posterior_of_a_toy(tiny: Configure) -> None:
    """The codes' frequencies follow the observation, and codes that go together come together."""
    config = tiny(latent="vq", vq_classes=2, vq_codes=2)
    prior, tokens = trained_prior(config)
    position = torch.zeros(1, config.hidden_dim)
    for observation, left in ((1, 0.75), (0, 0.0)):
        seen = tokens(torch.full((4000,), observation))
        drawn = prior.pick(seen, position, sample=True).argmax(-1)
        together = (drawn[:, 0] == drawn[:, 1]).float().mean().item()
        assert together > 0.97  # independent groups of 3/4 would agree 62 % of the time
        assert abs((drawn[:, 0] == 0).float().mean().item() - left) < 0.05
        likeliest = prior.pick(seen[:1], position, sample=False).argmax(-1)
        assert likeliest.tolist() == [SIDES[0 if left else 1].tolist()]


def test_a_group_knows_the_groups_before_it_and_none_behind(tiny: Configure) -> None:
    config = tiny(latent="vq", cameras=("top",))
    torch.manual_seed(1)
    prior = CodePrior(config)
    tokens, position = torch.randn(1, 6, 16), torch.randn(6, 16)
    codes = functional.one_hot(torch.tensor([[0, 1, 2]]), 4).float()
    before = prior(tokens, position, codes)
    codes[0, 1] = codes[0, 1].roll(1)
    changed = (prior(tokens, position, codes) - before).abs().amax(-1)[0]
    assert changed[:2].tolist() == [0, 0]
    assert changed[2] > 1e-3


def test_the_prior_learns_without_changing_what_the_policy_learns(tiny: Configure) -> None:
    torch.manual_seed(2)
    model = ActCvae(tiny(latent="vq", cameras=("top",)))
    images, state, actions = torch.randn(2, 1, 3, 64, 96), torch.randn(2, 3), torch.randn(2, 5, 2)
    output = model(images, state, actions)
    losses = act_loss(output, actions, torch.zeros(2, 5).bool(), LossConfig())
    losses.prior.backward()
    reached = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert reached == {"prior"}


def test_a_policy_without_actions_takes_the_codes_of_its_prior(tiny: Configure) -> None:
    torch.manual_seed(3)
    config = tiny(latent="vq")
    model = ActCvae(config).eval()
    assert model.prior is not None
    images, state = torch.zeros(1, 0, 3, 64, 96), torch.randn(1, 3)
    before = model(images, state).actions_BKA
    assert torch.equal(model(images, state).actions_BKA, before)
    with torch.no_grad():  # make another code the likeliest one of every group
        model.prior.bias_GC[:, 2] += 100
        other = model(images, state).actions_BKA
        model.prior.bias_GC[:, 1] += 200
        assert (model(images, state).actions_BKA - other).abs().max() > 1e-3


def test_draws_from_the_prior_differ_from_call_to_call(tiny: Configure) -> None:
    torch.manual_seed(4)
    model = ActCvae(tiny(latent="vq", vq_prior="sample")).eval()
    images, state = torch.zeros(1, 0, 3, 64, 96), torch.randn(1, 3)
    drawn = torch.cat([model(images, state).actions_BKA for _ in range(20)])
    assert len(drawn.unique(dim=0)) > 2


def test_without_a_prior_the_policy_takes_the_mean_of_all_codes(tiny: Configure) -> None:
    torch.manual_seed(5)
    model = ActCvae(tiny(latent="vq", vq_prior="uniform")).eval()
    assert model.prior is None
    seen: list[Tensor] = []
    model.z_token.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    model(torch.zeros(1, 0, 3, 64, 96), torch.randn(1, 3))
    assert torch.equal(seen[0], torch.full((1, 12), 0.25))
