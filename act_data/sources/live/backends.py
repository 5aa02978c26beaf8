"""Which backend a name means."""

from __future__ import annotations

from pathlib import Path

from act_data.errors import InputError
from act_data.sources.live.backend import LiveBackend
from act_data.sources.live.replay import ReplayBackend

BACKENDS = ("replay:BAG",)


def open_backend(name: str, *, speed: float = 1.0) -> LiveBackend:
    """The backend called `name`: one of `BACKENDS`. Close it.

    Args:
        speed: Of a replay.

    Raises:
        InputError: There is no such backend.
        NotFoundError: The recording does not exist.
        DataError: The recording cannot be opened.
    """
    kind, _, where = name.partition(":")
    if kind == "replay" and where:
        return ReplayBackend(Path(where), speed=speed)
    raise InputError(f"no backend {name!r}", hint=f"Use one of: {', '.join(BACKENDS)}.")
