"""The base of all records."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of everything that is written to a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
