"""Small networks to ask questions of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from act_model.config import ModelConfig

Configure = Callable[..., ModelConfig]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny() -> Configure:
    """Makes a configuration of a few thousand weights around the ResNet; no dropout."""

    def configure(**settings: Any) -> ModelConfig:
        small = {
            "state_dim": 3,
            "action_dim": 2,
            "image_size": (64, 96),
            "chunk_size": 5,
            "hidden_dim": 16,
            "heads": 2,
            "feedforward_dim": 24,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "style_layers": 1,
            "latent_dim": 4,
            "vq_classes": 3,
            "vq_codes": 4,
            "dropout": 0.0,
        }
        return ModelConfig.model_validate(small | settings)

    return configure
