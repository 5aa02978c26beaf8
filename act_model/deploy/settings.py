"""How a rollout is run: what a person can choose about time, holding and stopping."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import ConfigDict, Field

from act_data.records import Record


class State(StrEnum):
    """Where a rollout stands."""

    INIT = "init"
    WARMUP = "warmup"  # no chunk has arrived yet; nothing is sent
    READY = "ready"  # a chunk is there; waits to be armed
    ARMED = "armed"  # the next tick sends the first command
    RUN = "run"
    DEGRADED = "degraded"  # holds: the robot is not seen, or the policy is silent
    STOPPED = "stopped"


class Stop(StrEnum):
    """Why a rollout ended."""

    END = "end"  # the recording has no further tick
    TICKS = "ticks"  # as many ticks as were asked for
    INTERRUPTED = "interrupted"  # Ctrl-C, SIGTERM, or whoever started it is gone
    ESTOP = "estop"  # a key, a file, a topic or a signal
    STALE = "stale"  # the robot was not seen for too long
    STARVED = "starved"  # the policy gave no action for too long
    POLICY = "policy"  # the policy has died
    FIRST_COMMAND = "first_command"  # it was too far from where the robot was
    TRACKING = "tracking"  # the robot did not follow
    WATCHDOG = "watchdog"  # the control tick had been silent, and the watchdog stopped the robot
    ERROR = "error"


class Rules(Record):
    """What a rollout keeps to.

    Attributes:
        control_hz: Commands per second; None: the policy's rate.
        max_age_ms: The oldest observation that commands may still rest on.
        hold_s: How long a robot that is moved is held before the rollout stops.
        fresh: Valid observations in a row after which a robot that was not seen is trusted again.
        jump_ms: A source's clock that moves by more than this against ours has jumped.
        first_command: What happens when the first command is further than `first_tolerance` from
            the robot: "refuse" stops, "ramp" goes there, slowly. Nearer ones are approached slowly
            in either case.
        first_tolerance: Share of each element's range; of one that hardly moved in the data, of a
            tenth of the largest range of those with its unit.
        tracking_tolerance: Share of each element's range by which the robot may be away from its
            command for `tracking_s`; 0: any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    control_hz: float | None = Field(None, gt=0, le=2000)
    max_age_ms: float = Field(500.0, gt=0)
    hold_s: float = Field(1.0, ge=0)
    fresh: int = Field(3, ge=1)
    jump_ms: float = Field(250.0, gt=0)
    first_command: Literal["refuse", "ramp"] = "refuse"
    first_tolerance: float = Field(0.1, gt=0)
    tracking_tolerance: float = Field(0.25, ge=0)
    tracking_s: float = Field(0.5, gt=0)
