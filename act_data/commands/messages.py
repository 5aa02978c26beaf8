"""Commands as messages of ROS 1 and ROS 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from act_data.types import NS_PER_S, CommandKind

Encoding = Literal["ros1", "cdr"]
ENCODINGS: tuple[Encoding, ...] = ("ros1", "cdr")

TYPES: Mapping[CommandKind, str] = {
    CommandKind.JOINT_STATE: "sensor_msgs/msg/JointState",
    CommandKind.JOINT_TRAJECTORY: "trajectory_msgs/msg/JointTrajectory",
    CommandKind.TRAJECTORY_CHUNK: "trajectory_msgs/msg/JointTrajectory",
    CommandKind.MULTI_ARRAY: "std_msgs/msg/Float64MultiArray",
    CommandKind.TWIST: "geometry_msgs/msg/Twist",
    CommandKind.TWIST_STAMPED: "geometry_msgs/msg/TwistStamped",
    CommandKind.JOINT_GROUP: "interbotix_xs_msgs/msg/JointGroupCommand",
    CommandKind.JOINT_SINGLE: "interbotix_xs_msgs/msg/JointSingleCommand",
}
# Neither ROS brings these; the fields are those of the driver of ALOHA's arms:
# https://github.com/Interbotix/interbotix_ros_core, interbotix_xs_msgs.
_INTERBOTIX = {
    TYPES[CommandKind.JOINT_GROUP]: "string name\nfloat32[] cmd\n",
    TYPES[CommandKind.JOINT_SINGLE]: "string name\nfloat32 cmd\n",
}


@cache
def store_of(encoding: Encoding) -> Typestore:
    """The types of an encoding, those of the commands included."""
    store = get_typestore(Stores.ROS1_NOETIC if encoding == "ros1" else Stores.ROS2_JAZZY)
    for name, text in _INTERBOTIX.items():
        store.register(get_types_from_msg(text, name))
    return store


class Encoder:
    """Turns the numbers of one command into the payload of its message."""

    def __init__(
        self,
        kind: CommandKind,
        elements: Sequence[str],
        encoding: Encoding,
        *,
        group: str = "",
        period_ns: int = 0,
    ) -> None:
        """For messages of `kind`.

        Args:
            elements: Joint names; of a twist "linear.x", "angular.z", ..., the others stay zero.
            group: The name that a JointGroupCommand or a JointSingleCommand carries.
            period_ns: When the point of a trajectory is to be reached, from its stamp on.
        """
        self.type = TYPES[kind]
        self._elements = list(elements)
        self._group = group
        self._period_ns = period_ns
        self._numbered = encoding == "ros1"  # its headers have a sequence number
        self._sequence = 0
        self._store = store_of(encoding)
        self._encode: Callable[[Any, str], Any] = (
            self._store.serialize_ros1 if encoding == "ros1" else self._store.serialize_cdr
        )
        self._message: Callable[[NDArray[np.float64], int], Any] = {
            CommandKind.JOINT_STATE: self._joint_state,
            CommandKind.JOINT_TRAJECTORY: self._trajectory,
            CommandKind.TRAJECTORY_CHUNK: self._trajectory,
            CommandKind.MULTI_ARRAY: self._multi_array,
            CommandKind.TWIST: self._twist,
            CommandKind.TWIST_STAMPED: self._twist_stamped,
            CommandKind.JOINT_GROUP: self._group_command,
            CommandKind.JOINT_SINGLE: self._single_command,
        }[kind]

    def __call__(self, values: NDArray[np.floating], stamp_ns: int) -> bytes:
        """The payload.

        Args:
            values: One per element, in the robot's units.
            stamp_ns: Wall clock, for the kinds that have a header.
        """
        message = self._message(np.asarray(values, np.float64), stamp_ns)
        return bytes(self._encode(message, self.type))

    def along(self, path: NDArray[np.floating], stamp_ns: int, period_ns: int) -> bytes:
        """The payload of a trajectory, (points, elements), of the kinds that are one.

        Args:
            stamp_ns: Wall clock; the first point is reached `period_ns` after it.
            period_ns: From one point to the next.
        """
        points = [
            self._point(values, (number + 1) * period_ns)
            for number, values in enumerate(np.ascontiguousarray(path, np.float64))
        ]
        return bytes(self._encode(self._points(points, stamp_ns), self.type))

    # --- kinds -----------------------------------------------------------------------------------

    def _joint_state(self, values: NDArray[np.float64], stamp_ns: int) -> Any:
        none = np.zeros(0)
        return self._new(
            self.type,
            header=self._header(stamp_ns),
            name=self._elements,
            position=values,
            velocity=none,
            effort=none,
        )

    def _trajectory(self, values: NDArray[np.float64], stamp_ns: int) -> Any:
        return self._points([self._point(values, self._period_ns)], stamp_ns)

    def _points(self, points: list[Any], stamp_ns: int) -> Any:
        return self._new(
            self.type, header=self._header(stamp_ns), joint_names=self._elements, points=points
        )

    def _point(self, values: NDArray[np.float64], after_ns: int) -> Any:
        none = np.zeros(0)
        return self._new(
            "trajectory_msgs/msg/JointTrajectoryPoint",
            positions=values,
            velocities=none,
            accelerations=none,
            effort=none,
            time_from_start=self._duration(after_ns),
        )

    def _multi_array(self, values: NDArray[np.float64], stamp_ns: int) -> Any:
        layout = self._new("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)
        return self._new(self.type, layout=layout, data=values)

    def _twist(self, values: NDArray[np.float64], stamp_ns: int) -> Any:
        parts = {"linear": dict.fromkeys("xyz", 0.0), "angular": dict.fromkeys("xyz", 0.0)}
        for element, value in zip(self._elements, values.tolist(), strict=True):
            part, axis = element.split(".")
            parts[part][axis] = value
        vector = "geometry_msgs/msg/Vector3"
        return self._new(
            TYPES[CommandKind.TWIST], **{p: self._new(vector, **xyz) for p, xyz in parts.items()}
        )

    def _twist_stamped(self, values: NDArray[np.float64], stamp_ns: int) -> Any:
        return self._new(
            self.type, header=self._header(stamp_ns), twist=self._twist(values, stamp_ns)
        )

    def _group_command(self, values: NDArray[np.float64], stamp_ns: int) -> Any:
        return self._new(self.type, name=self._group, cmd=values.astype(np.float32))

    def _single_command(self, values: NDArray[np.float64], stamp_ns: int) -> Any:
        (value,) = values.tolist()
        return self._new(self.type, name=self._group, cmd=value)

    # --- parts -----------------------------------------------------------------------------------

    def _new(self, type_: str, **fields: Any) -> Any:
        return self._store.types[type_](**fields)

    def _header(self, stamp_ns: int) -> Any:
        seconds, nanoseconds = divmod(stamp_ns, NS_PER_S)
        stamp = self._new("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
        fields: dict[str, object] = {"stamp": stamp, "frame_id": ""}
        if self._numbered:
            fields["seq"] = self._sequence
            self._sequence = (self._sequence + 1) % 2**32
        return self._new("std_msgs/msg/Header", **fields)

    def _duration(self, duration_ns: int) -> Any:
        seconds, nanoseconds = divmod(duration_ns, NS_PER_S)
        return self._new("builtin_interfaces/msg/Duration", sec=seconds, nanosec=nanoseconds)
