"""What the page of a run is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from act_model.checkpoint import Checkpoint
from act_model.run_report.attention import AttentionMap
from act_model.run_report.metrics import RunMetrics
from act_model.run_report.predictions import Trace
from act_model.run_report.records import RunState
from act_model.validate import EndBin


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What an episode was made of."""

    split: str
    uid: str
    steps: int
    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Everything that the page shows.

    Attributes:
        checkpoint: None before the first one.
        shares: Of the time of the steps, by what it went to.
        attention: (episode, step, map by camera).
        recordings: The first of each split.
    """

    title: str
    state: RunState
    metrics: RunMetrics
    checkpoint: Checkpoint | None
    shares: Mapping[str, float]
    traces: Sequence[Trace]
    ends: Sequence[EndBin]
    attention: Sequence[tuple[int, int, Sequence[AttentionMap]]]
    recordings: Sequence[Recording]
    notes: Sequence[str]
