"""What a server reports when it stops."""

from __future__ import annotations

from act_data.records import Record
from act_model.runtime import RuntimeName


class ServeReport(Record):
    """One run of a server.

    Attributes:
        url: Where it listened.
        seconds: From ready to stopped.
        sessions: Connections that asked for actions, or might have.
        turned_away: Connections without a session: too many, or without the token.
        malformed: Messages that could not be read.
        requests: By outcome: done, expired, superseded, refused, busy, failed.
        mean_infer_ms: Of all predictions; None without one.
    """

    checkpoint: str
    step: int
    runtime: RuntimeName
    url: str
    seconds: float
    sessions: int
    turned_away: int
    malformed: int
    requests: dict[str, int]
    mean_infer_ms: float | None
