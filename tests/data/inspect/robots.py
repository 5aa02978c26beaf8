"""Recordings of robots that no preset knows, made from plain values: 3 s each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.bags import Entry
from tests.small_robot import IMAGE, JOINTS, S, joints, picture

SECONDS = 3.0
TWIST = "geometry_msgs/msg/Twist"
ODOMETRY = "nav_msgs/msg/Odometry"
ARM = ("shoulder", "elbow", "wrist")


def every(hz: float, start_s: float = 1.0, seconds: float = SECONDS) -> Iterator[tuple[int, float]]:
    """(time in ns, phase in s) of a stream."""
    for i in range(round(seconds * hz)):
        yield round((start_s + i / hz) * S), i / hz


def camera(topic: str, hz: float = 30, **fields: object) -> list[Entry]:
    """Small pictures that change with time."""
    return [
        (topic, IMAGE, t + 2_000_000, {"header": t, **picture(round(100 * phase)), **fields})
        for t, phase in every(hz)
    ]


def depth(topic: str, hz: float = 30) -> list[Entry]:
    """16-bit depth of 16x24."""
    fields = {"height": 16, "width": 24, "encoding": "16UC1", "step": 48, "data": bytes(768)}
    return [(topic, IMAGE, t + 2_000_000, {"header": t, **fields}) for t, _ in every(hz)]


def arm(topic: str, hz: float = 100, names: tuple[str, ...] = ARM, **fields: object) -> list[Entry]:
    """A joint state with positions and velocities."""
    return [
        (
            topic,
            JOINTS,
            t + 500_000,
            {"header": t, **joints(phase, names), "velocity": [0.1] * len(names), **fields},
        )
        for t, phase in every(hz)
    ]


def twist(topic: str, hz: float = 20) -> list[Entry]:
    """Forward and turning speed; no header."""
    return [
        (topic, TWIST, t, {"linear": {"x": 0.2}, "angular": {"z": float(np.sin(phase))}})
        for t, phase in every(hz)
    ]


def odometry(topic: str, hz: float = 50) -> list[Entry]:
    """A base that drives a curve and slips sideways."""
    return [
        (
            topic,
            ODOMETRY,
            t + 500_000,
            {
                "header": t,
                "twist": {"twist": {"linear": {"x": 0.2, "y": 0.01}, "angular": {"z": phase}}},
            },
        )
        for t, phase in every(hz)
    ]


SINGLE_ARM = [*camera("/camera/color/image_raw"), *arm("/joint_states")]
LEADER_AND_FOLLOWER = [
    *camera("/cam_high/color/image_raw"),
    *camera("/cam_wrist/image_raw", 15),
    *depth("/cam_high/depth/image_rect_raw"),
    *(e for side in ("right", "left") for e in arm(f"/follower_{side}/joint_states")),
    *(e for side in ("right", "left") for e in arm(f"/leader_{side}/joint_states")),
]
MOBILE_BASE = [
    *camera("/front/image_raw", 10), *twist("/cmd_vel"), *odometry("/odom"),
]  # fmt: skip
ARM_BY_COMMANDS = [
    *camera("/wrist_camera/image_raw"),
    *arm("/joint_states"),
    *[
        (
            "/position_controller/commands",
            "std_msgs/msg/Float64MultiArray",
            t,
            {"data": [phase, 2 * phase, 0.5]},
        )
        for t, phase in every(50)
    ],
]
