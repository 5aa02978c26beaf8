"""The networks that a checkpoint can hold, by their configuration. Light: without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PlainSerializer, PlainValidator, PositiveInt

from act_model.config import ModelConfig, NetworkConfig


class DiffusionConfig(NetworkConfig):
    """The network of a diffusion policy, and how it is walked from noise to actions.

    Attributes:
        encoder_layers: Over state and pictures, once per prediction.
        decoder_layers: Over the noisy actions, once per step of the walk.
        levels: Of noise, in training.
        steps: Of the walk at inference, at most `levels`.
        predict: What the network says of noisy actions: the actions themselves, or the noise.
        noise_seed: Of the noise that every walk starts from.
    """

    policy: Literal["diffusion"] = "diffusion"
    hidden_dim: PositiveInt = 512
    heads: PositiveInt = 8
    feedforward_dim: PositiveInt = 2048
    encoder_layers: PositiveInt = 4
    decoder_layers: PositiveInt = 8
    dropout: float = Field(0.1, ge=0, lt=1)
    levels: int = Field(100, ge=2, le=10_000)
    steps: PositiveInt = 10
    predict: Literal["actions", "noise"] = "actions"
    noise_seed: int = Field(0, ge=0, lt=2**63)


# By what config.json calls them. `act_model.families` has the networks themselves.
NETWORKS: dict[str, type[NetworkConfig]] = {"act": ModelConfig, "diffusion": DiffusionConfig}
DEFAULT = "act"


def _of_its_kind(value: object) -> NetworkConfig:
    """The configuration that `value` says; one that names no policy is ACT's."""
    if isinstance(value, NetworkConfig):
        return value
    name = value.get("policy", DEFAULT) if isinstance(value, dict) else DEFAULT
    if name not in NETWORKS:
        raise ValueError(f"there is no policy {name!r}; there are {', '.join(NETWORKS)}")
    return NETWORKS[name].model_validate(value)


# A field of a Record that holds the configuration of whichever network it names.
AnyNetworkConfig = Annotated[
    NetworkConfig,
    PlainValidator(_of_its_kind),
    PlainSerializer(lambda config: config.model_dump(mode="json")),
]
