"""The kinds of policies there are."""

from __future__ import annotations

from typing import Any

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
from act_model.networks import DEFAULT

FAMILIES: dict[str, Family[Any, Any]] = {family.name: family for family in (ACT, DIFFUSION)}


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


__all__ = [
    "DEFAULT",
    "FAMILIES",
    "Family",
    "NetworkInput",
    "Objective",
    "Prediction",
    "Size",
    "family_of",
]
