"""The account of a rollout: how well time was kept, and how far from the demonstrator it went.

Shape suffixes: T ticks, A action dim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from act_data.records import Record, StatsRecord
from act_data.types import NS_PER_S
from act_model.commands import labels
from act_model.config import VectorContract
from act_model.deploy.measures import Measures
from act_model.deploy.settings import Stop
from act_model.safety import Intervention, SafetyFilter, joint_range


class JointError(Record):
    """Absolute difference between what was commanded and what was demonstrated, for one joint.

    Attributes:
        mean: In `unit`; p95 and max too.
        mean_percent: Of the joint's range in the training data; None when it never moved there.
    """

    name: str
    unit: str
    mean: float
    p95: float
    max: float
    mean_percent: float | None
    p95_percent: float | None
    max_percent: float | None


class JointHits(Record):
    """How often the filter bent the commands of one joint."""

    name: str
    position: int
    velocity: int
    acceleration: int


class RolloutReport(Record):
    """The account of a rollout. Times are None where there was nothing to measure.

    Percentiles are exact to 1 %, maxima to the last digit.

    Attributes:
        nominal_hz: Rate of commands.
        rate_hz: Rate that was kept; None in simulated time. Jitter, lateness and work too.
        jitter_*: Difference between a period and the nominal one.
        lateness_*: From a tick's deadline to its begin.
        work_*: From the begin of a tick to its end.
        deadline_misses: Ticks that were not finished when the next one was due.
        inference_*: Reading an observation and predicting from it, in real time.
        observation_age_*: Of the newest observation behind each action.
        queue_depth_*: Actions of the newest chunk that are still to come, at each tick.
        chunks: Predictions that were used.
        rejected_chunks: Predictions refused whole, with a wrong shape or numbers not finite.
        rejection: What was wrong with the last of them.
        late_chunks: Predictions of which not one action was still to come.
        observations: That were seen; `refused_observations` were not used, by reason.
        invalid_observations: Those at which a needed stream was not fresh.
        waiting_ticks: Ticks before the first action of an episode.
        starved_ticks: Later ticks that no chunk reached: the last command was held.
        held_ticks: Ticks in the state "degraded"; `degradations` counts how often it was entered.
        taken_over_ticks: Ticks at which a person commanded.
        discarded_actions: Actions that arrived after their tick.
        splice_mismatches: Chunks for which clocks and counted ticks disagree on how many.
        commands: What was sent.
        seam_jump_*: Largest change of an element at the tick that takes a new chunk, in its unit.
        safety: Interventions by name; `hits` the same by joint.
        compared_ticks: Ticks with a command and a known demonstration: what `joints` is over.
        policy_hangs: The policy did not end when it was told to: its process was killed, or its
            thread left behind.
        scheduling: What the system granted: "fifo, memory locked", "normal".
        log_dropped: Lines that the action log could not take in time; `record_dropped` steps that
            the recorder could not.
        recorded: uids of the episodes that were recorded.
    """

    mode: str
    robot: str
    stop: Stop
    cause: str = ""
    error: str = ""
    hint: str = ""
    ticks: int
    episodes: int
    nominal_hz: float
    rate_hz: float | None = None
    jitter_p50_ms: float | None = None
    jitter_p99_ms: float | None = None
    jitter_max_ms: float | None = None
    lateness_p99_ms: float | None = None
    lateness_max_ms: float | None = None
    work_p50_ms: float | None = None
    work_p99_ms: float | None = None
    deadline_misses: int = 0
    inference_p50_ms: float | None = None
    inference_p95_ms: float | None = None
    inference_p99_ms: float | None = None
    observation_age_p50_ms: float | None = None
    observation_age_p95_ms: float | None = None
    observation_age_max_ms: float | None = None
    queue_depth_p50: float | None = None
    queue_depth_min: float | None = None
    chunks: int = 0
    rejected_chunks: int = 0
    rejection: str = ""
    late_chunks: int = 0
    observations: int = 0
    refused_observations: Mapping[str, int] = Field(default_factory=dict)
    invalid_observations: int = 0
    waiting_ticks: int = 0
    starved_ticks: int = 0
    held_ticks: int = 0
    degradations: int = 0
    taken_over_ticks: int = 0
    discarded_actions: int = 0
    splice_mismatches: int = 0
    commands: int = 0
    seam_jump_p99: float | None = None
    seam_jump_max: float | None = None
    safety: Mapping[str, int] = Field(default_factory=dict)
    hits: tuple[JointHits, ...] = ()
    compared_ticks: int = 0
    joints: tuple[JointError, ...] = ()
    policy_hangs: bool = False
    scheduling: str = ""
    log_dropped: int = 0
    record_dropped: int = 0
    recorded: tuple[str, ...] = ()

    @property
    def mean_percent(self) -> float | None:
        """Mean over the joints that have a range of their mean error in percent of it."""
        known = [j.mean_percent for j in self.joints if j.mean_percent is not None]
        return float(np.mean(known)) if known else None


def measured(measures: Measures, *, real_time: bool) -> dict[str, object]:
    """The fields of a report that `measures` knows."""
    m = measures
    between_ns = m.last_ns - m.first_ns
    timed = real_time and m.ticks > 1 and between_ns > 0

    def of_time(percent: float, histogram: str) -> float | None:
        return getattr(m, histogram).percentile(percent) if timed else None

    return {
        "ticks": m.ticks,
        "episodes": m.episodes,
        "nominal_hz": m.nominal_hz,
        "rate_hz": (m.ticks - 1) * NS_PER_S / between_ns if timed else None,
        "jitter_p50_ms": of_time(50, "jitter"),
        "jitter_p99_ms": of_time(99, "jitter"),
        "jitter_max_ms": of_time(100, "jitter"),
        "lateness_p99_ms": of_time(99, "lateness"),
        "lateness_max_ms": of_time(100, "lateness"),
        "work_p50_ms": of_time(50, "work"),
        "work_p99_ms": of_time(99, "work"),
        "deadline_misses": m.deadline_misses,
        "inference_p50_ms": m.inference.percentile(50),
        "inference_p95_ms": m.inference.percentile(95),
        "inference_p99_ms": m.inference.percentile(99),
        "observation_age_p50_ms": m.age.percentile(50),
        "observation_age_p95_ms": m.age.percentile(95),
        "observation_age_max_ms": m.age.percentile(100),
        "queue_depth_p50": m.depth.percentile(50),
        "queue_depth_min": m.depth.min if m.depth.total else None,
        "chunks": m.chunks,
        "rejected_chunks": m.rejected_chunks,
        "rejection": m.rejection,
        "late_chunks": m.late_chunks,
        "observations": m.observations,
        "invalid_observations": m.invalid_observations,
        "waiting_ticks": m.waiting_ticks,
        "starved_ticks": m.starved_ticks,
        "held_ticks": m.held_ticks,
        "degradations": m.degradations,
        "taken_over_ticks": m.taken_over_ticks,
        "discarded_actions": m.discarded_actions,
        "splice_mismatches": m.splice_mismatches,
        "commands": m.sent,
        "seam_jump_p99": m.seam.percentile(99),
        "seam_jump_max": m.seam.percentile(100),
        "compared_ticks": len(m.errors),
    }


def joint_hits(action: Sequence[VectorContract], safety: SafetyFilter) -> tuple[JointHits, ...]:
    """The joints that the filter had to bend, and how often."""
    reasons = (Intervention.POSITION, Intervention.VELOCITY, Intervention.ACCELERATION)
    rows = [safety.hits[reason].tolist() for reason in reasons]
    return tuple(
        JointHits(name=name, position=p, velocity=v, acceleration=a)
        for (name, _), p, v, a in zip(labels(action), *rows, strict=True)
        if p or v or a
    )


def joint_errors(
    errors: Sequence[NDArray[np.floating]],
    action: Sequence[VectorContract],
    stats: StatsRecord,
) -> tuple[JointError, ...]:
    """The error of each joint, over rows of absolute differences (A,); empty without a row."""
    if not errors:
        return ()
    error_TA = np.stack(errors).astype(np.float64)
    low, high = joint_range(action, stats)
    found = []
    for (name, unit), error_T, span in zip(labels(action), error_TA.T, high - low, strict=True):
        mean, p95, largest = (
            float(error_T.mean()),
            float(np.percentile(error_T, 95)),
            float(error_T.max()),
        )
        mean_share, p95_share, largest_share = (
            100 * value / float(span) if span > 0 else None for value in (mean, p95, largest)
        )
        found.append(
            JointError(
                name=name,
                unit=unit,
                mean=mean,
                p95=p95,
                max=largest,
                mean_percent=mean_share,
                p95_percent=p95_share,
                max_percent=largest_share,
            )
        )
    return tuple(found)
