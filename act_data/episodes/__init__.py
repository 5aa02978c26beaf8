"""Episodes: frames observed as a robot's arrays, assembled into timesteps, and their schema."""

from __future__ import annotations

from act_data.episodes.assembler import Account, Assembler, GapPolicy
from act_data.episodes.interpolate import WRAPPED_ANGLE
from act_data.episodes.observer import Decode, Observed, Observer
from act_data.episodes.schema import schema_of

__all__ = [
    "WRAPPED_ANGLE",
    "Account",
    "Assembler",
    "Decode",
    "GapPolicy",
    "Observed",
    "Observer",
    "schema_of",
]
