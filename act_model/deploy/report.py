"""The account of a rollout: how well time was kept, and how far from the demonstrator it went.

Shape suffixes: A action dim.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from act_data.records import Record, StatsRecord
from act_data.types import NS_PER_MS, NS_PER_S
from act_model.config import VectorContract
from act_model.robot_io import labels
from act_model.safety import joint_range


class Stop(StrEnum):
    """Why a rollout ended."""

    END = "end"  # the recording has no further tick
    TICKS = "ticks"  # as many ticks as were asked for
    INTERRUPTED = "interrupted"  # Ctrl-C
    ERROR = "error"


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


class RolloutReport(Record):
    """The account of a rollout. Times are None where there was nothing to measure.

    Attributes:
        nominal_hz: Rate of the contract.
        rate_hz: Rate that was kept; None in replay, whose clock is simulated. Jitter too.
        jitter_*: Difference between a period and the nominal one.
        deadline_misses: Ticks that were not finished when the next one was due.
        inference_*: Reading an observation and predicting from it, in real time.
        observation_age_*: Of the newest observation behind each action.
        chunks: Predictions that were used.
        rejected_chunks: Predictions refused whole, with a wrong shape or numbers not finite.
        invalid_observations: Ticks at which a needed stream was not fresh.
        waiting_ticks: Ticks before the first action of an episode.
        starved_ticks: Later ticks that no chunk reached: the last command was held.
        discarded_actions: Actions that arrived after their tick.
        safety: Interventions by name.
        compared_ticks: Ticks with a command and a known demonstration: what `joints` is over.
        policy_hangs: The policy did not end when it was told to, and was left behind.
    """

    mode: str
    robot: str
    stop: Stop
    error: str = ""
    hint: str = ""
    ticks: int
    episodes: int
    nominal_hz: float
    rate_hz: float | None = None
    jitter_p50_ms: float | None = None
    jitter_p99_ms: float | None = None
    jitter_max_ms: float | None = None
    deadline_misses: int = 0
    inference_p50_ms: float | None = None
    inference_p95_ms: float | None = None
    inference_p99_ms: float | None = None
    observation_age_p50_ms: float | None = None
    observation_age_p95_ms: float | None = None
    observation_age_max_ms: float | None = None
    chunks: int = 0
    rejected_chunks: int = 0
    invalid_observations: int = 0
    waiting_ticks: int = 0
    starved_ticks: int = 0
    discarded_actions: int = 0
    safety: Mapping[str, int] = Field(default_factory=dict)
    compared_ticks: int = 0
    joints: tuple[JointError, ...] = ()
    policy_hangs: bool = False

    @property
    def mean_percent(self) -> float | None:
        """Mean over the joints that have a range of their mean error in percent of it."""
        known = [j.mean_percent for j in self.joints if j.mean_percent is not None]
        return float(np.mean(known)) if known else None


class Measures:
    """What is counted and measured while a rollout runs. Grows by a few numbers per tick."""

    def __init__(self, nominal_hz: float) -> None:
        self.nominal_hz = nominal_hz
        self.ticks = self.episodes = self.chunks = self.rejected_chunks = 0
        self.invalid_observations = self.waiting_ticks = self.starved_ticks = 0
        self.deadline_misses = self.discarded_actions = 0
        self.started_ns = array("q")
        self.inference_ns = array("q")
        self.age_ns = array("q")
        self.errors: list[NDArray[np.float32]] = []

    def compare(self, action_A: NDArray[np.float32], demonstrated_A: NDArray[np.float32]) -> None:
        """Note the difference between a command and the demonstration of its tick."""
        self.errors.append(np.abs(action_A - demonstrated_A))

    def report(
        self,
        *,
        mode: str,
        robot: str,
        stop: Stop,
        error: str,
        hint: str,
        real_time: bool,
        safety: Mapping[str, int],
        joints: tuple[JointError, ...],
        policy_hangs: bool,
    ) -> RolloutReport:
        """The account so far."""
        starts = np.frombuffer(self.started_ns, np.int64) if self.started_ns else np.zeros(0)
        periods_ms = np.diff(starts) / NS_PER_MS
        timed = real_time and len(periods_ms) > 0
        jitter = np.abs(periods_ms - 1000 / self.nominal_hz) if timed else np.zeros(0)
        jitter_p50, jitter_p99, jitter_max = _percentiles(jitter, 50, 99, 100)
        inference = np.asarray(self.inference_ns) / NS_PER_MS
        inference_p50, inference_p95, inference_p99 = _percentiles(inference, 50, 95, 99)
        age_p50, age_p95, age_max = _percentiles(np.asarray(self.age_ns) / NS_PER_MS, 50, 95, 100)
        return RolloutReport(
            mode=mode,
            robot=robot,
            stop=stop,
            error=error,
            hint=hint,
            ticks=self.ticks,
            episodes=self.episodes,
            nominal_hz=self.nominal_hz,
            rate_hz=len(periods_ms) * NS_PER_S / float(starts[-1] - starts[0]) if timed else None,
            jitter_p50_ms=jitter_p50,
            jitter_p99_ms=jitter_p99,
            jitter_max_ms=jitter_max,
            deadline_misses=self.deadline_misses,
            inference_p50_ms=inference_p50,
            inference_p95_ms=inference_p95,
            inference_p99_ms=inference_p99,
            observation_age_p50_ms=age_p50,
            observation_age_p95_ms=age_p95,
            observation_age_max_ms=age_max,
            chunks=self.chunks,
            rejected_chunks=self.rejected_chunks,
            invalid_observations=self.invalid_observations,
            waiting_ticks=self.waiting_ticks,
            starved_ticks=self.starved_ticks,
            discarded_actions=self.discarded_actions,
            safety=dict(safety),
            compared_ticks=len(self.errors),
            joints=joints,
            policy_hangs=policy_hangs,
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


def _percentiles(values: NDArray[np.floating], *percents: float) -> list[float | None]:
    if len(values) == 0:
        return [None] * len(percents)
    return [float(p) for p in np.percentile(values, percents)]
