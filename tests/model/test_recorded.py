"""What is replayed on a GPU does the same work for all values: nothing comes back on the way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from act_model.config import LossConfig, ModelConfig
from act_model.families import NetworkInput, family_of

B, K, ELSEWHERE = 2, 6, torch.device("meta")


class Elsewhere(TorchDispatchMode):
    """Notes what is made on the CPU: on a GPU that would be fetched, or sent, in between."""

    def __init__(self) -> None:
        super().__init__()
        self.here: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        flat = made if isinstance(made, tuple | list) else (made,)
        if any(isinstance(t, torch.Tensor) and t.device != ELSEWHERE for t in flat):
            self.here.append(str(func))
        return made


def config(**changes: object) -> ModelConfig:
    fields: dict[str, object] = {
        "state_dim": 3, "action_dim": 3, "cameras": ("top", "side"), "image_size": (32, 32),
        "chunk_size": K, "hidden_dim": 32, "heads": 2, "feedforward_dim": 32, "encoder_layers": 1,
        "decoder_layers": 1, "style_layers": 1,
    }  # fmt: skip
    return ModelConfig.model_validate(fields | changes)


def seen(model: ModelConfig) -> NetworkInput:
    cameras = len(model.cameras)
    return NetworkInput(
        images=torch.empty(B, cameras, 3, 32, 32, device=ELSEWHERE),
        state=torch.empty(B, 3, device=ELSEWHERE),
        depth=torch.empty(B, len(model.depth), 1, 32, 32, device=ELSEWHERE)
        if model.depth
        else None,
    )


def work(model: ModelConfig, loss: LossConfig, mode: Elsewhere) -> None:
    family = family_of(model)
    net = family.build(model).train().to(ELSEWHERE)
    actions = torch.empty(B, K, 3, device=ELSEWHERE)
    is_pad = torch.empty(B, K, dtype=torch.bool, device=ELSEWHERE)
    with mode:
        objective = family.objective(net, seen(model), actions, is_pad, loss)
        torch.autograd.backward(objective.total)
        net.eval()
        with torch.inference_mode():
            family.predict(net, seen(model))


REPLAYED: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "default": ({}, {}),
    "no style": ({"latent": "none"}, {}),
    "hidden states": ({"state_dropout": 0.5, "state_dropout_dims": (1,)}, {}),
    "prefix": ({"max_prefix": 2}, {}),
    "end of the episode": ({"is_pad_head": True}, {"is_pad_weight": 1.0}),
    "depth": ({"depth": ("side",)}, {}),
    "places learned": ({"position": "learned"}, {}),
    "backbone each": ({"backbone_per_camera": True}, {}),
    "no cameras": ({"cameras": ()}, {}),
    "free bits, l2": ({}, {"free_bits": 0.1, "kind": "l2"}),
    "smooth": ({}, {"kind": "smooth_l1"}),
}


@pytest.mark.parametrize("name", REPLAYED)
def test_what_may_be_replayed_fetches_and_sends_nothing_on_the_way(name: str) -> None:
    model, loss = REPLAYED[name]
    mode = Elsewhere()
    assert family_of(config(**model)).replays(config(**model))
    work(config(**model), LossConfig.model_validate(loss), mode)
    assert mode.here == []


@pytest.mark.parametrize("changes", [{"latent": "vq"}, {"backbone": "plugin:theirs"}])
def test_what_looks_at_values_or_is_not_ours_is_not_replayed(changes: dict[str, object]) -> None:
    model = config(**changes)
    assert not family_of(model).replays(model)


def test_this_would_notice() -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        work(config(latent="vq"), LossConfig(), Elsewhere())
