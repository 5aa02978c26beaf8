"""The account of a synchronisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from act_data.records.base import Record
from act_data.types import ClockPolicy, Reason, SyncPolicy


class StreamReport(Record):
    """What one stream delivered and what became of it. received = used + unused + late + duplicate.

    Attributes:
        used: Samples that serve at least one tick.
        unused: Samples that arrived in order but that no tick picked.
        late: Samples that arrived after their tick had left.
        duplicate: Samples with the stamp of an earlier one.
        reused_ticks: Ticks that took the same sample as the tick before.
        estimated_drops: Sum over periods of round(period / median period) - 1.
        seq_gaps: Numbers missing in header.seq; None when the stream has none.
        latency_*: Receive time minus header stamp; None without headers.
        drift_ppm: Slope of (receive - stamp) over time; None without headers.
        skew_*: Over valid picks: signed median, and percentiles of the absolute value.
        invalid: Ticks without a valid pick, by reason name in lower case.
    """

    topic: str = ""
    policy: SyncPolicy
    tolerance_ms: float
    required: bool
    clock: Literal["header", "receive"]
    received: int
    used: int
    unused: int
    late: int
    duplicate: int
    reused_ticks: int = 0
    rate_hz: float | None = None
    period_p50_ms: float | None = None
    period_p99_ms: float | None = None
    period_max_ms: float | None = None
    estimated_drops: int = 0
    seq_gaps: int | None = None
    zero_stamps: int = 0
    backward_stamps: int = 0
    latency_p01_ms: float | None = None
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    drift_ppm: float | None = None
    skew_p50_ms: float | None = None
    skew_abs_p95_ms: float | None = None
    skew_abs_p99_ms: float | None = None
    skew_abs_max_ms: float | None = None
    invalid: Mapping[str, int] = Field(default_factory=dict)


class SyncReport(Record):
    """The account of one recording.

    Attributes:
        clock: The clock that was used after `auto` was decided.
        camera_spread_*: Largest minus smallest stamp of the cameras of a valid tick.
        longest_invalid_run: In ticks.
        notes: Sentences for people: clock jumps, dead topics, mixed clock domains.
    """

    fps: float
    clock: ClockPolicy
    ticks: int
    valid: int
    longest_invalid_run: int = 0
    camera_spread_p50_ms: float | None = None
    camera_spread_p99_ms: float | None = None
    streams: Mapping[str, StreamReport] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


def reason_name(reason: int) -> str:
    """The lower-case name of a stored `sync_reason`, as reports use it."""
    return Reason(reason).name.lower()
