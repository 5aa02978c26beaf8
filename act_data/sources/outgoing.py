"""Messages that this program publishes itself, serialised as ROS does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from act_data.sources.storage import Channel, Definition, Encoding
from act_data.types import NS_PER_S

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
JOINT_STATE = "sensor_msgs/msg/JointState"
POSE = "geometry_msgs/msg/PoseStamped"
TIME_REFERENCE = "sensor_msgs/msg/TimeReference"
EMPTY = "std_msgs/msg/Empty"

_STORES = {"ros1": Stores.ROS1_NOETIC, "cdr": Stores.ROS2_HUMBLE}


class Outgoing:
    """Turns values into payloads of one ROS version.

    Every method of a message takes `stamp_ns` and `seq` of its header; ROS 2 has no `seq`.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self._store: Typestore = get_typestore(_STORES[encoding])
        self._types = self._store.types

    def channel(self, id_: int, topic: str, type_: str) -> Channel:
        """A topic with the whole definition of its type, as a recorder declares it."""
        text, md5 = self._store.generate_msgdef(type_)
        return Channel(
            id=id_,
            topic=topic,
            type=type_,
            encoding=self.encoding,
            definition=Definition(format="msg", text=text),
            count=0,
            about={"md5sum": md5} if self.encoding == "ros1" else {},
        )

    def joint_state(
        self,
        stamp_ns: int,
        seq: int,
        names: Sequence[str],
        position: NDArray[np.floating],
        velocity: NDArray[np.floating],
        effort: NDArray[np.floating],
    ) -> bytes:
        """A JointState; velocity and effort may be empty."""
        message = self._types[JOINT_STATE](
            header=self._header(stamp_ns, seq, ""),
            name=list(names),
            position=np.asarray(position, np.float64),
            velocity=np.asarray(velocity, np.float64),
            effort=np.asarray(effort, np.float64),
        )
        return self._payload(message, JOINT_STATE)

    def image(self, stamp_ns: int, seq: int, frame: str, picture: NDArray[np.uint8]) -> bytes:
        """An Image of (H, W, 3) RGB."""
        message = self._types[IMAGE](
            header=self._header(stamp_ns, seq, frame),
            height=picture.shape[0],
            width=picture.shape[1],
            encoding="rgb8",
            is_bigendian=0,
            step=picture.shape[1] * 3,
            data=picture.reshape(-1),
        )
        return self._payload(message, IMAGE)

    def compressed_image(self, stamp_ns: int, seq: int, frame: str, jpeg: bytes) -> bytes:
        """A CompressedImage that holds a JPEG file."""
        message = self._types[COMPRESSED_IMAGE](
            header=self._header(stamp_ns, seq, frame),
            format="jpeg",
            data=np.frombuffer(jpeg, np.uint8),
        )
        return self._payload(message, COMPRESSED_IMAGE)

    def pose(
        self,
        stamp_ns: int,
        seq: int,
        frame: str,
        position: NDArray[np.floating],
        wxyz: NDArray[np.floating],
    ) -> bytes:
        """A PoseStamped: metres, and a quaternion whose real part comes first."""
        x, y, z = (float(value) for value in position)
        qw, qx, qy, qz = (float(value) for value in wxyz)
        point = self._types["geometry_msgs/msg/Point"](x=x, y=y, z=z)
        turn = self._types["geometry_msgs/msg/Quaternion"](x=qx, y=qy, z=qz, w=qw)
        message = self._types[POSE](
            header=self._header(stamp_ns, seq, frame),
            pose=self._types["geometry_msgs/msg/Pose"](position=point, orientation=turn),
        )
        return self._payload(message, POSE)

    def time_reference(self, stamp_ns: int, seq: int, time_ns: int, source: str) -> bytes:
        """A TimeReference: what `source` stamps `stamp_ns` happened at `time_ns`."""
        message = self._types[TIME_REFERENCE](
            header=self._header(stamp_ns, seq, ""), time_ref=self._time(time_ns), source=source
        )
        return self._payload(message, TIME_REFERENCE)

    def empty(self) -> bytes:
        """An Empty: something happens."""
        return self._payload(self._types[EMPTY](), EMPTY)

    def _header(self, stamp_ns: int, seq: int, frame: str) -> Any:
        fields = {"stamp": self._time(stamp_ns), "frame_id": frame}
        if self.encoding == "ros1":
            fields["seq"] = seq
        return self._types["std_msgs/msg/Header"](**fields)

    def _time(self, time_ns: int) -> Any:
        kind = self._types["builtin_interfaces/msg/Time"]
        return kind(sec=time_ns // NS_PER_S, nanosec=time_ns % NS_PER_S)

    def _payload(self, message: Any, type_: str) -> bytes:
        if self.encoding == "ros1":
            return bytes(self._store.serialize_ros1(message, type_))
        return bytes(self._store.serialize_cdr(message, type_))
