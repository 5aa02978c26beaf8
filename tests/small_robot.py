"""A robot of one camera and two arms of two joints, and recordings of it: small and quick."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tests.bags import Entry, Kind, write

S = 10**9
HZ = 30
IMAGE = "sensor_msgs/msg/Image"
JOINTS = "sensor_msgs/msg/JointState"

ROBOT = """\
name: small
fps: 30
streams:
  cam: {topic: /cam/image_raw, kind: image}
  arm: {topic: /arm, kind: joint_state, joints: [a, b], unit: rad}
  lead: {topic: /lead, kind: joint_state, joints: [a, b], unit: rad}
arrays:
  qpos: {role: observation, from: arm}
  images/cam: {role: observation, from: cam}
  action: {role: action, from: lead}
"""


def robot_file(folder: Path, text: str = ROBOT, name: str = "small.yaml") -> Path:
    """The robot as a YAML file in `folder`."""
    path = folder / name
    path.write_text(text)
    return path


def picture(value: int, height: int = 16, width: int = 24) -> dict[str, object]:
    """The fields of an rgb8 Image of one colour."""
    data = bytes([value % 256, 255 - value % 256, 100]) * (height * width)
    return {
        "height": height, "width": width, "encoding": "rgb8", "step": 3 * width, "data": data,
    }  # fmt: skip


def joints(value: float, names: Iterable[str] = ("a", "b")) -> dict[str, object]:
    """The fields of a JointState whose positions are functions of `value`."""
    names = list(names)
    return {"name": names, "position": [float(np.sin(value + i)) for i in range(len(names))]}


def entries(
    frames: int = 30, *, start_s: float = 1.0, phase: float = 0.0, size: tuple[int, int] = (16, 24)
) -> list[Entry]:
    """What the robot publishes in `frames` periods of its camera; the leader is 0.1 ahead."""
    found: list[Entry] = []
    for i in range(frames):
        t = round((start_s + i / HZ) * S)
        found.append(("/cam/image_raw", IMAGE, t, {"header": t, **picture(i, *size)}))
        for topic, ahead in (("/arm", 0.0), ("/lead", 0.1)):
            values = joints(i / 10 + phase + ahead)
            found.append((topic, JOINTS, t + 1, {"header": t + 1, **values}))
    return found


def bag(folder: Path, name: str, what: Iterable[Entry], kind: Kind = "ros1") -> Path:
    """A recording of `what`, in the order of its receive times."""
    return write(folder / name, kind, sorted(what, key=lambda entry: entry[2]))
