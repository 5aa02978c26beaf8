"""The simulated robot as deployment sees it: observed through its sensors, moved by commands.

Simulated time stands still until the next tick is asked for, so a rollout is the same whatever the
speed of the machine. What the policy sees has gone the way of a real robot's topics: messages, the
synchroniser of ingest, the decoders, the codec of the dataset.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from act_data.episodes.observer import Observed
from act_data.errors import DataError, InputError
from act_data.observe import Observation
from act_data.records import SourceRecord
from act_data.robot import load_robot
from act_data.sources.message_types import MessageType, message_type
from act_data.types import NS_PER_MS, NS_PER_S, RawMessage, Reason, StepType, Timestep, TopicInfo
from act_model.config import Contract
from act_model.robot_io import RobotObservation, columns_of, offered_by
from act_model.robot_io.offer import cameras_of, observed
from act_model.robot_io.trained import as_trained, schema_as_trained, seen_as_trained
from act_model.sim.records import Trial, trial_of
from act_model.sim.simulation import OnTick, Simulation
from act_model.sim.world import JOINTS, STEP_NS

_SLOWEST_START_NS = 20 * NS_PER_S  # the synchroniser waits 10 s for topics that do not come


class SimRobot:
    """One episode of a simulation; observation and sink in one.

    Arms rest and objects lie still while the synchroniser starts up (about a second); the policy's
    first tick is the newest one after that.
    """

    keeps_time = False

    def __init__(
        self,
        simulation: Simulation,
        policy: Contract,
        *,
        seed: int,
        robot: str | None = None,
        wait_ms: float = 0.0,
        ticks: int | None = None,
        on_tick: OnTick | None = None,
    ) -> None:
        """Begin the episode of `seed` and run it up to the first tick.

        Args:
            simulation: Stays the caller's.
            policy: Its contract; streams are read as its dataset was.
            robot: Preset or YAML that names the streams; the policy's own by default.
            wait_ms: How long a tick waits for samples that are on their way. 0 acts at once on
                what is there.
            ticks: Length of the episode; None: that of a demonstration.
            on_tick: Called with the world at every tick, and once after the last.

        Raises:
            InputError: The policy moves something that this robot has not.
            NotFoundError: There is no such preset.
            DataError: A stream that the policy needs is not simulated.
        """
        self._policy = policy
        self._simulation = simulation
        self._order = _order(policy)
        self._observed = observed(policy)
        self._cameras = cameras_of(policy)
        self._ticks = simulation.world.task.ticks if ticks is None else ticks
        self._seed = seed
        self._on_tick = on_tick
        self._rewards: list[int] = []
        self._tick = 0
        simulation.begin(seed)
        spec = as_trained(load_robot(robot or policy.robot), policy)
        self._view = Observation(
            _SimSource(simulation), spec, latency_ns=round(wait_ms * NS_PER_MS)
        )
        self._ahead: deque[Observed] = deque([self._start()])
        first = self._ahead[0]
        self._schema = schema_as_trained(
            self._view,
            Timestep(
                step_type=StepType.FIRST,
                tick_ns=first.tick_ns,
                observation=first.observation,
                action=first.action,
                skew_ns=first.skew_ns,
                reason=first.reason,
                index=first.index,
            ),
            policy,
        )
        self._features = {feature.name: feature for feature in self._schema.features}
        self._needed = columns_of(self._schema, self._observed)

    @property
    def contract(self) -> Contract:
        """All that it offers."""
        return offered_by(self._schema, self._policy)

    @property
    def trial(self) -> Trial:
        """What the episode has come to so far."""
        return trial_of(self._seed, self._rewards)

    def observe(self) -> RobotObservation | None:
        """Let time pass up to the next tick; None after the last."""
        if self._tick > 0:
            self._rewards.append(self._simulation.world.reward)
        if self._tick >= self._ticks:
            self._show()
            return None
        seen = self._ahead.popleft() if self._ahead else self._next()
        self._show()
        tick = self._tick
        self._tick += 1
        return RobotObservation(
            tick=tick,
            tick_ns=seen.tick_ns,
            first=tick == 0,
            valid=bool((seen.reason[self._needed] == Reason.OK).all()),
            arrays=lambda: {
                name: seen_as_trained(seen.observation[name], self._features[name], self._cameras)
                for name in self._observed
            },
            demonstrated=None,
            measured=self._simulation.world.qpos[self._order].astype(np.float32),
        )

    def send(self, action_A: NDArray[np.float32], valid_ns: int) -> None:
        """Command it, from now on."""
        command = self._simulation.world.commanded.copy()
        command[self._order] = action_A
        self._simulation.world.command(command)

    def hold(self) -> None:
        """It stays where it was commanded last."""

    def stop(self) -> None:
        """It stays where it was commanded last."""

    def close(self) -> None:
        """The episode is over; the simulation is its owner's."""
        self._ticks = self._tick

    def _show(self) -> None:
        if self._on_tick is not None:
            self._on_tick(self._simulation.world)

    def _start(self) -> Observed:
        """The newest frame, once there is a usable one."""
        while self._simulation.now_ns < _SLOWEST_START_NS:
            if usable := [seen for seen in self._frames() if seen.usable]:
                return usable[-1]
        raise DataError(
            "not one usable frame from the simulated sensors",
            hint="What arrives is older than the policy accepts: let ticks wait with --wait-ms, or "
            "change --realism and --timing.",
        )

    def _next(self) -> Observed:
        """The frame of the next tick; the newest, should several leave together."""
        while True:
            if frames := self._frames():
                return frames[-1]

    def _frames(self) -> list[Observed]:
        """What leaves within the next step of the physics."""
        simulation = self._simulation
        messages = simulation.run(simulation.now_ns + STEP_NS)
        frames = [frame for raw in messages for frame in self._view.push(raw)]
        frames += self._view.advance(simulation.start_ns + simulation.now_ns)
        return [self._view.observer.observe(frame) for frame in frames]


class _SimSource:
    """The topics of a simulation, for who pushes its messages himself."""

    name = "simulation"
    notes: tuple[str, ...] = ()

    def __init__(self, simulation: Simulation) -> None:
        self._types: Mapping[str, MessageType] = {
            channel.topic: message_type(channel) for channel in simulation.channels
        }
        self.topics = {
            channel.topic: TopicInfo(name=channel.topic, type=channel.type)
            for channel in simulation.channels
        }

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        """None: they are pushed."""
        return iter(())

    def deserialize(self, raw: RawMessage) -> Any:
        """The message object."""
        return self._types[raw.topic].deserialize(raw.payload)

    def record(self, topics: Collection[str]) -> SourceRecord:
        """It leaves no recording."""
        return SourceRecord(name=self.name, kind="memory", sha256="")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def _order(policy: Contract) -> list[int]:
    """Where the elements of the policy's action are among the joints of the world."""
    known = [f"master_{side}/{joint}" for side in ("left", "right") for joint in JOINTS]
    names = [name for vector in policy.action for name in vector.names]
    if unknown := [name for name in names if name not in known]:
        raise InputError(
            f"the policy commands {', '.join(unknown)}, which the simulated robot has not",
            hint="Simulate with a policy that was trained on its demonstrations.",
        )
    return [known.index(name) for name in names]
