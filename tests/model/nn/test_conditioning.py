"""What a policy is told besides pictures: states that are hidden in training, committed actions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from act_data.errors import InputError
from act_model.config import LossConfig, ModelConfig
from act_model.nn import ActCvae, act_loss

Configure = Callable[..., ModelConfig]
NO_IMAGES = torch.zeros(1, 0, 3, 64, 96)


def states_seen(model: ActCvae, state_BS: Tensor) -> Tensor:
    """The states as they reach the network, of one forward pass."""
    seen: list[Tensor] = []
    hook = model.state_token.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    model(NO_IMAGES, state_BS)
    hook.remove()
    return seen[0]


def test_some_training_samples_do_not_see_the_states_that_tempt_to_be_repeated(
    tiny: Configure,
) -> None:
    torch.manual_seed(0)
    model = ActCvae(tiny(state_dropout=0.3, state_dropout_dims=(1, 2))).train()
    state = torch.randn(2000, 3).abs() + 1
    seen = states_seen(model, state)
    hidden = seen == 0
    assert torch.equal(seen[:, 0], state[:, 0])
    assert torch.equal(hidden[:, 1], hidden[:, 2])  # together: one alone would give it away
    assert abs(hidden[:, 1].float().mean().item() - 0.3) < 0.04
    assert torch.equal(seen[~hidden], state[~hidden])


def test_without_dimensions_the_whole_state_is_hidden(tiny: Configure) -> None:
    torch.manual_seed(0)
    seen = states_seen(ActCvae(tiny(state_dropout=0.5)).train(), torch.ones(100, 3))
    assert set(seen.sum(dim=1).tolist()) == {0.0, 3.0}


def test_a_deployed_policy_sees_its_whole_state(tiny: Configure) -> None:
    model = ActCvae(tiny(state_dropout=0.9)).eval()
    state = torch.randn(50, 3)
    assert torch.equal(states_seen(model, state), state)


def test_committed_actions_come_back_as_they_are_and_shape_the_rest(tiny: Configure) -> None:
    torch.manual_seed(1)
    model = ActCvae(tiny(max_prefix=3)).eval()
    state, committed = torch.randn(1, 3), torch.randn(1, 2, 2)
    free = model(NO_IMAGES, state)
    bound = model(NO_IMAGES, state, committed_BPA=committed)
    assert torch.equal(bound.actions_BKA[:, :2], committed)
    assert ((bound.actions_BKA - free.actions_BKA)[:, 2:].abs().amax(-1) > 1e-4).all()
    assert bound.prefix_BK.tolist() == [[True, True, False, False, False]]
    assert not free.prefix_BK.any()
    other = model(NO_IMAGES, state, committed_BPA=committed + 1)
    assert ((other.actions_BKA - bound.actions_BKA)[:, 2:].abs().amax(-1) > 1e-4).all()


def test_training_commits_to_every_length_up_to_the_longest(tiny: Configure) -> None:
    torch.manual_seed(2)
    model = ActCvae(tiny(max_prefix=3)).train()
    actions = torch.randn(400, 5, 2)
    output = model(torch.zeros(400, 0, 3, 64, 96), torch.randn(400, 3), actions)
    lengths = output.prefix_BK.sum(dim=1)
    assert lengths.unique().tolist() == [0, 1, 2, 3]
    assert (lengths.bincount() > 60).all()
    assert torch.equal(output.actions_BKA[output.prefix_BK], actions[output.prefix_BK])


def test_a_wrong_committed_action_costs_nothing_and_a_later_one_does(tiny: Configure) -> None:
    torch.manual_seed(3)
    model = ActCvae(tiny(max_prefix=2, latent="none")).train()
    actions, pad = torch.randn(1, 5, 2), torch.zeros(1, 5, dtype=torch.bool)

    def loss_against(target: Tensor) -> float:
        torch.manual_seed(0)  # the same length every time
        output = model(NO_IMAGES, torch.ones(1, 3), actions, pad)
        assert output.prefix_BK.sum() == 2
        return act_loss(output, target, pad, LossConfig()).total.item()

    torch.manual_seed(0)
    while int(torch.randint(3, (1, 1))) != 2:
        pytest.fail("seed 0 draws another length than 2: choose another seed")
    early, late = actions.clone(), actions.clone()
    early[:, :2] += 100
    late[:, 2] += 100
    assert loss_against(early) == loss_against(actions)
    assert loss_against(late) > loss_against(actions) + 1


def test_nan_under_padding_does_not_come_in_through_the_prefix(tiny: Configure) -> None:
    torch.manual_seed(4)
    model = ActCvae(tiny(max_prefix=4, latent="none")).train()
    actions = torch.randn(64, 5, 2)
    pad = torch.zeros(64, 5, dtype=torch.bool)
    pad[:, 1:] = True
    actions[:, 1:] = float("nan")
    output = model(torch.zeros(64, 0, 3, 64, 96), torch.randn(64, 3), actions, pad)
    loss = act_loss(output, actions, pad, LossConfig()).total
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("mode", "length", "message"),
    [
        pytest.param("eval", 4, "4 committed actions, the model takes up to 3", id="too-many"),
        pytest.param("train", 1, "given in training mode", id="while-training"),
    ],
)
def test_committed_actions_that_cannot_be_taken_are_refused(
    tiny: Configure, mode: str, length: int, message: str
) -> None:
    model = ActCvae(tiny(max_prefix=3)).train(mode == "train")
    with pytest.raises(InputError, match=message):
        model(NO_IMAGES, torch.zeros(1, 3), committed_BPA=torch.zeros(1, length, 2))


def test_a_model_that_knows_no_prefix_says_so(tiny: Configure) -> None:
    with pytest.raises(InputError, match="1 committed actions, the model takes up to 0"):
        ActCvae(tiny()).eval()(NO_IMAGES, torch.zeros(1, 3), committed_BPA=torch.zeros(1, 1, 2))
