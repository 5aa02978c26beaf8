"""What is written to files about simulated robots, and what a person may set of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from act_data.records import Record
from act_data.types import NS_PER_MS

Realism = Literal["none", "lab", "bad"]
Kind = Literal["camera", "joints", "objects"]


class SensorTiming(Record):
    """When a sensor looks, and when what it saw arrives.

    Attributes:
        rate_hz: Samples per second.
        free: It runs at a phase of its own; otherwise it looks at every tick exactly.
        jitter_ms: Standard deviation of the time of a sample around its grid.
        latency_ms: From the sample to its arrival, at least.
        tail_ms: Mean of what comes on top of it, exponentially distributed.
        drops: Share of samples that never arrive.
        offset_ms: The sensor's clock is wrong by up to so much, constant in a recording.
        stamp_noise_ms: Standard deviation of what a driver is wrong by, per sample.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    rate_hz: float = Field(50.0, gt=0, le=500)
    free: bool = False
    jitter_ms: float = Field(0.0, ge=0, le=1000)
    latency_ms: float = Field(0.0, ge=0, le=10_000)
    tail_ms: float = Field(0.0, ge=0, le=10_000)
    drops: float = Field(0.0, ge=0, lt=1)
    offset_ms: float = Field(0.0, ge=0, le=10_000)
    stamp_noise_ms: float = Field(0.0, ge=0, le=1000)


class Interval(Record):
    """A share, and where the true one lies with 95 % confidence (Wilson, 1927).

    Attributes:
        count: Successes.
        of: Trials.
    """

    count: int
    of: int
    share: float
    low: float
    high: float


class Trial(Record):
    """One simulated episode.

    Attributes:
        reward: The highest stage that was reached, 0 to 4.
        held: Stage 4 in each of the last ten ticks.
    """

    seed: int
    ticks: int
    reward: int
    held: bool


class StageRates(Record):
    """How often each stage was reached.

    Attributes:
        stages: By name of the stage, in order.
        held: The last stage, in each of the last ten ticks.
    """

    stages: Mapping[str, Interval]
    held: Interval


class SimulatedRecording(Record):
    """One demonstration.

    Attributes:
        file: None where the demonstrator failed and the recording was dropped.
        messages: That were written.
    """

    file: str | None
    trial: Trial
    messages: int
    size: int


class SimulationReport(Record):
    """Demonstrations that were recorded.

    Attributes:
        rates: Of the demonstrator, failures included.
        wall_s: What recording took, on all processes together in time of a clock.
    """

    task: str
    robot: str
    realism: Realism
    folder: str
    recordings: tuple[SimulatedRecording, ...]
    rates: StageRates
    wall_s: float


def trial_of(seed: int, rewards: list[int]) -> Trial:
    """What an episode came to, from its reward at every tick."""
    return Trial(
        seed=seed,
        ticks=len(rewards),
        reward=max(rewards, default=0),
        held=len(rewards) >= HELD_TICKS and all(r == 4 for r in rewards[-HELD_TICKS:]),
    )


HELD_TICKS = 10


def wilson(count: int, of: int) -> Interval:
    """The share `count` / `of` with its 95 % interval; of no trial, nothing is known."""
    if not of:
        return Interval(count=0, of=0, share=0.0, low=0.0, high=1.0)
    z = 1.959964
    p = count / of
    middle = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * (p * (1 - p) / of + z * z / (4 * of * of)) ** 0.5
    return Interval(
        count=count, of=of, share=p, low=max(0.0, middle - half), high=min(1.0, middle + half)
    )


def rates_of(stages: tuple[str, ...], trials: list[Trial] | tuple[Trial, ...]) -> StageRates:
    """How often `trials` reached each of `stages`, which are rewards 1 to 4."""
    return StageRates(
        stages={
            name: wilson(sum(t.reward >= i for t in trials), len(trials))
            for i, name in enumerate(stages, start=1)
        },
        held=wilson(sum(t.held for t in trials), len(trials)),
    )


class SimRollout(Record):
    """A policy in one simulated episode.

    Attributes:
        start: (x, y) of each object at the beginning, metres, in the task's order.
        error: Why it ended early; empty when it did not.
        inference_p50_ms: Reading an observation and predicting from it; None without a prediction.
        interventions: Of the safety filter, by name, where there were any.
        video: File name beside the page.
    """

    trial: Trial
    start: tuple[tuple[float, float], ...]
    error: str
    chunks: int
    starved_ticks: int
    invalid_observations: int
    inference_p50_ms: float | None
    inference_p95_ms: float | None
    interventions: Mapping[str, int]
    video: str | None = None


class SimCondition(Record):
    """One way of turning chunks into actions, over all seeds.

    Attributes:
        chunks: "open-loop" or "ensemble".
        execute: Ticks between predictions.
    """

    chunks: str
    execute: int
    rates: StageRates
    inference_p50_ms: float | None
    inference_p95_ms: float | None
    rollouts: tuple[SimRollout, ...]


class SimEvaluation(Record):
    """A policy in closed loop with a simulated robot.

    Attributes:
        wait_ms: As it was asked for.
        seeds: Of the episodes; the same for all conditions.
        page: HTML page, where one was asked for.
        notes: What a reader should know, in sentences.
    """

    checkpoint: str
    step: int
    task: str
    realism: Realism
    wait_ms: float
    seeds: tuple[int, ...]
    conditions: tuple[SimCondition, ...]
    versions: Mapping[str, str]
    wall_s: float
    page: str | None = None
    notes: tuple[str, ...] = ()


class Distribution(Record):
    """Absolute values in milliseconds; None of nothing."""

    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


def distribution(values_ns: NDArray[np.int64]) -> Distribution:
    """Of the absolute values."""
    if not values_ns.size:
        return Distribution(p50_ms=None, p99_ms=None, max_ms=None)
    far = np.abs(values_ns) / NS_PER_MS
    p50, p99 = np.percentile(far, (50, 99))
    return Distribution(p50_ms=float(p50), p99_ms=float(p99), max_ms=float(far.max()))


class LiveEpisode(Record):
    """One demonstration on live topics.

    Attributes:
        start_ns: The clock of this machine when it began.
        messages: That were sent, those before its beginning included.
        late: How long after a message was due it was sent: what this machine adds to latency.
    """

    trial: Trial
    start_ns: int
    messages: int
    late: Distribution


class LiveSimulation(Record):
    """Demonstrations that were published.

    Attributes:
        ros: Whom it was published to, e.g. "ros1 http://127.0.0.1:11311".
    """

    task: str
    realism: Realism
    ros: str
    episodes: tuple[LiveEpisode, ...]
    wall_s: float


class StreamTruth(Record):
    """One stream's skew as synchronisation reported it, and as it was.

    Attributes:
        samples: Valid picks.
        reported: Of the skew that is stored: the sample's stamp against the tick.
        true: Of the time at which the sample was taken in the simulator against the tick.
        error: Of the difference: what the sensor's clock and stamps were wrong by.
        reused: Picks that had served the tick before.
        untold: Valid picks whose time reference was lost, as happens on live topics; they count
            in `samples` only.
    """

    samples: int
    reported: Distribution
    true: Distribution
    error: Distribution
    reused: int
    untold: int


class TruthReport(Record):
    """Synchronisation of simulated recordings against simulated time.

    Attributes:
        streams: By sync column.
        spread: From the earliest to the latest of the samples of one frame, in simulated time.
        rows: Of the dataset; `valid_rows` have a valid pick in every column.
    """

    dataset: str
    version: int
    rows: int
    valid_rows: int
    streams: Mapping[str, StreamTruth]
    spread: Distribution
