"""Record the example demonstrations with ROS 1: rosmaster, a rospy publisher, `rosbag record`.

Needs Debian's or Ubuntu's ROS 1 packages (see README.md), numpy and Pillow:

    python3 examples/record_demo.py --out examples/bags --demos 8
"""

from __future__ import annotations

import argparse
import heapq
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from reach_scene import DURATION_S, Reach, block_places

# Debian installs ROS 1 for its own python3; behind everything else, so that a virtual environment
# keeps its own numpy.
sys.path.append("/usr/lib/python3/dist-packages")

import rospy
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CompressedImage, JointState

RECORDER = "/usr/lib/rosbag/record"
START_S = 20.0  # how long master and recorder may take to come up, and to stop
CAMERA_HZ, JOINT_HZ, ODOM_HZ = 30, 100, 50
CAMERA_LATENCY_S = 0.012  # exposure and encoding, between the stamp and the message
CAMERA_OFFSET_S = {"f": 0.0, "l": 0.003, "r": 0.006}  # free-running cameras are not in phase
ENCODER_STEP = 2 * np.pi / 2**14
NOISE = 0.0006  # radians

Event = tuple[float, int, str, Any]  # due after the start, order, topic, message


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "bags")
    parser.add_argument("--demos", type=int, default=8)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with ros_master():
        rospy.init_node("reach_demo", disable_signals=True, disable_rosout=True)
        publishers = advertise()
        for number, block in enumerate(block_places(arguments.demos)):
            path = arguments.out / f"reach_{number:02d}.bag"
            events = sorted(schedule(Reach(block), seed=number), key=lambda e: e[:2])
            sent = record(path, events, publishers)
            check(path, sent)
            print(f"{path}: {sum(sent.values())} messages, {path.stat().st_size} bytes")
        rospy.signal_shutdown("done")


@contextmanager
def ros_master() -> Iterator[None]:
    """A ROS master of our own on a free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as logs:
        os.environ.update(
            ROS_MASTER_URI=f"http://127.0.0.1:{port}", ROS_IP="127.0.0.1", ROS_LOG_DIR=logs
        )
        master = subprocess.Popen(
            ["rosmaster", "--core", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: answers(port), "the ROS master does not answer")
            yield
        finally:
            master.terminate()
            master.wait(START_S)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def advertise() -> dict[str, rospy.Publisher]:
    """Publishers by topic, with the topic names of a cobot_magic robot."""
    types = {f"/camera_{c}/color/image_raw/compressed": CompressedImage for c in CAMERA_OFFSET_S}
    types |= {f"/{arm}/joint_{s}": JointState for arm in ("puppet", "master") for s in SIDES}
    types["/odom"] = Odometry
    return {t: rospy.Publisher(t, type_, queue_size=200) for t, type_ in types.items()}


SIDES = ("left", "right")


def schedule(reach: Reach, seed: int) -> Iterator[Event]:
    """Every message of one demonstration and when it is due; stamps are filled in when sent."""
    rng = np.random.default_rng(seed)
    for tick in range(int(DURATION_S * JOINT_HZ)):
        t = tick / JOINT_HZ
        for side in SIDES:
            yield t, tick, f"/puppet/joint_{side}", puppet_state(reach, side, t, rng)
            command = measured(reach.master(side, t), rng)
            yield t, tick, f"/master/joint_{side}", joint_state(position=command)
    for tick in range(int(DURATION_S * ODOM_HZ)):
        message = Odometry(child_frame_id="base_link")
        message.header.frame_id = "odom"
        twist = message.twist.twist
        twist.linear.x, twist.angular.z = np.round(reach.base_speed(tick / ODOM_HZ), 4)
        yield tick / ODOM_HZ, tick, "/odom", message
    for tick in range(int(DURATION_S * CAMERA_HZ)):
        for camera, offset in CAMERA_OFFSET_S.items():
            t = tick / CAMERA_HZ + offset
            message = CompressedImage(format="jpeg", data=reach.picture(camera, t))
            message.header.frame_id = f"camera_{camera}"
            yield t, tick, f"/camera_{camera}/color/image_raw/compressed", message


def puppet_state(reach: Reach, side: str, t: float, rng: np.random.Generator) -> JointState:
    before, now, after = (reach.puppet(side, t + d) for d in (-0.005, 0.0, 0.005))
    velocity = (after - before) / 0.01
    load = 0.8 * np.cos(now) + 0.2 * velocity
    load[6] = 2.0 * max(0.0, 0.3 - now[6])
    return joint_state(
        position=measured(now, rng), velocity=np.round(velocity, 2), effort=np.round(load, 1)
    )


def measured(joints: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What an encoder of 14 bits reports."""
    return np.round((joints + rng.normal(0, NOISE, joints.shape)) / ENCODER_STEP) * ENCODER_STEP


def joint_state(**values: np.ndarray) -> JointState:
    names = [f"joint{i}" for i in range(7)]
    return JointState(name=names, **{k: v.tolist() for k, v in values.items()})


def record(
    path: Path, events: list[Event], publishers: dict[str, rospy.Publisher]
) -> dict[str, int]:
    """Publish `events` while the recorder runs; what was sent, by topic."""
    path.unlink(missing_ok=True)
    recorder = subprocess.Popen(
        [RECORDER, "--lz4", "-O", str(path), *publishers],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(
            lambda: all(p.get_num_connections() for p in publishers.values()),
            "the recorder does not subscribe",
        )
        sent = dict.fromkeys(publishers, 0)
        start = time.time() + 0.1
        # A camera's message leaves later than its stamp says, so order by the time of leaving.
        queue = [
            (due + (CAMERA_LATENCY_S if "camera" in topic else 0.0), i, due, topic, message)
            for i, (due, _, topic, message) in enumerate(events)
        ]
        heapq.heapify(queue)
        while queue:
            leaves, _, due, topic, message = heapq.heappop(queue)
            time.sleep(max(0.0, start + leaves - time.time()))
            message.header.stamp = rospy.Time.from_sec(start + due)
            publishers[topic].publish(message)
            sent[topic] += 1
        time.sleep(0.5)  # until the last ones have arrived
    finally:
        recorder.send_signal(signal.SIGINT)
        recorder.wait(START_S)
    wait_until(
        lambda: not any(p.get_num_connections() for p in publishers.values()),
        "the recorder's connections stay open",
    )
    return sent


def check(path: Path, sent: dict[str, int]) -> None:
    """Stop when the recorder lost a message."""
    import rosbag

    with rosbag.Bag(str(path)) as bag:
        lost = {t: n - bag.get_message_count(t) for t, n in sent.items()}
    if any(lost.values()):
        raise SystemExit(f"{path}: the recorder lost {lost}; record again on a quieter machine")


def wait_until(condition: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{complaint} after {START_S:.0f} s")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
