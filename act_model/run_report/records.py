"""What a report of a run says to programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from act_data.records import Record

# "stopped": by a person, a kill or an error; it can be resumed. "ended early": by its patience.
RunState = Literal["finished", "ended early", "in progress", "stopped"]


class TracedEpisode(Record):
    """An episode that was predicted beside its demonstration.

    Attributes:
        held_out: It was not trained on.
        error: Mean absolute error of whole chunks, by joint, in the joint's unit.
    """

    episode: int
    uid: str
    held_out: bool
    error: Mapping[str, float]


class CameraAttention(Record):
    """How much of the attention of a chunk's actions goes to a camera, at one step."""

    episode: int
    step: int
    camera: str
    share: float


class RunReport(Record):
    """A training run as far as it has come.

    Attributes:
        page: Of `page_bytes` bytes.
        steps: Of the configuration; None before the first checkpoint.
        best_step: Of the smallest error on held-out episodes so far.
        samples_per_s: Validations left out; None where the metrics say no times.
        time_shares: What the time of the steps went to; they add up to 1.
        checkpoint: The one that was looked at: `best`, else `last`.
        best: All numbers of the validation at `best_step`.
        last: Those of the last validation.
        units: By group of joints, of the numbers that name it.
        notes: What is missing in the page, and why.
    """

    run: str
    page: str
    page_bytes: int
    state: RunState
    step: int
    steps: int | None
    best_step: int | None
    best_l1: float | None
    samples_per_s: float | None
    time_shares: Mapping[str, float]
    checkpoint: str | None
    dataset: str | None
    version: int | None
    content_hash: str | None
    best: Mapping[str, float]
    last: Mapping[str, float]
    units: Mapping[str, str]
    traced: tuple[TracedEpisode, ...]
    attention: tuple[CameraAttention, ...]
    notes: tuple[str, ...]
