"""The kinds of policies there are."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import PlainSerializer, PlainValidator

from act_data.errors import InputError
from act_model.config import NetworkConfig
from act_model.families.act import ACT
from act_model.families.diffusion import DIFFUSION
from act_model.families.family import (
    Family,
    NetworkInput,
    Objective,
    Prediction,
    Size,
)

FAMILIES: dict[str, Family[Any, Any]] = {family.name: family for family in (ACT, DIFFUSION)}
DEFAULT = ACT.name


def family_of(policy: str | NetworkConfig) -> Family[Any, Any]:
    """The family of that name, or of that configuration.

    Raises:
        InputError: There is none; says which there are.
    """
    name = policy if isinstance(policy, str) else policy.policy
    try:
        return FAMILIES[name]
    except KeyError:
        raise InputError(
            f"there is no policy {name!r}", hint=f"There are: {', '.join(FAMILIES)}."
        ) from None


def _of_its_family(value: object) -> NetworkConfig:
    """The configuration that `value` says; one that names no policy is ACT's."""
    if isinstance(value, NetworkConfig):
        return value
    name = value.get("policy", DEFAULT) if isinstance(value, dict) else DEFAULT
    if name not in FAMILIES:
        raise ValueError(f"there is no policy {name!r}; there are {', '.join(FAMILIES)}")
    return cast(NetworkConfig, FAMILIES[name].config.model_validate(value))


# A field of a Record that holds the configuration of whichever family it names.
AnyNetworkConfig = Annotated[
    NetworkConfig,
    PlainValidator(_of_its_family),
    PlainSerializer(lambda config: config.model_dump(mode="json")),
]

__all__ = [
    "DEFAULT",
    "FAMILIES",
    "AnyNetworkConfig",
    "Family",
    "NetworkInput",
    "Objective",
    "Prediction",
    "Size",
    "family_of",
]
