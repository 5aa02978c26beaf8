"""The nouns that live in memory: from a raw message to a timestep of an episode.

Time is int nanoseconds. Joint arrays are float32 radians. Images are uint8 (H, W, 3) RGB, depth
is uint16 (H, W) millimetres.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000

T = TypeVar("T")


# --- what a source delivers -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicInfo:
    """One topic of a source.

    Attributes:
        name: ROS topic, e.g. "/puppet/joint_left".
        type: Message type in the ROS 2 spelling for both ROS versions, "sensor_msgs/msg/Image".
        count: Messages that the source's index promises; None where it has no index.
    """

    name: str
    type: str
    count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RawMessage:
    """One message as it was recorded, not decoded.

    Attributes:
        topic: The topic it arrived on.
        recv_ns: When the recorder received it (log time).
        stamp_ns: `header.stamp`; None when the type has no header. 0 is kept as 0.
        seq: `header.seq` of ROS 1; None elsewhere. Never to be trusted alone.
        type: Message type in the ROS 2 spelling.
        encoding: How `payload` is serialised.
        payload: The serialised message.
    """

    topic: str
    recv_ns: int
    stamp_ns: int | None
    seq: int | None
    type: str
    encoding: Literal["ros1", "cdr"]
    payload: bytes | memoryview


# --- what a robot declares --------------------------------------------------------------------


class StreamKind(StrEnum):
    """The decoder that turns a message of a stream into an array."""

    IMAGE = "image"  # Image or CompressedImage -> uint8 (H, W, 3) RGB
    DEPTH = "depth"  # Image 16UC1/mono16/32FC1 or compressedDepth -> uint16 (H, W) mm
    JOINT_STATE = "joint_state"  # matched by joint name
    ODOMETRY = "odometry"
    TWIST = "twist"  # Twist and TwistStamped
    IMU = "imu"
    WRENCH = "wrench"  # Wrench and WrenchStamped
    MULTI_ARRAY = "multi_array"  # std_msgs *MultiArray
    NUMERIC = "numeric"  # any message, by field path


_TWIST = tuple(f"{part}.{axis}" for part in ("linear", "angular") for axis in "xyz")

# What a stream reads when its preset names no field: every path is one number, except "data".
DEFAULT_FIELD: Mapping[StreamKind, tuple[str, ...]] = {
    StreamKind.JOINT_STATE: ("position",),
    StreamKind.ODOMETRY: tuple(f"twist.twist.{path}" for path in _TWIST),
    StreamKind.TWIST: _TWIST,
    StreamKind.IMU: (
        *(f"orientation.{axis}" for axis in "xyzw"),
        *(f"angular_velocity.{axis}" for axis in "xyz"),
        *(f"linear_acceleration.{axis}" for axis in "xyz"),
    ),
    StreamKind.WRENCH: tuple(f"{part}.{axis}" for part in ("force", "torque") for axis in "xyz"),
    StreamKind.MULTI_ARRAY: ("data",),
}

# A field path: names that ROS allows (never a dunder), [i] anywhere, one [i:j] at the end.
_NAME = r"(?!\w*__)[A-Za-z]\w*"
FIELD_PATH = re.compile(
    rf"{_NAME}(?:\[\d{{1,9}}\])*(?:\.{_NAME}(?:\[\d{{1,9}}\])*)*(?:\[\d{{0,9}}:\d{{0,9}}\])?",
    re.ASCII,
)


class SyncPolicy(StrEnum):
    """Which sample of a stream a tick takes."""

    HOLD = "hold"  # newest at or before the tick: all that a robot can know
    NEAREST = "nearest"
    LINEAR = "linear"  # between the two neighbours
    NEXT = "next"  # first at or after the tick


class ClockPolicy(StrEnum):
    """Which time of a message is its time."""

    AUTO = "auto"
    HEADER = "header"
    RECEIVE = "receive"


class Role(StrEnum):
    """What an array of an episode is to a policy."""

    OBSERVATION = "observation"
    ACTION = "action"
    SYNC = "sync"  # timestamps, skews, reasons, sample numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """One stream of a robot: the topic to read and the array each message becomes.

    Attributes:
        name: Unique in the robot, e.g. "puppet_left".
        topic: ROS topic, e.g. "/puppet/joint_left".
        kind: The decoder.
        field: Field paths in the message, e.g. ("twist.twist.linear.x",). Their values are
            concatenated. Empty means the kind's own default (position for joint states).
        joints: Joint names in the wanted order, for `joint_state`. Empty: the message's own order.
        shape: Shape of one sample, without time: (7,) joints, (480, 640, 3) RGB. Empty: as the
            recording has it, fixed by the first sample.
        unit: SI unit of the values ("rad", "m/s"); "" for images.
        policy: Which sample a tick takes.
        tolerance_ms: The largest distance between sample and tick that a valid frame may have.
        required: Whether an episode can exist without it.
    """

    name: str
    topic: str
    kind: StreamKind
    field: tuple[str, ...] = ()
    joints: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    unit: str = ""
    policy: SyncPolicy = SyncPolicy.HOLD
    tolerance_ms: float = 50.0
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayPart:
    """One slice of an array: a stream, and the field of it when not the stream's own."""

    stream: str
    field: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """One array of an episode and the streams that it is made of, concatenated in order.

    Attributes:
        name: "qpos", "qvel", "effort", "action", "base_action", "base_vel",
            "images/<camera>", "depth/<camera>" or any other identifier.
        role: Observation or action.
        parts: Where the values come from; exactly one part for images and depth.
        dtype: "float32", "uint8" (images) or "uint16" (depth).
        shape: Of one step: (14,), (480, 640, 3). Empty: as the recording has it.
        unit: SI unit, "" for images.
        names: One per element of a vector, e.g. "puppet_left/joint0"; empty for images.
    """

    name: str
    role: Role
    parts: tuple[ArrayPart, ...]
    dtype: Literal["float32", "uint8", "uint16"]
    shape: tuple[int, ...] = ()
    unit: str = ""
    names: tuple[str, ...] = ()


class CommandKind(StrEnum):
    """The message that carries a command."""

    JOINT_STATE = "joint_state"  # sensor_msgs/JointState, positions
    JOINT_TRAJECTORY = "joint_trajectory"  # trajectory_msgs/JointTrajectory, one point
    TRAJECTORY_CHUNK = "trajectory_chunk"  # the same, one message with all that is planned
    MULTI_ARRAY = "multi_array"  # std_msgs/Float64MultiArray
    TWIST = "twist"  # geometry_msgs/Twist
    TWIST_STAMPED = "twist_stamped"
    JOINT_GROUP = "joint_group"  # interbotix_xs_msgs/JointGroupCommand
    JOINT_SINGLE = "joint_single"  # interbotix_xs_msgs/JointSingleCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class JointLimit:
    """What one joint may be told, in its unit (of a velocity: the velocity itself) and seconds.

    Attributes:
        low: Smallest value; None for no limit, here and in all others.
        high: Largest.
        velocity: Largest change per second.
        acceleration: Largest change of that per second.
    """

    low: float | None = None
    high: float | None = None
    velocity: float | None = None
    acceleration: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSpec:
    """Where the part of an action that was learned from one stream is sent.

    What is sent is `scale * action + offset`: a leader's gripper has another range than the
    follower's.

    Attributes:
        name: Unique in the robot.
        stream: An action stream.
        joints: Of the stream, in the order of the message; empty: all of them.
        group: Name of the group or joint in the robot's driver, for the kinds that carry one.
        feedback: A `joint_state` stream with joints of these names, which tells where they are.
        limits: Of what is sent, by joint; of a twist by "linear.x" and so on.
    """

    name: str
    topic: str
    kind: CommandKind
    stream: str
    joints: tuple[str, ...] = ()
    group: str = ""
    feedback: str = ""
    scale: float = 1.0
    offset: float = 0.0
    limits: Mapping[str, JointLimit] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotSpec:
    """The streams and arrays of one kind of robot.

    Attributes:
        name: Preset name, e.g. "cobot_magic".
        fps: Ticks per second of an episode.
        streams: In declaration order; names unique.
        arrays: In declaration order; names unique.
        clock: Which time of a message counts.
        action_shift: `action[t]` is the command at tick `t + action_shift` (0 ALOHA, 1 AgileX).
        description: One sentence for people.
        commands: Where actions are sent; empty for a robot that is only observed.
    """

    name: str
    fps: float
    streams: tuple[StreamSpec, ...]
    arrays: tuple[ArraySpec, ...]
    clock: ClockPolicy = ClockPolicy.AUTO
    action_shift: int = 0
    description: str = ""
    commands: tuple[CommandSpec, ...] = ()

    def stream(self, name: str) -> StreamSpec:
        """The stream called `name`; KeyError when there is none."""
        return next(s for s in self.streams if s.name == name)


# --- what the synchronizer delivers -----------------------------------------------------------


class Reason(IntEnum):
    """Why a pick is or is not valid. Stored as uint8 in `sync_reason`; append only."""

    OK = 0
    GAP = 1  # the nearest sample that the policy allows is further than the tolerance
    LATE = 2  # the sample came after the tick had to leave
    DEAD = 3  # the stream fell silent and has not come back
    START = 4  # the stream has not delivered yet
    ABSENT = 5  # an optional stream that the source does not have
    NOT_FINITE = 6  # the sample holds NaN or infinity where a number is needed


@dataclass(frozen=True, slots=True)
class Pick(Generic[T]):
    """What one stream contributes to one tick.

    Attributes:
        index: Running number of the sample in its stream, from 0; -1 when there is none.
        stamp_ns: Time of the sample on the synchronizer's clock; 0 when there is none.
        skew_ns: `stamp_ns - tick_ns`, signed; 0 when there is none.
        age_ns: Receive time at which the tick left minus the sample's receive time.
        reason: OK, or why this pick is not valid.
        reused: The same sample also served the tick before.
        sample: The payload. Set for an invalid pick too, when any sample exists.
        other: `linear` only: the sample after the tick.
        weight: `linear` only: value = (1 - weight) * sample + weight * other.
    """

    index: int
    stamp_ns: int
    skew_ns: int
    age_ns: int
    reason: Reason
    reused: bool
    sample: T | None
    other: T | None = None
    weight: float = 0.0

    @property
    def valid(self) -> bool:
        """Whether the sample satisfies the stream's policy and tolerance."""
        return self.reason is Reason.OK


@dataclass(frozen=True, slots=True)
class Frame(Generic[T]):
    """One pick per stream for one tick.

    Attributes:
        tick: Number of the tick from 0.
        tick_ns: Its time on the synchronizer's clock.
        picks: By stream name; every stream of the synchronizer is there.
        valid: Every required stream's pick is valid.
    """

    tick: int
    tick_ns: int
    picks: Mapping[str, Pick[T]]
    valid: bool


# --- what an episode is made of ---------------------------------------------------------------


class StepType(IntEnum):
    """Place of a timestep in its episode, as in dm_env."""

    FIRST = 0
    MID = 1
    LAST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedImage:
    """A compressed picture that passes through untouched.

    Attributes:
        data: The JPEG file.
        shape: (H, W, 3) of the decoded picture.
        swapped: The file has red and blue exchanged, as ALOHA's compressed recordings do.
    """

    data: bytes
    shape: tuple[int, ...]
    swapped: bool = False


Value = NDArray[np.generic] | EncodedImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Timestep:
    """Observation and action of one tick.

    Attributes:
        step_type: FIRST for the first one of an episode; a stored episode has no LAST, whose
            observation is seen but not stored (dm_env: T+1 observations, T actions).
        tick_ns: Time of the tick.
        observation: By array name, e.g. {"qpos": (14,), "images/cam_high": (480, 640, 3)}.
        action: By array name, e.g. {"action": (14,), "base_action": (2,)}: what was commanded
            after `observation` was seen.
        skew_ns: (K,) int64, one per sync column: sample stamp minus tick.
        reason: (K,) uint8 `Reason`, one per sync column.
        index: (K,) int64 sample number, one per sync column; -1 for none.
    """

    step_type: StepType
    tick_ns: int
    observation: Mapping[str, Value]
    action: Mapping[str, Value]
    skew_ns: NDArray[np.int64]
    reason: NDArray[np.uint8]
    index: NDArray[np.int64]
