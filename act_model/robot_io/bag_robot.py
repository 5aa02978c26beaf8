"""A recording that plays the robot. It delivers what training saw, to the bit."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray

from act_data.episodes import Assembler, GapPolicy
from act_data.errors import DataError
from act_data.interfaces import Source
from act_data.observe import Observation
from act_data.types import NS_PER_MS, Reason, RobotSpec, StepType, Timestep
from act_model.config import Contract
from act_model.robot_io.interface import RobotObservation
from act_model.robot_io.offer import (
    cameras_of,
    columns_of,
    observed,
    offered_by,
)
from act_model.robot_io.trained import as_trained, schema_as_trained, seen_as_trained


class BagRobot:
    """A recording, through the same streams, synchroniser and codec as its dataset would have been.

    A policy that was trained on pictures from a JPEG store sees them after JPEG here too: its
    inputs are bit-identical to those from the dataset that `ingest` makes of the recording.
    """

    def __init__(self, source: Source, robot: RobotSpec, policy: Contract) -> None:
        """The first tick of the recording is next; reads up to there.

        Args:
            source: An open recording, which stays the caller's.
            robot: Names the recording's streams. Rate, sync policies, latency, clock and action
                shift are taken from `policy`: they are how a recording is read, not what it is.
            policy: Its contract.

        Raises:
            DataError: A stream is missing, or there is no usable frame.
        """
        self._policy = policy
        self._cameras = cameras_of(policy)
        self._observed = observed(policy)
        self._acted = [v.name for v in policy.action]
        latency_ns = round(policy.latency_ms * NS_PER_MS)
        self._observation = Observation(source, as_trained(robot, policy), latency_ns=latency_ns)
        self._steps = self._timesteps()
        self._ahead = next(self._steps, None)
        if self._ahead is None:
            raise DataError(
                f"{source.name}: not one usable frame",
                hint="See which stream is missing with `act-data show`.",
            )
        self._schema = schema_as_trained(self._observation, self._ahead, policy)
        self._features = {feature.name: feature for feature in self._schema.features}
        self._tick = -1

    keeps_time = False

    @property
    def contract(self) -> Contract:
        """All that the recording holds."""
        return offered_by(self._schema, self._policy)

    def observe(self) -> RobotObservation | None:
        """The next step of the recording; None after the last."""
        step, self._ahead = self._ahead, None
        if step is None:
            step = next(self._steps, None)
        if step is None:
            return None
        first = step.step_type is StepType.FIRST
        self._tick = 0 if first else self._tick + 1
        return RobotObservation(
            tick=self._tick,
            tick_ns=step.tick_ns,
            first=first,
            valid=self._valid(step, self._observed),
            arrays=lambda: {
                name: seen_as_trained(step.observation[name], self._features[name], self._cameras)
                for name in self._observed
            },
            demonstrated=self._demonstrated(step),
        )

    def close(self) -> None:
        """Stop reading the recording."""
        self._steps.close()
        self._ahead = None

    def _timesteps(self) -> Generator[Timestep, None, None]:
        observation = self._observation
        assembler = Assembler(observation.robot, observation.observer, gap=GapPolicy.MASK)
        for frame in observation.frames():
            yield from assembler.add(frame)
        yield from assembler.finish()

    def _valid(self, step: Timestep, names: Sequence[str]) -> bool:
        return bool((step.reason[columns_of(self._schema, names)] == Reason.OK).all())

    def _demonstrated(self, step: Timestep) -> NDArray[np.float32] | None:
        if not self._valid(step, self._acted):
            return None
        parts = [np.asarray(step.action[name], np.float32) for name in self._acted]
        action_A = np.concatenate(parts)
        return action_A if np.isfinite(action_A).all() else None
