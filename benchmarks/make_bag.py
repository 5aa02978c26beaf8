"""A ROS 1 bag of any size, with the topics of cobot_magic and pictures like those of a camera.

    python benchmarks/make_bag.py --seconds 12 --out big.bag     # 1 GB: 84 MB per second
    python benchmarks/make_bag.py --quick                        # how fast is it? keeps nothing

3 cameras 640x480 rgb8 at 30 Hz, 4 JointState at 200 Hz, Odometry at 50 Hz, written as they come
with the receive times of a real recorder: a little late, each in its own way. The pictures are a
panning textured scene with sensor noise, so that encoders meet what they meet on a robot; a ring
of distinct ones per camera repeats. The same arguments give the same file.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_typestore

HEIGHT, WIDTH = 480, 640
CAMERAS = ("/camera_f/color/image_raw", "/camera_l/color/image_raw", "/camera_r/color/image_raw")
JOINTS = ("/puppet/joint_left", "/puppet/joint_right", "/master/joint_left", "/master/joint_right")
ODOM = "/odom"
CAMERA_HZ, JOINT_HZ, ODOM_HZ = 30, 200, 50
PAN_PIXELS = 3  # per frame
SENSOR_NOISE = 2.0  # standard deviation, grey levels
DISTINCT_FRAMES = 30
CHUNK_BYTES = 768 * 1024  # as `rosbag record` has it
START_NS = 1_700_000_000 * 10**9
NS = 10**9

_STORE = get_typestore(Stores.ROS1_NOETIC)
_TYPES = _STORE.types
Event = tuple[int, int, str, str, Any]  # recv_ns, source, topic, type, message


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="of recording [8]")
    parser.add_argument("--out", type=Path, help="the file; without it the bag is not kept")
    parser.add_argument("--quick", action="store_true", help="half a second of recording")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    seconds = 0.5 if options.quick else options.seconds
    with TemporaryDirectory() as scratch:
        path = options.out or Path(scratch, "made.bag")
        began = perf_counter()
        make_bag(path, seconds)
        took = perf_counter() - began
        size = path.stat().st_size
    if options.json:
        print(json.dumps({"bag_seconds": seconds, "bytes": size, "wall_s": took}))
    else:
        print(f"{seconds:g} s of recording, {size / 2**20:.0f} MiB, made in {took:.1f} s")


def make_bag(path: Path, seconds: float) -> None:
    """Write `seconds` of a recording to `path`; memory does not depend on them."""
    sources: list[Iterator[Event]] = [
        *(_pictures(n, topic, seconds) for n, topic in enumerate(CAMERAS)),
        *(_joints(len(CAMERAS) + n, topic, seconds) for n, topic in enumerate(JOINTS)),
        _odometry(len(CAMERAS) + len(JOINTS), seconds),
    ]
    writer = Writer(path)
    writer.chunk_threshold = CHUNK_BYTES
    with writer:
        known: dict[str, Any] = {}
        for recv_ns, _, topic, type_, message in heapq.merge(*sources, key=lambda e: e[:2]):
            if topic not in known:
                known[topic] = writer.add_connection(topic, type_, typestore=_STORE)
            writer.write(known[topic], recv_ns, _STORE.serialize_ros1(message, type_))


def ring(seed: int, length: int = DISTINCT_FRAMES) -> list[NDArray[np.uint8]]:
    """`length` frames of a camera that pans there and back, (HEIGHT, WIDTH, 3) each."""
    rng = np.random.default_rng(seed)
    there_and_back = [min(i, length - i) * PAN_PIXELS for i in range(length)]
    scene = _scene(rng, HEIGHT, WIDTH + max(there_and_back))
    noise = rng.normal(0.0, SENSOR_NOISE, scene.shape).astype(np.float32)
    frames = []
    for offset in there_and_back:
        # Every frame has other noise: the same field, rolled by as many rows as nobody notices.
        fresh = np.roll(noise, int(rng.integers(HEIGHT)), axis=0)
        frame = (scene + fresh)[:, offset : offset + WIDTH]
        frames.append(np.clip(np.rint(frame), 0, 255).astype(np.uint8))
    return frames


def _scene(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Grey levels whose spectrum falls like that of natural scenes, with hard-edged objects."""
    scene = np.full((height, width, 3), 128.0, dtype=np.float32)
    for cells, strength in ((4, 36.0), (12, 18.0), (40, 9.0), (120, 4.5), (240, 3.0)):
        coarse = rng.normal(0.0, strength, (cells + 1, cells * width // height + 2, 3))
        scene += _enlarged(coarse.astype(np.float32), height, width)
    for _ in range(24):
        y, x = int(rng.integers(height)), int(rng.integers(width))
        tall, wide = (int(n) for n in rng.integers(20, 120, 2))
        scene[y : y + tall, x : x + wide] += rng.normal(0.0, 40.0, 3).astype(np.float32)
    return np.clip(scene, 8, 247)


def _enlarged(coarse: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Bilinear interpolation to (height, width, 3)."""
    for axis, size in ((0, height), (1, width)):
        at = np.linspace(0, coarse.shape[axis] - 1.001, size, dtype=np.float32)
        below = at.astype(np.intp)
        part = (at - below).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        low, high = np.take(coarse, below, axis), np.take(coarse, below + 1, axis)
        coarse = low + (high - low) * part
    return coarse


def _times(
    source: int, rate_hz: float, seconds: float, latency_ms: float
) -> Iterator[tuple[int, int, int]]:
    """(seq, stamp_ns, recv_ns): the phase is the source's own, the latency never under 2/3."""
    rng = np.random.default_rng(1000 + source)
    phase_ns = int(rng.integers(round(NS / rate_hz)))
    for seq in range(int(seconds * rate_hz)):
        stamp_ns = START_NS + phase_ns + round(seq * NS / rate_hz)
        late_ms = latency_ms * (2 / 3 + rng.exponential(1 / 3))
        yield seq, stamp_ns, stamp_ns + round(late_ms * 1e6)


def _in_order(events: Iterator[Event]) -> Iterator[Event]:
    """One connection delivers in order: a late message holds up the next one."""
    last_ns = 0
    for recv_ns, *rest in events:
        last_ns = max(last_ns + 1, recv_ns)
        source, topic, type_, message = rest
        yield last_ns, source, topic, type_, message


def _pictures(source: int, topic: str, seconds: float) -> Iterator[Event]:
    kind = "sensor_msgs/msg/Image"
    frames = ring(source)

    def events() -> Iterator[Event]:
        for seq, stamp_ns, recv_ns in _times(source, CAMERA_HZ, seconds, latency_ms=12.0):
            message = _TYPES[kind](
                header=_header(seq, stamp_ns, "camera"),
                height=HEIGHT,
                width=WIDTH,
                encoding="rgb8",
                is_bigendian=0,
                step=WIDTH * 3,
                data=frames[seq % len(frames)].reshape(-1),
            )
            yield recv_ns, source, topic, kind, message

    return _in_order(events())


def _joints(source: int, topic: str, seconds: float) -> Iterator[Event]:
    kind = "sensor_msgs/msg/JointState"
    rng = np.random.default_rng(2000 + source)
    phases = rng.uniform(0, 2 * np.pi, 7)

    def events() -> Iterator[Event]:
        for seq, stamp_ns, recv_ns in _times(source, JOINT_HZ, seconds, latency_ms=0.8):
            at = phases + 0.5 * (stamp_ns - START_NS) / NS
            message = _TYPES[kind](
                header=_header(seq, stamp_ns, ""),
                name=[f"joint{i}" for i in range(7)],
                position=np.sin(at) + rng.normal(0, 1e-3, 7),
                velocity=0.5 * np.cos(at),
                effort=rng.normal(0, 0.1, 7),
            )
            yield recv_ns, source, topic, kind, message

    return _in_order(events())


def _odometry(source: int, seconds: float) -> Iterator[Event]:
    kind = "nav_msgs/msg/Odometry"
    vector, point = _TYPES["geometry_msgs/msg/Vector3"], _TYPES["geometry_msgs/msg/Point"]
    covariance = np.zeros(36)
    pose = _TYPES["geometry_msgs/msg/PoseWithCovariance"](
        pose=_TYPES["geometry_msgs/msg/Pose"](
            position=point(x=0.0, y=0.0, z=0.0),
            orientation=_TYPES["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
        ),
        covariance=covariance,
    )

    def events() -> Iterator[Event]:
        for seq, stamp_ns, recv_ns in _times(source, ODOM_HZ, seconds, latency_ms=2.0):
            t = (stamp_ns - START_NS) / NS
            twist = _TYPES["geometry_msgs/msg/Twist"](
                linear=vector(x=0.1 * np.sin(t), y=0.0, z=0.0),
                angular=vector(x=0.0, y=0.0, z=0.2 * np.cos(t)),
            )
            message = _TYPES[kind](
                header=_header(seq, stamp_ns, "odom"),
                child_frame_id="base_link",
                pose=pose,
                twist=_TYPES["geometry_msgs/msg/TwistWithCovariance"](
                    twist=twist, covariance=covariance
                ),
            )
            yield recv_ns, source, ODOM, kind, message

    return _in_order(events())


def _header(seq: int, stamp_ns: int, frame: str) -> Any:
    time: Callable[..., Any] = _TYPES["builtin_interfaces/msg/Time"]
    stamp = time(sec=stamp_ns // NS, nanosec=stamp_ns % NS)
    return _TYPES["std_msgs/msg/Header"](seq=seq, stamp=stamp, frame_id=frame)


if __name__ == "__main__":
    main()
