"""Where a policy's observations come from and its actions go: the seam between deploy and a robot.

The two robots here are recordings. They deliver what training saw, to the bit, and cannot be moved.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from act_data.episodes import Assembler, GapPolicy, schema_of
from act_data.errors import DataError, InputError
from act_data.interfaces import DatasetReader, Source
from act_data.observe import Observation
from act_data.records import SYNC_REASON, TIMESTAMP, DatasetSchema, Feature
from act_data.robot import with_joints
from act_data.store.jpeg import codec_round_trip
from act_data.types import NS_PER_MS, Reason, RobotSpec, Role, StepType, StreamSpec, Timestep, Value
from act_model.checkpoint import contract_of
from act_model.config import Contract, TrainConfig

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotObservation:
    """What a robot saw at one tick.

    Attributes:
        tick: Number of the tick, from 0 at the start of an episode.
        tick_ns: Its time on the robot's clock.
        first: A new episode begins here.
        valid: Every stream that the policy needs was fresh. An observation that is not valid must
            not be predicted from.
        arrays: Gives the arrays by name, as a dataset holds one step. Called by whoever predicts,
            in its thread, so that decoding pictures costs the control tick nothing.
        demonstrated: (A,) float32, what the demonstrator did; None where that is not known.
    """

    tick: int
    tick_ns: int
    first: bool
    valid: bool
    arrays: Callable[[], Arrays]
    demonstrated: NDArray[np.float32] | None


class RobotIO(Protocol):
    """A robot, live or recorded."""

    @property
    def contract(self) -> Contract:
        """Everything that it offers and takes. Its `chunk_size` has no meaning."""

    def observe(self) -> RobotObservation | None:
        """What it sees at the next tick; None when there is no further tick.

        Raises:
            DataError, StoreError: The recording is damaged.
        """

    def apply(self, action_A: NDArray[np.float32]) -> None:
        """Command it.

        Raises:
            InputError: It is a recording.
        """

    def close(self) -> None:
        """Let go of it. Calling it again does nothing."""


class DatasetRobot:
    """One stored episode, row by row."""

    def __init__(self, reader: DatasetReader, episode: int, policy: Contract) -> None:
        """Row 0 is next.

        Args:
            reader: Where the episode is stored.
            episode: Position in `reader.episodes`.
            policy: Only the arrays that it names are read.

        Raises:
            InputError: There is no such episode.
        """
        if not 0 <= episode < len(reader.episodes):
            raise InputError(
                f"{reader.path} has no episode {episode!r}",
                hint=f"It has episodes 0 to {len(reader.episodes) - 1}.",
            )
        self._reader = reader
        self._episode = episode
        self._observed = _observed(policy)
        self._acted = [v.name for v in policy.action]
        self._length = reader.episodes[episode].length
        self._row = 0
        self._track: _Track | None = None

    @property
    def contract(self) -> Contract:
        """All that the dataset holds."""
        return offered_by(self._reader.schema)

    def observe(self) -> RobotObservation | None:
        """The next row; None after the last."""
        if self._track is None:
            self._track = _Track.read(self._reader, self._episode, self._observed, self._acted)
        if self._row >= self._length:
            return None
        row = self._row
        self._row += 1
        track = self._track
        return RobotObservation(
            tick=row,
            tick_ns=int(track.tick_ns[row]),
            first=row == 0,
            valid=bool(track.seen[row]),
            arrays=lambda: {
                name: self._reader.read(name, self._episode, row, row + 1)[0]
                for name in self._observed
            },
            demonstrated=track.action[row].copy() if track.acted[row] else None,
        )

    def apply(self, action_A: NDArray[np.float32]) -> None:
        """Refused: a recording does not move."""
        _refuse(f"episode {self._episode} of {self._reader.path}")

    def close(self) -> None:
        """Nothing is held open."""
        self._row = self._length


@dataclass(frozen=True, slots=True)
class _Track:
    """What is known of all rows of an episode before a picture is read."""

    tick_ns: NDArray[np.int64]
    seen: NDArray[np.bool_]
    acted: NDArray[np.bool_]
    action: NDArray[np.float32]

    @staticmethod
    def read(
        reader: DatasetReader, episode: int, observed: Sequence[str], acted: Sequence[str]
    ) -> _Track:
        action = np.concatenate([reader.read(name, episode) for name in acted], axis=1)
        return _Track(
            reader.read(TIMESTAMP, episode).astype(np.int64),
            _all_ok(reader, episode, observed),
            _all_ok(reader, episode, acted) & np.isfinite(action).all(axis=1),
            action.astype(np.float32),
        )


def _all_ok(reader: DatasetReader, episode: int, names: Sequence[str]) -> NDArray[np.bool_]:
    """(T,) whether every stream behind the arrays `names` was validly synchronised."""
    columns = columns_of(reader.schema, names)
    if not columns:
        return np.ones(reader.episodes[episode].length, np.bool_)
    ok: NDArray[np.bool_] = (reader.read(SYNC_REASON, episode)[:, columns] == Reason.OK).all(axis=1)
    return ok


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
        self._observed = _observed(policy)
        self._acted = [v.name for v in policy.action]
        latency_ns = round(policy.latency_ms * NS_PER_MS)
        self._observation = Observation(source, _as_trained(robot, policy), latency_ns=latency_ns)
        self._steps = self._timesteps()
        self._ahead = next(self._steps, None)
        if self._ahead is None:
            raise DataError(
                f"{source.name}: not one usable frame",
                hint="See which stream is missing with `act-data show`.",
            )
        self._schema = self._schema_of(self._ahead, policy)
        self._features = {feature.name: feature for feature in self._schema.features}
        self._tick = -1

    @property
    def contract(self) -> Contract:
        """All that the recording holds."""
        return offered_by(self._schema)

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
                name: self._stored(step.observation[name], self._features[name])
                for name in self._observed
            },
            demonstrated=self._demonstrated(step),
        )

    def apply(self, action_A: NDArray[np.float32]) -> None:
        """Refused: a recording does not move."""
        _refuse("a bag")

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

    def _schema_of(self, first: Timestep, policy: Contract) -> DatasetSchema:
        """As the recording's dataset would have, with the codecs of the policy's dataset."""
        cameras = {f"images/{c.name}": c for c in policy.cameras}
        cameras |= {f"depth/{c.name}": c for c in policy.depth}
        schema = schema_of(
            self._observation.robot,
            first,
            self._observation.observer.columns,
            codec="raw",
            depth_codec="raw",
            quality=95,
        )
        features = tuple(
            f.model_copy(
                update={"codec": cameras[f.name].codec, "quality": cameras[f.name].quality}
            )
            if f.name in cameras
            else f
            for f in schema.features
        )
        return schema.model_copy(update={"features": features})

    def _valid(self, step: Timestep, names: Sequence[str]) -> bool:
        return bool((step.reason[columns_of(self._schema, names)] == Reason.OK).all())

    def _demonstrated(self, step: Timestep) -> NDArray[np.float32] | None:
        if not self._valid(step, self._acted):
            return None
        parts = [np.asarray(step.action[name], np.float32) for name in self._acted]
        action_A = np.concatenate(parts)
        return action_A if np.isfinite(action_A).all() else None

    @staticmethod
    def _stored(value: Value, feature: Feature) -> NDArray[np.generic]:
        """`value` as the store would give it back."""
        if feature.dtype == "uint8":
            return codec_round_trip(value, feature)
        return np.asarray(value, feature.dtype)


def offered_by(schema: DatasetSchema) -> Contract:
    """All that a robot with the arrays of `schema` offers: every vector, every camera."""

    def vectors(role: Role) -> tuple[str, ...]:
        return tuple(f.name for f in schema.named(role) if len(f.shape) == 1)

    everything = TrainConfig(state=vectors(Role.OBSERVATION), action=vectors(Role.ACTION))
    return contract_of(schema, everything, 1)


def columns_of(schema: DatasetSchema, names: Sequence[str]) -> list[int]:
    """Positions of the sync columns on whose validity the arrays `names` depend."""
    needed = {column for name in names for column in schema.feature(name).columns}
    return [i for i, column in enumerate(schema.columns) if column.name in needed]


def _observed(policy: Contract) -> list[str]:
    return [
        *(v.name for v in policy.state),
        *(f"images/{c.name}" for c in policy.cameras),
        *(f"depth/{c.name}" for c in policy.depth),
    ]


def _as_trained(robot: RobotSpec, policy: Contract) -> RobotSpec:
    """`robot` read as the policy's dataset was."""

    def stream(spec: StreamSpec) -> StreamSpec:
        sync = policy.streams.get(spec.name)
        if sync is None:
            return spec
        return replace(
            spec, policy=sync.policy, tolerance_ms=sync.tolerance_ms, required=sync.required
        )

    read = replace(
        robot,
        fps=policy.rate_hz,
        clock=policy.clock,
        action_shift=policy.action_shift,
        streams=tuple(stream(spec) for spec in robot.streams),
    )
    # A preset may leave the joint order to the first recording: the policy knows which it was.
    elements = (name for v in (*policy.state, *policy.action) for name in v.names)
    joints: dict[str, tuple[str, ...]] = {}
    for name, _, joint in (element.partition("/") for element in dict.fromkeys(elements)):
        joints[name] = (*joints.get(name, ()), joint)
    return with_joints(read, joints)


def _refuse(what: str) -> NoReturn:
    raise InputError(
        f"{what} is a recording and cannot be moved", hint="Use replay or shadow mode."
    )
