"""A robot on live topics, seen as its dataset saw it: the same streams, synchroniser and codec."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from threading import Timer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from act_data.episodes import Observed
from act_data.errors import DataError
from act_data.observe import Observation
from act_data.records import DatasetSchema
from act_data.robot import bind, misses
from act_data.sources.live import Inbox, LiveBackend, LiveSource
from act_data.sources.storage import Channel
from act_data.types import (
    NS_PER_MS,
    NS_PER_S,
    ArrayPart,
    ArraySpec,
    Reason,
    RobotSpec,
    Role,
    StepType,
    Timestep,
    Value,
)
from act_model.commands.topics import Commanded, commanded
from act_model.config import Contract, VectorContract
from act_model.robot_io.interface import RobotObservation
from act_model.robot_io.offer import cameras_of, columns_of, observed, offered_by
from act_model.robot_io.trained import as_trained, schema_as_trained, seen_as_trained

_LOOK_S = 0.1
_FRESH_NS = 200 * NS_PER_MS
_LONGEST_NS = 60 * NS_PER_S
_MEASURED = "measured"  # an array of our own: where the commanded joints are


class LiveRobot:
    """What a policy needs of a robot whose topics are published now. Keeps time.

    Topics that nobody observes are not subscribed: what the leaders of a robot publish, a policy
    publishes in their place.
    """

    keeps_time = True

    def __init__(
        self, backend: LiveBackend, robot: RobotSpec, policy: Contract, *, wait_s: float = 15.0
    ) -> None:
        """Subscribe, and wait for the first frame in which everything is there.

        Args:
            backend: Closed with the robot, and by an error of this.
            robot: Names the streams. Rate, sync policies, latency and clock are `policy`'s.
            policy: Its contract.

        Raises:
            DataError: A topic is not published or silent after `wait_s`; each is named.
            InputError: The robot has no command for an element of the action.
        """
        self._backend = backend
        self._policy = policy
        self._cameras = cameras_of(policy)
        self._observed = observed(policy)
        try:
            self._commands = _commands(robot, policy)
            spec = seen_by(robot, policy)
            self._actions = _actions(robot, policy)
            deadline_s = time.monotonic() + wait_s
            self._source = self._listen(spec, deadline_s)
            self._latency_ns = round(policy.latency_ms * NS_PER_MS)
            self._observation = Observation(self._source, spec, latency_ns=self._latency_ns)
            self._frames = self._observation.frames()
            self._first = self._wait(deadline_s, wait_s)
            self._first_ns = time.monotonic_ns()
            age_ns = time.time_ns() - self._observation.recv_of(self._first.tick_ns)
            # A replay has the times of its recording.
            self._age_ns = age_ns if 0 <= age_ns < _LONGEST_NS else 0
            self._schema = self._schema_of(self._first)
        except BaseException:
            backend.close()
            raise
        self._features = {feature.name: feature for feature in self._schema.features}
        self._columns = columns_of(self._schema, self._observed)
        self._tick = -1

    @property
    def contract(self) -> Contract:
        """What is observed of it, and what it can be told."""
        offered = offered_by(self._schema, self._policy)
        return offered.model_copy(update={"action": self._actions})

    def observe(self) -> RobotObservation | None:
        """The next frame, when it is there; None when it was closed."""
        self._tick += 1
        if self._tick == 0:
            newest = self._after_the_wait()
            return None if newest is None else self._seen(newest)
        frame = next(self._frames, None)
        return None if frame is None else self._seen(self._observation.observer.observe(frame))

    def close(self) -> None:
        """Unsubscribe."""
        self._source.stop()
        self._backend.close()

    # --- beginning -------------------------------------------------------------------------------

    def _listen(self, spec: RobotSpec, deadline_s: float) -> LiveSource:
        while missing := misses(spec, self._backend.topics()):
            if time.monotonic() > deadline_s:
                lines = "\n".join(f"  {line}" for line in missing)
                raise DataError(
                    f"{self._backend.name} lacks topics of robot {spec.name!r}:\n{lines}",
                    hint="Start the robot's drivers and cameras, or name another --robot.",
                )
            time.sleep(_LOOK_S)
        topics = tuple(dict.fromkeys(t.name for t in bind(spec, self._backend.topics()).values()))
        inbox = Inbox()
        self._backend.subscribe(topics, inbox)
        channels: dict[str, Channel] = {}
        while len(channels) < len(topics):
            channels = {t: c for t in topics if (c := self._backend.channel(t)) is not None}
            if time.monotonic() > deadline_s:
                untold = ", ".join(t for t in topics if t not in channels)
                raise DataError(
                    f"{self._backend.name}: no publisher has told the type of {untold}",
                    hint="See whether these nodes run.",
                )
            time.sleep(0.01)
        return LiveSource(self._backend, inbox, channels)

    def _wait(self, deadline_s: float, wait_s: float) -> Observed:
        """The first frame with everything in it."""
        end = Timer(max(0.0, deadline_s - time.monotonic()), self._source.stop)
        end.daemon = True
        end.start()
        try:
            for frame in self._frames:
                seen = self._observation.observer.observe(frame)
                if seen.usable:
                    return seen
        finally:
            end.cancel()
        silent = sorted(t for t, n in self._source.counts.items() if n == 0)
        raise DataError(
            f"{self._source.name}: not one usable frame within {wait_s:g} s; "
            + (f"silent: {', '.join(silent)}" if silent else "its streams do not fit together"),
            hint="`act-data record` shows the state of every topic.",
        )

    def _after_the_wait(self) -> Observed | None:
        """The first frame that is of now.

        The synchroniser listens for a second before it gives one, and commands may take seconds to
        find their listeners: what was seen meanwhile is history.
        """
        passed_ns = time.monotonic_ns() - self._first_ns
        now_ns = self._first.tick_ns + self._age_ns + passed_ns
        earliest_ns = now_ns - self._latency_ns - _FRESH_NS
        seen: Observed | None = self._first
        while seen is not None and seen.tick_ns < earliest_ns:
            frame = next(self._frames, None)
            seen = None if frame is None else self._observation.observer.observe(frame)
        return seen

    def _schema_of(self, first: Observed) -> DatasetSchema:
        arrays = {n: v for n, v in first.observation.items() if n != _MEASURED}
        step = Timestep(
            step_type=StepType.FIRST,
            tick_ns=first.tick_ns,
            observation=arrays,
            action={},
            skew_ns=first.skew_ns,
            reason=first.reason,
            index=first.index,
        )
        return schema_as_trained(self._observation, step, self._policy)

    # --- every tick ------------------------------------------------------------------------------

    def _seen(self, frame: Observed) -> RobotObservation:
        values: Mapping[str, Value] = frame.observation
        return RobotObservation(
            tick=self._tick,
            tick_ns=self._observation.recv_of(frame.tick_ns),
            first=self._tick == 0,
            valid=bool((frame.reason[self._columns] == Reason.OK).all()),
            arrays=lambda: {
                name: seen_as_trained(values[name], self._features[name], self._cameras)
                for name in self._observed
            },
            demonstrated=None,
            measured=self._measured(values.get(_MEASURED)),
        )

    def _measured(self, value: Any) -> NDArray[np.float32] | None:
        if value is None:
            return None
        size = sum(len(vector.names) for vector in self._policy.action)
        found = np.full(size, np.nan, np.float32)
        start = 0
        for command in _with_feedback(self._commands):
            stop = start + len(command.index)
            here = np.asarray(value[start:stop], np.float64)
            found[command.index] = (here - command.spec.offset) / command.spec.scale
            start = stop
        return found


def _with_feedback(commands: list[Commanded]) -> Iterator[Commanded]:
    return (command for command in commands if command.spec.feedback)


def _commands(robot: RobotSpec, policy: Contract) -> list[Commanded]:
    return commanded(robot, policy.action) if robot.commands else []


def seen_by(robot: RobotSpec, policy: Contract) -> RobotSpec:
    """`robot` as `policy` was trained, with only what it observes and what its commands move."""
    commands = _commands(robot, policy)
    names = observed(policy)
    robot = as_trained(robot, policy)
    arrays = [a for a in robot.arrays if a.role is Role.OBSERVATION and a.name in names]
    # A feedback stream is read once per command, with the command's joints, in its order.
    streams = {s.name: s for s in robot.streams}
    extra = {}
    for command in _with_feedback(commands):
        stream = streams[command.spec.feedback]
        name = f"{stream.name} (where {command.spec.name} is)"
        extra[name] = replace(
            stream,
            name=name,
            joints=command.elements,
            shape=(),
            field=("position",),
        )
    if extra:
        parts = tuple(ArrayPart(stream=name) for name in extra)
        size = sum(len(stream.joints) for stream in extra.values())
        arrays.append(
            ArraySpec(
                name=_MEASURED, role=Role.OBSERVATION, parts=parts, dtype="float32", shape=(size,)
            )
        )
    used = {part.stream for array in arrays for part in array.parts}
    kept = (*(s for s in robot.streams if s.name in used), *extra.values())
    return replace(robot, streams=kept, arrays=tuple(arrays), commands=())


def _actions(robot: RobotSpec, policy: Contract) -> tuple[VectorContract, ...]:
    """What the robot can be told, in the policy's words where they are the robot's."""
    spec = as_trained(robot, policy)
    return tuple(
        VectorContract(name=a.name, names=a.names, unit=a.unit)
        for a in spec.arrays
        if a.role is Role.ACTION and a.names
    )
